package queue

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// retainer deletes what nobody needs any more: it is the keeper between two saves. A segment goes when no lane has needed
// its events for the time of retention and the dedup window of its ids is over; when that is not over yet, it is written
// anew with nothing but its ids. Events of it that are retrying or failed are carried before: appended again, synced, and
// then it goes.
type retainer struct {
	marks    []mark // ascending; the last one may be saved later than it was made
	failures map[LaneID]uint64
	expiring LaneID // whose failed deliveries are looked at next
	expired  bool   // those of all lanes were, in this run
	needs    needs

	// Of the events that were carried and are still needed.
	carriedEvents int
	carriedBytes  int64
	sweep         bool   // some may not be needed any more
	at            uint64 // where the sweep goes on
	fresh         bool   // this run has not swept yet
	swept         sweeping
	held          holding // what of them unserved lanes hold, as of the last sweep and the carrying since
	expiries      expiries
	carrying      carrying
}

// sweeping is what a sweep found so far.
type sweeping struct {
	held  holding
	took  time.Duration
	rests int64 // no sweep before then (uptime)
}

// carrying is how far the carrying of what a segment holds has come.
type carrying struct {
	segment uint64
	at      uint64          // of what lanes hold, everything below was carried
	blocks  int             // of those that were carried into it, how many were carried on
	told    map[uint64]bool // what was carried
}

const (
	maxMarks = 64
	// retainTurn is how long the retainer works before it lets the keeper save.
	retainTurn = 30 * time.Millisecond
	// shortenEvery is how often a piece of a deleted segment goes.
	shortenEvery = 50 * time.Millisecond
	// sweepRest is how many times as long as it took there is no other sweep after one that took more than a second.
	sweepRest = 20
	// segmentsPerPeriod is how many segments at least a period of retention or dedup is cut into.
	segmentsPerPeriod = 16
)

func (r *retainer) every(o Options) time.Duration {
	return min(max(min(o.Retention, o.FailedRetention)/20, 250*time.Millisecond), 20*time.Second)
}

// segmentAge is the age in queue time, milliseconds, at which a segment is sealed though it is not full: what is in it is
// kept for as long as its youngest event.
func (o *Options) segmentAge() int64 {
	return max(max(o.Retention, o.DedupWindow)/segmentsPerPeriod, min(o.Retention, time.Second), 100*time.Millisecond).Milliseconds()
}

// run takes turns with saving, and with those who wait for the keeper, until there is nothing more to delete.
func (r *retainer) run(q *Queue) error {
	r.expired, r.fresh = false, true
	defer r.needs.forget(q)
	for {
		if _, clean := q.disk.tend(q); !clean {
			return nil // even a deletion is written first
		}
		more, err := r.turn(q)
		if q.disk.lacking(q, err) {
			return r.countCarried(q) // nobody knows how far it came
		}
		if err != nil || !more {
			return err
		}
		if err := q.keeper.save(q, true); err != nil {
			return err
		}
		q.keeper.serveWaiting(q)
		if q.over() {
			return nil
		}
	}
}

func (r *retainer) turn(q *Queue) (more bool, err error) {
	began := uptime()
	over := func() bool { return uptime()-began > int64(retainTurn) }
	now := time.UnixMilli(q.now())
	done := r.note(q, now)
	if !r.expired {
		if more, err = r.expireFailures(q, now, over); err != nil || more {
			return more, err
		}
		r.expired = true
	}
	if len(q.keeper.pending)+len(q.keeper.added)+len(q.keeper.held) > 0 {
		return false, nil // the disk is full: what the store does not know yet can't be looked for in it
	}
	if more, err = r.sweepCarried(q, over); err != nil || more {
		return more, err
	}
	if more, err = r.expireUnserved(q, now, over); err != nil || more {
		return more, err
	}
	if q.log.Full(now.UnixMilli() - q.opts.segmentAge()) {
		if err := q.keeper.flush(q); err != nil {
			return false, err
		}
	}
	return r.deleteSegment(q, done, now.UnixMilli(), over)
}

