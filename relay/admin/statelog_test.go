package admin

import (
	"errors"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
)

// lines are those of the log that have one of the words.
func (o *harness) lines(words ...string) (found []string) {
	for line := range strings.Lines(o.log.String()) {
		for _, word := range words {
			if strings.Contains(line, word) {
				found = append(found, line)
				break
			}
		}
	}
	return found
}

func TestTheLogSaysWhenEventsBeginToBeRefusedAndWhenThatEnds(t *testing.T) {
	o := openHarness(t, "")
	ready := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); (o.Queue.Ready() == nil) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the queue does not become ready: %v", want)
			}
		}
	}
	r, now := refusals{}, time.Now()
	look := func() { t.Helper(); now = now.Add(refusalLook); o.logRefusals(&r, now) }
	refused := o.Intake.Counts()
	look()
	if said := o.lines("refused"); len(said) != 0 {
		t.Fatalf("it is well and says %q", said)
	}
	o.free.Store(100 << 20)
	ready(false)
	for range 3 { // said once
		refused.Unavailable.Add(2)
		look()
	}
	if said := o.lines("refused"); len(said) != 1 || !strings.Contains(said[0], "100 MiB of disk are free") || !strings.Contains(said[0], `"level":"error"`) {
		t.Errorf("the beginning is told by %q", said)
	}
	o.free.Store(10 << 30)
	ready(true)
	look()
	look()
	if said := o.lines("accepted again"); len(said) != 1 || !strings.Contains(said[0], `"requests":6`) {
		t.Errorf("the end is told by %q", said)
	}
	// Refused between two looks, and accepted at both.
	refused.Unavailable.Add(5)
	look()
	look()
	if said := o.lines("refused"); len(said) != 4 || !strings.Contains(said[2], `"requests":5`) || !strings.Contains(said[3], `"requests":5`) {
		t.Errorf("in all it is told by %q", said)
	}
}

// TestEveryStateOfHealthHasALineAtItsBeginningAndAtItsEnd: those that are logged where they happen excepted.
func TestEveryStateOfHealthHasALineAtItsBeginningAndAtItsEnd(t *testing.T) {
	o := openHarness(t, "")
	known := knownStates{}
	look := func() { t.Helper(); o.logChanges(known, o.states(o.Dispatcher.Statuses(), o.Queue.Stats()).list) }
	look()
	o.free.Store(1100 << 20) // above the mark, and close to it
	ends := time.Now().Add(3 * 24 * time.Hour)
	o.Certificate = func() (time.Time, string) { return ends, "no such file" }
	for free := int64(1100 << 20); free < 1103<<20; free += 1 << 20 { // the figures change, the state does not
		o.free.Store(free)
		look()
	}
	begun := o.lines("health problem began")
	for _, text := range []string{"the disk is getting low: 1100 MiB", "ends in ", "no such file"} {
		if n := strings.Count(strings.Join(begun, ""), text); n != 1 {
			t.Errorf("%q is told %d times: %q", text, n, begun)
		}
	}
	o.free.Store(10 << 30)
	o.Certificate = nil
	look()
	look()
	if ended := o.lines("health problem ended"); len(ended) != len(begun) || len(begun) != 3 {
		t.Errorf("%d began and %d ended: %q", len(begun), len(ended), ended)
	}
}

// TestHealthOfBothListenersMetricsAndIntakeAgree: also while the relay stops.
func TestHealthOfBothListenersMetricsAndIntakeAgree(t *testing.T) {
	o := openHarness(t, "")
	agree := func(failing bool) {
		t.Helper()
		atIntake, _ := o.Intake.Health()
		atAdmin, said := o.ask("GET", "/health")
		metrics, _ := o.scrape()
		_, stats := o.read("/stats")
		status := stats["health"].(map[string]any)["status"]
		if (atIntake == 503) != failing || (atAdmin == 503) != failing || (status == "failing") != failing ||
			(metrics[`relay_health_status{status="failing"}`] == 1) != failing {
			t.Errorf("failing is %v: intake %d, admin %d %s, stats %v", failing, atIntake, atAdmin, said, status)
		}
	}
	agree(false)
	o.free.Store(100 << 20)
	for deadline := time.Now().Add(patience); !errors.Is(o.Queue.Ready(), queue.ErrDiskLow); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the queue does not know")
		}
	}
	agree(true)
	o.free.Store(10 << 30)
	for deadline := time.Now().Add(patience); o.Queue.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the queue does not know")
		}
	}
	agree(false)
	o.Intake.Close()
	agree(true)
}
