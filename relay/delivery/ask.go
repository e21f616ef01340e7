package delivery

import (
	"math"
	"time"

	"realtorbot-relay/queue"
)

// idling is the flight of a sender that found nothing to take.
var idling = &flight{}

// take hands out what is to be attempted next. When there is nothing it counts its caller idle; without a flight the
// caller is to end, since the lane has stopped or has senders enough. One sender is always idle, as long as concurrency
// allows: it is the one that looks when ready says so.
//
// One sender at a time asks the queue, and the lock is let go while it does: a disk that does not answer holds up what is
// attempted, and nobody who looks, pauses, resumes, reloads or stops. So the gate is asked twice, for leave to ask and for
// leave to attempt what was found, and counts what it lets through the second time.
func (l *Lane) take() (*queue.Delivery, *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isOverLocked() {
		return l.quitLocked()
	}
	if !l.asks.IsZero() {
		l.missed = true
		l.idle++
		return nil, idling
	}
	if l.aging {
		l.aging = false
		l.askLocked(func() {
			if l.expire(l.now()) > 0 {
				time.AfterFunc(expireAgain, l.age)
			}
		})
	}
	d, f, more := l.nextLocked()
	more = more || l.missed
	l.missed = false
	if d == nil && l.isOverLocked() {
		return l.quitLocked()
	}
	switch {
	case d == nil:
		l.idle++
		if more {
			l.poke()
		}
		return nil, idling
	case l.idle == 0 && l.senders < f.course.endpoint.Delivery.Concurrency:
		l.spawnLocked()
	case more:
		l.poke()
	}
	return d, f
}

// isOverLocked reports whether the sender that asks is to end.
func (l *Lane) isOverLocked() bool {
	c := l.course.Load()
	return l.stopped || c == nil || l.senders > c.endpoint.Delivery.Concurrency
}

func (l *Lane) quitLocked() (*queue.Delivery, *flight) {
	l.senders--
	l.poke() // pass it on
	return nil, nil
}

// askLocked lets the lock go while the queue is asked.
func (l *Lane) askLocked(ask func()) {
	l.asks = time.Now()
	l.mu.Unlock()
	ask()
	l.mu.Lock()
	l.asks = time.Time{}
}

// leave is what the queue is asked for, and what it was found to have.
type leave struct {
	permit
	now     time.Time
	outlook queue.Outlook
	spared  bool // it is to be a probe, and has its place in the budget
	lined   bool // it waits for its turn at the uplink, which pokes the lane then

	d     *queue.Delivery
	first bool      // it was not attempted before
	more  bool      // there is more
	until time.Time // when time alone will have changed the answer, else zero
}

// nextLocked takes a retry that is due or else the next of the log, if the gate lets it, and sets the timer for when time
// alone will have changed the answer. The lock is let go meanwhile; what the gate does not let through any more then is
// given back, and the gate is asked again.
func (l *Lane) nextLocked() (d *queue.Delivery, f *flight, more bool) {
	for !l.isOverLocked() {
		v := leave{now: l.now()}
		if f = l.tryLocked(&v); f == nil && v.d != nil {
			continue
		}
		if !v.until.IsZero() && !l.stopped {
			l.timer.Reset(max(v.until.Sub(l.now()), time.Millisecond))
		}
		return v.d, f, v.more
	}
	return nil, nil, false
}

// tryLocked asks once, and gives back what comes of it when that is no attempt: what was found, a probe's place, and the
// turn at the uplink, unless the lane still waits for that.
func (l *Lane) tryLocked(v *leave) (f *flight) {
	defer func() {
		if f == nil && !v.lined {
			l.uplink.leave(l)
		}
	}()
	if !l.mayAskLocked(v) {
		return nil
	}
	hastened := l.gate.Hastened
	l.askLocked(func() { l.ask(v) })
	if v.d != nil {
		f = l.claimLocked(v)
	}
	if f == nil && v.spared {
		l.probes.end(0)
	}
	if f == nil && v.d != nil {
		if !l.gate.Hastened.Equal(hastened) {
			v.d.Due = earliest(v.d.Due, v.now)
		}
		l.kept.Release(v.d, v.d.Due)
	}
	return f
}

