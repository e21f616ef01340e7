package delivery

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

func TestDeliveriesArriveInOrder(t *testing.T) {
	url, got := quickReceiver(t, well)
	ep := subscriber("crm", url)
	ep.Delivery.Concurrency = 1
	d := openHarness(t, ep)
	ids := numbered(200)
	for batch := range slices.Chunk(ids, 7) {
		d.accept("lead.created", batch...)
	}
	d.until("crm", "settled", settled)
	if !slices.Equal(got.arrived(), ids) {
		t.Errorf("arrived as %v", got.arrived())
	}
}

func TestConcurrencyIsReachedAndNeverPassed(t *testing.T) {
	const most, all = 4, 200
	var now, peak atomic.Int32
	full := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		if n == most && peak.Load() == most {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		select {
		case <-full: // until the limit is reached nobody is answered
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	d := openHarness(t, subscriber("crm", server.URL))
	d.accept("lead.created", numbered(all)...)
	d.until("crm", "settled", settled)
	if s := d.status("crm"); s.Delivered != all || peak.Load() != most {
		t.Errorf("delivered %d, at most %d at a time, want %d, %d", s.Delivered, peak.Load(), all, most)
	}
}

func TestHangingAttemptHoldsNothingUp(t *testing.T) {
	url, arrivals := slowReceiver(t)
	d := openHarness(t, subscriber("crm", url))
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		d.accept("lead.created", id)
		if a := mustArrive(t, arrivals); a.id != id {
			t.Fatalf("%s arrived, want %s", a.id, id)
		}
	}
	if s := d.status("crm"); s.InFlight != 3 || s.Pending != 3 {
		t.Errorf("in flight %d, pending %d", s.InFlight, s.Pending)
	}
}

func TestDueRetryGoesBeforeWhatIsNew(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Concurrency = 2
	d := openHarness(t, ep)
	d.accept("lead.created", "evt_fails", "evt_hangs")
	first, second := mustArrive(t, arrivals), mustArrive(t, arrivals)
	if first.id != "evt_fails" {
		first, second = second, first
	}
	d.accept("lead.created", "evt_also_hangs", "evt_new")
	first.answer <- 500
	third := mustArrive(t, arrivals)
	d.skip(2 * time.Hour)
	mustStaySilent(t, arrivals)
	second.answer <- 200
	if a := mustArrive(t, arrivals); third.id != "evt_also_hangs" || a.id != "evt_fails" || a.attempt != 2 {
		t.Errorf("%s arrived, then %s as attempt %d", third.id, a.id, a.attempt)
	}
}

func TestRetriesFollowTheScheduleAndThenFail(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Retry = []time.Duration{time.Minute, time.Hour}
	d := openHarness(t, ep)
	d.accept("lead.created", "evt_1")
	for i, wait := range []time.Duration{time.Minute, time.Hour, 0} {
		a := mustArrive(t, arrivals)
		if a.attempt != i+1 {
			t.Fatalf("attempt %d, want %d", a.attempt, i+1)
		}
		a.answer <- 500
		if wait > 0 {
			d.until("crm", "retrying", func(s Status) bool { return s.Retrying == 1 && s.InFlight == 0 && !s.NextRetry.IsZero() })
			d.skip(wait - patience)
			d.mustHold("crm")
			d.skip(patience + time.Second)
		}
	}
	d.until("crm", "through", func(s Status) bool { return s.Failed == 1 })
	_, deliveries, _, err := d.Story([]byte("evt_1"))
	if err != nil || len(deliveries) != 1 || len(deliveries[0].Attempts) != 3 {
		t.Fatalf("story %+v, %v", deliveries, err)
	}
	if f := deliveries[0].Failure; f == nil || f.Reason != "gave up after 3 attempts: answered 500 Internal Server Error" {
		t.Errorf("failure %+v", f)
	}
}

// Each retry waits longer by a random time of its own, never shorter than the schedule says, and exactly as long without jitter.
func TestJitterSpreadsRetriesBehindTheirSchedule(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 422 })
	exact, spread := subscriber("exact", url), subscriber("spread", url)
	exact.Delivery.Retry, spread.Delivery.Retry = []time.Duration{time.Hour}, []time.Duration{time.Hour}
	spread.Delivery.Jitter = 100 * time.Hour
	d := openHarness(t, exact, spread)
	const events = 64
	d.accept("lead.created", numbered(events)...)
	failed := func(n int64) func(Status) bool {
		return func(s Status) bool { return s.Failed >= n && s.InFlight == 0 && s.Failed+s.Retrying == events }
	}
	for _, name := range []string{"exact", "spread"} {
		d.until(name, "retrying", failed(0))
	}
	d.skip(time.Hour - patience)
	d.mustHold("exact")
	d.mustHold("spread")
	d.skip(patience + time.Second)
	d.until("exact", "through at once", failed(events))
	d.skip(time.Second) // once more, so that what is due is taken
	d.until("spread", "at rest", failed(0))
	if s := d.status("spread"); s.Failed > 2 { // one of 64 may fall into these seconds of 100 hours
		t.Errorf("%d retries came as if there were no jitter", s.Failed)
	}
	d.skip(100 * time.Hour)
	d.until("spread", "through", failed(events))
}

