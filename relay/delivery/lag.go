package delivery

import "time"

// lagGrace is how long an endpoint may lag before that is reported: after an outage it soon takes what has waited.
const lagGrace = time.Minute

// updateLag judges by how long the oldest pending event has waited. An endpoint that is held back doesn't begin to lag: the reason is
// reported anyway.
func (g *gate) updateLag(waited time.Duration, now time.Time) {
	switch {
	case g.Lagging.IsZero() && waited > g.policy.Lag && !g.holdsBack():
		g.Lagging = now
	case !g.Lagging.IsZero() && waited <= g.policy.Lag/2:
		g.Lagging = time.Time{}
	}
}

// holdsBack reports whether events wait because of the gate, and not because the endpoint is slow.
func (g *gate) holdsBack() bool { return g.isPausedOrDisabled() || g.isProbed() || g.isLimited() }
