package delivery

import (
	"slices"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// outcome has a lane learn of an attempt at another delivery that ended with o.
func (d *harness) outcome(l *Lane, o client.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.At = d.now()
	l.judgeLocked(&queue.Delivery{Event: queue.Stored{At: o.At.UnixMilli(), Type: []byte("another")}}, 0, &flight{generation: l.generation.Load()}, 1, &o, o.At)
	l.saveHealthLocked()
}

// between is what happens after a sender has asked the disk and before that has answered.
type between struct {
	what   string
	happen func(d *harness, l *Lane, ep config.Endpoint)
	holds  bool                                          // nothing goes out when the disk answers
	undo   func(d *harness, l *Lane, ep config.Endpoint) // after it, all goes out
	moved  bool                                          // to the other place
	reads  []string                                      // beside the next event
}

func pause(d *harness, l *Lane, _ config.Endpoint) {
	if err := l.Pause("by the test"); err != nil {
		d.t.Error(err)
	}
}

func resume(d *harness, l *Lane, _ config.Endpoint) {
	if err := l.Resume(); err != nil {
		d.t.Error(err)
	}
}

func remove(d *harness, _ *Lane, _ config.Endpoint) { d.apply() }

func configure(d *harness, _ *Lane, ep config.Endpoint) { d.apply(ep) }

func disable(d *harness, _ *Lane, ep config.Endpoint) {
	ep.Enabled = false
	d.apply(ep)
}

func limit(d *harness, l *Lane, _ config.Endpoint) {
	o := answerOf(429)
	o.RetryAfter = time.Hour
	d.outcome(l, o)
}

func breakIt(d *harness, l *Lane, _ config.Endpoint) {
	for range downAfter {
		d.outcome(l, client.Outcome{Class: client.ClassConnectRefused, Err: "connect: connection refused"})
	}
}

func cutOff(d *harness, l *Lane, _ config.Endpoint) {
	d.outcome(l, client.Outcome{Class: client.ClassConnectRefused, Err: "connect: network is unreachable", Unreachable: true})
}

func later(d *harness, _ *Lane, _ config.Endpoint) { d.skip(2 * time.Hour) }

func all(steps ...func(*harness, *Lane, config.Endpoint)) func(*harness, *Lane, config.Endpoint) {
	return func(d *harness, l *Lane, ep config.Endpoint) {
		for _, step := range steps {
			step(d, l, ep)
		}
	}
}

// The gate is asked before the disk is, and again when that has answered: whatever came in between is honoured, and what was
// found then is not lost, nor sent twice, nor where the endpoint was before.
func TestWhatComesBetweenAskingAndTakingIsHonoured(t *testing.T) {
	for _, b := range []between{
		{what: "nothing", happen: all(), reads: []string{"probe"}},
		{what: "a pause", happen: pause, holds: true, undo: resume, reads: []string{"retry", "replay", "probe"}},
		{what: "a pause and a resume", happen: all(pause, resume), reads: []string{"probe", "early"}}, // which makes it no probe
		{what: "a removal", happen: remove, holds: true, undo: configure, reads: []string{"probe"}},
		{what: "a removal and a return", happen: all(remove, configure)},
		{what: "a reload that disables it", happen: disable, holds: true, undo: configure},
		{what: "a reload that moves it", happen: all(), moved: true},
		{what: "an answer that asks to wait an hour", happen: limit, holds: true, undo: later},
		{what: "failures that make it down", happen: breakIt, holds: true, undo: later},
		{what: "failures that make it down, and a resume", happen: all(breakIt, resume)},
		{what: "a cable that is cut", happen: cutOff, holds: true, undo: later},
		{what: "a stop", happen: func(_ *harness, l *Lane, _ config.Endpoint) { l.halt() }, holds: true, undo: func(d *harness, _ *Lane, ep config.Endpoint) { d.restart(ep) }},
	} {
		for _, reads := range append(b.reads, "next") {
			t.Run(b.what+"/"+reads, func(t *testing.T) {
				t.Parallel()
				url, got := quickReceiver(t, well)
				other, gotOther := quickReceiver(t, well)
				ep := subscriber("crm", url)
				d, s := openStuck(t, ep, reads)
				lane := d.dispatcher.Lane("crm")
				b.happen(d, lane, ep)
				if b.moved {
					ep.URL = config.NewURL(other)
					d.apply(ep)
				}
				if s.waiting.Load() == 0 {
					t.Fatal("no read waits: this shows nothing")
				}
				sent := len(got.arrived())
				s.release()
				if b.holds {
					d.rest(lane)
					if after := got.arrived(); len(after) > sent {
						t.Errorf("%d went out all the same", len(after)-sent)
					}
					b.undo(d, lane, ep)
				}
				d.until("crm", "settled", func(s Status) bool { return settled(s) && s.Failed == 0 && s.InFlight == 0 })
				want := numbered(5)
				if reads == "probe" || reads == "early" {
					want = want[1:]
				}
				if b.moved {
					got, want, sent = gotOther, want[sent:], 0
				}
				arrived := got.arrived()
				slices.Sort(arrived)
				if !slices.Equal(arrived, want) {
					t.Errorf("%v arrived, want %v", arrived, want)
				}
				d.countsNothing(ep)
			})
		}
	}
}

// countsNothing fails the test unless a lane at rest has all its places back: those of its senders and that of a probe.
func (d *harness) countsNothing(ep config.Endpoint) {
	d.t.Helper()
	l := d.dispatcher.Lane(ep.Name)
	d.rest(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate.inFlight+l.gate.probesInFlight+len(l.inFlight) > 0 || l.senders > ep.Delivery.Concurrency {
		d.t.Errorf("%d count as under way, %d as probes, %d are, of %d senders", l.gate.inFlight, l.gate.probesInFlight, len(l.inFlight), l.senders)
	}
	l.probes.mu.Lock()
	defer l.probes.mu.Unlock()
	if l.probes.inFlight != 0 {
		d.t.Errorf("the budget counts %d probes", l.probes.inFlight)
	}
}

// What is hastened while the disk is asked is looked at when that has answered, although the sender that asked has an attempt
// under way then that hangs.
func TestARetryIsHastenedWhileTheDiskIsAsked(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Timeout = 10 * patience
	s := &disk{place: log.PlaceRead}
	d := openHarness(t)
	t.Cleanup(s.release) // before the queue is closed
	d.close()
	d.fault = s.fault
	d.open(ep)
	d.endHousekeeping()
	lane := d.dispatcher.Lane("crm")
	d.accept("lead.created", "evt_1", "evt_2") // which makes two senders
	first, second := mustArrive(t, arrivals), mustArrive(t, arrivals)
	first.answer <- 500
	second.answer <- 200
	d.until("crm", "waiting for the retry", func(s Status) bool { return s.Retrying == 1 && s.InFlight == 0 })
	pause(d, lane, ep)
	d.accept("lead.created", "evt_3")
	d.fill()
	s.stick()
	resume(d, lane, ep)
	d.comeTo(lane, func() bool { return s.waiting.Load() > 0 })
	lane.queueLane.Hasten(d.now())
	d.comeTo(lane, func() bool { return len(lane.wake) == 0 && lane.idle == lane.senders-1 })
	looks(lane)
	s.release()
	hangs := mustArrive(t, arrivals)
	again := mustArrive(t, arrivals)
	if again.id == "evt_3" {
		hangs, again = again, hangs
	}
	if hangs.id != "evt_3" || again.id != first.id || again.attempt != 2 {
		t.Errorf("%s and %s arrived, want evt_3 and %s again", hangs.id, again.id, first.id)
	}
	hangs.answer <- 200
	again.answer <- 200
	d.until("crm", "settled", settled)
}

// looks is a sender that looks while another one asks.
func looks(l *Lane) {
	l.mu.Lock()
	l.senders++
	l.mu.Unlock()
	l.take()
	l.mu.Lock()
	l.senders--
	l.idle--
	l.mu.Unlock()
}

// A look takes nothing for attempted that a sender has only asked for.
func TestALookWaitsForTheRetryThatTheDiskIsAskedFor(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d, s := openStuck(t, subscriber("crm", url), "last")
	lane := d.dispatcher.Lane("crm")
	lane.mu.Lock()
	lane.gate.Hastened = d.now().Add(-time.Second)
	lane.mu.Unlock()
	hastened := func() bool {
		lane.reportLasting(d.now())
		lane.mu.Lock()
		defer lane.mu.Unlock()
		return !lane.gate.Hastened.IsZero()
	}
	if !hastened() {
		t.Error("a restart now would have it wait for its time")
	}
	s.release()
	d.until("crm", "settled", settled)
	d.rest(lane)
	if hastened() {
		t.Error("all that was hastened is attempted, and this is not known")
	}
}

// A retry is looked at when it is due, although the sender that saw it last has an attempt under way that hangs.
func TestARetryIsDueWhileAnotherAttemptHangs(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Retry, ep.Delivery.Timeout = []time.Duration{time.Second}, 10*patience
	d := openHarness(t, ep)
	d.endHousekeeping() // the housekeeping would look too
	d.accept("lead.created", "evt_1", "evt_2")
	first, second := mustArrive(t, arrivals), mustArrive(t, arrivals)
	first.answer <- 500
	second.answer <- 200
	d.until("crm", "waiting for the retry", func(s Status) bool { return s.Retrying == 1 && s.InFlight == 0 })
	d.dispatcher.Lane("crm").timer.Stop() // as if it had waited for something else until now
	d.accept("lead.created", "evt_3")
	hangs := mustArrive(t, arrivals)
	if hangs.id != "evt_3" {
		t.Fatalf("%s arrived, want evt_3", hangs.id)
	}
	if again := mustArrive(t, arrivals); again.id != first.id || again.attempt != 2 {
		t.Errorf("%s arrived, attempt %d, want %s again", again.id, again.attempt, first.id)
	} else {
		again.answer <- 200
	}
	hangs.answer <- 200
	d.until("crm", "settled", settled)
}

// A lane that has settled more than it may before a save hands out nothing, which says nothing of what it holds: what is too
// old is given up as soon as the queue has saved, and not ten minutes later.
func TestALaneThatIsFullGivesUpWhatIsTooOldAfterTheSave(t *testing.T) {
	const many = 2500 // more than a lane settles while a save is under way and another one waits
	for _, reads := range []string{"next", "retry"} {
		t.Run(reads, func(t *testing.T) {
			url, _ := quickReceiver(t, well)
			ep := subscriber("crm", url)
			s := &disk{place: journal.PlaceRecord}
			d := openHarness(t)
			t.Cleanup(s.release) // before the queue is closed
			d.close()
			d.fault = s.fault
			d.open(ep)
			lane := d.dispatcher.Lane("crm")
			pause(d, lane, ep)
			d.accept("lead.created", numbered(many)...)
			if reads == "retry" {
				for range many {
					lane.queueLane.Retry(d.take(lane), &queue.Attempt{Number: 1, At: d.now(), Status: 500, Class: "status"}, d.now())
				}
			}
			d.leap.Add(int64(ep.Delivery.MaxAge + time.Hour))
			s.stick()
			for last := int64(-1); ; { // until a round has nothing to give up
				lane.requestExpiry()
				d.rest(lane)
				failed := d.status("crm").Failed
				if failed == last && failed > 0 {
					break
				}
				last = failed
			}
			if failed := d.status("crm").Failed; failed == many {
				t.Fatal("it was never full: this shows nothing")
			}
			s.release()
			d.until("crm", "settled", func(s Status) bool {
				lane.requestExpiry()
				return settled(s) && s.Failed == many
			})
		})
	}
}
