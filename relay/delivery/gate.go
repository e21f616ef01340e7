package delivery

import (
	"time"

	"golang.org/x/time/rate"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// gate decides when a lane may make an attempt, and what an outcome means for the endpoint's health (health.go). It has no clock and
// no lock of its own: the lane calls it with the time and under the lane's lock. It belongs to the endpoint's name and outlives
// every reload; the queue saves the endpoint's health, which outlives a restart.
type gate struct {
	queue.Health

	policy      config.Delivery
	limiter     *rate.Limiter // nil without a limit
	disabled    bool
	pauseReason string // empty when the endpoint is not paused

	sentBy         time.Time // when the bodies of the attempts so far have been sent, at RateBytes
	window         float64   // attempts at a time while the endpoint is coming back; 0 otherwise
	probesInFlight int
	probeWaitSince time.Time // since when the endpoint waits for a probe: the last one, or when there was last nothing to send
	lastWasNew     bool      // the last attempt was a delivery's first: first attempts and retries take turns
	basePerSecond  float64   // PerSecond when it was last lowered
	steppedAt      time.Time // when PerSecond was last raised
	nextAllowed    time.Time // before then PerSecond allows nothing
	throughput     throughput
	recordedAt     time.Time // when an attempt that charges nobody was last recorded
	recordedStatus int       // its status
	inFlight       int

	offline          bool
	unreachableSince time.Time // since when this lane's attempts find no network
	probeAt          time.Time // when to try again
	backoff          time.Duration
	backoffSetAt     time.Time // when backoff was set
}

const (
	// downAfter failed attempts in a row make an endpoint down.
	downAfter = 5
	// An offline machine tries again after offlineBackoffMin, then after twice that, up to offlineBackoffMax.
	offlineBackoffMin = time.Second
	offlineBackoffMax = 15 * time.Second
	// probeEvery is the time between two probes of an endpoint that is down, unless too many endpoints are.
	probeEvery = 15 * time.Second
	// forgetLimitsAfter is how long after it last asked to wait an endpoint is sent as much as before again.
	forgetLimitsAfter = time.Hour
	// minPerSecond is the lowest limit of attempts a second that a gate finds. An endpoint that takes fewer says 429 each time,
	// which costs one refused attempt; without this bound, one that refuses at certain times, and not because of how much comes,
	// would be slowed down without end.
	minPerSecond = 0.1
)

func newGate(known queue.Health, paused string) gate {
	if known.PerSecond > 0 {
		known.PerSecond = max(known.PerSecond, minPerSecond)
	}
	g := gate{Health: known, pauseReason: paused, basePerSecond: known.PerSecond}
	if g.isDown() || g.isLimited() {
		g.window = 1
	}
	return g
}

// configure has the gate follow a configuration.
func (g *gate) configure(ep *config.Endpoint) {
	if g.policy.Rate != ep.Delivery.Rate {
		g.limiter = nil
		if ep.Delivery.Rate > 0 {
			g.limiter = rate.NewLimiter(rate.Limit(ep.Delivery.Rate), max(1, int(ep.Delivery.Rate/10)))
		}
	}
	if g.policy.RateBytes != ep.Delivery.RateBytes {
		g.sentBy = time.Time{}
	}
	g.policy, g.disabled = ep.Delivery, !ep.Enabled
}

// reset forgets that the endpoint failed or asked to wait, because an operator says so or because the endpoint is another receiver
// now. It does not forget what was reported.
func (g *gate) reset() {
	g.Failures, g.Failing, g.Down, g.NextProbe = 0, time.Time{}, time.Time{}, time.Time{}
	g.Limited, g.Holds, g.HeldUntil, g.AtATime, g.PerSecond = time.Time{}, 0, time.Time{}, 0, 0
	g.window, g.nextAllowed = 0, time.Time{}
}

func (g *gate) isDown() bool             { return !g.Down.IsZero() }
func (g *gate) isLimited() bool          { return !g.Limited.IsZero() }
func (g *gate) isProbed() bool           { return g.isDown() || g.offline }
func (g *gate) isPausedOrDisabled() bool { return g.disabled || g.pauseReason != "" }

// maxInFlight is how many attempts may be under way.
func (g *gate) maxInFlight() int {
	most := float64(g.policy.Concurrency)
	if g.AtATime > 0 {
		most = min(most, g.AtATime)
	}
	if g.window > 0 {
		most = min(most, g.window)
	}
	return max(int(most), 1)
}

// permit is what may be attempted.
type permit struct {
	retries  bool      // those that are due
	firsts   bool      // deliveries that were not attempted yet
	early    bool      // also retries that are not due: the attempt is a probe
	newFirst bool      // firsts before retries
	until    time.Time // when to ask again if time alone changes the answer, else zero
}

// allow says what may be attempted now.
func (g *gate) allow(now time.Time) permit {
	switch {
	case g.isPausedOrDisabled():
		return permit{}
	case g.HeldUntil.After(now):
		return permit{until: g.HeldUntil}
	case !g.isDown() && g.inFlight >= g.maxInFlight(), g.inFlight >= g.policy.Concurrency:
		return permit{}
	case g.offline && g.inFlight > 0:
		return permit{}
	case g.offline && g.probeAt.After(now):
		return permit{until: g.probeAt}
	case g.isDown() && g.probesInFlight > 0:
		return permit{}
	case g.isDown() && g.NextProbe.After(now):
		return permit{until: g.NextProbe}
	}
	if g.limiter != nil {
		if tokens := g.limiter.TokensAt(now); tokens < 1 {
			return permit{until: now.Add(time.Duration((1 - tokens) / float64(g.limiter.Limit()) * float64(time.Second)))}
		}
	}
	if g.policy.RateBytes > 0 && g.sentBy.Sub(now) > uplinkAhead {
		return permit{until: g.sentBy.Add(-uplinkAhead)}
	}
	if !g.HeldUntil.IsZero() && now.Sub(g.HeldUntil) > forgetLimitsAfter {
		g.AtATime, g.PerSecond, g.HeldUntil = 0, 0, time.Time{}
	}
	if g.PerSecond > 0 && g.nextAllowed.After(now) {
		return permit{until: g.nextAllowed}
	}
	// While it is down or coming back, retries and first attempts take turns: otherwise five events that the endpoint can't
	// take would be all that it is sent, over and over.
	return permit{retries: true, firsts: true, early: g.isDown(), newFirst: (g.isDown() || g.window > 0) && !g.lastWasNew}
}

// begin counts an attempt that begins; body is in bytes, and first says that its delivery was not attempted yet. It reports whether
// the attempt is a probe, which charges nobody unless it succeeds.
func (g *gate) begin(now time.Time, first bool, body int) (probe bool) {
	g.inFlight++
	g.lastWasNew = first
	if g.isProbed() {
		g.probesInFlight++
		g.probeWaitSince = now
		probe = true
	}
	if g.limiter != nil {
		g.limiter.AllowN(now, 1)
	}
	if g.policy.RateBytes > 0 {
		g.sentBy = latest(g.sentBy, now).Add(sendTime(body, g.policy.RateBytes))
	}
	if g.PerSecond > 0 {
		step := time.Duration(float64(time.Second) / g.PerSecond)
		if g.nextAllowed = g.nextAllowed.Add(step); g.nextAllowed.Before(now) {
			g.nextAllowed = now.Add(step)
		}
	}
	return probe
}

// end counts an attempt that has ended.
func (g *gate) end(probe bool) {
	g.inFlight--
	if probe {
		g.probesInFlight--
	}
}

// probeTime is when the endpoint may be probed.
func (g *gate) probeTime() time.Time {
	if g.offline {
		return g.probeAt
	}
	return g.NextProbe
}

func (g *gate) setProbeTime(at time.Time) {
	if g.offline {
		g.probeAt = at
	} else {
		g.NextProbe = at
	}
}
