package delivery

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// gate decides when a lane may attempt something, and what an outcome says of the endpoint's health (health.go). It has no
// clock and no lock of its own: the lane calls it with the time and under its mutex. It belongs to the name and outlives
// every reload; what it knows of the endpoint's health outlives a restart.
type gate struct {
	queue.Health

	policy   config.Delivery
	limit    *rate.Limiter // nil without a limit
	disabled bool
	paused   string // why; empty when it is not

	sent     time.Time // when what was attempted has been sent, at RateBytes
	window   float64   // attempts at a time while it is coming back; 0 when it is not
	probing  int       // probes under way
	awaits   time.Time // since when it waits for a probe: the one before, or when there was nothing to probe it with
	first    bool      // what was attempted last for the first time, and not for another: they take turns
	base     float64   // PerSecond when it was last lowered
	stepped  time.Time // when PerSecond was last raised
	next     time.Time // before then PerSecond allows nothing
	flow     flow
	notedAt  time.Time // when an attempt that was not charged was last recorded
	noted    int       // its status
	inflight int

	offline bool
	dark    time.Time // since when this lane's attempts fail for want of a network
	probe   time.Time // when to try again
	wait    time.Duration
	waited  time.Time // when wait was set
}

const (
	// downAfter failed attempts in a row make an endpoint down.
	downAfter = 5
	// An offline machine is tried again after offlineFirst, then after twice that, up to offlineMost.
	offlineFirst = time.Second
	offlineMost  = 15 * time.Second
	// probeEvery is the time between two probes of an endpoint that is down, unless too many are.
	probeEvery = 15 * time.Second
	// forgetLimits is after what time without being asked to wait an endpoint is taken to bear anything again.
	forgetLimits = time.Hour
	// leastPace is the fewest attempts a second that an endpoint is found to bear. One that bears fewer is held back by what it
	// asks for each time, which costs it one attempt that it refuses; one that refuses by time, and not for how much comes,
	// would have no end of lower ones.
	leastPace = 0.1
)

func newGate(known queue.Health, paused string) gate {
	if known.PerSecond > 0 {
		known.PerSecond = max(known.PerSecond, leastPace)
	}
	g := gate{Health: known, paused: paused, base: known.PerSecond}
	if g.isDown() || g.isLimited() {
		g.window = 1
	}
	return g
}

// configure has the gate follow a configuration.
func (g *gate) configure(ep *config.Endpoint) {
	if g.policy.Rate != ep.Delivery.Rate {
		g.limit = nil
		if ep.Delivery.Rate > 0 {
			g.limit = rate.NewLimiter(rate.Limit(ep.Delivery.Rate), max(1, int(ep.Delivery.Rate/10)))
		}
	}
	if g.policy.RateBytes != ep.Delivery.RateBytes {
		g.sent = time.Time{}
	}
	g.policy, g.disabled = ep.Delivery, !ep.Enabled
}

// forget has the endpoint begin anew: as if it had never failed nor asked to be left alone, because somebody says so or
// because it is at another place now. What was told of it stays told.
func (g *gate) forget() {
	g.Failures, g.Failing, g.Down, g.NextProbe = 0, time.Time{}, time.Time{}, time.Time{}
	g.Limited, g.Holds, g.HeldUntil, g.AtATime, g.PerSecond = time.Time{}, 0, time.Time{}, 0, 0
	g.window, g.next = 0, time.Time{}
}

func (g *gate) isDown() bool    { return !g.Down.IsZero() }
func (g *gate) isLimited() bool { return !g.Limited.IsZero() }
func (g *gate) isSpared() bool  { return g.isDown() || g.offline }
func (g *gate) isHeld() bool    { return g.disabled || g.paused != "" }

// most is how many attempts may be under way.
func (g *gate) most() int {
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
	retries bool      // those that are due
	firsts  bool      // what was not attempted yet
	early   bool      // retries that are not due as well: it is a probe
	turn    bool      // firsts before retries
	until   time.Time // when to ask again if time alone changes the answer, else zero
}

