package delivery

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

func TestReleasedDeliveryIsNotForgotten(t *testing.T) {
	url, arrivals := slowReceiver(t)
	d := openHarness(t, subscriber("crm", url))
	lane := d.dispatcher.Lane("crm")
	lane.queueLane.OnReady(func() {}) // as if the sender had looked between Take and Release, and found nothing
	d.accept("lead.created", "evt_1")
	held, _ := lane.queueLane.Take() // as Stats and expire do
	lane.queueLane.OnReady(lane.wakeSender)
	lane.queueLane.Release(held, d.now())
	select {
	case <-arrivals:
	case <-time.After(patience):
		t.Fatal("the delivery is stuck")
	}
}

func TestRetryOfAReplacedLaneIsAttempted(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Retry = []time.Duration{10 * time.Millisecond}
	d := openHarness(t, ep)
	d.accept("lead.created", "evt_1")
	old := mustArrive(t, arrivals)
	ep.Delivery.Concurrency++
	if err := d.dispatcher.Apply([]config.Endpoint{ep}); err != nil {
		t.Fatal(err)
	}
	lane := d.dispatcher.Lane("crm")
	for {
		lane.mu.Lock()
		idle := lane.idle == lane.senders && len(lane.wake) == 0
		lane.mu.Unlock()
		if idle {
			break
		}
		<-time.After(time.Millisecond)
	}
	old.answer <- 500
	select {
	case a := <-arrivals:
		if a.attempt != 2 {
			t.Errorf("attempt %d", a.attempt)
		}
	case <-time.After(patience):
		t.Fatal("the retry is stuck")
	}
}

func TestSilenceIsNoProofThatThisMachineIsOnline(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://127.0.0.1:1/"), subscriber("mailer", "http://127.0.0.1:1/"))
	judge := func(l *Lane, o client.Outcome, now time.Time) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.judgeLocked(&queue.Delivery{Event: queue.Stored{At: now.UnixMilli()}}, 0, &flight{generation: l.generation.Load()}, 1, &o, now).charged
	}
	crm, mailer := d.dispatcher.Lane("crm"), d.dispatcher.Lane("mailer")
	begin := time.Now()
	unreachable := client.Outcome{At: begin, Class: client.ClassConnectRefused, Err: "no route", Unreachable: true}
	if judge(crm, unreachable, begin) {
		t.Fatal("charged")
	}
	// What mailer had under way when the line dropped times out.
	for _, class := range []client.Class{client.ClassTimeout, client.ClassConnectTimeout, client.ClassBlockedAddress} {
		judge(mailer, client.Outcome{At: begin, Class: class, Err: "x"}, begin.Add(10*time.Second))
		unreachable.At = begin.Add(time.Hour)
		if judge(crm, unreachable, begin.Add(time.Hour)) {
			t.Errorf("charged after %q elsewhere", class)
		}
	}
}

func TestOutageWithoutRetriesDoesNotEatTheBacklog(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	ep := subscriber("crm", url)
	ep.Delivery.Retry = nil
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(500)...)
	d.until("crm", "down", func(s Status) bool { return s.State == StateDown })
	<-time.After(500 * time.Millisecond)
	if s := d.status("crm"); s.Failed > downAfter+4 {
		t.Errorf("%d of 500 deliveries failed", s.Failed)
	}
}