// mayAskLocked asks the gate for leave to ask the queue. Where time, the end of an attempt or an operator alone can change the
// answer, the lane is deaf until it looks again: it is not woken for each event that comes.
func (l *Lane) mayAskLocked(v *leave) bool {
	v.permit = l.gate.allow(v.now)
	v.until = v.permit.until
	if !v.retries && !v.firsts {
		l.deaf.Store(true)
		return false
	}
	if !l.places.admits(&l.stake, v.now) {
		l.deaf.Store(true)
		v.until = v.now.Add(placeAgain)
		return false
	}
	l.deaf.Store(false) // before the queue is looked at
	v.outlook, v.spared = l.kept.Outlook(), l.gate.isSpared()
	due := v.outlook.Due
	nothing := v.outlook.Waiting == 0 && !v.outlook.Replays && !(v.early && !due.IsZero()) && (due.IsZero() || due.After(v.now))
	if v.lined = !nothing && !l.uplink.admits(l, v.now); v.lined {
		return false
	}
	if !v.spared {
		return l.mayBeginLocked(v) // probes have a pace of their own
	}
	if v.outlook.Due.IsZero() && v.outlook.Waiting == 0 && !v.outlook.Replays {
		l.gate.awaits = v.now
		return false
	}
	if v.until = l.probes.begin(v.now, l.gate.place(), l.gate.awaits); !v.until.IsZero() {
		l.deaf.Store(true)
		l.gate.setPlace(v.until)
		return false
	}
	return true
}

// mayBeginLocked asks for the lane's turn, when there is something that it may begin.
func (l *Lane) mayBeginLocked(v *leave) bool {
	due := !v.outlook.Due.IsZero() && !v.outlook.Due.After(v.now)
	if !due && v.outlook.Waiting == 0 && !v.outlook.Replays {
		return true // which finds nothing, or what came just now
	}
	if v.until = l.starts.begin(&l.start, v.now); v.until.IsZero() {
		return true
	}
	l.deaf.Store(true)
	l.uplink.leave(l)
	return false
}

// claimLocked has the gate count what was found as an attempt that begins, if it still lets it.
func (l *Lane) claimLocked(v *leave) *flight {
	now := l.now()
	if p := l.gate.allow(now); l.stopped || v.spared != l.gate.isSpared() || !p.retries && !p.firsts {
		return nil
	}
	if v.lined = !l.uplink.take(l, len(v.d.Event.Body), now); v.lined {
		return nil
	}
	c := l.course.Load()
	f := &flight{began: time.Now(), course: c, first: v.first, probe: l.gate.took(now, v.first, len(v.d.Event.Body)),
		cost: l.places.take(&l.stake, len(v.d.Event.Body))}
	c.under++
	l.start.at = time.Time{}
	l.under[v.d] = f
	l.attempts.Add(1)
	return f
}

// ask takes what leave was given for. It reads from disk, and the caller does not hold the lock.
func (l *Lane) ask(v *leave) {
	by := v.now
	if v.early {
		by = v.now.Add(math.MaxInt64)
	}
	retry := func() {
		if v.d == nil && !v.outlook.Due.IsZero() && !v.outlook.Due.After(by) {
			if v.d, _ = l.kept.TakeDue(by); v.d != nil {
				v.first, v.more = false, true
			}
			v.outlook = l.kept.Outlook()
		}
	}
	first := func() {
		if v.d != nil {
			return
		}
		if v.d, v.more, v.until = l.askFirst(v.now, v.outlook.Replays); v.d != nil {
			v.first = true
		}
	}
	if v.turn {
		first()
		retry()
	} else {
		retry()
		first()
	}
	if due := v.outlook.Due; !due.IsZero() && (v.until.IsZero() || due.Before(v.until)) {
		v.until = due
	}
}

// askFirst takes what was not attempted yet: the next of the log or, in turn with it, of a replay, so that neither waits
// for the other to end. paced is when to ask a replay again, zero when time alone changes nothing.
func (l *Lane) askFirst(now time.Time, replays bool) (d *queue.Delivery, more bool, paced time.Time) {
	l.replayed = replays && !l.replayed
	if l.replayed {
		if d, paced = l.kept.TakeReplay(now); d != nil {
			return d, true, paced
		}
	}
	if d, more = l.kept.Take(); d == nil && replays && !l.replayed {
		d, paced = l.kept.TakeReplay(now)
	}
	return d, more || replays && d != nil, paced
}
