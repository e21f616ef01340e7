package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
)

// apply reloads.
func (d *harness) apply(endpoints ...config.Endpoint) {
	d.t.Helper()
	if err := d.dispatcher.Apply(endpoints); err != nil {
		d.t.Fatal(err)
	}
}

// restart stops and opens again.
func (d *harness) restart(endpoints ...config.Endpoint) {
	d.t.Helper()
	d.close()
	d.open(endpoints...)
}

func TestReloadsNeverPassConcurrency(t *testing.T) {
	var now, peak atomic.Int32
	got, opened := &ledger{}, atomic.Int32{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.enter(r.Header.Get("webhook-id"))
		for n, old := now.Add(1), peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		<-time.After(2 * time.Millisecond)
		now.Add(-1)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	ep := subscriber("crm", server.URL)
	ep.Delivery.Concurrency = 1
	d := openHarness(t, ep)
	lane := d.dispatcher.Lane("crm")
	ids := numbered(300)
	d.accept("lead.created", ids...)
	for range 20 {
		ep.Delivery.Timeout += time.Second
		d.apply(ep)
		before := d.status("crm").Attempts
		d.until("crm", "further", func(s Status) bool { return s.Attempts > before || settled(s) })
	}
	d.until("crm", "settled", settled)
	if !slices.Equal(got.arrived(), ids) || peak.Load() != 1 {
		t.Errorf("at most %d at a time, in order %v", peak.Load(), slices.Equal(got.arrived(), ids))
	}
	if d.dispatcher.Lane("crm") != lane {
		t.Error("a reload replaced the lane")
	}
	if n := opened.Load(); n > 21 {
		t.Errorf("%d connections for 21 configurations of one at a time", n)
	}
}

// What is under way counts, whatever configuration it began with; what the previous receiver says is not held against the new one.
func TestAnswersOfThePreviousReceiverAreNotTheNewOnes(t *testing.T) {
	for _, status := range []int{410, 429, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			old, arrivals := slowReceiver(t)
			now, got := quickReceiver(t, well)
			d := openHarness(t, subscriber("crm", old))
			d.accept("lead.created", "evt_1")
			a := mustArrive(t, arrivals)
			d.apply(subscriber("crm", now))
			a.answer <- status
			d.until("crm", "settled", settled)
			if s := d.status("crm"); s.State != StateUp || s.Delivered != 1 || s.Failed != 0 || !s.HoldEnds.IsZero() {
				t.Errorf("it is %+v", s)
			}
			if len(got.arrived()) != 1 {
				t.Errorf("arrived at the new receiver: %v", got.arrived())
			}
			_, deliveries, _, err := d.Story([]byte("evt_1"))
			if err != nil || len(deliveries) != 1 || len(deliveries[0].Attempts) != 2 || deliveries[0].Attempts[0].Status != status {
				t.Errorf("the story is %+v, %v", deliveries, err)
			}
		})
	}
}

func TestResumeIsNotUndoneByLooking(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	lane := d.dispatcher.Lane("crm")
	stop := make(chan struct{})
	var lookers sync.WaitGroup
	for range 4 {
		lookers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					d.dispatcher.Statuses()
				}
			}
		})
	}
	defer lookers.Wait()
	defer close(stop)
	for i := range 50 {
		if err := lane.Pause("paused by the operator"); err != nil {
			t.Fatal(err)
		}
		if err := lane.Resume(); err != nil {
			t.Fatal(err)
		}
		if s := d.status("crm"); s.State != StateUp {
			t.Fatalf("round %d: resumed, and it is %s", i, s.State)
		}
	}
}

// Whoever pauses and resumes at once: what is in memory is what a restart finds.
func TestPauseInMemoryAndOnDiskAgree(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	lane := d.dispatcher.Lane("crm")
	for range 10 {
		var both sync.WaitGroup
		for i := range 4 {
			both.Go(func() {
				if i%2 == 0 {
					_ = lane.Pause("paused by the operator")
				} else {
					_ = lane.Resume()
				}
			})
		}
		both.Wait()
		if inMemory, onDisk := lane.pauseReason(), lane.queueLane.Stats().Paused; inMemory != onDisk {
			t.Fatalf("paused in memory %q, on disk %q", inMemory, onDisk)
		}
	}
}

