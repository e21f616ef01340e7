package delivery

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// Lane delivers the events of one endpoint. It belongs to the endpoint's name and lives as long as the Post: a reload gives
// it another course and touches nothing else, so that what it knows of the endpoint, what it has under way and what it
// counts goes on. Its senders share nothing with those of other endpoints but the queue's disk. All methods are safe for
// concurrent use.
type Lane struct {
	name   string
	kept   *queue.Lane
	reach  *reach
	probes *probes
	places *places
	starts *starts
	uplink *uplink
	tally  *tally
	news   *newsroom
	log    zerolog.Logger
	now    func() time.Time
	course atomic.Pointer[course] // nil when no endpoint of the name is configured; replaced under mu
	ready  chan struct{}          // holds one token when a sender should look whether there is something to take
	deaf   atomic.Bool            // it may take nothing as it is: the queue need not say that there is something
	done   sync.WaitGroup         // the senders

	turn *list.Element // among those that wait for the uplink; under its lock

	mu       sync.Mutex
	last     *config.Endpoint // what it followed last
	gate     gate
	stake    stake
	start    start
	damper   damper
	odd      oddities
	saved    queue.Health // what the queue has
	senders  int
	idle     int
	timer    *time.Timer // puts a token into ready when the gate opens, a retry is due or a replay's pace allows
	asks     time.Time   // since when one of them asks the queue what is next, by the process's own clock; zero when none does
	missed   bool        // another one came meanwhile
	aging    bool        // the one that asks next gives up what is too old
	replayed bool        // it was a replay's turn last; of the one that asks
	stopped  bool        // nothing more is taken: it has no course, or the relay stops
	seen     seen
	under    map[*queue.Delivery]*flight // attempts under way
	attempts sync.WaitGroup              // these; more of them only while it is not stopped
	aged     time.Time                   // before then nothing that is held can be too old
	expired  expiry                      // what the log is yet to be told of
}

// flight is an attempt under way.
type flight struct {
	began  time.Time // the process's own clock
	course *course
	first  bool // the delivery was not attempted before, or is a replay's
	probe  bool
	cost   int64 // of its place, bytes
}

// seen is what the lane remembers for those who look at it, since the relay was started.
type seen struct {
	attempts int64
	took     meter // attempts, and how long they took
	delay    meter // deliveries that went well, and how long after they were accepted
	failing  meter // attempts that failed
}

// idleSender is how long a sender waits for something to do before it ends, if another one waits as well.
const idleSender = 10 * time.Second

// newLane makes a lane that takes nothing until it is given a course.
func (p *Post) newLane(kept *queue.Lane) *Lane {
	l := &Lane{
		name: kept.Name(), kept: kept, reach: p.reach, probes: p.probes, places: p.places, starts: p.starts, uplink: p.uplink, tally: newTally(), news: p.news, now: p.now,
		log:     p.log.With().Str("endpoint", kept.Name()).Logger(),
		ready:   make(chan struct{}, 1),
		under:   map[*queue.Delivery]*flight{},
		saved:   kept.Health(),
		stopped: true,
	}
	l.gate = newGate(l.saved, kept.Stats().Paused)
	l.gate.awaits = l.now()
	if !l.gate.Hastened.IsZero() && !l.gate.isDown() {
		kept.Hasten(l.now())
	}
	l.timer = time.AfterFunc(time.Hour, l.poke)
	l.timer.Stop()
	return l
}

func (l *Lane) spawnLocked() {
	l.senders++
	l.done.Add(1)
	go l.send()
}

// poke has a sender look whether there is something to take. It never blocks.
func (l *Lane) poke() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// send is one sender.
func (l *Lane) send() {
	defer l.done.Done()
	rest := time.NewTimer(idleSender)
	defer rest.Stop()
	for {
		d, f := l.take()
		if d != nil {
			l.deliver(d, f)
			continue
		}
		if f == nil || !l.await(rest) {
			return
		}
	}
}

// await waits until there may be something to take; rest is the sender's timer. It returns false when this sender is to end.
func (l *Lane) await(rest *time.Timer) bool {
	rest.Reset(idleSender)
	for {
		select {
		case <-l.ready:
			l.mu.Lock()
			l.idle--
			l.mu.Unlock()
			return true
		case <-rest.C:
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

// keepHealthLocked has the queue keep what the gate knows. A success is no news within a minute of another one.
func (l *Lane) keepHealthLocked() {
	h := l.gate.Health
	if lately := h.LastSuccess.Sub(l.saved.LastSuccess); lately >= 0 && lately < time.Minute {
		h.LastSuccess = l.saved.LastSuccess
	}
	if h != l.saved {
		l.saved = l.gate.Health
		l.kept.SetHealth(l.saved)
	}
}
