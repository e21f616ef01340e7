package delivery

import "time"

// ReportAfter is how long an endpoint must be limited, or out of reach from here, before that is reported.
const ReportAfter = 10 * time.Minute

// reportLasting reports the transitions that count only once they have lasted: that the endpoint lags, is limited, can't be reached
// from here, or is flapping no more. The housekeeping calls it for every lane. It waits for the disk for 0.1 s at most.
func (l *Lane) reportLasting(now time.Time) {
	var waited time.Duration
	stats := l.queueLane.Stats()
	if !stats.Oldest.IsZero() {
		waited = now.Sub(stats.Oldest)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.gate
	if !g.Hastened.IsZero() && now.After(g.Hastened) && (stats.NextRetry.IsZero() || stats.NextRetry.After(now)) && !l.retryInFlightLocked() {
		g.Hastened = time.Time{}
	}
	if t, report := l.flaps.steady(&g.Health, now); report {
		l.report(t)
	}
	if g.isLimited() && g.ToldLimited.IsZero() && now.Sub(g.Limited) >= ReportAfter {
		g.ToldLimited = g.Limited
		l.report(Transition{State: StateLimited, Reason: g.LastError, At: now, Since: g.Limited})
	}
	if g.offline && g.ToldOffline.IsZero() && now.Sub(g.unreachableSince) >= ReportAfter {
		g.ToldOffline = g.unreachableSince
		l.report(Transition{State: StateOffline, Reason: g.LastError, At: now, Since: g.unreachableSince})
	}
	g.updateLag(waited, now)
	switch {
	case !g.Lagging.IsZero() && g.ToldLagging.IsZero() && !g.holdsBack() && now.Sub(g.Lagging) >= lagGrace:
		g.ToldLagging = g.Lagging
		l.report(Transition{State: TransitionLagging, At: now, Since: now.Add(-waited)})
		l.log.Warn().Float64("lag_seconds", waited.Seconds()).Msg("endpoint lags: it takes less than comes in")
	case g.Lagging.IsZero() && !g.ToldLagging.IsZero():
		l.report(Transition{State: TransitionCaughtUp, At: now, Since: g.ToldLagging})
		g.ToldLagging = time.Time{}
		l.log.Info().Msg("endpoint has caught up")
	}
	l.saveHealthLocked()
}
