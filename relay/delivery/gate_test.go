package delivery

import (
	"testing"
	"time"
)

var gateStart = time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)

func TestGateSaysWhatMayBeAttempted(t *testing.T) {
	later := gateStart.Add(7 * time.Second)
	tests := []struct {
		name            string
		set             func(*gate)
		retrying        int64
		retries, firsts bool
		until           time.Time
		perSecond       float64
	}{
		{name: "new", retries: true, firsts: true},
		{name: "new with retries", retrying: 3, retries: true, firsts: true},
		{name: "paused", set: func(g *gate) { g.held = "paused by the operator" }},
		{name: "disabled", set: func(g *gate) { g.held = disabled }},
		{name: "paused and quiet", set: func(g *gate) { g.held, g.quiet = "paused", later }},
		{name: "all busy", set: func(g *gate) { g.inflight = 4 }},
		{name: "one is free", set: func(g *gate) { g.inflight = 3 }, retries: true, firsts: true},
		{name: "quiet", set: func(g *gate) { g.quiet = later }, until: later},
		{name: "quiet is over", set: func(g *gate) { g.quiet = gateStart }, retries: true, firsts: true},
		{name: "coming back, one under way", set: func(g *gate) { g.ramp, g.inflight = 1, 1 }},
		{name: "coming back, none under way", set: func(g *gate) { g.ramp = 1 }, retries: true, firsts: true},
		{name: "coming back, further than concurrency", set: func(g *gate) { g.ramp, g.inflight = 64, 4 }},
		{name: "down, retries are the probe", set: func(g *gate) { g.down = true }, retrying: 1, retries: true},
		{name: "down, a first is under way", set: func(g *gate) { g.down, g.inflight = true, 1 }, retries: true},
		{name: "down, nothing attempted", set: func(g *gate) { g.down = true }, retries: true, firsts: true},
		{name: "offline, probe is not due", set: func(g *gate) { g.offline, g.probe = true, later }, until: later},
		{name: "offline, probe is due", set: func(g *gate) { g.offline, g.probe = true, gateStart }, retries: true, firsts: true},
		{name: "offline, probe is under way", set: func(g *gate) { g.offline, g.probe, g.inflight = true, gateStart, 1 }},
		{name: "rate, not used yet", perSecond: 2, retries: true, firsts: true},
		{name: "rate, used up", perSecond: 2, set: func(g *gate) { g.took(gateStart); g.inflight = 0 },
			until: gateStart.Add(500 * time.Millisecond)},
		{name: "rate, a token is back", perSecond: 2, set: func(g *gate) { g.took(gateStart.Add(-500 * time.Millisecond)) },
			retries: true, firsts: true},
		{name: "rate below one a second", perSecond: 0.1, set: func(g *gate) { g.took(gateStart) },
			until: gateStart.Add(10 * time.Second)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(4, tt.perSecond)
			if tt.set != nil {
				tt.set(&g)
			}
			retries, firsts, until := g.allow(gateStart, tt.retrying)
			if retries != tt.retries || firsts != tt.firsts {
				t.Errorf("allowed retries %v, firsts %v, want %v, %v", retries, firsts, tt.retries, tt.firsts)
			}
			if d := until.Sub(tt.until).Abs(); until.IsZero() != tt.until.IsZero() || d > time.Millisecond {
				t.Errorf("ask again at %v, want %v", until, tt.until)
			}
		})
	}
}

func TestRateAllowsATenthOfASecondAtOnce(t *testing.T) {
	g := newGate(1024, 50)
	n := 0
	for ; n < 100; n++ {
		if retries, _, _ := g.allow(gateStart, 0); !retries {
			break
		}
		g.took(gateStart)
	}
	if n != 5 {
		t.Errorf("%d attempts at once, want 5", n)
	}
}

func TestEndpointGoesDownAfterFailuresInARow(t *testing.T) {
	g := newGate(16, 0)
	for i := 1; i < downAfter; i++ {
		if c := g.failed(); c != unchanged {
			t.Fatalf("failure %d: change %d", i, c)
		}
	}
	g.well()
	for i := 1; i < downAfter; i++ {
		if g.failed(); g.down {
			t.Fatalf("down after %d failures in a row", i)
		}
	}
	if c := g.failed(); c != wentDown || !g.down {
		t.Fatalf("after %d failures in a row: change %d, down %v", downAfter, c, g.down)
	}
	if c := g.failed(); c != unchanged {
		t.Errorf("it went down twice: change %d", c)
	}
}

