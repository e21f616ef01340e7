package delivery

import (
	"math"
	"time"

	"realtorbot-relay/queue"
)

// idleFlight is what take returns to a sender that found nothing to take.
var idleFlight = &flight{}

// take returns the delivery to attempt next. When there is none it counts its caller as idle and returns idleFlight; when the
// caller is to end, because the lane has stopped or has senders enough, it returns no flight. As long as concurrency allows, one
// sender is always idle: it is the one that wakes up when there is something to take.
//
// One sender at a time asks the queue, which reads from disk, and take releases the lock meanwhile: a disk that does not answer
// holds up this lane's attempts, but nobody who looks, pauses, resumes, reloads or stops. So take asks the gate twice: whether to
// ask the queue, and whether to attempt what was found. The gate counts an attempt the second time.
func (l *Lane) take() (*queue.Delivery, *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mustEndLocked() {
		return l.quitLocked()
	}
	if !l.askingSince.IsZero() {
		l.askAgain = true
		l.idle++
		return nil, idleFlight
	}
	if l.expireNext {
		l.expireNext = false
		l.askLocked(func() {
			if l.expire(l.now()) > 0 {
				time.AfterFunc(expireAgain, l.requestExpiry)
			}
		})
	}
	d, f, more := l.nextLocked()
	more = more || l.askAgain
	l.askAgain = false
	if d == nil && l.mustEndLocked() {
		return l.quitLocked()
	}
	switch {
	case d == nil:
		l.idle++
		if more {
			l.wakeSender()
		}
		return nil, idleFlight
	case l.idle == 0 && l.senders < f.generation.endpoint.Delivery.Concurrency:
		l.spawnLocked()
	case more:
		l.wakeSender()
	}
	return d, f
}

// mustEndLocked reports whether the sender that asks is to end.
func (l *Lane) mustEndLocked() bool {
	c := l.generation.Load()
	return l.stopped || c == nil || l.senders > c.endpoint.Delivery.Concurrency
}

func (l *Lane) quitLocked() (*queue.Delivery, *flight) {
	l.senders--
	l.wakeSender() // another one has to look instead
	return nil, nil
}

// askLocked calls ask, which asks the queue, and releases the lock meanwhile.
func (l *Lane) askLocked(ask func()) {
	l.askingSince = time.Now()
	l.mu.Unlock()
	ask()
	l.mu.Lock()
	l.askingSince = time.Time{}
}

// query is what the queue is asked for, and what it returned.
type query struct {
	permit
	generation     *generation // that the lane had when the queue was asked
	now            time.Time
	outlook        queue.Outlook
	probe          bool // the attempt is a probe, and has begun in the budget
	waitsForUplink bool // the lane waits for its turn at the uplink, which wakes a sender then

	d     *queue.Delivery
	first bool      // d was not attempted before
	more  bool      // there is more
	until time.Time // when to ask again, if time alone changes the answer; else zero
}

// nextLocked takes a retry that is due, or else the next event of the log, if the gate allows it. It sets the timer for when time
// alone changes the answer. It releases the lock meanwhile; when the gate does not allow any more what was found, nextLocked puts
// it back and asks the gate again.
func (l *Lane) nextLocked() (d *queue.Delivery, f *flight, more bool) {
	for !l.mustEndLocked() {
		q := query{now: l.now()}
		if f = l.askOnceLocked(&q); f == nil && q.d != nil {
			continue
		}
		if !q.until.IsZero() && !l.stopped {
			l.timer.Reset(max(q.until.Sub(l.now()), time.Millisecond))
		}
		return q.d, f, q.more
	}
	return nil, nil, false
}

// askOnceLocked asks once. When no attempt comes of it, it puts back what was found, ends the probe in the budget, and leaves the
// uplink, unless the lane waits for its turn there.
func (l *Lane) askOnceLocked(q *query) (f *flight) {
	defer func() {
		if f == nil && !q.waitsForUplink {
			l.uplink.leave(l)
		}
	}()
	if !l.mayAskLocked(q) {
		return nil
	}
	q.generation = l.generation.Load()
	hastened := l.gate.Hastened
	l.askLocked(func() { l.askQueue(q) })
	if q.d != nil {
		f = l.beginLocked(q)
	}
	if f == nil && q.probe {
		l.probes.end(0)
	}
	if f == nil && q.d != nil {
		if !l.gate.Hastened.Equal(hastened) {
			q.d.Due = earliest(q.d.Due, q.now)
		}
		l.queueLane.Release(q.d, q.d.Due)
	}
	return f
}