// allow says what may be attempted now.
func (g *gate) allow(now time.Time) permit {
	switch {
	case g.isHeld():
		return permit{}
	case g.HeldUntil.After(now):
		return permit{until: g.HeldUntil}
	case !g.isDown() && g.inflight >= g.most(), g.inflight >= g.policy.Concurrency:
		return permit{}
	case g.offline && g.inflight > 0:
		return permit{}
	case g.offline && g.probe.After(now):
		return permit{until: g.probe}
	case g.isDown() && g.probing > 0:
		return permit{}
	case g.isDown() && g.NextProbe.After(now):
		return permit{until: g.NextProbe}
	}
	if g.limit != nil {
		if tokens := g.limit.TokensAt(now); tokens < 1 {
			return permit{until: now.Add(time.Duration((1 - tokens) / float64(g.limit.Limit()) * float64(time.Second)))}
		}
	}
	if g.policy.RateBytes > 0 && g.sent.Sub(now) > uplinkAhead {
		return permit{until: g.sent.Add(-uplinkAhead)}
	}
	if !g.HeldUntil.IsZero() && now.Sub(g.HeldUntil) > forgetLimits {
		g.AtATime, g.PerSecond, g.HeldUntil = 0, 0, time.Time{}
	}
	if g.PerSecond > 0 && g.next.After(now) {
		return permit{until: g.next}
	}
	// While it is down or coming back, what it did not take and what it was not asked take turns: five events that it
	// can't stand must not be all that it is asked, over and over.
	return permit{retries: true, firsts: true, early: g.isDown(), turn: (g.isDown() || g.window > 0) && !g.first}
}

// took counts an attempt that begins, with a body of so many bytes; first tells that its delivery was not attempted yet. It
// says whether it is a probe, for which nobody is charged unless it goes well.
func (g *gate) took(now time.Time, first bool, body int) (probe bool) {
	g.inflight++
	g.first = first
	if g.isSpared() {
		g.probing++
		g.awaits = now
		probe = true
	}
	if g.limit != nil {
		g.limit.AllowN(now, 1)
	}
	if g.policy.RateBytes > 0 {
		g.sent = latest(g.sent, now).Add(sendTime(body, g.policy.RateBytes))
	}
	if g.PerSecond > 0 {
		step := time.Duration(float64(time.Second) / g.PerSecond)
		if g.next = g.next.Add(step); g.next.Before(now) {
			g.next = now.Add(step)
		}
	}
	return probe
}

// landed counts an attempt that has ended.
func (g *gate) landed(probe bool) {
	g.inflight--
	if probe {
		g.probing--
	}
}

// flow measures how much an endpoint takes, in two spells of at least flowSpell.
type flow struct {
	since       time.Time // when the spell before began
	turned      time.Time // when this one did
	before, now int
}

const flowSpell = 10 * time.Second

// add counts what went well.
func (f *flow) add(now time.Time) {
	switch {
	case now.Sub(f.turned) > 2*flowSpell:
		*f = flow{since: now, turned: now}
	case now.Sub(f.turned) > flowSpell:
		f.since, f.turned, f.before, f.now = f.turned, now, f.now, 0
	}
	f.now++
}

// perSecond is how much it took a second lately; 0 when that is not known, since it was sent nothing.
func (f *flow) perSecond(now time.Time) float64 {
	if f.now == 0 || now.Sub(f.turned) > 2*flowSpell {
		return 0
	}
	return float64(f.before+f.now) / math.Max(now.Sub(f.since).Seconds(), 1)
}

// place is when it may be probed, setPlace changes that.
func (g *gate) place() time.Time {
	if g.offline {
		return g.probe
	}
	return g.NextProbe
}

func (g *gate) setPlace(at time.Time) {
	if g.offline {
		g.probe = at
	} else {
		g.NextProbe = at
	}
}