func TestComingBackDoublesWhatGoesAtATime(t *testing.T) {
	g := newGate(7, 0)
	for range downAfter {
		g.failed()
	}
	if c := g.well(); c != cameBack || g.down {
		t.Fatalf("change %d, down %v", c, g.down)
	}
	for _, most := range []int{1, 2, 4, 7, 7} {
		n := 0
		for ; n < 100; n++ {
			if _, firsts, _ := g.allow(gateStart, 0); !firsts {
				break
			}
			g.took(gateStart)
		}
		if n != most {
			t.Errorf("%d at a time, want %d", n, most)
		}
		g.inflight = 0
		g.well()
	}
}

func TestComingBackEndsWhenTheEndpointIsDownAgain(t *testing.T) {
	g := newGate(16, 0)
	for range downAfter {
		g.failed()
	}
	g.well()
	for range downAfter {
		g.failed()
	}
	if !g.down || g.ramp != 0 {
		t.Errorf("down %v, ramp %d", g.down, g.ramp)
	}
}

func TestConcurrencyOfOneComesBackAtOnce(t *testing.T) {
	g := newGate(1, 0)
	for range downAfter {
		g.failed()
	}
	g.well()
	g.well()
	if g.ramp != 0 {
		t.Errorf("ramp %d", g.ramp)
	}
}

func TestOfflineChargesNothing(t *testing.T) {
	g := newGate(16, 0)
	now := gateStart
	if charged, c := g.lost(now, now, time.Time{}); charged || c != wentOffline {
		t.Fatalf("charged %v, change %d", charged, c)
	}
	reachedBefore := gateStart.Add(-time.Second)
	for range 10 {
		now = g.probe
		if charged, c := g.lost(now, now, reachedBefore); charged || c != unchanged {
			t.Fatalf("charged %v, change %d", charged, c)
		}
	}
	if g.failures != 0 || g.down {
		t.Errorf("failures %d, down %v", g.failures, g.down)
	}
}

func TestOfflineWaitsDoubleToTheirMost(t *testing.T) {
	g := newGate(16, 0)
	now := gateStart
	for _, wait := range []time.Duration{1, 2, 4, 8, 15, 15} {
		g.lost(now, now, time.Time{})
		if got := g.probe.Sub(now); got != wait*time.Second {
			t.Errorf("next probe after %v, want %v", got, wait*time.Second)
		}
		now = g.probe
	}
	if c := g.online(); c != cameOnline {
		t.Errorf("change %d", c)
	}
	g.lost(now, now, time.Time{})
	if got := g.probe.Sub(now); got != offlineFirst {
		t.Errorf("the next outage begins with a wait of %v", got)
	}
}

func TestUnreachableIsChargedOnceAnotherEndpointWasReached(t *testing.T) {
	g := newGate(16, 0)
	now := gateStart
	g.lost(now, now, time.Time{})
	reached := now.Add(500 * time.Millisecond)
	now = now.Add(time.Second)
	if charged, c := g.lost(now, now, reached); !charged || c != cameOnline {
		t.Fatalf("charged %v, change %d", charged, c)
	}
	if charged, c := g.lost(now, now, reached); !charged || c != unchanged {
		t.Errorf("charged %v, change %d", charged, c)
	}
	if retries, firsts, _ := g.allow(now, 0); !retries || !firsts {
		t.Error("what is charged follows its own schedule, but the gate is closed")
	}
}

func TestBeingReachedEndsTheOutage(t *testing.T) {
	g := newGate(16, 0)
	now := gateStart
	g.lost(now, now, time.Time{})
	g.online()
	now = now.Add(time.Hour)
	// The other endpoint was reached in the first outage, not in this one.
	if charged, c := g.lost(now, now, gateStart.Add(time.Minute)); charged || c != wentOffline {
		t.Errorf("charged %v, change %d", charged, c)
	}
}
