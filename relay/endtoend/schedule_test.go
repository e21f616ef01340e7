package endtoend

import (
	"flag"
	"strings"
	"testing"
	"time"
)

// slack is how much later than due an attempt may come on a busy machine.
const slack = 5 * time.Second

// documented has the tests of the schedule wait for the documented times, six minutes, instead of shorter ones.
var documented = flag.Bool("documented", false, "wait for the documented schedule instead of a quick one")

// theSchedule is the configuration of one: the default, which is the documented one, or a quick one.
func theSchedule() (config string, waits []time.Duration, whole time.Duration) {
	if *documented {
		return "", []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}, 7 * time.Minute
	}
	return "[delivery]\n" + quickRetry + "\n", []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 600 * time.Millisecond, 800 * time.Millisecond}, patience
}

// checkSchedule compares the time between attempts with the waits, and their numbers with 1, 2, 3, …
func checkSchedule(t *testing.T, attempts []attempt, waits ...time.Duration) {
	t.Helper()
	if len(attempts) != len(waits)+1 {
		t.Fatalf("%d attempts, want %d", len(attempts), len(waits)+1)
	}
	for i, a := range attempts {
		if a.number != i+1 {
			t.Errorf("attempt %d says that it is number %d", i+1, a.number)
		}
		if i == 0 {
			continue
		}
		if gap := a.at.Sub(attempts[i-1].at); gap < waits[i-1] || gap > waits[i-1]+slack {
			t.Errorf("attempt %d came %s after the one before, want %s", i+1, gap, waits[i-1])
		}
	}
}

const quickRetry = `retry = ["200ms", "400ms", "600ms", "800ms"]`

func TestFourFailuresThenFiveAttemptsOnSchedule(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 500, 500, 500, 200))
	schedule, waits, whole := theSchedule()
	r := start(t, preamble+schedule+endpoint("crm", crm.url))
	r.post(event("evt_1"))

	s := r.awaitStateFor(whole, "evt_1", "crm", "delivered")
	checkSchedule(t, crm.all(), waits...)
	for i, a := range s.Attempts {
		want := 500
		if i == 4 {
			want = 200
		}
		if a.Number != i+1 || a.Status != want {
			t.Errorf("attempt %d is told of as %+v", i+1, a)
		}
	}
	for _, a := range crm.all() {
		if a.body != crm.all()[0].body || a.id != "evt_1" {
			t.Errorf("attempt %d carries %q for %q", a.number, a.body, a.id)
		}
	}
	if ep := r.endpoint("crm"); len(s.Attempts) != 5 || ep.Delivered != 1 || ep.Failed != 0 || ep.Retrying != 0 || ep.Attempts != 5 {
		t.Errorf("%d attempts are told of; the endpoint stands at %+v", len(s.Attempts), ep)
	}
}

func TestAlwaysFailingIsFailedAfterTheFifthWithItsReason(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500))
	schedule, waits, whole := theSchedule()
	r := start(t, preamble+schedule+endpoint("crm", crm.url))
	r.post(event("evt_1"))

	s := r.awaitStateFor(whole, "evt_1", "crm", "failed")
	checkSchedule(t, crm.all(), waits...)
	const cause = "answered 500 Internal Server Error"
	const reason = "gave up after 5 attempts: " + cause
	if s.Reason != reason || len(s.Attempts) != 5 {
		t.Errorf("it is told of as %+v, want reason %q and five attempts", s, reason)
	}
	for _, a := range s.Attempts {
		if a.Status != 500 || a.Class != "status" || !strings.Contains(a.Error, "500") {
			t.Errorf("attempt %d is told of as %+v", a.Number, a)
		}
	}
	ep := r.endpoint("crm")
	if ep.Failed != 1 || !strings.HasSuffix(ep.LastError, cause) || ep.Pending+ep.Retrying+ep.Delivered != 0 || ep.Attempts != 5 {
		t.Errorf("the endpoint stands at %+v", ep)
	}
	if s := r.stats(); s.Queue.Failed != 1 || s.Totals.Accepted != 1 {
		t.Errorf("stats: %+v", s)
	}
	r.awaitLog("delivery failed for good", "evt_1", reason)
}

// TestTheDefaultScheduleIsTheDocumentedOne sees the first two waits pass and reads the third.
func TestTheDefaultScheduleIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500))
	r := start(t, preamble+endpoint("crm", crm.url))
	r.post(event("evt_1"))

	attempts := crm.await(3)
	checkSchedule(t, attempts, time.Second, 5*time.Second)
	var s story
	eventually(t, "the third attempt is told of", func() bool {
		s = r.story("evt_1", "crm")
		return len(s.Attempts) == 3 && s.State == "retrying"
	})
	if wait := s.NextAttempt.Sub(attempts[2].at); wait < 30*time.Second-time.Millisecond || wait > 30*time.Second+slack {
		t.Errorf("the next attempt is due %s after the third, want 30s", wait)
	}
}

func TestAnEndpointThatIsDownIsProbedAndLosesNothing(t *testing.T) {
	t.Parallel()
	down := reserve(t)
	r := start(t, preamble+endpoint("crm", down.url(), `retry = ["100ms", "200ms", "300ms", "400ms", "500ms", "60s"]`, "concurrency = 1"))
	r.post(event("first"))
	r.awaitEndpoint("crm", "is down", func(ep endpointStats) bool { return ep.State == "down" })
	const more = 200
	for i := range more {
		r.post(event("evt_" + string(rune('a'+i/26)) + string(rune('a'+i%26))))
	}
	ep := r.endpoint("crm")
	if ep.State != "down" || ep.Pending != more || ep.Failed != 0 || !strings.Contains(ep.Reason, "refused") {
		t.Errorf("while it is down the endpoint stands at %+v, want %d pending", ep, more)
	}
	if s := r.stats(); s.Health.Status != "degraded" || len(s.Health.Reasons) != 1 {
		t.Errorf("health: %+v", s.Health)
	}

	crm := receiveOn(t, down.listen(), well)
	r.turn("POST", "/endpoints/crm/resume") // the schedule may have come to its long wait
	r.awaitEndpoint("crm", "has delivered what waited", func(ep endpointStats) bool { return ep.Delivered >= more })
	for id, n := range crm.counts() {
		if n != 1 {
			t.Errorf("event %q arrived %d times", id, n)
		}
	}
}
