package queue

import (
	"time"

	"realtorbot-relay/queue/entry"
)

// Delivered settles a delivery that went well with attempt a. Like Retry, Failed, GiveUp, Note and Release it changes memory, under
// the lane's lock, and waits for no disk: the next save makes it durable.
func (l *Lane) Delivered(d *Delivery, a *Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered++
	switch {
	case d.retry != nil:
		l.endRetry(d, Delivered)
		l.note(d, a, deliveryEnds)
	case d.flight.replay != nil:
		l.settleReplayed(d.flight, Delivered)
		l.note(d, a, deliveryEnds)
	default:
		l.settle(d.flight)
		then := firstSucceeded
		if d.flight.uncharged {
			then = deliveryEnds
		}
		l.note(d, a, then)
	}
	l.changed()
}

// Retry settles an attempt; the delivery is attempted again at due. It wakes the lane's senders: the next attempt need not
// be the caller's.
func (l *Lane) Retry(d *Delivery, a *Attempt, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.retry == nil {
		if d.flight.replay != nil {
			l.settleReplayed(d.flight, Retrying)
		} else {
			l.settle(d.flight)
		}
		d.retry = &retry{seq: d.Event.Seq, replay: d.Replay}
		l.retrying++
	}
	d.retry.attempts = d.Attempts + 1
	l.note(d, a, retryFollows)
	l.queueRetry(d.retry, due)
	l.changed()
	l.wake()
}

// Failed makes a delivery failed. a is the last attempt.
func (l *Lane) Failed(d *Delivery, a *Attempt, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail(d, a, Failure{Reason: reason, Status: a.Status, Class: a.Class})
}

// GiveUp makes a delivery failed that is not attempted any more.
func (l *Lane) GiveUp(d *Delivery, class, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail(d, nil, Failure{Reason: reason, Class: class})
}

// fail makes a delivery failed. The caller holds mu.
func (l *Lane) fail(d *Delivery, a *Attempt, f Failure) {
	f.At, f.Attempts = time.UnixMilli(l.q.now()), d.Attempts
	if a != nil {
		f.Attempts++
		l.note(d, a, deliveryEnds)
	} else {
		l.forgetNewest(d.Event.Seq)
	}
	switch {
	case d.retry != nil:
		l.endRetry(d, Failed)
	case d.flight.replay != nil:
		l.settleReplayed(d.flight, Failed)
	default:
		l.settle(d.flight)
	}
	l.failed++
	l.oldestFailed = min(l.oldestFailed, d.Event.Seq)
	f.Owed = l.letters.add(d.Event.Seq)
	l.change(entry.Failed, d.Event.Seq, appendFailure(nil, &f))
	l.changed()
}

// Note records an attempt that is not charged. The caller keeps the delivery.
func (l *Lane) Note(d *Delivery, a *Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.flight != nil {
		d.flight.uncharged = true
	}
	l.note(d, a, retryFollows)
	l.changed()
}

// Release takes back a delivery that was not attempted, or whose attempt does not count. A first attempt is handed out again
// at once, a retry at due. It wakes the lane's senders.
func (l *Lane) Release(d *Delivery, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case d.retry != nil:
		l.queueRetry(d.retry, due)
		l.changed()
	case d.flight.replay != nil:
		l.releaseReplayed(d.flight)
	default:
		l.release(d.flight)
	}
	l.wake()
}

// queueRetry saves a retry and puts it where it belongs.
func (l *Lane) queueRetry(r *retry, due time.Time) {
	r.due, r.queued = due, l.q.now()
	l.addRetry(r)
	stamped := *r
	stamped.due = l.q.toSave(due)
	l.change(entry.Retry, r.seq, appendRetry(nil, &stamped))
}

// endRetry takes a delivery out of retrying; it is in state now.
func (l *Lane) endRetry(d *Delivery, state string) {
	l.retrying--
	delete(l.retries.handedOut, d.retry.seq)
	l.settleRetry(d.retry.replay, state)
	l.change(entry.Retry, d.retry.seq, nil)
}

// settle takes one of the lane's own first attempts out of the window.
func (l *Lane) settle(f *flight) {
	if f.ev.Seq < l.q.carriedBelow.Load() {
		l.q.freed.Store(true)
	}
	l.openAttempts--
	l.passed.Add(1)
	l.cursor.settle(f)
}
