package delivery

import "time"

// effect is what an outcome changed about an endpoint's state.
type effect int

const (
	unchanged effect = iota
	wentDown
	cameBack
	becameLimited
	wentOffline
	cameOnline
	stayedDown // for longer than disable_after
)

// answered notes an outcome which shows that the receiver is alive; delivered, that it took the event.
func (g *gate) answered(now time.Time, delivered bool) effect {
	g.Failures, g.Failing, g.Holds, g.Limited = 0, time.Time{}, 0, time.Time{}
	g.throughput.add(now)
	if delivered {
		g.LastSuccess = now
	}
	if g.isDown() {
		// The backlog must not overload the endpoint at once: one attempt at a time, then two, four, …
		g.Down, g.NextProbe, g.window = time.Time{}, time.Time{}, 1
		return cameBack
	}
	g.widenWindow()
	g.speedUp(now)
	return unchanged
}

// widenWindow allows more attempts at a time: twice as many while the endpoint is coming back; after that, if it once asked for
// fewer, one more for each round of all of them.
func (g *gate) widenWindow() {
	if g.window > 0 {
		if g.window *= 2; int(g.window) >= g.policy.Concurrency || g.AtATime > 0 && g.window >= g.AtATime {
			g.window = 0
		}
		return
	}
	if g.AtATime > 0 {
		if g.AtATime += 1 / g.AtATime; int(g.AtATime) >= g.policy.Concurrency {
			g.AtATime = 0
		}
	}
}

// speedUp allows more attempts a second, once a second. Up to twice basePerSecond, which is the pace that was refused, it adds a tenth
// of basePerSecond. If the endpoint takes that pace now, the reason for the refusal is over: speedUp then doubles the pace whenever
// at least half of it is used.
func (g *gate) speedUp(now time.Time) {
	switch {
	case g.PerSecond == 0 || now.Sub(g.steppedAt) < time.Second:
		return
	case g.PerSecond < 2*g.basePerSecond:
		g.PerSecond += g.basePerSecond / 10
	case g.throughput.perSecond(now) >= g.PerSecond/2:
		g.PerSecond *= 2
	default:
		return
	}
	g.steppedAt = now
}

// failed notes an outcome that counts against the endpoint.
func (g *gate) failed(now time.Time) effect {
	g.Failures++
	if g.Failing.IsZero() {
		g.Failing = now
	}
	switch {
	case !g.isDown() && g.Failures >= downAfter:
		g.Down, g.window, g.probeWaitSince = now, 1, now
		return wentDown
	case g.policy.DisableAfter > 0 && now.Sub(g.Failing) >= g.policy.DisableAfter:
		return stayedDown
	}
	return unchanged
}

// askedToWait notes that the endpoint, in answer to an attempt that began at at, asked to wait for hold. The gate holds it for
// at least the first wait of the schedule; when the endpoint named no time, for the waits of the schedule one after the other.
// Afterwards one attempt goes first, then half as many as before. Other attempts that were under way at the time say nothing new.
func (g *gate) askedToWait(at, now time.Time, hold time.Duration) effect {
	known := g.HeldUntil.After(now) || g.isLimited() && at.Before(g.HeldUntil)
	switch {
	case hold > 0:
		hold = max(hold, g.minHold())
	case !known:
		hold = g.retryWait(g.Holds)
		g.Holds++
	}
	if until := now.Add(hold); until.After(g.HeldUntil) {
		g.HeldUntil = until
	}
	if known || g.isLimited() {
		// Nothing has succeeded since it asked before, so it does not refuse because of how much comes.
		return unchanged
	}
	g.slowDown(now)
	g.Limited = now
	return becameLimited
}

// minHold is the first wait of the schedule; 0 without a schedule.
func (g *gate) minHold() time.Duration {
	if len(g.policy.Retry) == 0 {
		return 0
	}
	return g.retryWait(0)
}

// retryWait is the schedule's wait with this number, from 0; the last one is repeated. It is at most holdLimit.
func (g *gate) retryWait(number int) time.Duration {
	waits := g.policy.Retry
	if len(waits) == 0 {
		return probeEvery
	}
	return min(waits[min(number, len(waits)-1)], holdLimit)
}

// slowDown halves the attempts at a time and those a second.
func (g *gate) slowDown(now time.Time) {
	g.AtATime = max(float64(g.maxInFlight())/2, 1)
	g.window = 1
	taken := g.throughput.perSecond(now)
	if g.PerSecond > 0 && (taken == 0 || taken > g.PerSecond) {
		taken = g.PerSecond
	}
	if taken > 0 {
		g.PerSecond = max(taken/2, minPerSecond)
		g.basePerSecond, g.steppedAt = g.PerSecond, now
	}
	g.throughput, g.nextAllowed = throughput{}, time.Time{}
}

// online notes that an attempt got beyond this machine.
func (g *gate) online() effect {
	g.unreachableSince, g.backoff = time.Time{}, 0
	if g.offline {
		g.offline = false
		return cameOnline
	}
	return unchanged
}

// unreachable notes an attempt that began at at and did not leave this machine. reached is when any endpoint was last reached. The
// attempt is charged only if another endpoint was reached since this lane's outage began: that shows that this machine is not the
// cause.
func (g *gate) unreachable(at, now, reached time.Time) (charged bool, c effect) {
	if g.unreachableSince.IsZero() {
		g.unreachableSince = at
	}
	if reached.After(g.unreachableSince) {
		if g.offline {
			g.offline = false
			return true, cameOnline
		}
		return true, unchanged
	}
	if g.offline && at.Before(g.backoffSetAt) {
		return false, unchanged // it began before the last backoff was set and says nothing new
	}
	g.backoff = min(max(2*g.backoff, offlineBackoffMin), offlineBackoffMax)
	g.probeAt, g.backoffSetAt = now.Add(g.backoff), now
	if g.offline {
		return false, unchanged
	}
	g.offline, g.probeWaitSince = true, now
	return false, wentOffline
}

// recordEvery is how often attempts that charge nobody and have the same status are recorded: an endpoint may be probed, or say
// 429, for days.
const recordEvery = 10 * time.Minute

// isWorthRecording reports whether an attempt that is not charged is to be recorded.
func (g *gate) isWorthRecording(status int, now time.Time) bool {
	if status == g.recordedStatus && now.Sub(g.recordedAt) < recordEvery {
		return false
	}
	g.recordedStatus, g.recordedAt = status, now
	return true
}