func TestRateIsKept(t *testing.T) {
	url, got := quickReceiver(t, well)
	ep := subscriber("crm", url)
	ep.Delivery.Rate = 1.0 / 3600
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(3)...)
	for i := range 3 {
		d.until("crm", "a step further", func(s Status) bool { return s.Delivered == int64(i+1) && s.InFlight == 0 })
		if i < 2 {
			d.mustHold("crm")
		}
		d.skip(time.Hour + time.Second)
	}
	if len(got.arrived()) != 3 {
		t.Errorf("arrived: %v", got.arrived())
	}
}

func TestRetryAfterHoldsTheWholeEndpoint(t *testing.T) {
	var busy atomic.Bool
	busy.Store(true)
	got := &ledger{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.enter(r.Header.Get("webhook-id"))
		if busy.Load() {
			w.Header().Set("Retry-After", "1800")
			w.WriteHeader(429)
		}
	}))
	defer server.Close()
	ep := subscriber("crm", server.URL)
	ep.Delivery.Retry = []time.Duration{time.Second}
	d := openHarness(t, ep)
	d.accept("lead.created", "evt_1")
	d.until("crm", "limited", func(s Status) bool { return s.State == StateLimited && s.InFlight == 0 && !s.HoldEnds.IsZero() })
	d.accept("lead.created", "evt_2")
	d.skip(30*time.Minute - patience)
	d.mustHold("crm")
	busy.Store(false)
	d.skip(patience + time.Second)
	d.until("crm", "settled", settled)
	if s := d.status("crm"); s.Delivered != 2 || s.State != StateUp || got.count("evt_1") != 2 || got.count("evt_2") != 1 {
		t.Errorf("delivered %d, %s, arrived %v", s.Delivered, s.State, got.arrived())
	}
	if _, deliveries, _, err := d.Story([]byte("evt_1")); err != nil || len(deliveries) != 1 || deliveries[0].Attempts[0].Number != 1 || deliveries[0].Attempts[1].Number != 1 {
		t.Errorf("an attempt was charged: %+v, %v", deliveries, err)
	}
}

