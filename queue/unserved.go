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
// it has, but no segment: when one goes, what the lane holds of it is carried. For how long, and how much, is bounded; what
// is beyond becomes failed and is kept as any other failed delivery is. A lane that is paused is served.

// classExpired is the class of a delivery that was held too long.
const classExpired = "expired"

// carriedCost is what a carried event costs beside its body: its id and type, and its place, which is in memory too.
const carriedCost = 256

// Serve says which lanes serve an endpoint: those of the names. All others are unserved from now on, unless they have been so
// before: since when is on disk with the next save. It waits for no disk.
func (q *Queue) Serve(names []string) {
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
			}
			l.changed()
			q.freed.Store(true) // what is held for nobody is to be weighed anew
		}
		l.mu.Unlock()
	}
}

// isUnserved reports whether no endpoint is served by the lane, and since when, queue time.
func (l *Lane) isUnserved() (since int64, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unserved, l.unserved != 0
}

// holding is what carried events cost that unserved lanes have pending.
type holding struct {
	all int64            // each event once
	by  map[LaneID]int64 // and for each lane that holds it
}

// weigh counts an event that was carried.
func (h *holding) weigh(q *Queue, seq uint64, bytes int, set LaneSet) error {
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
		if h.by == nil {
			h.by = map[LaneID]int64{}
		}
		h.by[id] += cost
		any = true
	})
	if any {
		h.all += cost
	}
	return failed
}

// expired takes off an event that a lane does not hold any more.
func (h *holding) expired(q *Queue, l *Lane, seq uint64, bytes int, set LaneSet) error {
	cost := int64(bytes) + carriedCost
	h.by[l.id] -= min(cost, h.by[l.id])
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

// holdsUnserved reports whether the lane is unserved and an event that is for it is pending or retrying. It may read the store.
func (l *Lane) holdsUnserved(seq uint64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unserved == 0 {
		return false, nil
	}
	if l.isPending(seq) {
		return true, nil
	}
	records, err := l.kept(seq, entry.Retry)
	return err == nil && records[0] != nil, err
}

// most is the lane that holds most, of those that are not in but.
func (h *holding) most(q *Queue, but map[LaneID]bool) (most *Lane) {
	weight := int64(0)
	for _, l := range q.Lanes() {
		if w := h.by[l.id]; w > weight && !but[l.id] {
			most, weight = l, w
		}
	}
	return most
}

// expiries counts, by lane, what became failed since it was told.
type expiries map[LaneID]map[string]int

// expireAtATime is how many deliveries of one lane are given up for want of room before it is asked again who holds most.
const expireAtATime = 256

// expireUnserved gives up what unserved lanes held too long, and what they hold beyond their budget. There the lane that
// holds most gives its oldest: so what one large endpoint left behind does not push out what others did.
func (r *retainer) expireUnserved(q *Queue, now time.Time, over func() bool) (more bool, err error) {
	if len(q.keeper.held) > 0 || q.keeper.starved.Load() {
		return false, nil // the disk is full: what lanes do can't be saved
	}
	if r.expiries == nil {
		r.expiries = expiries{}
	}
	if limit := q.opts.UnservedRetention; limit > 0 {
		why := fmt.Sprintf("held longer than queue.unserved_retention (%v) while its endpoint was disabled or not configured", limit)
		for _, l := range q.Lanes() {
			if since, is := l.isUnserved(); !is || now.UnixMilli()-since < limit.Milliseconds() {
				continue
			}
			more, err := r.giveUp(q, l, math.MaxUint64, maxChanges, why)
			if err != nil || more || over() {
				return true, err
			}
		}
	}
	if limit := q.opts.UnservedBytes; limit > 0 {
		why := fmt.Sprintf("more was held than queue.unserved_bytes (%d) while its endpoint was disabled or not configured", limit)
		stuck := map[LaneID]bool{}
		for r.held.all > limit {
			l := r.held.most(q, stuck)
			if l == nil {
				break
			}
			before := r.held.by[l.id]
			more, err := r.giveUp(q, l, q.carriedBelow.Load(), expireAtATime, why)
			if err != nil || more && (l.isFull() || over()) {
				return true, err
			}
			stuck[l.id] = r.held.by[l.id] == before // under way: it is asked again next time
		}
	}
	r.tellExpired(q)
	return false, nil
}

// giveUp gives up what a lane holds below an event, at most so many, and reports whether there may be more. What waits to be
// attempted again goes first: as a rule it is older.
func (r *retainer) giveUp(q *Queue, l *Lane, below uint64, most int, why string) (more bool, err error) {
	retries, more := l.giveUpRetries(below, most, why)
	gone, again := l.giveUpPending(below, most-len(retries), why)
	if n := len(retries) + len(gone); n > 0 {
		if r.expiries[l.id] == nil {
			r.expiries[l.id] = map[string]int{}
		}
		r.expiries[l.id][why] += n
		q.expired.Add(int64(n))
	}
	low := q.carriedBelow.Load()
	for i := range gone {
		if ev := &gone[i]; ev.Seq < low {
			err = errors.Join(err, r.held.expired(q, l, ev.Seq, len(ev.Body), ev.Lanes))
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
				failed = r.held.expired(q, l, seq, c.bytes, c.lanes)
			}
		}
		err = errors.Join(err, failed)
	}
	return more || again, err
}

