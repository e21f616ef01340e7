package delivery

import (
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

func TestAPanicIsOneFailedAttempt(t *testing.T) {
	url, _ := quickReceiver(t, well)
	broken, whole := subscriber("broken", url), subscriber("whole", url)
	broken.Delivery.Retry = nil
	d := openHarness(t, broken, whole)
	lane := d.dispatcher.Lane("broken")
	panics, err := client.New(&broken, "1.2.3", client.Machine{Now: func() time.Time { panic("no clock") }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lane.mu.Lock()
	c := lane.generation.Load()
	c.client.Close()
	c.client = panics
	lane.mu.Unlock()
	d.accept("lead.created", "evt_1")
	d.until("broken", "to fail", func(s Status) bool { return s.Failed == 1 })
	d.until("whole", "to be served", func(s Status) bool { return s.Delivered == 1 })
	_, stories, _, err := d.Story([]byte("evt_1"))
	if err != nil || stories[0].Failure == nil || stories[0].Failure.Class != string(client.ClassInternal) || len(stories[0].Attempts) != 1 {
		t.Errorf("the story is %+v, %v", stories, err)
	}
}

func TestALaneThatIsStuckIsNoticed(t *testing.T) {
	url, _ := quickReceiver(t, well)
	ep := subscriber("crm", url)
	dispatcher := openHarness(t, ep).dispatcher
	lane := dispatcher.Lane("crm")
	dispatcher.checkLanes([]*Lane{lane})
	if stalled := dispatcher.Stalled(); stalled != 0 {
		t.Errorf("a lane that rests counts as stalled for %v", stalled)
	}
	// A sender whose attempt does not end.
	lane.mu.Lock()
	stuck := &queue.Delivery{}
	lane.inFlight[stuck] = &flight{generation: lane.generation.Load(), began: time.Now().Add(-ep.Delivery.Timeout - time.Minute)}
	lane.mu.Unlock()
	dispatcher.checkLanes([]*Lane{lane})
	if stalled := dispatcher.Stalled(); stalled < time.Minute {
		t.Errorf("a stuck sender counts as stalled for %v", stalled)
	}
	lane.mu.Lock()
	delete(lane.inFlight, stuck)
	lane.mu.Unlock()
	dispatcher.checkLanes([]*Lane{lane})
	// A lock that nobody gives back.
	lane.mu.Lock()
	began := time.Now()
	dispatcher.roundBegan.Store(&began)
	done := make(chan struct{})
	go func() {
		defer close(done)
		dispatcher.checkLanes([]*Lane{lane})
		dispatcher.roundBegan.Store(nil)
	}()
	for deadline := began.Add(30 * time.Second); dispatcher.Stalled() < 50*time.Millisecond; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the deadlock does not show")
		}
	}
	lane.mu.Unlock()
	<-done
	if stalled := dispatcher.Stalled(); stalled != 0 {
		t.Errorf("a lane that goes on counts as stalled for %v", stalled)
	}
}
