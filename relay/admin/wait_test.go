package admin

import (
	"testing"
	"time"

	"realtorbot-relay/relay/delivery"
)

func TestAnEventIsWaitedForUntilItIsSettled(t *testing.T) {
	o := openHarness(t, "")
	if status, body := o.ask("GET", "/events/evt_1?wait=30s"); status != 404 || code(body) != "no_event" {
		t.Errorf("an event that never came is %d %s", status, body)
	}
	o.ask("POST", "/endpoints/crm/pause")
	o.accept("evt_1")
	if status, got := o.read("/events/evt_1?wait=20ms"); status != 200 || got["settled"] != false || stateOf(got) != "pending" {
		t.Errorf("what is not settled when wait is over is %d %v", status, got)
	}
	if _, got := o.read("/events/evt_1"); got["settled"] != false {
		t.Errorf("without wait it is %v", got)
	}
	waited := make(chan map[string]any, 1)
	go func() {
		_, got := o.read("/events/evt_1?wait=30s")
		waited <- got
	}()
	for o.waiters.taken.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	o.ask("POST", "/endpoints/crm/resume")
	if got := <-waited; got["settled"] != true || stateOf(got) != "delivered" {
		t.Errorf("what was waited for is %v", got)
	}
	o.status.Store(500)
	o.accept("evt_2")
	if _, got := o.read("/events/evt_2?wait=30s"); got["settled"] != true || stateOf(got) != "failed" {
		t.Errorf("a delivery that failed is %v", got)
	}
	if n := o.waiters.taken.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// stateOf is that of an event's first delivery.
func stateOf(story map[string]any) any {
	return story["deliveries"].([]any)[0].(map[string]any)["state"]
}

func TestOnlySoManyWaitForEvents(t *testing.T) {
	o := openHarness(t, "")
	o.accept("evt_1")
	o.until("through", func(s delivery.Status) bool { return s.Delivered == 1 })
	for range maxWaiting {
		if !o.waiters.begin() {
			t.Fatal("a place that is free is not given")
		}
	}
	if status, body := o.ask("GET", "/events/evt_1?wait=1s"); status != 503 || code(body) != "unavailable" {
		t.Errorf("one too many is answered %d %s", status, body)
	}
	if status, _ := o.ask("GET", "/events/evt_1"); status != 200 {
		t.Errorf("who doesn't wait is answered %d", status)
	}
	o.waiters.end()
	if status, _ := o.ask("GET", "/events/evt_1?wait=1s"); status != 200 {
		t.Errorf("when a place is free again, the answer is %d", status)
	}
	for _, wait := range []string{"x", "-1s", "31s", "5"} {
		if status, body := o.ask("GET", "/events/evt_1?wait="+wait); status != 400 || code(body) != "invalid_query" {
			t.Errorf("wait=%s is answered %d %s", wait, status, body)
		}
	}
}

// Without the stop this would wait for a thousand hours.
func TestAStopEndsTheWaitForAnEvent(t *testing.T) {
	o := openHarness(t, "")
	o.ask("POST", "/endpoints/crm/pause")
	o.accept("evt_1")
	stopped := make(chan struct{})
	time.AfterFunc(5*time.Millisecond, func() { close(stopped) })
	list, err := o.stories(stopped, []byte("evt_1"), 1000*time.Hour)
	if err != nil || len(list) != 1 || list[0].IsSettled() {
		t.Errorf("what a stop ends is %v, %v", list, err)
	}
}