// A paused lane is not woken for each commit, and yet must not miss what came meanwhile.
func TestAPausedLaneSleepsAndForgetsNothing(t *testing.T) {
	url, got := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	lane := d.dispatcher.Lane("crm")
	for round := range 30 {
		if err := lane.Pause("by the test"); err != nil {
			t.Fatal(err)
		}
		d.accept("lead.created", fmt.Sprint("evt_a_", round)) // so that the sender looks
		for !lane.noWake.Load() {
			<-time.After(100 * time.Microsecond)
		}
		d.accept("lead.created", fmt.Sprint("evt_b_", round))
		if err := lane.Resume(); err != nil {
			t.Fatal(err)
		}
		d.accept("lead.created", fmt.Sprint("evt_c_", round))
		d.until("crm", "settled", settled)
	}
	if len(got.arrived()) != 90 {
		t.Errorf("%d of 90 events arrived", len(got.arrived()))
	}
	if err := lane.Pause("by the test"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_first")
	for !lane.noWake.Load() {
		<-time.After(100 * time.Microsecond)
	}
	for i := range 10 {
		d.accept("lead.created", fmt.Sprint("evt_d_", i))
		if len(lane.wake) > 0 {
			t.Fatal("it was woken")
		}
	}
}

// A lane that may begin nothing, whatever comes, is not woken for each event; and what came meanwhile goes as soon as it may.
func TestALaneThatMayBeginNothingIsNotWokenByWhatComes(t *testing.T) {
	for _, c := range []struct {
		name       string
		shut, open func(d *harness, l *Lane) // under its lock
		slow       bool
	}{
		{name: "down", shut: func(_ *harness, l *Lane) { l.gate.Down, l.gate.NextProbe = l.now(), l.now().Add(time.Hour) },
			open: func(_ *harness, l *Lane) { l.gate.NextProbe = l.now() }},
		{name: "asked to wait", shut: func(_ *harness, l *Lane) { l.gate.HeldUntil = l.now().Add(time.Hour) },
			open: func(_ *harness, l *Lane) { l.gate.HeldUntil = l.now() }},
		{name: "out of reach", shut: func(_ *harness, l *Lane) { l.gate.offline, l.gate.probeAt = true, l.now().Add(time.Hour) },
			open: func(_ *harness, l *Lane) { l.gate.probeAt = l.now() }},
		{name: "its pace allows none", shut: func(_ *harness, l *Lane) { l.gate.PerSecond, l.gate.nextAllowed = minPerSecond, l.now().Add(time.Hour) },
			open: func(_ *harness, l *Lane) { l.gate.PerSecond = 0 }},
		{name: "there is no memory", shut: func(d *harness, l *Lane) { l.share.inFlight++; d.dispatcher.budget.limit.Store(0) },
			open: func(d *harness, l *Lane) { l.share.inFlight--; d.dispatcher.budget.limit.Store(1 << 30) }},
		{name: "all that it may have is under way", slow: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, got := quickReceiver(t, well)
			var arrivals <-chan arrival
			if c.slow {
				url, arrivals = slowReceiver(t)
			}
			d := openHarness(t, subscriber("crm", url))
			d.endHousekeeping() // which looks too
			l := d.dispatcher.Lane("crm")
			var under arrival
			if c.slow {
				l.mu.Lock()
				l.gate.AtATime = 1
				l.mu.Unlock()
				d.accept("lead.created", "evt_first")
				under = mustArrive(t, arrivals)
			} else {
				l.mu.Lock()
				c.shut(d, l)
				l.mu.Unlock()
			}
			d.accept("lead.created", "evt_1") // so that a sender looks
			d.comeTo(l, func() bool {
				return l.noWake.Load() && l.idle == l.senders-len(l.inFlight) && len(l.wake) == 0 && l.askingSince.IsZero()
			})
			l.timer.Stop() // the time until it looks is the test's to pass
			for i := range 10 {
				d.accept("lead.created", fmt.Sprint("evt_b_", i))
				if len(l.wake) > 0 {
					t.Fatal("it was woken")
				}
			}
			if c.slow {
				under.answer <- 200
				for range 11 {
					mustArrive(t, arrivals).answer <- 200
				}
				d.until("crm", "settled", settled)
				return
			}
			l.mu.Lock()
			c.open(d, l)
			l.mu.Unlock()
			l.wakeSender() // as the timer does
			d.until("crm", "settled", settled)
			if n := len(got.arrived()); n != 11 {
				t.Errorf("%d of 11 events arrived", n)
			}
		})
	}
}
