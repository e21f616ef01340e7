package delivery

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

// Lane delivers the events of one endpoint. It belongs to the endpoint's name and lasts as long as the Dispatcher: a reload gives
// it another generation and changes nothing else, so that what it knows of the endpoint, its attempts under way and its counters
// go on. With the lanes of other endpoints it shares only the queue's disk and the budgets that the Dispatcher holds. All methods
// are safe for concurrent use.
type Lane struct {
	name         string
	queueLane    *queue.Lane
	network      *network
	probes       *probeBudget
	budget       *memoryBudget
	silent       *silentLanes
	uplink       *uplink
	tally        *tally
	reports      *reports
	log          zerolog.Logger
	now          func() time.Time
	generation   atomic.Pointer[generation] // nil when no endpoint of the name is configured; replaced under mu
	wake         chan struct{}              // holds one token when a sender should look for something to take
	noWake       atomic.Bool                // as things are no attempt may begin, so the queue need not wake a sender
	sendersEnded sync.WaitGroup

	uplinkEntry *list.Element // among the lanes that wait for the uplink; under the uplink's lock

	mu            sync.Mutex       // never held over disk or network
	lastEndpoint  *config.Endpoint // the one configured last
	gate          gate
	share         memoryShare
	silence       silentLane
	flaps         flapDetector
	poison        poisonTypes
	savedHealth   queue.Health // what the queue saves
	senders       int
	idle          int
	timer         *time.Timer // wakes a sender when the gate opens, a retry is due or a replay's pace allows
	askingSince   time.Time   // when a sender began to ask the queue what is next, by the process's own clock; zero when none does
	askAgain      bool        // another sender came meanwhile
	expireNext    bool        // the sender that asks next expires what is too old
	found         match.Found // scratch of the sender that asks
	held          bool        // no attempt begins: the lane is about to be configured
	replayLast    bool        // the last to be asked was a replay; belongs to the sender that asks
	stopped       bool        // nothing more is taken: no endpoint is configured, or the relay stops
	stats         laneStats
	inFlight      map[*queue.Delivery]*flight // attempts under way
	attemptsEnded sync.WaitGroup              // attempts under way; more begin only while it is not stopped
	nextExpiry    time.Time                   // before then nothing that is held can be too old
	unsent        unsentRun                   // what is not logged yet
}

// flight is an attempt under way.
type flight struct {
	began      time.Time // the process's own clock
	generation *generation
	first      bool // the delivery was not attempted before, or is a replay's
	probe      bool
	cost       int64 // bytes, of the memory budget
}

// laneStats are the figures that /stats shows, since the relay was started.
type laneStats struct {
	attempts int64
	took     meter // attempts, and how long they took
	delay    meter // deliveries that succeeded, and how long after they were accepted
	failing  meter // attempts that failed
}

// idleSenderTimeout is how long a sender waits for something to take before it ends, if another one waits as well.
const idleSenderTimeout = 10 * time.Second

// newLane makes a lane that takes nothing until it is configured.
func (d *Dispatcher) newLane(queueLane *queue.Lane, counts *tally) *Lane {
	l := &Lane{
		name: queueLane.Name(), queueLane: queueLane, network: d.network, probes: d.probes, budget: d.budget, silent: d.silent, uplink: d.uplink, tally: counts, reports: d.reports, now: d.now,
		log:         d.log.With().Str("endpoint", queueLane.Name()).Logger(),
		wake:        make(chan struct{}, 1),
		inFlight:    map[*queue.Delivery]*flight{},
		savedHealth: queueLane.Health(),
		stopped:     true,
	}
	l.gate = newGate(l.savedHealth, queueLane.Stats().Paused)
	l.gate.probeWaitSince = l.now()
	if !l.gate.Hastened.IsZero() && !l.gate.isDown() {
		queueLane.Hasten(l.now())
	}
	l.timer = time.AfterFunc(time.Hour, l.wakeSender)
	l.timer.Stop()
	return l
}

func (l *Lane) spawnLocked() {
	l.senders++
	l.sendersEnded.Add(1)
	go l.send()
}

// wakeSender has a sender look for something to take. It never blocks.
func (l *Lane) wakeSender() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// send is the loop of one sender: take what is next, deliver it, or wait.
func (l *Lane) send() {
	defer l.sendersEnded.Done()
	idle := time.NewTimer(idleSenderTimeout)
	defer idle.Stop()
	for {
		d, f := l.take()
		if d != nil {
			l.deliver(d, f)
			continue
		}
		if f == nil || !l.await(idle) {
			return
		}
	}
}

// await waits until there may be something to take; idle is the sender's timer. It returns false when this sender is to end.
func (l *Lane) await(idle *time.Timer) bool {
	idle.Reset(idleSenderTimeout)
	for {
		select {
		case <-l.wake:
			l.mu.Lock()
			l.idle--
			l.mu.Unlock()
			return true
		case <-idle.C:
			l.mu.Lock()
			if l.idle > 1 {
				l.senders--
				l.idle--
				l.mu.Unlock()
				return false
			}
			l.mu.Unlock()
		}
	}
}

// saveHealthLocked has the queue save what the gate knows, with the lane's next progress. It leaves out a success within a minute of
// another one.
func (l *Lane) saveHealthLocked() {
	h := l.gate.Health
	if since := h.LastSuccess.Sub(l.savedHealth.LastSuccess); since >= 0 && since < time.Minute {
		h.LastSuccess = l.savedHealth.LastSuccess
	}
	if h != l.savedHealth {
		l.savedHealth = l.gate.Health
		l.queueLane.SetHealth(l.savedHealth)
	}
}
