package delivery

import "time"

// change is what an outcome did to an endpoint's state.
type change int

const (
	unchanged change = iota
	wentDown
	cameBack
	gotLimited
	wentOffline
	cameOnline
	stayedDown // for longer than disable_after
)

// lives notes an outcome that shows a receiver that lives; well, that it took the event.
func (g *gate) lives(now time.Time, well bool) change {
	g.Failures, g.Failing, g.Holds, g.Limited = 0, time.Time{}, 0, time.Time{}
	g.flow.add(now)
	if well {
		g.LastSuccess = now
	}
	if g.isDown() {
		// What waited while it was down must not knock it over: one at a time, then two, four, …
		g.Down, g.NextProbe, g.window = time.Time{}, time.Time{}, 1
		return cameBack
	}
	g.widen()
	g.hurry(now)
	return unchanged
}

// widen has more go at a time: twice as many while it is coming back, then, if it asked for less once, one more for each
// round of all of them.
func (g *gate) widen() {
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

// hurry has more go in a second: a tenth of what it came down to, once a second, up to twice that, which is what it was
// refused at. Where that goes well now, what it was refused for is over: then as much again, once at least half of what may
// go does.
func (g *gate) hurry(now time.Time) {
	switch {
	case g.PerSecond == 0 || now.Sub(g.stepped) < time.Second:
		return
	case g.PerSecond < 2*g.base:
		g.PerSecond += g.base / 10
	case g.flow.perSecond(now) >= g.PerSecond/2:
		g.PerSecond *= 2
	default:
		return
	}
	g.stepped = now
}

// fails notes an outcome that says nothing good of the endpoint.
func (g *gate) fails(now time.Time) change {
	g.Failures++
	if g.Failing.IsZero() {
		g.Failing = now
	}
	switch {
	case !g.isDown() && g.Failures >= downAfter:
		g.Down, g.window, g.awaits = now, 1, now
		return wentDown
	case g.policy.DisableAfter > 0 && now.Sub(g.Failing) >= g.policy.DisableAfter:
		return stayedDown
	}
	return unchanged
}

// asks notes that the endpoint asked, by an attempt begun at, to be left alone for hold, which is never less than the first
// wait of the schedule; or for the waits of the schedule in turn when it named no time. Afterwards one attempt goes first, and half of what went before. What was under way
// beside the one that was told so says nothing new.
func (g *gate) asks(at, now time.Time, hold time.Duration) change {
	known := g.HeldUntil.After(now) || g.isLimited() && at.Before(g.HeldUntil)
	switch {
	case hold > 0:
		hold = max(hold, g.leastHold())
	case !known:
		hold = g.scheduled(g.Holds)
		g.Holds++
	}
	if until := now.Add(hold); until.After(g.HeldUntil) {
		g.HeldUntil = until
	}
	if known || g.isLimited() {
		// Nothing has gone well since it asked before: what it refuses now is not how much comes.
		return unchanged
	}
	g.slow(now)
	g.Limited = now
	return gotLimited
}

// leastHold is the first wait of the schedule; none without one.
func (g *gate) leastHold() time.Duration {
	if len(g.policy.Retry) == 0 {
		return 0
	}
	return g.scheduled(0)
}

// scheduled is the wait of the schedule with this number, from 0, the last one repeated, as long as a hold can be.
func (g *gate) scheduled(number int) time.Duration {
	waits := g.policy.Retry
	if len(waits) == 0 {
		return probeEvery
	}
	return min(waits[min(number, len(waits)-1)], holdLimit)
}

// slow halves what goes at a time and in a second.
func (g *gate) slow(now time.Time) {
	g.AtATime = max(float64(g.most())/2, 1)
	g.window = 1
	taken := g.flow.perSecond(now)
	if g.PerSecond > 0 && (taken == 0 || taken > g.PerSecond) {
		taken = g.PerSecond
	}
	if taken > 0 {
		g.PerSecond = max(taken/2, leastPace)
		g.base, g.stepped = g.PerSecond, now
	}
	g.flow, g.next = flow{}, time.Time{}
}

// online notes that an attempt got further than this machine.
func (g *gate) online() change {
	g.dark, g.wait = time.Time{}, 0
	if g.offline {
		g.offline = false
		return cameOnline
	}
	return unchanged
}

// lost notes an attempt, begun at, that did not leave this machine. reached is when any endpoint was last reached. It says
// whether the attempt is charged: only when another endpoint was reached since this lane's outage began, which shows that
// the fault is not the machine's.
func (g *gate) lost(at, now, reached time.Time) (charged bool, c change) {
	if g.dark.IsZero() {
		g.dark = at
	}
	if reached.After(g.dark) {
		if g.offline {
			g.offline = false
			return true, cameOnline
		}
		return true, unchanged
	}
	if g.offline && at.Before(g.waited) {
		return false, unchanged // it began before the last wait was set and tells nothing new
	}
	g.wait = min(max(2*g.wait, offlineFirst), offlineMost)
	g.probe, g.waited = now.Add(g.wait), now
	if g.offline {
		return false, unchanged
	}
	g.offline, g.awaits = true, now
	return false, wentOffline
}

// noteAgain is how often attempts that charge nobody and say the same are recorded: an endpoint may be probed, or say 429,
// for days.
const noteAgain = 10 * time.Minute

// isWorthNoting reports whether an attempt that is not charged is to be recorded.
func (g *gate) isWorthNoting(status int, now time.Time) bool {
	if status == g.noted && now.Sub(g.notedAt) < noteAgain {
		return false
	}
	g.noted, g.notedAt = status, now
	return true
}
