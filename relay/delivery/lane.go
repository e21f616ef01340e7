package delivery

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// Lane delivers the events of one endpoint. Its senders share nothing with those of other endpoints but the queue's
// disk. All methods are safe for concurrent use.
type Lane struct {
	endpoint *config.Endpoint
	kept     *queue.Lane
	client   *Client
	reach    *reach
	tally    *tally
	news     *newsroom
	log      zerolog.Logger
	now      func() time.Time

	ready chan struct{}  // holds one token when a sender should look whether there is something to take
	deaf  atomic.Bool    // the gate is held: the queue need not say that there is something to take
	done  sync.WaitGroup // the senders

	mu       sync.Mutex
	gate     gate
	senders  int
	idle     int
	timer    *time.Timer // puts a token into ready when the gate opens, a retry is due or a replay's pace allows
	replayed bool        // it was a replay's turn last
	stopped  bool
	seen     seen
	under    map[*queue.Delivery]time.Time // attempts under way, by when they were taken up; the process's own clock
}

// seen is what the lane remembers for those who look at it, since it was started.
type seen struct {
	attempts    int64
	took        meter // attempts, and how long they took
	delay       meter // deliveries that went well, and how long after they were accepted
	failing     meter // attempts that failed
	lastSuccess time.Time
	lastError   string
	lastErrorAt time.Time
	since       time.Time // when it went down, offline or was paused
}

// idleSender is how long a sender waits for something to do before it ends, if another one waits as well.
const idleSender = 10 * time.Second

func newLane(ep *config.Endpoint, kept *queue.Lane, version string, reach *reach, tally *tally, news *newsroom, log zerolog.Logger, now func() time.Time) (*Lane, error) {
	client, err := NewClient(ep, version, now)
	if err != nil {
		return nil, err
	}
	l := &Lane{
		endpoint: ep, kept: kept, client: client, reach: reach, tally: tally, news: news, now: now,
		log:   log.With().Str("endpoint", ep.Name).Logger(),
		ready: make(chan struct{}, 1),
		under: map[*queue.Delivery]time.Time{},
		gate:  newGate(ep.Delivery.Concurrency, ep.Delivery.Rate),
	}
	client.clock = &tally.clock
	l.timer = time.AfterFunc(time.Hour, l.poke)
	l.timer.Stop()
	if paused := kept.Stats().Paused; paused != "" {
		l.gate.held = paused
		l.tally.paused.Store(true) // which was told before the restart
	}
	if !ep.Enabled {
		l.gate.held = disabled
	}
	return l, nil
}

// disabled is why a lane whose endpoint is not enabled holds what it has.
const disabled = "disabled in the configuration"

func (l *Lane) start() {
	l.mu.Lock()
	l.spawnLocked()
	l.mu.Unlock()
	l.kept.OnReady(func() {
		if !l.deaf.Load() {
			l.poke()
		}
	})
	l.poke()
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
	for {
		d, last := l.take()
		if d != nil {
			l.deliver(d)
			continue
		}
		if last || !l.await() {
			return
		}
	}
}

// await waits until there may be something to take. It returns false when this sender is to end.
func (l *Lane) await() bool {
	rest := time.NewTimer(idleSender)
	defer rest.Stop()
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

// take hands out what is to be attempted next. When there is nothing it counts its caller idle, or tells it that the lane
// has stopped. One sender is always idle, as long as concurrency allows: it is the one that looks when ready says so.
func (l *Lane) take() (d *queue.Delivery, stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		l.senders--
		l.poke() // pass it on
		return nil, true
	}
	d, more := l.nextLocked(l.now())
	if d != nil {
		l.under[d] = time.Now()
	}
	switch {
	case d == nil:
		l.idle++
		if l.gate.held != "" {
			l.deaf.Store(true)
		}
	case l.idle == 0 && l.senders < l.endpoint.Delivery.Concurrency:
		l.spawnLocked()
	case more:
		l.poke()
	}
	return d, false
}

