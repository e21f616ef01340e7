package delivery

import (
	"time"

	"golang.org/x/time/rate"
)

// gate decides when a lane may attempt something. It has no clock and no lock of its own: the lane calls it with the time
// and under its mutex.
type gate struct {
	concurrency int
	limit       *rate.Limiter // nil without a limit

	held     string    // why nothing is attempted at all: paused or disabled; empty when it is not so
	quiet    time.Time // the endpoint asked to be left alone until then
	failures int       // attempts that failed since one went well
	down     bool
	probed   time.Time // when something was last attempted while it was down
	ramp     int       // attempts at a time while it is coming back; 0 when it is not

	offline bool
	dark    time.Time // since when this lane's attempts fail for want of a network
	probe   time.Time // when to try again
	wait    time.Duration

	inflight int
}

const (
	// downAfter failed attempts in a row make an endpoint down.
	downAfter = 5
	// An offline machine is tried again after offlineFirst, then after twice that, up to offlineMost.
	offlineFirst = time.Second
	offlineMost  = 15 * time.Second
	// probeEvery is the least time between two deliveries that become the probe of an endpoint that is down, so that a
	// short schedule, or none, does not turn the backlog into failed deliveries one by one.
	probeEvery = 15 * time.Second
)

func newGate(concurrency int, perSecond float64) gate {
	g := gate{concurrency: concurrency}
	if perSecond > 0 {
		g.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
	}
	return g
}

// allow says what may be attempted now: retries that are due, deliveries that were not attempted yet. until is when to ask
// again if time alone will change the answer, else zero. retrying is how many retries the lane has.
func (g *gate) allow(now time.Time, retrying int64) (retries, firsts bool, until time.Time) {
	most := g.concurrency
	if g.ramp > 0 {
		most = min(most, g.ramp)
	}
	switch {
	case g.held != "":
		return false, false, time.Time{}
	case g.inflight >= most:
		return false, false, time.Time{}
	case g.quiet.After(now):
		return false, false, g.quiet
	case g.offline && g.inflight > 0:
		return false, false, time.Time{}
	case g.offline && g.probe.After(now):
		return false, false, g.probe
	}
	if g.limit != nil {
		if tokens := g.limit.TokensAt(now); tokens < 1 {
			return false, false, now.Add(time.Duration((1 - tokens) / float64(g.limit.Limit()) * float64(time.Second)))
		}
	}
	// While the endpoint is down, what was attempted already keeps its schedule and is the probe. Only when there is
	// nothing of that kind does one more delivery become the probe.
	if !g.down {
		return true, true, time.Time{}
	}
	if retrying > 0 || g.inflight > 0 {
		return true, false, time.Time{}
	}
	if next := g.probed.Add(probeEvery); next.After(now) {
		return true, false, next
	}
	return true, true, time.Time{}
}

// took counts an attempt that begins.
func (g *gate) took(now time.Time) {
	g.inflight++
	if g.down {
		g.probed = now
	}
	if g.limit != nil {
		g.limit.AllowN(now, 1)
	}
}

// change is what an outcome did to an endpoint's state.
type change int

const (
	unchanged change = iota
	wentDown
	cameBack
	wentOffline
	cameOnline
)

// well notes an attempt that went well.
func (g *gate) well() change {
	g.failures = 0
	if g.ramp > 0 {
		if g.ramp *= 2; g.ramp >= g.concurrency {
			g.ramp = 0
		}
	}
	if g.down {
		// What waited while it was down must not knock it over: one at a time, then two, four, …
		g.down, g.ramp = false, 1
		return cameBack
	}
	return unchanged
}

// failed notes an attempt that failed and was charged.
func (g *gate) failed() change {
	g.failures++
	if !g.down && g.failures >= downAfter {
		g.down, g.ramp = true, 0
		return wentDown
	}
	return unchanged
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
		return true, g.onlineKeepDark()
	}
	if g.offline && at.Before(g.probe.Add(-g.wait)) {
		return false, unchanged // it began before the last wait was set and tells nothing new
	}
	g.wait = min(max(2*g.wait, offlineFirst), offlineMost)
	g.probe = now.Add(g.wait)
	if g.offline {
		return false, unchanged
	}
	g.offline = true
	return false, wentOffline
}

func (g *gate) onlineKeepDark() change {
	if g.offline {
		g.offline = false
		return cameOnline
	}
	return unchanged
}