// What an outage held back comes forward when it is over, also when the relay is restarted before all of it has.
func TestWhatComesForwardDoesSoAfterARestartToo(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Retry, ep.Delivery.Concurrency = []time.Duration{24 * time.Hour}, 1
	d := openHarness(t, ep)
	ids := numbered(downAfter)
	d.accept("lead.created", ids...)
	for range ids {
		mustArrive(t, arrivals).answer <- 500
	}
	d.until("crm", "down", func(s Status) bool { return s.State == StateDown && s.InFlight == 0 && !s.NextProbe.IsZero() })
	d.skip(probeEvery + time.Second)
	mustArrive(t, arrivals).answer <- 200
	cut := mustArrive(t, arrivals)
	d.restart(ep)
	cut.answer <- 200 // to nobody
	for range downAfter - 1 {
		mustArrive(t, arrivals).answer <- 200
	}
	d.until("crm", "settled", settled)
	lane := d.dispatcher.Lane("crm")
	lane.reportLasting(d.now())
	lane.mu.Lock()
	defer lane.mu.Unlock()
	if !lane.gate.Hastened.IsZero() {
		t.Error("it would be brought forward once more")
	}
}

// What is known of an endpoint outlives a reload, a time without configuration, and a restart.
func TestWhatIsKnownOfAnEndpointOutlivesReloadAndRestart(t *testing.T) {
	changes := map[string]func(d *harness, ep config.Endpoint){
		"reload": func(d *harness, ep config.Endpoint) { d.apply(ep) },
		"removed and back": func(d *harness, ep config.Endpoint) {
			d.apply()
			d.apply(ep)
		},
		"restart": func(d *harness, ep config.Endpoint) { d.restart(ep) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			url, got := quickReceiver(t, func(r *http.Request) int { return 500 })
			busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "1800")
				w.WriteHeader(429)
			}))
			defer busy.Close()
			ep := subscriber("crm", url)
			d := openHarness(t, ep)
			d.accept("lead.created", numbered(30)...)
			atRest := func(s Status) bool { return s.InFlight == 0 && !s.NextProbe.IsZero() }
			d.until("crm", "down", func(s Status) bool { return s.State == StateDown && atRest(s) })
			before := d.status("crm")
			d.until("crm", "reported", func(Status) bool { return len(d.dispatcher.TakeTransitions()) > 0 })
			ep.Delivery.Concurrency++
			change(d, ep)
			after := d.status("crm")
			if after.State != StateDown || !after.Since.Equal(before.Since.Time) || after.LastError != before.LastError || after.Retrying != before.Retrying {
				t.Errorf("it was %+v, is %+v", before, after)
			}
			d.until("crm", "at rest", func(s Status) bool { return s.InFlight == 0 })
			if n := len(got.arrived()); int64(n) > before.Attempts+1 {
				t.Errorf("%d attempts after %d: more than a probe", n, before.Attempts)
			}
			if list := d.dispatcher.TakeTransitions(); len(list) > 0 {
				t.Errorf("reported again: %+v", list)
			}
			if name == "restart" {
				d.mustHold("crm")
			}

			limited := subscriber("limited", busy.URL)
			d = openHarness(t, limited)
			d.accept("lead.created", numbered(5)...)
			d.until("limited", "limited", func(s Status) bool { return s.State == StateLimited && !s.HoldEnds.IsZero() && s.InFlight == 0 })
			before = d.status("limited")
			limited.Delivery.Concurrency++
			change(d, limited)
			d.mustHold("limited")
			if after := d.status("limited"); after.State != StateLimited || after.HoldEnds.IsZero() || !after.HoldEnds.Equal(before.HoldEnds.Time) {
				t.Errorf("it was %+v, is %+v", before, after)
			}
		})
	}
}

func TestCountsOutliveAReload(t *testing.T) {
	url, _ := quickReceiver(t, well)
	ep := subscriber("crm", url)
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(10)...)
	d.until("crm", "settled", settled)
	before := d.status("crm")
	ep.Delivery.Concurrency++
	d.apply(ep)
	if after := d.status("crm"); after.Attempts != 10 || after.AttemptMS == nil || after.LastSuccess.IsZero() || !after.LastSuccess.Equal(before.LastSuccess.Time) {
		t.Errorf("it was %+v, is %+v", before, after)
	}
}

