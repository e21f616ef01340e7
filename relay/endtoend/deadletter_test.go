package endtoend

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// letterbox is the configuration of an endpoint that is given what fails elsewhere, and nothing else.
func letterbox(url string) string {
	return fmt.Sprintf("[[endpoint]]\nname = \"dead\"\nurl = %q\nevents = []\nsecret = \"0123456789abcdef0123456789abcdef\"\n", url)
}

// What is failed when the relay is killed, at any moment, comes to the endpoint of on_failed: as it was, with who and why.
func TestWhatFailedBeforeAKillComesToTheEndpointOfOnFailed(t *testing.T) {
	t.Parallel()
	const clients, kills = 4, 5
	crm := receive(t, codes(422))
	dead := receive(t, well)
	first := start(t, preamble+endpoint("crm", crm.url, "retry = []", `on_failed = "dead"`)+letterbox(dead.url))
	var serving atomic.Pointer[relay]
	serving.Store(first)
	var posting sync.WaitGroup
	var acknowledged atomic.Int64
	over := make(chan struct{})
	for c := range clients {
		posting.Go(func() {
			for n := 0; ; n++ {
				for serving.Load().offer(event(fmt.Sprintf("evt_%d_%d", c, n))).status != 200 {
					time.Sleep(2 * time.Millisecond)
				}
				acknowledged.Add(1)
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	for range kills {
		from := acknowledged.Load()
		enough := from + 20 + rand.Int64N(200)
		eventually(t, "more is acknowledged", func() bool { return acknowledged.Load() >= enough })
		serving.Load().kill()
		serving.Store(serving.Load().again())
	}
	close(over)
	posting.Wait()
	last, total := serving.Load(), int(acknowledged.Load())
	eventually(t, "each event that failed has come to the endpoint for those", func() bool { return len(dead.counts()) >= total })
	stood := last.awaitEndpoint("dead", "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
	if stood.Delivered != int64(total) {
		t.Errorf("%d were delivered to it, of %d: each that failed is copied once", stood.Delivered, total)
	}
	if ep := last.endpoint("crm"); ep.Failed != int64(total) {
		t.Errorf("%d are failed where they failed, of %d", ep.Failed, total)
	}
	t.Logf("%d events, %d letters (%+v), in %d lives", total, len(dead.all()), stood, kills+1)
	for _, a := range dead.all() {
		if a.body != event(a.id) {
			t.Fatalf("event %s came with the body %s", a.id, a.body)
		}
		h := a.header
		if h.Get("X-RealtorBot-Failed-Endpoint") != "crm" || h.Get("X-RealtorBot-Failed-Class") != "status" ||
			!strings.Contains(h.Get("X-RealtorBot-Failed-Reason"), "422") || h.Get("X-RealtorBot-Event") != "lead.created" {
			t.Fatalf("event %s came with %v", a.id, h)
		}
	}
}

// The story of an event tells the delivery of what failed as that of its endpoint, and a replay of it is made there.
func TestTheStoryTellsWhatWasGivenToTheEndpointOfOnFailed(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(422))
	dead := receive(t, codes(500, 200))
	r := start(t, preamble+endpoint("crm", crm.url, "retry = []", `on_failed = "dead"`)+letterbox(dead.url)+"retry = []\n")
	r.post(event("evt_1"))
	type delivery struct {
		Endpoint   string
		State      string
		DeadLetter *struct{ Endpoint, Class, Reason string } `json:"dead_letter"`
	}
	var told struct {
		Settled    bool
		Deliveries []delivery
		Unmatched  []struct{ Endpoint string }
	}
	look := func(state string) {
		t.Helper()
		r.get("/events/evt_1?wait=30s", &told)
		if len(told.Deliveries) != 2 || len(told.Unmatched) != 0 || !told.Settled {
			t.Fatalf("the story is %+v", told)
		}
		own, other := told.Deliveries[0], told.Deliveries[1]
		if own.Endpoint != "crm" || own.State != "failed" || own.DeadLetter != nil || other.Endpoint != "dead" || other.State != state ||
			other.DeadLetter == nil || other.DeadLetter.Endpoint != "crm" || other.DeadLetter.Class != "status" {
			t.Fatalf("the story is %+v", told)
		}
	}
	look("failed")
	a := r.admin.ask(t, "POST", "/endpoints/dead/replay", `{"ids":["evt_1"]}`)
	if a.status != 202 && a.status != 200 {
		t.Fatalf("the replay is answered %d %s", a.status, a.body)
	}
	dead.await(2)
	r.awaitEndpoint("dead", "has delivered it", func(ep endpointStats) bool { return ep.Failed == 0 && ep.Pending+ep.Retrying == 0 })
	look("delivered")
	if len(crm.all()) != 1 {
		t.Errorf("the replay came to the wrong endpoint: %d attempts", len(crm.all()))
	}
	var list struct {
		Events []struct {
			ID         string
			Deliveries []delivery
			DeadLetter *struct{ Endpoint string } `json:"dead_letter"`
		}
	}
	r.get("/events?endpoint=dead", &list)
	if len(list.Events) != 1 || list.Events[0].ID != "evt_1" || list.Events[0].DeadLetter == nil || list.Events[0].DeadLetter.Endpoint != "crm" {
		t.Errorf("the events of the endpoint are %+v", list)
	}
}
