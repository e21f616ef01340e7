package delivery

import (
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

var gateStart = time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)

// gateOf is the gate of an endpoint that is well.
func gateOf(concurrency int, perSecond float64) gate {
	g := newGate(queue.Health{}, "")
	g.configure(&config.Endpoint{Enabled: true, Delivery: config.Delivery{Concurrency: concurrency, Rate: perSecond,
		Retry: []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}, Lag: 10 * time.Minute}})
	return g
}

func TestGateSaysWhatMayBeAttempted(t *testing.T) {
	later := gateStart.Add(7 * time.Second)
	yes := permit{retries: true, firsts: true}
	probe := permit{retries: true, firsts: true, early: true, newFirst: true}
	until := func(at time.Time) permit { return permit{until: at} }
	tests := []struct {
		name      string
		set       func(*gate)
		want      permit
		perSecond float64
	}{
		{name: "new", want: yes},
		{name: "paused", set: func(g *gate) { g.pauseReason = "paused by the operator" }},
		{name: "disabled", set: func(g *gate) { g.disabled = true }},
		{name: "paused and held", set: func(g *gate) { g.pauseReason, g.HeldUntil = "paused", later }},
		{name: "all busy", set: func(g *gate) { g.inFlight = 4 }},
		{name: "one is free", set: func(g *gate) { g.inFlight = 3 }, want: yes},
		{name: "held", set: func(g *gate) { g.HeldUntil = later }, want: until(later)},
		{name: "the hold is over", set: func(g *gate) { g.HeldUntil = gateStart }, want: yes},
		{name: "it bears two, two under way", set: func(g *gate) { g.AtATime, g.inFlight = 2.9, 2 }},
		{name: "it bears two, one under way", set: func(g *gate) { g.AtATime, g.inFlight = 2.9, 1 }, want: yes},
		{name: "it bears more than configured", set: func(g *gate) { g.AtATime, g.inFlight = 9, 4 }},
		{name: "coming back, one under way", set: func(g *gate) { g.window, g.inFlight = 1, 1 }},
		{name: "coming back, a retry went last", set: func(g *gate) { g.window = 1 }, want: permit{retries: true, firsts: true, newFirst: true}},
		{name: "coming back, a first went last", set: func(g *gate) { g.window, g.lastWasNew = 1, true }, want: yes},
		{name: "coming back, further than concurrency", set: func(g *gate) { g.window, g.inFlight = 64, 4 }},
		{name: "down, probe is not due", set: func(g *gate) { g.Down, g.NextProbe = gateStart, later }, want: until(later)},
		{name: "down, probe is due", set: func(g *gate) { g.Down, g.NextProbe = gateStart, gateStart }, want: probe},
		{name: "down, a first probed last", set: func(g *gate) { g.Down, g.lastWasNew = gateStart, true }, want: permit{retries: true, firsts: true, early: true}},
		{name: "down, probe is under way", set: func(g *gate) { g.Down, g.probesInFlight, g.inFlight = gateStart, 1, 1 }},
		{name: "down, what was under way before is", set: func(g *gate) { g.Down, g.window, g.inFlight = gateStart, 1, 3 }, want: probe},
		{name: "down, all busy", set: func(g *gate) { g.Down, g.inFlight = gateStart, 4 }},
		{name: "offline, probe is not due", set: func(g *gate) { g.offline, g.probeAt = true, later }, want: until(later)},
		{name: "offline, probe is due", set: func(g *gate) { g.offline, g.probeAt = true, gateStart }, want: yes},
		{name: "offline, probe is under way", set: func(g *gate) { g.offline, g.probeAt, g.inFlight = true, gateStart, 1 }},
		{name: "rate, not used yet", perSecond: 2, want: yes},
		{name: "rate, used up", perSecond: 2, set: func(g *gate) { g.begin(gateStart, false, 0); g.inFlight = 0 }, want: until(gateStart.Add(500 * time.Millisecond))},
		{name: "rate, a token is back", perSecond: 2, set: func(g *gate) { g.begin(gateStart.Add(-500*time.Millisecond), false, 0) }, want: yes},
		{name: "rate below one a second", perSecond: 0.1, set: func(g *gate) { g.begin(gateStart, false, 0) }, want: until(gateStart.Add(10 * time.Second))},
		{name: "pace, used up", set: func(g *gate) { g.PerSecond = 4; g.begin(gateStart, false, 0) }, want: until(gateStart.Add(250 * time.Millisecond))},
		{name: "pace, its turn is back", set: func(g *gate) { g.PerSecond = 4; g.begin(gateStart.Add(-time.Second), false, 0) }, want: yes},
		{name: "pace, forgotten", set: func(g *gate) { g.PerSecond, g.HeldUntil, g.nextAllowed = 1, gateStart.Add(-2*forgetLimitsAfter), later }, want: yes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gateOf(4, tt.perSecond)
			if tt.set != nil {
				tt.set(&g)
			}
			got := g.allow(gateStart)
			if d := got.until.Sub(tt.want.until).Abs(); got.until.IsZero() != tt.want.until.IsZero() || d > time.Millisecond {
				t.Errorf("ask again at %v, want %v", got.until, tt.want.until)
			}
			if got.until = tt.want.until; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// fill takes as many as may go at once.
func (g *gate) fill(now time.Time) (n int) {
	for ; n < 2000 && g.allow(now).retries; n++ {
		g.begin(now, false, 0)
	}
	return n
}

func TestRateAllowsATenthOfASecondAtOnce(t *testing.T) {
	g := gateOf(1024, 50)
	if n := g.fill(gateStart); n != 5 {
		t.Errorf("%d attempts at once, want 5", n)
	}
}

func TestEndpointGoesDownAfterFailuresInARow(t *testing.T) {
	g := gateOf(16, 0)
	for i := 1; i < downAfter; i++ {
		if c := g.failed(gateStart); c != unchanged {
			t.Fatalf("failure %d: change %d", i, c)
		}
	}
	g.answered(gateStart, true)
	for i := 1; i < downAfter; i++ {
		if g.failed(gateStart); g.isDown() {
			t.Fatalf("down after %d failures in a row", i)
		}
	}
	if c := g.failed(gateStart); c != wentDown || !g.isDown() {
		t.Fatalf("after %d failures in a row: change %d, down %v", downAfter, c, g.isDown())
	}
	if c := g.failed(gateStart); c != unchanged {
		t.Errorf("it went down twice: change %d", c)
	}
}

func TestComingBackDoublesWhatGoesAtATime(t *testing.T) {
	g := gateOf(7, 0)
	for range downAfter {
		g.failed(gateStart)
	}
	if c := g.answered(gateStart, true); c != cameBack || g.isDown() {
		t.Fatalf("change %d, down %v", c, g.isDown())
	}
	for _, most := range []int{1, 2, 4, 7, 7} {
		if n := g.fill(gateStart); n != most {
			t.Errorf("%d at a time, want %d", n, most)
		}
		g.inFlight = 0
		g.answered(gateStart, true)
	}
}

func TestConcurrencyOfOneComesBackAtOnce(t *testing.T) {
	g := gateOf(1, 0)
	for range downAfter {
		g.failed(gateStart)
	}
	g.answered(gateStart, true)
	g.answered(gateStart, true)
	if g.window != 0 {
		t.Errorf("window %v", g.window)
	}
}

func TestHoldWithoutATimeFollowsTheSchedule(t *testing.T) {
	g := gateOf(16, 0)
	now := gateStart
	for i, want := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute, 5 * time.Minute} {
		c := g.askedToWait(now, now, 0)
		if (c == becameLimited) != (i == 0) {
			t.Errorf("hold %d: change %d", i, c)
		}
		if g.askedToWait(now, now.Add(time.Millisecond), 0); g.HeldUntil.Sub(now) != want {
			t.Errorf("hold %d is %v, want %v", i, g.HeldUntil.Sub(now), want)
		}
		if n := g.fill(g.HeldUntil); n != 1 {
			t.Errorf("after hold %d %d go first", i, n)
		}
		now, g.inFlight = g.HeldUntil, 0
	}
	g.answered(now, true)
	if g.askedToWait(now, now, 0); g.HeldUntil.Sub(now) != time.Second {
		t.Errorf("after a success the hold is %v", g.HeldUntil.Sub(now))
	}
}

func TestShorterRetryAfterDoesNotEndALongerOne(t *testing.T) {
	g := gateOf(16, 0)
	g.askedToWait(gateStart, gateStart, time.Hour)
	g.askedToWait(gateStart, gateStart.Add(time.Second), time.Second)
	if got := g.HeldUntil.Sub(gateStart); got != time.Hour {
		t.Errorf("held for %v", got)
	}
}

// A burst of which all are refused at once halves what goes at a time once.
func TestOneBurstOfRefusalsHalvesOnce(t *testing.T) {
	g := gateOf(16, 0)
	for i := range 16 {
		g.askedToWait(gateStart, gateStart.Add(time.Duration(i)*time.Millisecond), 10*time.Second)
	}
	if g.AtATime != 8 {
		t.Errorf("it bears %v at a time, want 8", g.AtATime)
	}
	now := g.HeldUntil
	for _, want := range []int{1, 2, 4, 8, 8} {
		if n := g.fill(now); n != want {
			t.Errorf("%d at a time, want %d", n, want)
		}
		g.inFlight = 0
		g.answered(now, true)
	}
	for range 8 {
		g.answered(now, true)
	}
	if n := g.fill(now); n != 9 {
		t.Errorf("%d at a time after a round, want 9", n)
	}
}

func TestOfflineChargesNothing(t *testing.T) {
	g := gateOf(16, 0)
	now := gateStart
	if charged, c := g.unreachable(now, now, time.Time{}); charged || c != wentOffline {
		t.Fatalf("charged %v, change %d", charged, c)
	}
	reachedBefore := gateStart.Add(-time.Second)
	for range 10 {
		now = g.probeAt
		if charged, c := g.unreachable(now, now, reachedBefore); charged || c != unchanged {
			t.Fatalf("charged %v, change %d", charged, c)
		}
	}
	if g.Failures != 0 || g.isDown() {
		t.Errorf("failures %d, down %v", g.Failures, g.isDown())
	}
}

func TestOfflineWaitsDoubleToTheirMost(t *testing.T) {
	g := gateOf(16, 0)
	now := gateStart
	for _, wait := range []time.Duration{1, 2, 4, 8, 15, 15} {
		g.unreachable(now, now, time.Time{})
		if got := g.probeAt.Sub(now); got != wait*time.Second {
			t.Errorf("next probe after %v, want %v", got, wait*time.Second)
		}
		now = g.probeAt
	}
	if c := g.online(); c != cameOnline {
		t.Errorf("change %d", c)
	}
	g.unreachable(now, now, time.Time{})
	if got := g.probeAt.Sub(now); got != offlineBackoffMin {
		t.Errorf("the next outage begins with a wait of %v", got)
	}
}

func TestOneOutageOfManyAttemptsWaitsOnce(t *testing.T) {
	g := gateOf(16, 0)
	for range 16 {
		g.unreachable(gateStart, gateStart.Add(time.Millisecond), time.Time{})
	}
	if g.backoff != offlineBackoffMin {
		t.Errorf("the first wait is %v", g.backoff)
	}
}

func TestUnreachableIsChargedOnceAnotherEndpointWasReached(t *testing.T) {
	g := gateOf(16, 0)
	now := gateStart
	g.unreachable(now, now, time.Time{})
	reached := now.Add(500 * time.Millisecond)
	now = now.Add(time.Second)
	if charged, c := g.unreachable(now, now, reached); !charged || c != cameOnline {
		t.Fatalf("charged %v, change %d", charged, c)
	}
	if charged, c := g.unreachable(now, now, reached); !charged || c != unchanged {
		t.Errorf("charged %v, change %d", charged, c)
	}
	if p := g.allow(now); !p.retries || !p.firsts {
		t.Error("what is charged follows its own schedule, but the gate is closed")
	}
}

func TestBeingReachedEndsTheOutage(t *testing.T) {
	g := gateOf(16, 0)
	now := gateStart
	g.unreachable(now, now, time.Time{})
	g.online()
	now = now.Add(time.Hour)
	// The other endpoint was reached in the first outage, not in this one.
	if charged, c := g.unreachable(now, now, gateStart.Add(time.Minute)); charged || c != wentOffline {
		t.Errorf("charged %v, change %d", charged, c)
	}
}
