package endtoend

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestKilledUnderLoadLosesNothingAcknowledged posts from several clients, kills the relay in their midst, and starts it
// again. scripts/crash does the same at length.
func TestKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	const events, clients, killAfter = 2000, 8, 700
	crm := receive(t, well)
	config := preamble + endpoint("crm", crm.url)
	first := start(t, config)
	const saved = 200
	for i := range saved {
		first.post(event(fmt.Sprintf("saved_%d", i)))
	}
	for i := range saved {
		first.awaitState(fmt.Sprintf("saved_%d", i), "crm", "delivered") // looking it up saves what was settled
	}

	var serving atomic.Pointer[relay]
	serving.Store(first)
	var next, acknowledged atomic.Int64
	var posting sync.WaitGroup
	deadline := time.Now().Add(2 * patience)
	for range clients {
		posting.Go(func() {
			for {
				n := next.Add(1)
				if n > events {
					return
				}
				// Without an answer nobody knows: it is posted again, until it is acknowledged.
				for serving.Load().offer(event(fmt.Sprintf("evt_%d", n))).status != 200 {
					if time.Now().After(deadline) {
						t.Errorf("event %d was never acknowledged", n)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
				acknowledged.Add(1)
			}
		})
	}
	eventually(t, "enough is acknowledged", func() bool { return acknowledged.Load() >= killAfter })
	first.kill()
	before := acknowledged.Load()
	serving.Store(first.again())
	posting.Wait()

	eventually(t, "every acknowledged event has arrived", func() bool { return len(crm.counts()) >= saved+events })
	second := serving.Load()
	second.awaitEndpoint("crm", "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
	repeats := len(crm.all()) - saved - events
	t.Logf("killed after %d of %d acknowledged events; %d arrived twice", before, events, repeats)
	for id, n := range crm.counts() {
		if n > 2 || n > 1 && strings.HasPrefix(id, "saved_") {
			t.Errorf("event %q arrived %d times for one kill", id, n)
		}
	}
	if ep := second.endpoint("crm"); ep.Failed != 0 {
		t.Errorf("the endpoint stands at %+v", ep)
	}
	// All acknowledged ids are known: not one would be taken again.
	if a := second.post(event("evt_1")); !strings.Contains(a.body, "duplicate") {
		t.Errorf("a repeat after the kill is answered %s", a.body)
	}
}

func TestARetrySurvivesARestartWithItsDueTimeAndCount(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*relay){
		"SIGTERM": func(r *relay) { r.stop() },
		"SIGKILL": func(r *relay) { r.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm := receive(t, codes(500, 500, 200))
			r := start(t, preamble+endpoint("crm", crm.url, `retry = ["100ms", "3s", "100ms"]`))
			r.post(event("evt_1"))
			var before story
			eventually(t, "two attempts have failed", func() bool {
				before = r.story("evt_1", "crm")
				return before.State == "retrying" && len(before.Attempts) == 2
			})
			end(r)
			r = r.again()

			third := crm.await(3)[2]
			if third.number != 3 || third.at.Before(before.NextAttempt.Add(-time.Millisecond)) {
				t.Errorf("after the restart came attempt %d at %s, want 3 not before %s", third.number, third.at, before.NextAttempt)
			}
			after := r.awaitState("evt_1", "crm", "delivered")
			if len(after.Attempts) != 3 || after.Attempts[0].Status != 500 || after.Attempts[2].Status != 200 {
				t.Errorf("after the restart it is told of as %+v", after)
			}
		})
	}
}

func TestARetryThatFellDueWhileDownIsAttemptedAfterTheStart(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 200))
	r := start(t, preamble+endpoint("crm", crm.url, `retry = ["500ms"]`))
	r.post(event("evt_1"))
	due := r.awaitState("evt_1", "crm", "retrying").NextAttempt
	r.kill()
	eventually(t, "it is due", func() bool { return time.Now().After(due) })
	if n := len(crm.all()); n != 1 {
		t.Fatalf("%d attempts before the restart, want 1", n)
	}
	r.again()
	if a := crm.await(2)[1]; a.number != 2 {
		t.Errorf("the attempt after the restart has number %d, want 2", a.number)
	}
}

func TestTotalsAndFailuresSurviveAKill(t *testing.T) {
	t.Parallel()
	const events = 5 // more would wait: by then the endpoint is down
	bad, good := receive(t, codes(400)), receive(t, well)
	r := start(t, preamble+endpoint("bad", bad.url, "retry = []")+endpoint("good", good.url))
	for i := range events {
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	r.awaitEndpoint("bad", "has given all up", func(ep endpointStats) bool { return ep.Failed == events })
	for i := range events {
		r.awaitState(fmt.Sprintf("evt_%d", i), "good", "delivered") // looking it up saves what was settled
	}
	r.kill()
	r = r.again()
	if ep := r.endpoint("bad"); ep.Failed != events || ep.Pending+ep.Retrying+ep.Delivered != 0 {
		t.Errorf("the bad one stands at %+v", ep)
	}
	if ep := r.endpoint("good"); ep.Delivered != events || ep.Pending+ep.Retrying+ep.Failed != 0 {
		t.Errorf("the good one stands at %+v", ep)
	}
	if s := r.awaitState("evt_3", "bad", "failed"); s.Reason != "gave up after 1 attempt: answered 400 Bad Request" || len(s.Attempts) != 1 {
		t.Errorf("a failed delivery is told of as %+v", s)
	}
	if n := len(bad.all()) + len(good.all()); n != 2*events {
		t.Errorf("%d attempts in all, want %d", n, 2*events)
	}
}

// TestManyKillsInARow kills a relay as soon as it serves, many times, with an event for each.
func TestManyKillsInARow(t *testing.T) {
	t.Parallel()
	const rounds = 6
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url))
	for i := range rounds {
		r.post(event(fmt.Sprintf("evt_%d", i)))
		r.signal(syscall.SIGKILL)
		r.exit()
		r = r.again()
	}
	eventually(t, "all have arrived", func() bool { return len(crm.counts()) == rounds })
	eventually(t, "the queue keeps all of them, once", func() bool { return r.stats().Queue.Events == rounds })
}
