package queue

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// A lane is unserved when nobody delivers what it holds: its endpoint is disabled, or not configured any more. It keeps what
// it has, but holds no segment back: when one goes, what the lane holds of it is carried. For how long and how much is
// bounded; beyond that deliveries become failed, and are kept as any other failed ones. A lane that is paused is served.

// classExpired is the class of a delivery that was held too long.
const classExpired = "expired"

// carriedCost is what a carried event costs beside its body, in bytes: its id and type, and its place, which is in memory
// too.
const carriedCost = 256

// SetServed says which lanes serve an endpoint: those with these names. All others are unserved from now on, unless they
// were before; since when becomes durable with the next save. It reads memory, under each lane's lock.
func (q *Queue) SetServed(names []string) {
	served := make(map[string]bool, len(names))
	for _, name := range names {
		served[name] = true
	}
	now := max(q.now(), 1)
	for _, l := range q.Lanes() {
		l.mu.Lock()
		if had := l.unserved == 0; served[l.name] != had {
			if l.unserved = 0; had {
				l.unserved = now
			} else if l.assignedCount() != l.passed.Load() {
				q.neededAgain(max(l.low(), 1))
			}
			l.changed()
			q.freed.Store(true) // what unserved lanes hold is to be counted anew
		}
		l.mu.Unlock()
	}
}

// neededAgain notes that from one event on a lane needs the log that did not need it while it was unserved.
func (q *Queue) neededAgain(from uint64) {
	for {
		was := q.neededFrom.Load()
		if was != 0 && was <= from || q.neededFrom.CompareAndSwap(was, from) {
			return
		}
	}
}

// isUnserved reports whether the lane serves no endpoint, and since when, queue time.
func (l *Lane) isUnserved() (since int64, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unserved, l.unserved != 0
}

// unservedUsage is what carried events cost, in bytes, that unserved lanes have pending or retrying.
type unservedUsage struct {
	all    int64            // each event once
	byLane map[LaneID]int64 // for each lane that holds it
}

// add counts a carried event.
func (h *unservedUsage) add(q *Queue, seq uint64, bytes int, set LaneSet) error {
	lanes, cost, any := *q.lanes.Load(), int64(bytes)+carriedCost, false
	var failed error
	set.Each(func(id LaneID) {
		if int(id) >= len(lanes) || lanes[id] == nil {
			return
		}
		holds, err := lanes[id].holdsUnserved(seq)
		if failed = errors.Join(failed, err); !holds {
			return
		}
		if h.byLane == nil {
			h.byLane = map[LaneID]int64{}
		}
		h.byLane[id] += cost
		any = true
	})
	if any {
		h.all += cost
	}
	return failed
}

// remove takes off an event that a lane does not hold any more.
func (h *unservedUsage) remove(q *Queue, l *Lane, seq uint64, bytes int, set LaneSet) error {
	cost := int64(bytes) + carriedCost
	h.byLane[l.id] -= min(cost, h.byLane[l.id])
	lanes, still := *q.lanes.Load(), false
	var failed error
	set.Each(func(id LaneID) {
		if still || int(id) >= len(lanes) || lanes[id] == nil {
			return
		}
		holds, err := lanes[id].holdsUnserved(seq)
		still, failed = holds, errors.Join(failed, err)
	})
	if !still {
		h.all -= min(cost, h.all)
	}
	return failed
}

// holdsUnserved reports whether the lane is unserved, and an event that is for it is pending or retrying. It may read the
// store.
func (l *Lane) holdsUnserved(seq uint64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unserved == 0 {
		return false, nil
	}
	if l.isPending(seq) {
		return true, nil
	}
	records, err := l.recordsOf(seq, entry.Retry)
	return err == nil && records[0] != nil, err
}

// most is the lane that holds most, of those that are not in but.
func (h *unservedUsage) most(q *Queue, but map[LaneID]bool) (most *Lane) {
	weight := int64(0)
	for _, l := range q.Lanes() {
		if w := h.byLane[l.id]; w > weight && !but[l.id] {
			most, weight = l, w
		}
	}
	return most
}

// expiredCounts counts, by lane and reason, deliveries that became failed and were not reported yet.
type expiredCounts map[LaneID]map[string]int

// expireAtATime is how many deliveries of one lane become failed before retention asks again which lane holds most.
const expireAtATime = 256