// note remembers up to where no lane needs the log now, and returns up to where none has for the time of retention.
func (r *retainer) note(q *Queue, now time.Time) (done uint64) {
	floor := min(q.end.Load(), q.applied.Load())
	for _, l := range q.Lanes() {
		floor = l.floor(floor)
	}
	at := now.UnixMilli()
	n := len(r.marks)
	if n == 0 || r.marks[n-1].next < floor {
		near := q.opts.Retention.Milliseconds() / maxMarks
		if n > 1 && r.marks[n-1].at-r.marks[n-2].at < near && at >= r.marks[n-1].at && at-r.marks[n-1].at < near {
			// The last mark is still close to the one before it: it moves on, until it is far enough to stay. After a time in
			// which nobody looked, such as that of a relay that was off, it stays: what it tells of is that old.
			r.marks[n-1] = mark{at, floor}
		} else {
			r.marks = append(r.marks, mark{at, floor})
		}
	}
	passed := -1
	for i, m := range r.marks {
		if at-m.at >= q.opts.Retention.Milliseconds() {
			passed = i
			done = m.next
		}
	}
	if passed > 0 {
		r.marks = slices.Delete(r.marks, 0, passed)
	}
	if len(r.marks) > maxMarks+1 { // retention became longer: an older mark is as good as the one before it, only later
		r.marks = slices.Delete(r.marks, 1, len(r.marks)-maxMarks)
	}
	return done
}

// deleteSegment deletes the oldest segment of which nobody needs anything, or strips one.
func (r *retainer) deleteSegment(q *Queue, done uint64, now int64, over func() bool) (more bool, err error) {
	segments := q.log.Segments()
	for i, s := range segments {
		if !s.Sealed || s.EndEvent > done || s.EndEntry > q.index.store.Applied()+1 {
			return false, nil
		}
		if s.EndEvent == s.FirstEvent && now-s.Made < q.opts.Retention.Milliseconds() {
			return false, nil // all that it has is what was carried: it would only be carried on
		}
		idsGone := s.LastAt == 0 || !q.withinWindow(s.LastAt, now)
		if !idsGone && s.Stripped || idsGone && i > 0 {
			continue
		}
		if q.keeper.snapped.segment <= s.Number {
			return q.keeper.snapshotTurn(q) // without one the log is needed as it is
		}
		if !s.Stripped {
			if q.keeper.mustCount(q, s.EndEvent) {
				return !q.keeper.starved.Load(), nil // after a save
			}
			if more, err := r.carry(q, &s, done, over); err != nil || more {
				return more, err
			}
		}
		if idsGone {
			// First the mark, on disk: a first segment that it does not name was not deleted by us.
			low := log.Segment{Number: s.Number + 1, FirstEvent: s.EndEvent}
			if i+1 < len(segments) {
				low = segments[i+1]
			}
			if err = q.keeper.writeMark(q, &low); err == nil {
				err = q.mark.sync()
			}
			if err == nil {
				err = q.log.Remove()
			}
		} else {
			err = q.log.Strip(s.Number)
		}
		r.carrying = carrying{}
		q.carriedBelow.Store(q.log.Low())
		if err == nil {
			err = r.dropPlaces(q)
		}
		q.keeper.showCounts(q)
		return err == nil, err
	}
	return false, nil
}

