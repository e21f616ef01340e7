package delivery

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
)

// takeAll waits for n transitions.
func (d *harness) takeAll(n int) (list []Transition) {
	d.t.Helper()
	end := time.After(patience)
	for len(list) < n {
		select {
		case <-d.dispatcher.TransitionsReady():
			list = append(list, d.dispatcher.TakeTransitions()...)
		case <-end:
			d.t.Fatalf("there are %d transitions, want %d: %+v", len(list), n, list)
		}
	}
	return list
}

func anyEndpoint(string) bool { return true }

func TestTransitionsAreReportedOnce(t *testing.T) {
	var status atomic.Int64
	status.Store(500)
	url, _ := quickReceiver(t, func(*http.Request) int { return int(status.Load()) })
	ep := subscriber("crm", url)
	ep.Delivery.Retry = []time.Duration{time.Millisecond}
	d := openHarness(t, ep)
	d.accept("test", numbered(2*downAfter)...)
	down := d.takeAll(1)[0]
	if down.State != StateDown || down.Endpoint != "crm" || !strings.Contains(down.Reason, "answered 500") || down.At.IsZero() {
		t.Errorf("got %+v", down)
	}
	// It is reported to be back also when a reload and a resume came between.
	changed := ep
	changed.Delivery.Concurrency++
	if err := d.dispatcher.Apply([]config.Endpoint{changed}); err != nil {
		t.Fatal(err)
	}
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	status.Store(200)
	d.accept("test", "evt_last")
	d.until("crm", "settled", settled)
	up := d.takeAll(1)
	if len(up) != 1 || up[0].State != StateUp || up[0].Since.After(up[0].At) || up[0].Since.IsZero() {
		t.Errorf("got %+v", up)
	}
	for range 2 {
		if err := d.dispatcher.Lane("crm").Pause("by the operator"); err != nil {
			t.Fatal(err)
		}
	}
	paused := d.takeAll(1)
	if len(paused) != 1 || paused[0].State != StatePaused || paused[0].Reason != "by the operator" {
		t.Fatalf("got %+v", paused)
	}
	for range 2 { // one that is not paused has no pause to end
		if err := d.dispatcher.Lane("crm").Resume(); err != nil {
			t.Fatal(err)
		}
	}
	if resumed := d.takeAll(1); len(resumed) != 1 || resumed[0].State != TransitionResumed || !resumed[0].Since.Equal(paused[0].At) {
		t.Errorf("got %+v", resumed)
	}
}

func TestFailuresAreGathered(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	ep := subscriber("crm", url)
	ep.Delivery.Retry = nil
	d := openHarness(t, ep)
	d.accept("test", "evt_1", "evt_2", "evt_3")
	d.until("crm", "through", func(s Status) bool { return s.Failed == 3 && s.InFlight == 0 })
	if none := d.dispatcher.TakeFailures(func(string) bool { return false }); len(none) != 0 {
		t.Errorf("taken although not wanted: %+v", none)
	}
	got := d.dispatcher.TakeFailures(anyEndpoint)
	if len(got) != 1 || got[0].Endpoint != "crm" || got[0].Count != 3 || got[0].Classes["status"] != 3 || got[0].Type != "test" || !strings.HasPrefix(got[0].Reason, "gave up after 1 attempt") {
		t.Errorf("got %+v", got)
	}
	if again := d.dispatcher.TakeFailures(anyEndpoint); len(again) != 0 {
		t.Errorf("reported twice: %+v", again)
	}
}

// A failing alert raises none.
func TestAlertsThatFailAreNotReported(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	ep := subscriber("chat", url)
	ep.Events, ep.Delivery.Retry = []string{"*", "relay.*"}, nil
	d := openHarness(t, ep)
	d.accept("relay.disk.low", numbered(2*downAfter)...)
	d.until("chat", "down", func(s Status) bool { return s.State == StateDown })
	if err := d.dispatcher.Lane("chat").Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	if list := d.dispatcher.TakeTransitions(); len(list) != 0 {
		t.Errorf("got %+v", list)
	}
	if failures := d.dispatcher.TakeFailures(anyEndpoint); len(failures) != 0 {
		t.Errorf("got %+v", failures)
	}
	// Other events of the same endpoint do count.
	if err := d.dispatcher.Lane("chat").Resume(); err != nil {
		t.Fatal(err)
	}
	d.accept("test", "evt_other")
	d.until("chat", "through", func(s Status) bool { return s.Pending == 0 && s.InFlight == 0 })
	if failures := d.dispatcher.TakeFailures(anyEndpoint); len(failures) != 1 || failures[0].Event != "evt_other" || failures[0].Count != 1 {
		t.Errorf("got %+v", failures)
	}
}
