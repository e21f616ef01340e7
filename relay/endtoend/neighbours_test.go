package endtoend

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestOneHangsOneRefusesAndTheWellOneIsAsIfAlone compares with the same run without neighbours, with room for a busy
// machine: a neighbour that hangs costs its timeout, which is minutes here.
func TestOneHangsOneRefusesAndTheWellOneIsAsIfAlone(t *testing.T) {
	t.Parallel()
	const events = 300
	alone := receive(t, well)
	r := start(t, preamble+endpoint("well", alone.url, "concurrency = 1"))
	before := deliverInTurn(t, r, alone, events)
	r.stop()

	among := receive(t, well)
	hangs := receive(t, hanging)
	r = start(t, preamble+
		endpoint("hanging", hangs.url, `timeout = "5m"`, "concurrency = 4")+
		endpoint("refusing", reserve(t).url())+
		endpoint("well", among.url, "concurrency = 1"))
	after := deliverInTurn(t, r, among, events)

	t.Logf("accepted to received, median: %s alone, %s beside the others", before, after)
	if after > 10*before+100*time.Millisecond {
		t.Errorf("an event takes %s beside neighbours that fail, %s alone", after, before)
	}
	s := r.awaitEndpoint("well", "has settled all", func(ep endpointStats) bool { return ep.Delivered == events })
	if s.Failed+s.Retrying+s.Pending != 0 {
		t.Errorf("the well one stands at %+v", s)
	}
	if s := r.endpoint("hanging"); s.InFlight != 4 || s.Pending != events || s.Delivered != 0 || len(hangs.all()) != 4 {
		t.Errorf("the hanging one stands at %+v and got %d", s, len(hangs.all()))
	}
	if s := r.endpoint("refusing"); s.Pending+s.Retrying != events || s.Delivered+s.Failed != 0 || s.State != "down" {
		t.Errorf("the refusing one stands at %+v", s)
	}
	// What hangs must not keep the relay from ending in time either; that is TestShutdownTimeoutCutsShortAndTheSameAttemptIsMadeAgain.
}

// deliverInTurn posts events one after the other, each when the one before has arrived, and returns the median of how long
// that took. They must arrive in order.
func deliverInTurn(t *testing.T, r *relay, to *receiver, events int) time.Duration {
	t.Helper()
	took := make([]time.Duration, events)
	for i := range events {
		began := time.Now()
		r.post(event(fmt.Sprintf("evt_%d", i)))
		for len(to.all()) <= i {
			if time.Since(began) > patience {
				t.Fatalf("event %d of %d has not arrived within %s; the relay stands at %+v", i, events, patience, r.stats())
			}
			time.Sleep(100 * time.Microsecond)
		}
		took[i] = to.all()[i].at.Sub(began)
	}
	for i, a := range to.all() {
		if a.id != fmt.Sprintf("evt_%d", i) {
			t.Fatalf("the %d. to arrive is %q", i, a.id)
		}
	}
	slices.Sort(took)
	return took[events/2]
}
