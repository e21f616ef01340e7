package delivery

import (
	"slices"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// A receiver that refuses by time, whatever it is sent, is back at its full pace soon after it takes everything again.
func TestAReceiverThatRefusedByTimeIsSoonAtItsFullPace(t *testing.T) {
	d := openHarness(t)
	const refusing = 10 * time.Minute
	refuse := func(status int, hold time.Duration) client.Outcome {
		o := answerOf(status)
		o.RetryAfter = hold
		return o
	}
	tenASecond := func(int) []string { return slices.Repeat([]string{"lead"}, 10) }
	asked := 0
	for _, c := range []struct {
		name    string
		refuses func(since time.Duration) (client.Outcome, bool) // asked within the ten minutes
		arrive  func(second int) []string
		within  time.Duration // all that waits is delivered, from the end of the ten minutes on
	}{
		{"429 with a time", func(time.Duration) (client.Outcome, bool) { return refuse(429, 20*time.Second), true }, tenASecond, 2 * time.Minute},
		{"503 with a time", func(time.Duration) (client.Outcome, bool) { return refuse(503, 20*time.Second), true }, tenASecond, 2 * time.Minute},
		{"429 without, where a hold takes five minutes", func(time.Duration) (client.Outcome, bool) { return refuse(429, 0), true }, tenASecond, 7 * time.Minute},
		{"half of each minute", func(since time.Duration) (client.Outcome, bool) {
			return refuse(429, 20*time.Second), since%time.Minute < 30*time.Second
		}, tenASecond, 5 * time.Minute},
		{"ten seconds in thirty", func(since time.Duration) (client.Outcome, bool) {
			return refuse(429, 5*time.Second), since%(30*time.Second) < 20*time.Second
		}, tenASecond, 5 * time.Minute},
		{"every second one", func(time.Duration) (client.Outcome, bool) {
			asked++
			return refuse(429, 20*time.Second), asked%2 == 0
		}, tenASecond, 5 * time.Minute},
		{"one of a few, and then comes a crowd", func(since time.Duration) (client.Outcome, bool) {
			return refuse(429, 20*time.Second), since%(4*time.Minute) < 90*time.Second
		}, func(second int) []string {
			switch {
			case second == 650:
				return slices.Repeat([]string{"lead"}, 6000)
			case second%120 == 0:
				return []string{"lead"}
			}
			return nil
		}, 4 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := d.trace(func(tr *trace, _ string) client.Outcome {
				if since := tr.now.Sub(gateStart.Add(time.Minute)); since >= 0 && since < refusing {
					if o, refuses := c.refuses(since); refuses {
						return o
					}
				}
				return answerOf(200)
			})
			tr.t = t
			least := 1000.0
			tr.run(time.Minute+refusing, func(second int) []string {
				if pace := tr.lane.gate.PerSecond; pace > 0 {
					least = min(least, pace)
				}
				return c.arrive(second)
			})
			waited := len(tr.pending) + len(tr.retrying)
			var after int
			for after = 0; after < 7200 && len(tr.pending)+len(tr.retrying) > 0; after++ {
				tr.run(time.Second, func(int) []string { return c.arrive(661 + after) })
			}
			t.Logf("%d waited; all is delivered %d s after; the pace was down to %.4f, is %.1f", waited, after, least, tr.lane.gate.PerSecond)
			if failed, _ := tr.judged("lead"); failed > 0 || time.Duration(after)*time.Second > c.within {
				t.Errorf("%d failed; all is delivered %d s after, want %v", failed, after, c.within)
			}
		})
	}
}

// What a version before this one came down to is not gone on with.
func TestAPaceThatWasSavedIsNoLowerThanTheLeast(t *testing.T) {
	if g := newGate(queue.Health{PerSecond: 1.0 / 3600}, ""); g.PerSecond != minPerSecond || g.basePerSecond != minPerSecond {
		t.Errorf("%v, from %v on", g.PerSecond, g.basePerSecond)
	}
	if g := newGate(queue.Health{}, ""); g.PerSecond != 0 {
		t.Errorf("without one it is %v", g.PerSecond)
	}
}
