package delivery

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/queue"
)

func (d *harness) replay(name string, spec queue.ReplaySpec) queue.ReplayStatus {
	d.t.Helper()
	status, err := d.dispatcher.Lane(name).queueLane.StartReplay(spec, -1)
	if err != nil {
		d.t.Fatal(err)
	}
	return status
}

// failAll has n events fail at once.
func (d *harness) failAll(n int) {
	d.t.Helper()
	lane := d.dispatcher.Lane("crm")
	if err := lane.Pause("until all have failed"); err != nil {
		d.t.Fatal(err)
	}
	d.accept("lead.created", numbered(n)...)
	for range n {
		held, _ := lane.queueLane.Take()
		for held == nil {
			<-time.After(time.Millisecond)
			held, _ = lane.queueLane.Take()
		}
		lane.queueLane.Failed(held, &queue.Attempt{Number: 1, At: d.now(), Status: 500, Class: "status"}, "answered 500")
	}
}

func TestAReplayCarriesItsHeaderThroughTheWholeSchedule(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	url, _ := quickReceiver(t, func(r *http.Request) int {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("X-RealtorBot-Attempt")+" "+r.Header.Get("X-RealtorBot-Replay"))
		if len(seen) < 3 {
			return 500
		}
		return 200
	})
	ep := subscriber("crm", url)
	ep.Delivery.Retry = []time.Duration{time.Millisecond, time.Millisecond}
	d := openHarness(t, ep)
	d.failAll(1)
	status := d.replay("crm", queue.ReplaySpec{Failed: true})
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	d.until("crm", "through with its replay", func(s Status) bool { return len(s.Replays) == 0 && s.Delivered == 1 })
	if s := d.status("crm"); s.Failed != 0 || s.Retrying != 0 || s.DeliveryMS != nil {
		t.Errorf("the endpoint is %+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(seen, ", "), "1 "+status.ID+", 2 "+status.ID+", 3 "+status.ID; got != want {
		t.Errorf("attempts were %s, want %s", got, want)
	}
}

// With one sender, what comes in meanwhile takes turns with a replay.
func TestAReplayAndWhatIsNewTakeTurns(t *testing.T) {
	var mu sync.Mutex
	var order []bool // of a replay
	url, _ := quickReceiver(t, func(r *http.Request) int {
		mu.Lock()
		order = append(order, r.Header.Get("X-RealtorBot-Replay") != "")
		mu.Unlock()
		return 200
	})
	ep := subscriber("crm", url)
	ep.Delivery.Concurrency = 1
	d := openHarness(t, ep)
	d.failAll(100)
	d.replay("crm", queue.ReplaySpec{Failed: true})
	var fresh []string
	for _, id := range numbered(100) {
		fresh = append(fresh, "new_"+id)
	}
	d.accept("lead.created", fresh...)
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	d.until("crm", "through", func(s Status) bool { return s.Delivered == 200 && len(s.Replays) == 0 })
	mu.Lock()
	defer mu.Unlock()
	replayed := 0
	for i, replay := range order[:100] {
		if replay {
			replayed++
		}
		if i > 10 && (replayed < i/3 || replayed > 2*i/3+1) {
			t.Fatalf("of the first %d attempts %d were of the replay", i+1, replayed)
		}
	}
}

// A replay to an endpoint that is down must not turn what has failed into more failures: one at a time probes.
func TestAReplayWaitsForAnEndpointThatIsDown(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	ep := subscriber("crm", url)
	ep.Delivery.Retry = nil
	d := openHarness(t, ep)
	d.failAll(500)
	d.replay("crm", queue.ReplaySpec{Failed: true})
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	d.until("crm", "down", func(s Status) bool { return s.State == StateDown })
	<-time.After(300 * time.Millisecond)
	if s := d.status("crm"); s.Attempts > downAfter+int64(ep.Delivery.Concurrency) || s.Failed != 500 || len(s.Replays) != 1 {
		t.Errorf("the endpoint is %+v", s)
	}
}

func TestAPacedReplayGoesOnByItself(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 200 })
	d := openHarness(t, subscriber("crm", url))
	d.failAll(20)
	d.replay("crm", queue.ReplaySpec{Failed: true, Rate: 100})
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	d.until("crm", "through", func(s Status) bool { return s.Delivered == 20 && len(s.Replays) == 0 })
}
