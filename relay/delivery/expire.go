package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

const (
	expireAtATime = 500
	// ageAgain is the longest until a lane that holds something young is asked again.
	ageAgain = 10 * time.Minute
)

// expiry is what a round found too old.
type expiry struct {
	why    string
	maxAge time.Duration
	count  int
	last   queue.Stored
}

// expire gives up what was held longer than MaxAge, a bounded number at a time, and says how many these were, in one line.
// Only an endpoint that is down, paused, limited or out of reach holds deliveries; one that is merely slow still gets them
// all, and one that is disabled keeps what it has. What a replay has not taken up waits for its endpoint however long.
func (l *Lane) expire(now time.Time) (gone int) {
	l.mu.Lock()
	e := expiry{why: l.gate.why(), maxAge: l.gate.policy.MaxAge}
	rests := e.why == "" || now.Before(l.aged)
	l.mu.Unlock()
	if rests {
		return 0
	}
	youngest := l.expireSome(&e, now, func() *queue.Delivery {
		d, _ := l.kept.Take()
		return d
	})
	again := l.expireSome(&e, now, func() *queue.Delivery {
		d, _ := l.kept.TakeDue(now)
		return d
	})
	if e.count == 0 {
		l.mu.Lock()
		l.aged = now.Add(min(youngest, again, ageAgain))
		l.mu.Unlock()
		return 0
	}
	reason := e.reason()
	l.tally.failed.Add(int64(e.count))
	l.reportFailed(e.last.ID, e.last.Type, "expired", reason, int64(e.count))
	l.log.Error().Int("deliveries", e.count).Bytes("latest_event", e.last.ID).Str("class", "expired").Str("reason", reason).
		Msg("deliveries failed for good")
	return e.count
}

func (e *expiry) reason() string {
	return "held longer than max_age (" + e.maxAge.String() + ") while the endpoint was " + e.why
}

// expireSome gives up what take hands out until that is young enough, and returns for how long the first one still is.
func (l *Lane) expireSome(e *expiry, now time.Time, take func() *queue.Delivery) time.Duration {
	for e.count < expireAtATime {
		d := take()
		if d == nil {
			return ageAgain
		}
		if left := e.maxAge - now.Sub(d.Begun()); left >= 0 {
			l.kept.Release(d, now)
			return left
		}
		l.kept.Failed(d, nil, e.reason())
		e.count, e.last = e.count+1, d.Event
	}
	return 0
}

// why is for what the gate holds deliveries that may become too old; empty when it holds none.
func (g *gate) why() string {
	switch {
	case g.disabled:
		return ""
	case g.paused != "":
		return "paused"
	case g.isDown():
		return "down"
	case g.offline:
		return "out of reach"
	case g.isLimited():
		return "asking to be left alone"
	}
	return ""
}
