package queue

import (
	"slices"
	"time"

	"realtorbot-relay/queue/entry"
)

// Delivered settles a delivery that went well with attempt a.
func (l *Lane) Delivered(d *Delivery, a *Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered++
	switch {
	case d.retry != nil:
		l.endRetry(d, Settled)
		l.note(d, a, nothing)
	case d.flight.replay != nil:
		l.land(d.flight, Settled)
		l.note(d, a, nothing)
	default:
		l.settle(d.flight)
		then := wentWell
		if d.flight.noted {
			then = nothing
		}
		l.note(d, a, then)
	}
	l.changed()
}

// Retry settles an attempt after which the delivery is attempted again at due. Whoever looks for something to take is
// told: it need not be the one who made the attempt.
func (l *Lane) Retry(d *Delivery, a *Attempt, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.retry == nil {
		if d.flight.replay != nil {
			l.land(d.flight, Retrying)
		} else {
			l.settle(d.flight)
		}
		d.retry = &retry{seq: d.Event.Seq, replay: d.Replay}
		l.retrying++
	}
	d.retry.attempts = d.Attempts + 1
	l.note(d, a, another)
	l.queueRetry(d.retry, due)
	l.changed()
	l.wake()
}

// Failed gives a delivery up. a is the last attempt, nil when there was none.
func (l *Lane) Failed(d *Delivery, a *Attempt, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Failure{Reason: reason, Class: classExpired}
	if a != nil {
		f.Status, f.Class = a.Status, a.Class
	}
	l.fail(d, a, f)
}

func (l *Lane) fail(d *Delivery, a *Attempt, f Failure) {
	f.At, f.Attempts = time.UnixMilli(l.q.now()), d.Attempts
	if a != nil {
		f.Attempts++
		l.note(d, a, nothing)
	} else {
		l.forgetNewest(d.Event.Seq)
	}
	switch {
	case d.retry != nil:
		l.endRetry(d, GivenUp)
	case d.flight.replay != nil:
		l.land(d.flight, GivenUp)
	default:
		l.settle(d.flight)
	}
	l.failed++
	l.oldestFailed = min(l.oldestFailed, d.Event.Seq)
	f.Owed = l.letters.owe(d.Event.Seq)
	l.change(entry.Failed, d.Event.Seq, appendFailure(nil, &f))
	l.changed()
}

// Note records an attempt that is not charged. The delivery stays the caller's.
func (l *Lane) Note(d *Delivery, a *Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.flight != nil {
		d.flight.noted = true
	}
	l.note(d, a, another)
	l.changed()
}

// Release takes back a delivery that was not attempted, or whose attempt does not count. A first attempt is handed out
// again at once, a retry at due. Whoever looks for something to take is told.
func (l *Lane) Release(d *Delivery, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case d.retry != nil:
		l.queueRetry(d.retry, due)
		l.changed()
	case d.flight.replay != nil:
		l.takeBack(d.flight)
	default:
		l.putBack(d.flight)
	}
	l.wake()
}

// putBack has a first attempt handed out again, before anything newer.
func (l *Lane) putBack(f *flight) {
	at, _ := slices.BinarySearchFunc(l.again, f, func(a, b *flight) int {
		if a.ev.Seq < b.ev.Seq {
			return -1
		}
		return 1
	})
	l.again = slices.Insert(l.again, at, f)
}

func (l *Lane) queueRetry(r *retry, due time.Time) {
	r.due, r.queued = due, l.q.now()
	l.add(r)
	stamped := *r
	stamped.due = time.UnixMilli(l.q.stamp(due))
	l.change(entry.Retry, r.seq, appendRetry(nil, &stamped))
}

// endRetry takes a delivery out of retrying; it is in state now.
func (l *Lane) endRetry(d *Delivery, state string) {
	l.retrying--
	delete(l.retries.away, d.retry.seq)
	l.settleRetry(d.retry.replay, state)
	l.change(entry.Retry, d.retry.seq, nil)
}

// settle takes a first attempt out of the window.
func (l *Lane) settle(f *flight) {
	if f.ev.Seq < l.q.carriedBelow.Load() {
		l.q.freed.Store(true)
	}
	f.settled = true
	f.ev = Stored{Seq: f.ev.Seq}
	l.open--
	l.passed.Add(1)
	n := 0
	for n < len(l.window) && l.window[n].settled {
		n++
	}
	if n > 0 {
		clear(l.window[:n])
		l.window = l.window[n:]
	}
	if len(l.window) == 0 {
		l.window = nil
	}
}