// expireUnserved makes failed what unserved lanes held too long, and what they hold beyond their budget. For the budget the
// lane that holds most loses its oldest deliveries: so what one large endpoint left behind does not push out what others
// did.
func (r *retainer) expireUnserved(q *Queue, now time.Time, over func() bool) (more bool, err error) {
	if len(q.writer.refused) > 0 || q.writer.saveRefused.Load() {
		return false, nil // the disk is full: what lanes do can't be saved
	}
	if r.expired == nil {
		r.expired = expiredCounts{}
	}
	if limit := q.opts.UnservedRetention; limit > 0 {
		why := fmt.Sprintf("held longer than queue.unserved_retention (%v) while its endpoint was disabled or not configured", limit)
		for _, l := range q.Lanes() {
			if since, is := l.isUnserved(); !is || now.UnixMilli()-since < limit.Milliseconds() {
				continue
			}
			more, err := r.expireHeld(q, l, math.MaxUint64, maxChanges, why)
			if err != nil || more || over() {
				return true, err
			}
		}
	}
	if limit := q.opts.UnservedBytes; limit > 0 {
		why := fmt.Sprintf("more was held than queue.unserved_bytes (%d) while its endpoint was disabled or not configured", limit)
		stuck := map[LaneID]bool{}
		for r.unserved.all > limit {
			l := r.unserved.most(q, stuck)
			if l == nil {
				break
			}
			before := r.unserved.byLane[l.id]
			more, err := r.expireHeld(q, l, q.carriedBelow.Load(), expireAtATime, why)
			if err != nil || more && (l.isFull() || over()) {
				return true, err
			}
			stuck[l.id] = r.unserved.byLane[l.id] == before // what it holds is in flight: the next run asks again
		}
	}
	r.reportExpired(q)
	return false, nil
}

// expireHeld makes failed what a lane holds below an event, at most so many deliveries, and reports whether there may be
// more. Retries go first: as a rule they are older.
func (r *retainer) expireHeld(q *Queue, l *Lane, below uint64, most int, why string) (more bool, err error) {
	retries, more := l.expireRetries(below, most, why)
	gone, again := l.expirePending(below, most-len(retries), why)
	if n := len(retries) + len(gone); n > 0 {
		if r.expired[l.id] == nil {
			r.expired[l.id] = map[string]int{}
		}
		r.expired[l.id][why] += n
		q.expired.Add(int64(n))
	}
	low := q.carriedBelow.Load()
	for i := range gone {
		if ev := &gone[i]; ev.Seq < low {
			err = errors.Join(err, r.unserved.remove(q, l, ev.Seq, len(ev.Body), ev.Lanes))
		}
	}
	for _, seq := range retries {
		if seq >= low {
			continue
		}
		value, failed := q.index.get(store.CarriedKey(seq))
		if failed == nil && value != nil {
			var c carried
			if c, failed = parseCarried(value); failed == nil {
				failed = r.unserved.remove(q, l, seq, c.bytes, c.lanes)
			}
		}
		err = errors.Join(err, failed)
	}
	return more || again, err
}

// reportExpired reports what became failed, one line for each lane and reason.
func (r *retainer) reportExpired(q *Queue) {
	for _, l := range q.Lanes() {
		for why, n := range r.expired[l.id] {
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d deliveries became failed (%s): %s", l.name, n, classExpired, why))
		}
	}
	clear(r.expired)
}

// expirePending makes pending deliveries of events below one failed, oldest first, as long as the lane is unserved: at most
// so many, and no more than one save can hold; more: there may be others. It reads disk, without mu.
func (l *Lane) expirePending(below uint64, most int, why string) (gone []Stored, more bool) {
	l.logReading.Lock()
	defer l.logReading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.unserved != 0 {
		if l.full() || len(gone) == most {
			return gone, true
		}
		var next *flight
		if len(l.released) > 0 {
			if l.released[0].ev.Seq < below {
				next = l.takeReleased()
			}
		} else if l.next < below {
			next = l.advance()
		}
		if next == nil {
			break
		}
		if next.ev.Seq >= below || l.unserved == 0 { // it was served again while the disk was read
			l.release(next)
			l.wake()
			break
		}
		ev := next.ev
		l.expire(&Delivery{Event: ev, flight: next}, why)
		gone = append(gone, ev)
	}
	return gone, false
}

// expireRetries is expirePending for retries. It returns their events.
func (l *Lane) expireRetries(below uint64, most int, why string) (gone []uint64, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	for l.unserved != 0 && !l.discarded {
		slices.SortFunc(rs.loaded, func(a, b *retry) int { return cmp.Compare(a.seq, b.seq) })
		n := 0
		for ; n < len(rs.loaded) && rs.loaded[n].seq < below && len(gone) < most && !l.full(); n++ {
			r := rs.loaded[n]
			l.expire(&Delivery{Event: Stored{Seq: r.seq}, Attempts: r.attempts, Replay: r.replay, retry: r}, why)
			gone = append(gone, r.seq)
		}
		l.q.retriesInMemory.Add(-int64(n))
		rs.loaded = slices.Delete(rs.loaded, 0, n)
		left := len(rs.loaded) > 0 && rs.loaded[0].seq < below
		heap.Init(&rs.loaded)
		if left {
			return gone, true
		}
		if !rs.unloaded.anyBelow(below) {
			break
		}
		if l.full() || len(gone) == most {
			return gone, true
		}
		l.mu.Unlock()
		err := l.loadRetries(true)
		l.mu.Lock()
		if err != nil {
			l.readLater(err)
			break
		}
	}
	return gone, false
}

// expire makes a delivery failed that was held too long. The caller holds mu.
func (l *Lane) expire(d *Delivery, why string) {
	l.fail(d, nil, Failure{Class: classExpired, Reason: why})
	l.expired++
}