func TestGoneEndpointIsPausedUntilItIsResumed(t *testing.T) {
	url, arrivals := slowReceiver(t)
	d := openHarness(t, subscriber("crm", url))
	d.accept("lead.created", "evt_1")
	mustArrive(t, arrivals).answer <- 410
	isPaused := func(s Status) bool {
		return s.State == StatePaused && s.Reason == "the endpoint answered 410 Gone" && s.Pending > 0 && s.InFlight == 0
	}
	d.until("crm", "paused", isPaused)
	d.accept("lead.created", "evt_2")
	d.mustHold("crm")

	d.stop(context.Background())
	d.open(subscriber("crm", url))
	d.until("crm", "paused after a restart", isPaused)
	d.mustHold("crm")
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		a := mustArrive(t, arrivals)
		if ids = append(ids, a.id); a.attempt != 1 {
			t.Errorf("%s: attempt %d, want 1", a.id, a.attempt)
		}
		a.answer <- 200
	}
	if slices.Sort(ids); !slices.Equal(ids, []string{"evt_1", "evt_2"}) {
		t.Errorf("arrived: %v", ids)
	}
	d.until("crm", "up", func(s Status) bool { return s.State == StateUp && settled(s) && s.Failed == 0 })
}

func TestDownEndpointIsProbedWithOneDelivery(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(40)...)
	failures := 0
	for d.status("crm").State != StateDown {
		a := mustArrive(t, arrivals)
		a.answer <- 500
		failures++
		d.until("crm", "one further", func(s Status) bool { return s.Attempts == int64(failures) })
	}
	for d.status("crm").InFlight > 0 {
		mustArrive(t, arrivals).answer <- 500
		failures++
		d.until("crm", "one further", func(s Status) bool { return s.Attempts == int64(failures) })
	}
	if failures > downAfter+ep.Delivery.Concurrency-1 {
		t.Errorf("%d attempts until it was down", failures)
	}
	d.until("crm", "at rest", func(s Status) bool { return s.Retrying == int64(failures) && s.InFlight == 0 && !s.NextProbe.IsZero() })
	d.mustHold("crm")

	// Probes come whatever the retries wait for, each time with another delivery, and charge nobody.
	probed := map[string]int{}
	for range 4 {
		d.skip(probeEvery)
		probe := mustArrive(t, arrivals)
		probed[probe.id]++
		d.until("crm", "probed", func(s Status) bool { return s.InFlight == 1 })
		d.mustHold("crm")
		mustStaySilent(t, arrivals)
		probe.answer <- 500
		d.until("crm", "at rest again", func(s Status) bool { return s.InFlight == 0 })
	}
	if len(probed) != 4 {
		t.Errorf("probed with %v", probed)
	}
	if s := d.status("crm"); s.Failed != 0 || s.Pending != int64(40-failures-2) || s.Retrying != int64(failures+2) {
		t.Errorf("after the probes: %+v", s)
	}
	d.skip(probeEvery)
	probe := mustArrive(t, arrivals)

	// It answers: one at a time, then two, then as many as it may have.
	probe.answer <- 200
	var wave []arrival
	for _, n := range []int{1, 2, 4} {
		for len(wave) < n {
			wave = append(wave, mustArrive(t, arrivals))
		}
		d.until("crm", "a wave further", func(s Status) bool { return s.State == StateUp && s.InFlight == n })
		d.mustHold("crm")
		mustStaySilent(t, arrivals)
		wave[0].answer <- 200
		wave = wave[1:]
	}
	for _, a := range wave {
		a.answer <- 200
	}
	for range 40 - 1 - 6 { // the retries do not wait for their hour
		mustArrive(t, arrivals).answer <- 200
	}
	d.until("crm", "settled", settled)
	if s := d.status("crm"); s.Delivered != 40 || s.Failed != 0 {
		t.Errorf("delivered %d, failed %d", s.Delivered, s.Failed)
	}
}

