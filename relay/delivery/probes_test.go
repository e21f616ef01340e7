package delivery

import (
	"container/heap"
	"fmt"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// probed is an endpoint of a simulation in which all are down.
type probed struct {
	at, last time.Time
	busy     bool // it is probed until at
	times    int
}

// calendar has the one first whose turn comes first.
type calendar []*probed

func (c calendar) Len() int           { return len(c) }
func (c calendar) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c calendar) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)        { *c = append(*c, x.(*probed)) }
func (c *calendar) Pop() any          { panic("nobody leaves") }

func TestProbesShareABudgetAndNobodyWaitsLongerThanTenMinutes(t *testing.T) {
	for _, c := range []struct {
		down  int
		takes time.Duration
		often time.Duration // how often each is probed at the least
	}{
		{100, 10 * time.Millisecond, probeEvery + 3*time.Second},
		{700, 10 * time.Millisecond, probeEvery + 15*time.Second},
		{10_000, 10 * time.Millisecond, 4 * time.Minute},
		{2_000, 50 * time.Second, 9 * time.Minute},
		{2_000, 10 * time.Minute, 2*probeWaitMax + time.Minute}, // which takes all of it
	} {
		t.Run(fmt.Sprintf("%d that take %v", c.down, c.takes), func(t *testing.T) {
			var p probeBudget
			var all calendar
			for range c.down { // all went down at once
				all = append(all, &probed{last: gateStart, at: p.schedule(gateStart.Add(probeEvery), gateStart)})
			}
			heap.Init(&all)
			var busy, most, mostInSecond int
			var longest time.Duration
			inSecond := map[int64]int{}
			for now := gateStart; now.Before(gateStart.Add(40 * time.Minute)); now = all[0].at {
				one := all[0]
				switch {
				case one.at.After(now): // nobody's turn yet
					continue
				case one.busy:
					p.end(c.takes)
					busy--
					one.busy, one.at = false, p.schedule(now.Add(probeEvery), one.last)
				default:
					if again := p.begin(now, one.at, one.last); !again.IsZero() {
						one.at = again
						break
					}
					longest = max(longest, now.Sub(one.last))
					one.last, one.busy, one.at = now, true, now.Add(c.takes)
					one.times++
					busy++
					inSecond[now.Unix()]++
					most, mostInSecond = max(most, busy), max(mostInSecond, inSecond[now.Unix()])
				}
				heap.Fix(&all, 0)
			}
			if longest > c.often {
				t.Errorf("one waited for %v, want at most %v", longest, c.often)
			}
			if c.takes < probeWaitMax && (most > probesInFlightMax || mostInSecond > probesPerSecond*6/5) {
				t.Errorf("%d at a time, %d in a second", most, mostInSecond)
			}
			for i, one := range all {
				if one.times == 0 {
					t.Fatalf("endpoint %d was never probed", i)
				}
			}
		})
	}
}

// An endpoint that is down and asks for an hour waits for an hour, and its neighbours that are down do not.
func TestAnEndpointThatAsksToWaitHoldsUpNoOthersProbe(t *testing.T) {
	d := openHarness(t, subscriber("patient", "http://127.0.0.1:1/"), subscriber("crm", "http://127.0.0.1:1/"))
	now := d.now()
	judge := func(name string, o client.Outcome) time.Time {
		l := d.dispatcher.Lane(name)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gate.Down, l.gate.Failures = now, downAfter
		o.At = now
		l.judgeLocked(&queue.Delivery{}, 0, &flight{generation: l.generation.Load(), probe: true}, 1, &o, now)
		return l.gate.NextProbe
	}
	if next := judge("patient", client.Outcome{Status: 503, Class: client.ClassStatus, RetryAfter: time.Hour}); next.Before(now.Add(time.Hour)) {
		t.Errorf("the endpoint that asked for an hour is probed after %s", next.Sub(now))
	}
	if next := judge("crm", client.Outcome{Status: 500, Class: client.ClassStatus}); next.After(now.Add(probeEvery + time.Second)) {
		t.Errorf("its neighbour is probed after %s, want %s", next.Sub(now), probeEvery)
	}
}
