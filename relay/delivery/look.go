package delivery

import "time"

// look tells what becomes news by lasting: that the endpoint lags, asks to be left alone, or can't be reached from here,
// and that one that bounced keeps to one state now. The housekeeping calls it for every lane.
func (l *Lane) look(now time.Time) {
	var waited time.Duration
	kept := l.kept.Stats()
	if !kept.Oldest.IsZero() {
		waited = now.Sub(kept.Oldest)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.gate
	if !g.Hastened.IsZero() && now.After(g.Hastened) && (kept.NextRetry.IsZero() || kept.NextRetry.After(now)) && !l.retriesLocked() {
		g.Hastened = time.Time{}
	}
	if n, tell := l.damper.steady(&g.Health, now); tell {
		l.report(n)
	}
	if g.isLimited() && g.ToldLimited.IsZero() && now.Sub(g.Limited) >= ToldAfter {
		g.ToldLimited = g.Limited
		l.report(News{State: StateLimited, Reason: g.LastError, At: now, Since: g.Limited})
	}
	if g.offline && g.ToldOffline.IsZero() && now.Sub(g.dark) >= ToldAfter {
		g.ToldOffline = g.dark
		l.report(News{State: StateOffline, Reason: g.LastError, At: now, Since: g.dark})
	}
	g.lags(waited, now)
	switch {
	case !g.Lagging.IsZero() && g.ToldLagging.IsZero() && !g.holdsBack() && now.Sub(g.Lagging) >= lagPatience:
		g.ToldLagging = g.Lagging
		l.report(News{State: NewsLagging, At: now, Since: now.Add(-waited)})
		l.log.Warn().Float64("oldest_seconds", waited.Seconds()).Msg("endpoint lags: it takes less than comes in")
	case g.Lagging.IsZero() && !g.ToldLagging.IsZero():
		l.report(News{State: NewsCaughtUp, At: now, Since: g.ToldLagging})
		g.ToldLagging = time.Time{}
		l.log.Info().Msg("endpoint has caught up")
	}
	l.keepHealthLocked()
}

// lagPatience is how long an endpoint may lag before it is told: after an outage it works off in no time what has waited.
const lagPatience = time.Minute

// lags judges by how long the oldest pending event has waited. One that is held back lags for a reason that is told anyway.
func (g *gate) lags(waited time.Duration, now time.Time) {
	switch {
	case g.Lagging.IsZero() && waited > g.policy.Lag && !g.holdsBack():
		g.Lagging = now
	case !g.Lagging.IsZero() && waited <= g.policy.Lag/2:
		g.Lagging = time.Time{}
	}
}

// holdsBack reports whether the gate, and not the endpoint's pace, is why events wait.
func (g *gate) holdsBack() bool { return g.isHeld() || g.isSpared() || g.isLimited() }

// retriesLocked reports whether a retry is under way, or may be in the hands of the one who asks the queue.
func (l *Lane) retriesLocked() bool {
	if !l.asks.IsZero() {
		return true
	}
	for _, f := range l.under {
		if !f.first {
			return true
		}
	}
	return false
}
