package delivery

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

func TestStopLetsAttemptsEnd(t *testing.T) {
	url, arrivals := slowReceiver(t)
	d := openHarness(t, subscriber("crm", url))
	d.accept("lead.created", numbered(10)...)
	under := []arrival{mustArrive(t, arrivals), mustArrive(t, arrivals), mustArrive(t, arrivals), mustArrive(t, arrivals)}
	stopped := make(chan struct{})
	dispatcher := d.dispatcher
	go func() {
		defer close(stopped)
		dispatcher.Stop(context.Background())
	}()
	<-dispatcher.stop
	select {
	case <-stopped:
		t.Fatal("stopped with attempts under way")
	default:
	}
	d.dispatcher = nil
	for _, lane := range dispatcher.table.Load().lanes {
		for !lane.isStopped() {
			<-time.After(time.Millisecond)
		}
	}
	for _, a := range under {
		a.answer <- 200
	}
	<-stopped
	mustStaySilent(t, arrivals)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.open(subscriber("crm", url))
	if s := d.status("crm"); s.Delivered != 4 || s.Pending != 6 {
		t.Errorf("delivered %d, pending %d, want 4, 6", s.Delivered, s.Pending)
	}
}

func (l *Lane) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

func TestStopInAHurryPutsBackWhatIsUnderWay(t *testing.T) {
	url, arrivals := slowReceiver(t)
	d := openHarness(t, subscriber("crm", url))
	d.accept("lead.created", "evt_retry")
	mustArrive(t, arrivals).answer <- 500
	d.until("crm", "retrying", func(s Status) bool { return s.Retrying == 1 && s.InFlight == 0 && !s.NextRetry.IsZero() })
	d.skip(2 * time.Hour)
	mustArrive(t, arrivals)
	d.accept("lead.created", "evt_first")
	mustArrive(t, arrivals)
	d.close()

	d.open(subscriber("crm", url))
	numbers := map[string]int{}
	for range 2 {
		a := mustArrive(t, arrivals)
		numbers[a.id] = a.attempt
		a.answer <- 200
	}
	if numbers["evt_retry"] != 2 || numbers["evt_first"] != 1 {
		t.Errorf("attempts after the restart: %v", numbers)
	}
	d.until("crm", "settled", settled)
}

func TestNoGoroutineOutlivesStop(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("stop", func(t *testing.T) {
		quick, _ := quickReceiver(t, well)
		slow, arrivals := slowReceiver(t)
		d := openHarness(t, subscriber("crm", quick), subscriber("mailer", slow))
		d.accept("lead.created", numbered(20)...)
		mustArrive(t, arrivals)
		d.until("crm", "settled", settled)
		if err := d.dispatcher.Apply([]config.Endpoint{subscriber("mailer", quick)}); err != nil {
			t.Fatal(err)
		}
		d.close()
	})
	goleak.VerifyNone(t, before)
}

func TestReloadNeitherLosesNorDoubles(t *testing.T) {
	const all = 2000
	url, got := quickReceiver(t, well)
	other, gotOther := quickReceiver(t, well)
	changed := func(i int) []config.Endpoint {
		ep := subscriber("crm", url)
		ep.Delivery.Concurrency = 1 + i%4
		return []config.Endpoint{ep, subscriber("mailer", other)}
	}
	d := openHarness(t, changed(0)...)
	mailer := d.dispatcher.Lane("mailer")
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		for batch := range slices.Chunk(numbered(all), 20) {
			d.accept("lead.created", batch...)
		}
	}()
	for i := 1; ; i++ {
		if err := d.dispatcher.Apply(changed(i)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-posted:
		default:
			continue
		}
		break
	}
	for _, name := range []string{"crm", "mailer"} {
		d.until(name, "settled", func(s Status) bool { return s.Delivered == all && settled(s) })
	}
	if d.dispatcher.Lane("mailer") != mailer {
		t.Error("the lane of an endpoint that did not change was replaced")
	}
	for _, l := range []*ledger{got, gotOther} {
		l.mu.Lock()
		for _, id := range numbered(all) {
			if l.times[id] != 1 {
				t.Errorf("%s arrived %d times", id, l.times[id])
			}
		}
		l.mu.Unlock()
	}
}

func TestChangedEndpointGoesWhereItNowLeads(t *testing.T) {
	slow, arrivals := slowReceiver(t)
	quick, got := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", slow))
	d.accept("lead.created", "evt_1")
	old := mustArrive(t, arrivals)
	if err := d.dispatcher.Apply([]config.Endpoint{subscriber("crm", quick)}); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_2")
	d.until("crm", "one further", func(s Status) bool { return s.Delivered == 1 })
	old.answer <- 200
	d.until("crm", "settled", settled)
	if got.count("evt_2") != 1 || len(got.arrived()) != 1 {
		t.Errorf("arrived at the new receiver: %v", got.arrived())
	}
}

func TestBadEndpointChangesNothing(t *testing.T) {
	url, got := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	bad := subscriber("mailer", url)
	bad.Signatures = []string{"no such scheme"}
	changed := subscriber("crm", url)
	changed.Delivery.Concurrency = 1
	if err := d.dispatcher.Apply([]config.Endpoint{changed, subscriber("fresh", url), bad}); err == nil || !strings.Contains(err.Error(), `"mailer"`) {
		t.Fatalf("error %v", err)
	}
	d.accept("lead.created", "evt_1")
	d.until("crm", "settled", settled)
	if lane := d.dispatcher.Lane("crm"); len(got.arrived()) != 1 || lane.endpoint().Delivery.Concurrency != 4 || d.dispatcher.Lane("mailer") != nil {
		t.Errorf("arrived: %v", got.arrived())
	}
	for _, name := range []string{"fresh", "mailer"} {
		if d.Find(name) != nil {
			t.Errorf("%q has a place in the queue, and is not configured", name)
		}
	}
}