// tellExpired tells what became failed, one line for each lane and reason.
func (r *retainer) tellExpired(q *Queue) {
	for _, l := range q.Lanes() {
		for why, n := range r.expiries[l.id] {
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d deliveries became failed (%s): %s", l.name, n, classExpired, why))
		}
	}
	clear(r.expiries)
}

// giveUpPending makes what is pending below an event failed, the oldest first, as long as the lane is unserved: at most so
// many, and no more than can be saved at once, which more tells. It reads from disk.
func (l *Lane) giveUpPending(below uint64, most int, why string) (gone []Stored, more bool) {
	l.walking.Lock()
	defer l.walking.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.unserved != 0 {
		if l.full() || len(gone) == most {
			return gone, true
		}
		var next *flight
		if len(l.again) > 0 {
			if l.again[0].ev.Seq < below {
				next = l.takeAgain()
			}
		} else if l.next < below {
			next = l.step()
		}
		if next == nil {
			break
		}
		if next.ev.Seq >= below || l.unserved == 0 { // it was served again while the disk was read
			l.putBack(next)
			l.wake()
			break
		}
		ev := next.ev
		l.expire(&Delivery{Event: ev, flight: next}, why)
		gone = append(gone, ev)
	}
	return gone, false
}

// giveUpRetries is giveUpPending of what waits to be attempted again. It returns the events.
func (l *Lane) giveUpRetries(below uint64, most int, why string) (gone []uint64, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	for l.unserved != 0 && !l.gone {
		slices.SortFunc(rs.first, func(a, b *retry) int { return cmp.Compare(a.seq, b.seq) })
		n := 0
		for ; n < len(rs.first) && rs.first[n].seq < below && len(gone) < most && !l.full(); n++ {
			r := rs.first[n]
			l.expire(&Delivery{Event: Stored{Seq: r.seq}, Attempts: r.attempts, Replay: r.replay, retry: r}, why)
			gone = append(gone, r.seq)
		}
		l.q.retriesHeld.Add(-int64(n))
		rs.first = slices.Delete(rs.first, 0, n)
		left := len(rs.first) > 0 && rs.first[0].seq < below
		heap.Init(&rs.first)
		if left {
			return gone, true
		}
		if !rs.rest.anyBelow(below) {
			break
		}
		if l.full() || len(gone) == most {
			return gone, true
		}
		l.mu.Unlock()
		err := l.recall(true)
		l.mu.Lock()
		if err != nil {
			l.tryLater(err)
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