// dropPlaces deletes the places of blocks that are gone. They go after their segment: a place that the log has and the store
// lacks would be damage, and one that is left over, since we died or the disk was full in between, is found the next time.
func (r *retainer) dropPlaces(q *Queue) error {
	a := newApplier(q.index.store)
	low := q.log.Low()
	var keys []store.Key
	err := q.index.scan(store.First(store.Place), store.Last(store.Place), func(key store.Key, _ []byte) (bool, error) {
		if key.Number >= low {
			return false, nil
		}
		keys = append(keys, key)
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := a.delete(keys...); err != nil {
		return err
	}
	return a.end()
}

// expireFailures forgets failed deliveries whose time is over, and says how many.
func (r *retainer) expireFailures(q *Queue, now time.Time, over func() bool) (more bool, err error) {
	if r.failures == nil {
		r.failures = map[LaneID]uint64{}
	}
	looked := false
	for _, l := range q.Lanes() {
		if l.id < r.expiring {
			continue
		}
		any, oldest := l.failedSince()
		r.failures[l.id] = min(r.failures[l.id], oldest)
		if !any {
			continue
		}
		if looked && over() { // a turn has one lane at least, or many would never all be looked at
			l.lookAgain(r.failures[l.id])
			r.expiring = l.id
			return true, nil
		}
		looked = true
		var gone []uint64
		young := 0
		from := store.FailedKey(uint32(l.id), r.failures[l.id])
		to := store.FailedKey(uint32(l.id), math.MaxUint64)
		err := q.index.scan(from, to, func(key store.Key, value []byte) (bool, error) {
			f, err := parseFailure(key.Number, value)
			if err != nil {
				return true, nil // left where it is
			}
			if now.Sub(f.At) < q.opts.FailedRetention {
				young++ // what a replay had fail again is younger than what follows it
				return young < maxChanges, nil
			}
			gone = append(gone, key.Number)
			if young == 0 {
				r.failures[l.id] = key.Number + 1
			}
			return len(gone) < maxChanges, nil
		})
		if err != nil {
			return false, err
		}
		if n := l.forgetFailed(gone, func(f *Failure) bool { return now.Sub(f.At) >= q.opts.FailedRetention }); n > 0 {
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d failed deliveries are older than queue.failed_retention and were deleted", l.name, n))
		}
		more = more || len(gone) == maxChanges
	}
	r.expiring = 0
	return more, nil
}

// sweepCarried forgets carried events that no lane needs any more. Their bytes go with the segment that they are in.
func (r *retainer) sweepCarried(q *Queue, over func() bool) (more bool, err error) {
	if !r.sweep {
		if !r.fresh || uptime() < r.swept.rests || !q.freed.Swap(false) {
			return false, nil
		}
		r.sweep, r.at = true, 0
	}
	if r.fresh = false; r.at == 0 {
		r.swept = sweeping{}
	}
	began := uptime()
	defer func() { r.swept.took += since(began) }()
	type one struct {
		key store.Key
		carried
	}
	var list []one
	for !over() {
		list = list[:0]
		err := q.index.scan(store.CarriedKey(r.at), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
			c, err := parseCarried(value)
			if err != nil {
				return false, err
			}
			list = append(list, one{key, c})
			return len(list) < 512, nil
		})
		if err != nil {
			return false, err
		}
		a := newApplier(q.index.store)
		lanes := *q.lanes.Load()
		for _, o := range list {
			r.at = o.key.Number + 1
			needed := false
			var failed error
			o.lanes.Each(func(id LaneID) {
				if needed || int(id) >= len(lanes) || lanes[id] == nil {
					return
				}
				has, again, err := lanes[id].needsOne(o.key.Number)
				needed, failed = needed || has, errors.Join(failed, err)
				if again {
					q.freed.Store(true)
				}
			})
			if failed != nil {
				return false, failed
			}
			if needed {
				if err := r.swept.held.weigh(q, o.key.Number, o.bytes, o.lanes); err != nil {
					return false, err
				}
				continue
			}
			if err := a.delete(o.key); err != nil {
				return false, err
			}
			r.carriedEvents--
			r.carriedBytes -= int64(o.bytes)
		}
		if a.batch.Len() > 0 {
			if err := a.end(); err != nil {
				return false, err
			}
		}
		if len(list) < 512 {
			r.sweep, r.held = false, r.swept.held
			if took := r.swept.took + since(began); took > time.Second { // it is part of what this costs, and no large one
				r.swept.rests = uptime() + sweepRest*int64(took)
			}
			q.keeper.showCounts(q)
			return false, nil
		}
	}
	return true, nil
}

// countCarried counts the carried events in a store that was just opened.
func (r *retainer) countCarried(q *Queue) error {
	r.carriedEvents, r.carriedBytes, r.carrying = 0, 0, carrying{}
	r.held, r.swept = holding{}, sweeping{}
	q.carriedBelow.Store(q.log.Low())
	r.sweep, r.at = true, 0 // what was not needed any more may have outlived the last process
	// What unserved lanes hold is asked of the same store inside of this: nobody but the keeper, whose goroutine this is, replaces it.
	return q.index.scan(store.First(store.Carried), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
		c, err := parseCarried(value)
		r.carriedEvents++
		r.carriedBytes += int64(c.bytes)
		return true, errors.Join(err, r.held.weigh(q, key.Number, c.bytes, c.lanes))
	})
}
