package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

const (
	expireAtATime = 500
	// expireAgain is the pause when some were too old: there may be more.
	expireAgain = 50 * time.Millisecond
	// ageAgain is the longest until a lane that holds something young is asked again.
	ageAgain = 10 * time.Minute
	// A line of the log tells what expired within gatherOver, and as long as more does, at most gatherMost.
	gatherOver = 5 * time.Second
	gatherMost = time.Minute
)

// expiry is what was found too old for one reason.
type expiry struct {
	reason string
	began  time.Time
	count  int
	latest string // the id of an event
}

// expire gives up what was held longer than MaxAge, a bounded number at a time, and says how many these were. The log is told
// of all that expire in a run in one line. Only an endpoint that is down, paused, limited or out of reach holds deliveries; one
// that is merely slow still gets them all, and what one that is disabled holds is the queue's to give up. What a replay has not taken up waits for
// its endpoint however long.
//
// It reads from disk: a sender calls it for the housekeeping, which waits for no disk.
func (l *Lane) expire(now time.Time) (gone int) {
	gone, goesOn := l.expireRound(now)
	l.tellGathered(now, goesOn)
	return gone
}

// tellGathered tells the log of what expired when that is over, or has gone on for long, or when the lane stops.
func (l *Lane) tellGathered(now time.Time, goesOn bool) {
	l.mu.Lock()
	gathered, stopped := now.Sub(l.expired.began), l.stopped
	l.mu.Unlock()
	if stopped || gathered >= gatherMost || !goesOn && gathered >= gatherOver {
		l.tellExpired()
	}
}

// expireRound is one look; it goes on when there may be more at once.
func (l *Lane) expireRound(now time.Time) (gone int, goesOn bool) {
	l.mu.Lock()
	why, maxAge := l.whyLocked(), l.gate.policy.MaxAge
	rests := why == "" || now.Before(l.aged)
	l.mu.Unlock()
	if rests {
		return 0, false
	}
	r := aging{why: why, reason: heldTooLong(maxAge, why), maxAge: maxAge, now: now}
	youngest := l.expireSome(&r, func() *queue.Delivery {
		d, _ := l.kept.Take()
		return d
	})
	again := l.expireSome(&r, func() *queue.Delivery {
		d, _ := l.kept.TakeDue(now)
		return d
	})
	if r.count == 0 {
		o := l.kept.Outlook()
		if youngest == ageAgain && o.Waiting > 0 || again == ageAgain && o.Retrying > 0 && !o.Due.After(now) {
			return 0, true // the queue hands out nothing before a save, or can't be read; or a retry is under way
		}
		l.mu.Lock()
		// What comes from now on is too old after maxAge at the earliest; a retry can be given up once it is due.
		l.aged = now.Add(min(youngest, again, maxAge, ageAgain))
		if o.Retrying > 0 && o.Due.After(now) {
			l.aged = earliest(l.aged, o.Due)
		}
		l.mu.Unlock()
		return 0, false
	}
	l.tally.failed.Add(int64(r.count))
	l.reportFailed(r.last.ID, r.last.Type, "expired", r.reason, int64(r.count))
	l.gather(&r)
	return r.count, true
}

func heldTooLong(maxAge time.Duration, why string) string {
	return "held longer than max_age (" + maxAge.String() + ") while the endpoint was " + why
}

// aging is one look at what a lane holds.
type aging struct {
	why    string
	reason string
	maxAge time.Duration
	now    time.Time
	count  int
	last   queue.Stored
}

// gather adds what a round gave up to what the log is yet to be told of.
func (l *Lane) gather(r *aging) {
	l.mu.Lock()
	another := l.expired.count > 0 && l.expired.reason != r.reason
	l.mu.Unlock()
	if another {
		l.tellExpired()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expired.count == 0 {
		l.expired = expiry{reason: r.reason, began: r.now}
	}
	l.expired.count += r.count
	l.expired.latest = string(r.last.ID)
}

// tellExpired writes what was gathered to the log.
func (l *Lane) tellExpired() {
	l.mu.Lock()
	e := l.expired
	l.expired = expiry{}
	l.mu.Unlock()
	if e.count > 0 {
		l.log.Error().Int("deliveries", e.count).Str("latest_event", e.latest).Str("class", "expired").Str("reason", e.reason).
			Msg("deliveries failed for good")
	}
}

// expireSome gives up what take hands out until that is young enough, and returns for how long the first one still is.
func (l *Lane) expireSome(r *aging, take func() *queue.Delivery) time.Duration {
	for r.count < expireAtATime {
		d := take()
		if d == nil {
			return ageAgain
		}
		left := r.maxAge - r.now.Sub(d.Begun())
		if left < 0 && !l.isHeldFor(r.why) {
			left = 0
		}
		if left >= 0 {
			l.kept.Release(d, d.Due)
			return left
		}
		l.kept.Failed(d, nil, r.reason)
		r.count, r.last = r.count+1, d.Event
	}
	return 0
}

// whyLocked is for what the lane holds deliveries that may become too old; empty when it holds none.
func (l *Lane) whyLocked() string {
	if l.stopped {
		return ""
	}
	return l.gate.why()
}

// isHeldFor reports whether why is still so: it may have ended while the queue was asked.
func (l *Lane) isHeldFor(why string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whyLocked() == why
}

// age has the sender that asks next give up what is too old.
func (l *Lane) age() {
	l.mu.Lock()
	l.aging = true
	l.mu.Unlock()
	l.poke()
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