// mayAskLocked reports whether the gate and the budgets allow an attempt. Where only time, the end of an attempt or an operator
// can change the answer, it sets noWake until the lane asks again: events that come do not wake a sender.
func (l *Lane) mayAskLocked(q *query) bool {
	if l.held {
		return false
	}
	q.permit = l.gate.allow(q.now)
	q.until = q.permit.until
	if !q.retries && !q.firsts {
		l.noWake.Store(true)
		return false
	}
	if !l.budget.admits(&l.share, q.now) {
		l.noWake.Store(true)
		q.until = q.now.Add(memoryRetry)
		return false
	}
	l.noWake.Store(false) // before the queue is asked
	q.outlook, q.probe = l.queueLane.Outlook(), l.gate.isProbed()
	due := q.outlook.Due
	nothing := q.outlook.Waiting == 0 && !q.outlook.Replays && !(q.early && !due.IsZero()) && (due.IsZero() || due.After(q.now))
	if q.waitsForUplink = !nothing && !l.uplink.admits(l, q.now); q.waitsForUplink {
		return false
	}
	if !q.probe {
		return l.mayStartLocked(q) // probes have a budget of their own
	}
	if q.outlook.Due.IsZero() && q.outlook.Waiting == 0 && !q.outlook.Replays {
		l.gate.probeWaitSince = q.now
		return false
	}
	if q.until = l.probes.begin(q.now, l.gate.probeTime(), l.gate.probeWaitSince); !q.until.IsZero() {
		l.noWake.Store(true)
		l.gate.setProbeTime(q.until)
		return false
	}
	return true
}

// mayStartLocked reports whether a lane that gets no answers may begin an attempt now.
func (l *Lane) mayStartLocked(q *query) bool {
	due := !q.outlook.Due.IsZero() && !q.outlook.Due.After(q.now)
	if !due && q.outlook.Waiting == 0 && !q.outlook.Replays {
		return true // the queue has nothing, or only what came just now
	}
	if q.until = l.silent.begin(&l.silence, q.now); q.until.IsZero() {
		return true
	}
	l.noWake.Store(true)
	l.uplink.leave(l)
	return false
}

// beginLocked has the gate count what was found as an attempt, if it still allows it.
func (l *Lane) beginLocked(q *query) *flight {
	now := l.now()
	if p := l.gate.allow(now); !l.mayBeginLocked(q) || l.stopped || q.probe != l.gate.isProbed() || !p.retries && !p.firsts {
		return nil
	}
	if q.waitsForUplink = !l.uplink.take(l, len(q.d.Event.Body), now); q.waitsForUplink {
		return nil
	}
	c := q.generation
	f := &flight{began: time.Now(), generation: c, first: q.first, probe: l.gate.begin(now, q.first, len(q.d.Event.Body)),
		cost: l.budget.begin(&l.share, len(q.d.Event.Body))}
	c.inFlight++
	l.silence.at = time.Time{}
	l.inFlight[q.d] = f
	l.attemptsEnded.Add(1)
	return f
}

// askQueue takes what the gate allows and is the endpoint's own; what is not becomes failed. Meanwhile first attempts and retries take
// turns: neither is held up by what is not its own of the other. It reads from disk; the caller must not hold the lock.
func (l *Lane) askQueue(q *query) {
	for range unmatchedAtATime {
		l.takeNext(q)
		if q.d == nil || !l.withdraw(q) {
			return
		}
		q.newFirst = !q.first
		q.d, q.first, q.more, q.outlook = nil, false, false, l.queueLane.Outlook()
	}
	q.more = true
}

// takeNext takes what the gate allows, whosever it is.
func (l *Lane) takeNext(q *query) {
	by := q.now
	if q.early {
		by = q.now.Add(math.MaxInt64)
	}
	retry := func() {
		if q.d == nil && !q.outlook.Due.IsZero() && !q.outlook.Due.After(by) {
			if q.d, _ = l.queueLane.TakeDue(by); q.d != nil {
				q.first, q.more = false, true
			}
			q.outlook = l.queueLane.Outlook()
		}
	}
	first := func() {
		if q.d != nil {
			return
		}
		if q.d, q.more, q.until = l.takeFirst(q.now, q.outlook.Replays); q.d != nil {
			q.first = true
		}
	}
	if q.newFirst {
		first()
		retry()
	} else {
		retry()
		first()
	}
	if due := q.outlook.Due; !due.IsZero() && (q.until.IsZero() || due.Before(q.until)) {
		q.until = due
	}
}

// takeFirst takes a delivery that was not attempted yet: by turns the next of the log and the next of a replay, so that neither
// waits for the other to end. paced is when to ask a replay again, zero when time alone changes nothing.
func (l *Lane) takeFirst(now time.Time, replays bool) (d *queue.Delivery, more bool, paced time.Time) {
	l.replayLast = replays && !l.replayLast
	if l.replayLast {
		if d, paced = l.queueLane.TakeReplay(now); d != nil {
			return d, true, paced
		}
	}
	if d, more = l.queueLane.Take(); d == nil && replays && !l.replayLast {
		d, paced = l.queueLane.TakeReplay(now)
	}
	return d, more || replays && d != nil, paced
}
