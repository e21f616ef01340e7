package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

// classExpired is the class of a delivery that was held too long.
const classExpired = "expired"

const (
	expireAtATime = 500
	// expireAgain is the pause after a round that expired some: there may be more.
	expireAgain = 50 * time.Millisecond
	// nextExpiryMax is the longest time until a lane that holds something is asked again.
	nextExpiryMax = 10 * time.Minute
	// One line of the log counts what expired within gatherOver, or, as long as more expires, within gatherMost.
	gatherOver = 5 * time.Second
	gatherMost = time.Minute
)

// unsentRun counts what failed in a row without an attempt, for one reason, for one line of the log.
type unsentRun struct {
	class, text string
	began       time.Time
	count       int
	latest      string // the id of an event
}

// expire makes failed what was held longer than MaxAge, a bounded number at a time, and returns how many these were. All that expire
// in a row are one line of the log. Only an endpoint that is down, paused, limited or out of reach holds deliveries: one that is
// merely slow still gets them all, and the queue itself expires those of an endpoint that is disabled. What a replay has not taken
// up waits for its endpoint however long that takes.
//
// It reads from disk, and so a sender calls it, on behalf of the housekeeping.
func (l *Lane) expire(now time.Time) (count int) {
	count, more := l.expireRound(now)
	l.logUnsentWhenDue(now, more)
	return count
}

// logUnsentWhenDue logs what failed once no more does, or that has gone on for long, or the lane stops.
func (l *Lane) logUnsentWhenDue(now time.Time, more bool) {
	l.mu.Lock()
	gathered, stopped := now.Sub(l.unsent.began), l.stopped
	l.mu.Unlock()
	if stopped || gathered >= gatherMost || !more && gathered >= gatherOver {
		l.logUnsent()
	}
}

// expireRound expires a bounded number of deliveries; more is set when there may be more at once.
func (l *Lane) expireRound(now time.Time) (count int, more bool) {
	l.mu.Lock()
	why, maxAge := l.holdReasonLocked(), l.gate.policy.MaxAge
	rests := why == "" || now.Before(l.nextExpiry)
	l.mu.Unlock()
	if rests {
		return 0, false
	}
	r := expiryRound{reason: why, text: heldTooLong(maxAge, why), maxAge: maxAge, now: now}
	youngest := l.expireSome(&r, func() *queue.Delivery {
		d, _ := l.queueLane.Take()
		return d
	})
	again := l.expireSome(&r, func() *queue.Delivery {
		d, _ := l.queueLane.TakeDue(now)
		return d
	})
	if r.count == 0 {
		o := l.queueLane.Outlook()
		if youngest == nextExpiryMax && o.Waiting > 0 || again == nextExpiryMax && o.Retrying > 0 && !o.Due.After(now) {
			return 0, true // the queue hands out nothing before a save, or can't be read; or a retry is under way
		}
		l.mu.Lock()
		// What comes from now on expires after maxAge at the earliest, and a retry not before it is due.
		l.nextExpiry = now.Add(min(youngest, again, maxAge, nextExpiryMax))
		if o.Retrying > 0 && o.Due.After(now) {
			l.nextExpiry = earliest(l.nextExpiry, o.Due)
		}
		l.mu.Unlock()
		return 0, false
	}
	l.tally.failed.Add(int64(r.count))
	l.reportFailed(r.last.ID, r.last.Type, classExpired, r.text, int64(r.count))
	l.countUnsent(&unsentRun{class: classExpired, text: r.text, began: r.now, count: r.count, latest: string(r.last.ID)})
	return r.count, true
}

func heldTooLong(maxAge time.Duration, why string) string {
	return "held longer than max_age (" + maxAge.String() + ") while the endpoint was " + why
}

// expiryRound is one round over what a lane holds.
type expiryRound struct {
	reason string
	text   string
	maxAge time.Duration
	now    time.Time
	count  int
	last   queue.Stored
}

// countUnsent adds what failed to what is not logged yet.
func (l *Lane) countUnsent(r *unsentRun) {
	l.mu.Lock()
	another := l.unsent.count > 0 && l.unsent.text != r.text
	l.mu.Unlock()
	if another {
		l.logUnsent()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsent.count == 0 {
		l.unsent = *r
		return
	}
	l.unsent.count += r.count
	l.unsent.latest = r.latest
}

// logUnsent logs what was gathered.
func (l *Lane) logUnsent() {
	l.mu.Lock()
	r := l.unsent
	l.unsent = unsentRun{}
	l.mu.Unlock()
	if r.count > 0 {
		l.log.Error().Int("deliveries", r.count).Str("latest_event", r.latest).Str("class", r.class).Str("reason", r.text).
			Msg("deliveries failed for good")
	}
}

// expireSome expires what take hands out until a delivery is young enough, and returns for how long that one still is.
func (l *Lane) expireSome(r *expiryRound, take func() *queue.Delivery) time.Duration {
	for r.count < expireAtATime {
		d := take()
		if d == nil {
			return nextExpiryMax
		}
		left := r.maxAge - d.Age()
		if left < 0 && !l.isStillHeldFor(r.reason) {
			left = 0
		}
		if left >= 0 {
			l.queueLane.Release(d, d.Due)
			return left
		}
		l.queueLane.GiveUp(d, classExpired, r.text)
		r.count, r.last = r.count+1, d.Event
	}
	return 0
}

// holdReasonLocked says why the lane holds deliveries that may expire; empty when it holds none.
func (l *Lane) holdReasonLocked() string {
	if l.stopped {
		return ""
	}
	return l.gate.holdReason()
}

// isStillHeldFor reports whether the reason still holds: it may have ended while the queue was asked.
func (l *Lane) isStillHeldFor(why string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holdReasonLocked() == why
}

// requestExpiry has the sender that asks the queue next expire what is too old.
func (l *Lane) requestExpiry() {
	l.mu.Lock()
	l.expireNext = true
	l.mu.Unlock()
	l.wakeSender()
}

// holdReason says why the gate holds deliveries that may expire; empty when it holds none.
func (g *gate) holdReason() string {
	switch {
	case g.disabled:
		return ""
	case g.pauseReason != "":
		return "paused"
	case g.isDown():
		return "down"
	case g.offline:
		return "out of reach"
	case g.isLimited():
		return "limited"
	}
	return ""
}
