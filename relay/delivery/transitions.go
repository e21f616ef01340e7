package delivery

import (
	"time"
)

func (l *Lane) onlineLocked(now time.Time) effect {
	g := &l.gate
	if !g.ToldOffline.IsZero() {
		l.report(Transition{State: TransitionOnline, At: now, Since: g.ToldOffline})
		g.ToldOffline = time.Time{}
	}
	return g.online()
}

func (l *Lane) answeredLocked(now time.Time, delivered bool) effect {
	g := &l.gate
	c := g.answered(now, delivered)
	if t, report := l.flaps.up(&g.Health, c == cameBack, now); report {
		l.report(t)
	}
	if !g.ToldLimited.IsZero() {
		l.report(Transition{State: StateUp, At: now, Since: g.ToldLimited})
		g.ToldLimited = time.Time{}
	}
	return c
}

func (l *Lane) failedLocked(now time.Time, reason string, r *decision) effect {
	g := &l.gate
	c := g.failed(now)
	switch c {
	case wentDown:
		if t, report := l.flaps.down(&g.Health, reason, now); report {
			l.report(t)
		}
	case stayedDown:
		r.pauses = true
		l.pauseLocked("nothing was delivered for " + g.policy.DisableAfter.String() + " (disable_after): " + reason)
	}
	if g.isDown() {
		g.NextProbe = l.probes.schedule(now.Add(probeEvery), now)
	}
	return c
}