// An endpoint that is down until an attempt succeeds that was under way had no outage: what failed waits as the schedule says. It was
// attempted again at once, again and again, and of a schedule of 30 s the last attempt was made after 0.08 s.
func TestRetriesOfAnEndpointThatWasDownForAMomentFollowTheSchedule(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	ep.Delivery.Concurrency = downAfter + 1
	d := openHarness(t, ep)
	d.accept("lead.created", "good")
	good := mustArrive(t, arrivals)
	d.accept("email.opened", numbered(downAfter)...)
	for range downAfter {
		mustArrive(t, arrivals).answer <- 500
	}
	d.until("crm", "down", func(s Status) bool { return s.State == StateDown && s.InFlight == 1 })
	good.answer <- 200
	d.until("crm", "up", func(s Status) bool { return s.State == StateUp && s.Delivered == 1 && s.InFlight == 0 })
	d.mustHold("crm")
	mustStaySilent(t, arrivals)
	if next := d.status("crm").NextRetry.Sub(d.now()); next < time.Hour-patience {
		t.Errorf("the next retry is due in %s, want an hour", next)
	}
	d.skip(time.Hour)
	for range downAfter {
		if a := mustArrive(t, arrivals); a.attempt != 2 {
			t.Errorf("attempt %d of %s, want 2", a.attempt, a.id)
		} else {
			a.answer <- 200
		}
	}
	d.until("crm", "settled", settled)
}

// What comes after a look, or could not be given up in it since its retry was not due, waits for no longer than it must.
func TestWhatIsHeldExpiresSoonAfterMaxAge(t *testing.T) {
	ep := subscriber("crm", "http://127.0.0.1:1/")
	ep.Delivery.MaxAge = time.Minute
	for _, c := range []struct {
		name string
		hold func(d *harness, lane *Lane)
	}{
		{"one that comes later", func(d *harness, _ *Lane) { d.accept("lead.created", "evt_1") }},
		{"a retry", func(d *harness, lane *Lane) {
			d.accept("lead.created", "evt_1")
			one, _ := lane.queueLane.Take()
			if one == nil {
				t.Fatal("there is nothing")
			}
			lane.queueLane.Retry(one, &queue.Attempt{Number: 1, At: d.now(), Class: string(client.ClassTimeout)}, d.now().Add(50*time.Second))
		}},
	} {
		d := openHarness(t, ep)
		lane := d.dispatcher.Lane("crm")
		if err := lane.Pause("by the test"); err != nil {
			t.Fatal(err)
		}
		d.dispatcher.Route([]byte("lead.created"), nil) // which is remembered
		d.alone()
		begin := d.now()
		if c.name == "a retry" {
			c.hold(d, lane)
			lane.expire(begin.Add(45 * time.Second))
		} else {
			lane.expire(begin)
			c.hold(d, lane)
		}
		d.leap.Add(int64(70 * time.Second))
		for deadline := time.Now().Add(patience); lane.expire(begin.Add(70*time.Second)) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: it did not expire: %+v", c.name, lane.queueLane.Stats())
			}
		}
	}
}

func TestOnlyWhatIsHeldExpires(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	d := openHarness(t, ep)
	lane := d.dispatcher.Lane("crm")
	d.accept("lead.created", "evt_slow")
	mustArrive(t, arrivals)
	late := d.now().Add(ep.Delivery.MaxAge + time.Hour)
	lane.expire(late)
	if s := d.status("crm"); s.Failed != 0 {
		t.Fatal("a delivery to an endpoint that is merely slow expired")
	}
	if err := lane.Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_old")
	d.leap.Add(int64(ep.Delivery.MaxAge + time.Second))
	d.accept("lead.created", "evt_young")
	lane.expire(late)
	if s := d.status("crm"); s.Failed != 1 || s.Pending != 2 {
		t.Errorf("failed %d, pending %d, want 1, 2", s.Failed, s.Pending)
	}
	_, deliveries, _, err := d.Story([]byte("evt_old"))
	if err != nil || len(deliveries) != 1 || deliveries[0].Failure == nil {
		t.Fatalf("story %+v, %v", deliveries, err)
	}
	if f := deliveries[0].Failure; f.Class != "expired" || !strings.Contains(f.Reason, "max_age (72h0m0s) while the endpoint was paused") {
		t.Errorf("failure %+v", f)
	}
}