// nextLocked takes a retry that is due or else the next of the log, if the gate lets it, and sets the timer for when time
// alone will have changed the answer.
func (l *Lane) nextLocked(now time.Time) (d *queue.Delivery, more bool) {
	outlook := l.kept.Outlook()
	l.holdLocked(outlook.Paused)
	retries, firsts, until := l.gate.allow(now, outlook.Retrying)
	if retries && !outlook.Due.IsZero() && !outlook.Due.After(now) {
		if d, _ = l.kept.TakeDue(now); d != nil {
			more = true
		}
		outlook = l.kept.Outlook()
	}
	if firsts && d == nil {
		var paced time.Time
		if d, more, paced = l.firstLocked(now, outlook.Replays); until.IsZero() {
			until = paced
		}
	}
	if d != nil {
		l.gate.took(now)
	}
	if retries && !outlook.Due.IsZero() && (until.IsZero() || outlook.Due.Before(until)) {
		until = outlook.Due
	}
	if !until.IsZero() {
		l.timer.Reset(max(until.Sub(now), time.Millisecond))
	}
	return d, more
}

// firstLocked takes what was not attempted yet: the next of the log or, in turn with it, of a replay, so that neither waits
// for the other to end. paced is when to ask a replay again, zero when time alone changes nothing.
func (l *Lane) firstLocked(now time.Time, replays bool) (d *queue.Delivery, more bool, paced time.Time) {
	l.replayed = replays && !l.replayed
	if l.replayed {
		if d, paced = l.kept.TakeReplay(now); d != nil {
			return d, true, paced
		}
	}
	if d, more = l.kept.Take(); d == nil && replays && !l.replayed {
		d, paced = l.kept.TakeReplay(now)
	}
	return d, more || replays && d != nil, paced
}

// holdLocked closes the gate when the queue says that the endpoint is paused: an attempt of the lane that this one
// replaced may have found out.
func (l *Lane) holdLocked(paused string) {
	if l.gate.held == "" && paused != "" {
		l.gate.held, l.seen.since = paused, l.now()
	}
}

// deliver makes one attempt and settles what came of it.
func (l *Lane) deliver(d *queue.Delivery) {
	number := d.Attempts + 1
	l.settle(d, number, l.attempt(d, number))
}

// settle records the outcome, first in the lane's own state and then in the queue.
func (l *Lane) settle(d *queue.Delivery, number int, o Outcome) {
	now := l.now()
	defer l.landed(d) // after the queue knows: a retry under way counts as the probe until it is one that waits
	if o.Aborted {
		l.kept.Release(d, now)
		return
	}
	l.mu.Lock()
	l.seen.attempts++
	l.seen.took.add(now, o.Took)
	charged, verdict, changes := l.judgeLocked(d, number, o, now)
	l.mu.Unlock()
	l.count(d, &o, charged, verdict.Kind, verdict.Reason, now)
	l.tell(changes, verdict.Reason)

	attempt := record(number, &o)
	switch {
	case !charged:
		l.kept.Release(d, now.Add(offlineFirst))
	case verdict.Kind == Delivered:
		l.kept.Delivered(d, &attempt)
	case verdict.Kind == Retry:
		l.kept.Retry(d, &attempt, now.Add(verdict.Wait))
	case verdict.Kind == Failed:
		l.kept.Failed(d, &attempt, verdict.Reason)
	case verdict.Kind == Gone:
		l.kept.Note(d, &attempt)
		l.kept.Release(d, now)
		if err := l.Pause("the endpoint answered 410 Gone"); err != nil {
			l.log.Error().Err(err).Msg("the pause could not be saved")
		}
	}
	l.logVerdict(d, number, &o, verdict, charged)
}

// count adds to what /metrics shows.
func (l *Lane) count(d *queue.Delivery, o *Outcome, charged bool, kind Kind, reason string, now time.Time) {
	l.tally.note(o, charged)
	if d.Attempts == 0 && d.Replay == 0 {
		l.tally.first(d.Event.At, o.At)
	}
	switch {
	case kind == Delivered && charged:
		l.reportUp(now)
		if d.Replay == 0 {
			l.tally.latency.Add(int64(max(now.Sub(time.UnixMilli(d.Event.At)), 0)))
		}
	case kind == Failed && charged:
		l.tally.failed.Add(1)
		l.reportFailed(d.Event.ID, d.Event.Type, string(o.Class), reason)
	}
}

func (l *Lane) landed(d *queue.Delivery) {
	l.mu.Lock()
	l.gate.inflight--
	delete(l.under, d)
	l.mu.Unlock()
}