func TestDisabledEndpointKeepsWhatItHas(t *testing.T) {
	url, arrivals := slowReceiver(t)
	ep := subscriber("crm", url)
	d := openHarness(t, ep)
	if err := d.dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_1")
	off := ep
	off.Enabled = false
	if err := d.dispatcher.Apply([]config.Endpoint{off}); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_2")
	if s := d.status("crm"); s.State != StateDisabled || s.Reason != "disabled in the configuration, and paused by the operator" {
		t.Errorf("%s: %s; the pause is not told", s.State, s.Reason)
	}
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Errorf("the pause of a disabled endpoint can't be ended: %v", err)
	}
	if err := d.dispatcher.Lane("crm").Resume(); !errors.Is(err, ErrDisabled) {
		t.Errorf("resume of what is not paused: %v", err)
	}
	d.mustHold("crm")
	if s := d.status("crm"); s.State != StateDisabled || s.Pending != 1 || s.Reason != "disabled in the configuration" {
		t.Errorf("%s: %s, pending %d, want disabled, 1", s.State, s.Reason, s.Pending)
	}
	if err := d.dispatcher.Apply([]config.Endpoint{ep}); err != nil {
		t.Fatal(err)
	}
	a := mustArrive(t, arrivals)
	if a.answer <- 200; a.id != "evt_1" {
		t.Errorf("%s arrived", a.id)
	}
	d.until("crm", "settled", settled)
}

// Whoever is disabled or removed is unserved from then on, not from the next start, and whoever is paused is not.
func TestWhatDisabledAndRemovedEndpointsHoldHasATime(t *testing.T) {
	url, _ := quickReceiver(t, well)
	off, gone, paused := subscriber("off", url), subscriber("gone", url), subscriber("paused", url)
	d := &harness{t: t, dir: filepath.Join(t.TempDir(), "data")}
	d.keep.retention, d.keep.unserved = time.Second, 100*time.Hour
	paused.Delivery.MaxAge = 1000 * time.Hour
	d.open(off, gone, paused)
	t.Cleanup(d.close)
	for _, name := range []string{"off", "gone", "paused"} {
		if err := d.dispatcher.Lane(name).Pause("paused by the operator"); err != nil {
			t.Fatal(err)
		}
	}
	d.accept("lead.created", "evt_1", "evt_2")
	d.leap.Add(int64(60 * time.Hour)) // nobody minds: they are served
	off.Enabled = false
	if err := d.dispatcher.Apply([]config.Endpoint{off, paused}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"off", "gone"} {
		if s := d.status(name); s.Since.IsZero() || d.now().Sub(s.Since.Time) > time.Hour {
			t.Errorf("%s is %s since %v", name, s.State, s.Since)
		}
	}
	d.leap.Add(int64(60 * time.Hour))
	d.stop(t.Context())
	d.open(off, paused)
	if s := d.status("off"); s.Pending != 2 || s.Since.IsZero() || d.now().Sub(s.Since.Time) < 60*time.Hour {
		t.Errorf("after a restart off is %+v", s)
	}
	d.leap.Add(int64(50 * time.Hour))
	for _, name := range []string{"off", "gone"} {
		d.until(name, "failed", func(s Status) bool { return s.Failed == 2 && s.Expired == 2 && s.Pending == 0 })
	}
	if s := d.status("paused"); s.Pending != 2 || s.Failed != 0 {
		t.Errorf("paused is %+v", s)
	}
	found, err := d.Search(queue.Query{Lane: d.dispatcher.Lane("off").queueLane, State: queue.Failed})
	if err != nil || len(found.Events) != 2 || found.Events[0].Failure.Class != "expired" {
		t.Errorf("failed are %+v, %v", found.Events, err)
	}
}

func TestRemovedEndpointIsOrphanedUntilItComesBack(t *testing.T) {
	url, got := quickReceiver(t, well)
	crm, mailer := subscriber("crm", url), subscriber("mailer", url)
	d := openHarness(t, crm, mailer)
	if err := d.dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_1")
	d.until("mailer", "settled", settled)
	if err := d.dispatcher.Apply([]config.Endpoint{mailer}); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", "evt_2")
	statuses := d.dispatcher.Statuses()
	if len(statuses) != 2 || statuses[0].Name != "mailer" {
		t.Fatalf("statuses %+v", statuses)
	}
	if s := statuses[1]; s.Name != "crm" || s.State != StateOrphaned || s.Pending != 1 || s.Reason == "" {
		t.Errorf("status %+v", s)
	}
	if d.dispatcher.Lane("crm") != nil {
		t.Error("there is a lane of an endpoint that is not configured")
	}
	if err := d.dispatcher.Apply([]config.Endpoint{crm, mailer}); err != nil {
		t.Fatal(err)
	}
	if s := d.status("crm"); s.State != StatePaused || s.Pending != 1 {
		t.Errorf("status %+v", s)
	}
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	d.until("crm", "settled", settled)
	if got.count("evt_1") != 2 || got.count("evt_2") != 1 {
		t.Errorf("arrived %v", got.arrived())
	}
}