func TestGivingUpAndConfiguringAreOneDecision(t *testing.T) {
	url, got := quickReceiver(t, well)
	held, x := subscriber("held", url), subscriber("x", url)
	held.Events = []string{"test"}
	d := openHarness(t, held, x)
	if _, found, err := d.dispatcher.Discard("x"); !found || !errors.Is(err, ErrConfigured) {
		t.Errorf("giving up what is configured: %v, %v", found, err)
	}
	if _, found, err := d.dispatcher.Discard("nobody"); found || err != nil {
		t.Errorf("giving up what never was: %v, %v", found, err)
	}
	for round := range 100 {
		d.apply(held)
		var both sync.WaitGroup
		both.Go(func() {
			if _, _, err := d.dispatcher.Discard("x"); err != nil && !errors.Is(err, ErrConfigured) {
				t.Error(err)
			}
		})
		both.Go(func() { d.apply(held, x) })
		both.Wait()
		id := fmt.Sprint("evt_", round)
		d.accept("lead.created", id)
		d.until("x", "served", func(s Status) bool { return s.Delivered > 0 && settled(s) })
		if got.count(id) != 1 {
			t.Fatalf("round %d: the event arrived %d times", round, got.count(id))
		}
	}
}

func (l *ledger) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times[id]
}

// An orphan is given up at once, whatever its receiver does with what is under way.
func TestGivingUpWaitsForNoReceiver(t *testing.T) {
	slow, arrivals := slowReceiver(t)
	ep := subscriber("crm", slow)
	ep.Delivery.Timeout = 10 * time.Minute
	d := openHarness(t, ep)
	d.accept("lead.created", "evt_1", "evt_2")
	mustArrive(t, arrivals)
	d.apply()
	left, found, err := d.dispatcher.Discard("crm")
	if !found || err != nil || left.Pending != 2 {
		t.Errorf("left %+v, %v, %v", left, found, err)
	}
	if lanes := d.Lanes(); len(lanes) != 0 {
		t.Errorf("%d lanes are left", len(lanes))
	}
	elsewhere, _ := quickReceiver(t, well)
	ep.URL = config.NewURL(elsewhere)
	d.apply(ep)
	d.accept("lead.created", "evt_3")
	d.until("crm", "served", func(s Status) bool { return s.Delivered == 1 && settled(s) })
}

// More concurrency takes effect although all senders are busy, and less once they are not.
func TestConcurrencyFollowsAReload(t *testing.T) {
	slow, arrivals := slowReceiver(t)
	ep := subscriber("crm", slow)
	ep.Delivery.Concurrency = 1
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(20)...)
	under := []arrival{mustArrive(t, arrivals)}
	ep.Delivery.Concurrency = 4
	d.apply(ep)
	for range 3 {
		under = append(under, mustArrive(t, arrivals))
	}
	ep.Delivery.Concurrency = 2
	d.apply(ep)
	for _, a := range under[:2] {
		a.answer <- 200
	}
	d.until("crm", "two further", func(s Status) bool { return s.Delivered == 2 && s.InFlight == 2 })
	mustStaySilent(t, arrivals)
	for _, a := range under[2:] {
		a.answer <- 200
	}
	for range 16 {
		mustArrive(t, arrivals).answer <- 200
		if s := d.status("crm"); s.InFlight > 2 {
			t.Fatalf("%d at a time", s.InFlight)
		}
	}
	d.until("crm", "settled", settled)
	d.stop(context.Background())
}

func TestPausingTwiceIsToldOnce(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	for range 3 {
		if err := d.dispatcher.Lane("crm").Pause("by the operator"); err != nil {
			t.Fatal(err)
		}
	}
	if list := d.dispatcher.TakeTransitions(); len(list) != 1 || !strings.Contains(list[0].Reason, "operator") {
		t.Errorf("reported %+v", list)
	}
	d.restart(subscriber("crm", url))
	if s := d.status("crm"); s.State != StatePaused || s.Since.IsZero() {
		t.Errorf("after a restart it is %+v", s)
	}
	if list := d.dispatcher.TakeTransitions(); len(list) != 0 {
		t.Errorf("reported again: %+v", list)
	}
}