func (l *Lane) judgeLocked(d *queue.Delivery, number int, o Outcome, now time.Time) (charged bool, v Verdict, changes []change) {
	g := &l.gate
	if o.Unreachable {
		charged, c := g.lost(o.At, now, l.reach.latest())
		changes = append(changes, c)
		if !charged {
			l.noteErrorLocked(now, o.Err)
			if c == wentOffline {
				l.seen.since = now
			}
			return false, Verdict{Kind: Retry, Wait: g.wait, Reason: o.Err}, changes
		}
	} else {
		if isProof(&o) {
			l.reach.note(now)
		}
		changes = append(changes, g.online())
	}
	v = Judge(o, number, l.endpoint.Delivery)
	if v.HoldEndpoint > 0 {
		if until := now.Add(v.HoldEndpoint); until.After(g.quiet) {
			g.quiet = until
		}
	}
	if v.Kind == Delivered {
		l.seen.lastSuccess = now
		if d.Replay == 0 {
			l.seen.delay.add(now, max(now.Sub(time.UnixMilli(d.Event.At)), 0))
		} else {
			l.seen.delay.tick(now) // how old it was is no measure of anything
		}
		return true, v, append(changes, g.well())
	}
	if o.Err != "" {
		l.noteErrorLocked(now, o.Err)
	} else {
		l.noteErrorLocked(now, v.Reason)
	}
	l.seen.failing.add(now, o.Took)
	if v.Kind == Gone {
		g.held = "the endpoint answered 410 Gone" // at once, for the other senders; Pause saves it
		l.seen.since = now
		return true, v, changes
	}
	c := g.failed()
	if c == wentDown {
		l.seen.since = now
	}
	return true, v, append(changes, c)
}

// isProof reports that o could not have come about unless something beyond this machine answered. Silence, on a line that
// has just been cut as on any other, proves nothing.
func isProof(o *Outcome) bool {
	switch o.Class {
	case ClassConnectTimeout, ClassBlockedAddress, ClassDNS:
		return false
	case ClassTimeout:
		return o.Status != 0 || o.Timing.FirstByte > 0
	}
	return true
}

func (l *Lane) noteErrorLocked(now time.Time, text string) {
	l.seen.lastError, l.seen.lastErrorAt = text, now
}

func record(number int, o *Outcome) queue.Attempt {
	return queue.Attempt{
		Number: number, At: o.At, Took: o.Took,
		DNS: o.Timing.DNS, Connect: o.Timing.Connect, TLS: o.Timing.TLS, FirstByte: o.Timing.FirstByte,
		Status: o.Status, Class: string(o.Class), Error: o.Err, Excerpt: o.Excerpt,
	}
}

// Pause holds all deliveries until Resume, also across a restart.
func (l *Lane) Pause(reason string) error {
	l.mu.Lock()
	if l.gate.held != disabled {
		l.gate.held = reason
	}
	l.seen.since = l.now()
	now := l.now()
	l.mu.Unlock()
	if l.tally.paused.CompareAndSwap(false, true) {
		l.report(News{State: StatePaused, Reason: reason, At: now})
	}
	return l.kept.Pause(reason)
}

// ErrDisabled: only the configuration can enable the endpoint again.
var ErrDisabled = errors.New("the endpoint is disabled in the configuration")

// Resume ends a pause. It also forgets that the endpoint was down or asked to be left alone, so that all that waits is
// attempted now.
func (l *Lane) Resume() error {
	if !l.endpoint.Enabled {
		return ErrDisabled
	}
	if err := l.kept.Pause(""); err != nil {
		return err
	}
	l.tally.paused.Store(false)
	l.mu.Lock()
	l.gate.held = ""
	l.deaf.Store(false)
	l.gate.quiet, l.gate.down, l.gate.failures, l.gate.probe = time.Time{}, false, 0, time.Time{}
	l.mu.Unlock()
	l.poke()
	return nil
}

// halt makes the senders end after what they have under way. end waits for them.
func (l *Lane) halt() {
	l.mu.Lock()
	l.stopped = true
	l.timer.Stop()
	l.mu.Unlock()
	l.poke()
}

// end waits for the senders of a lane that was halted, cutting short what they have under way once hurry is closed.
func (l *Lane) end(hurry <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		l.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-hurry:
	}
	l.client.Close()
	<-ended
}
