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

// retainer deletes what nobody needs any more, on the writer's goroutine between two saves. A segment goes when no lane has
// needed its events for the time of retention, and the dedup window of its ids is over. While that is not over, the segment
// is written anew with nothing but its ids. Events of it that are retrying or failed are carried before.
type retainer struct {
	watermarks   []watermark         // ascending; the last one may move on
	failures     map[LaneID]failures // what is known of each lane's failed deliveries
	expiring     LaneID              // the lane whose failed deliveries are looked at next
	failuresDone bool                // in this run, those of all lanes were looked at
	needed       neededEvents
	holders      []*Lane // in this step, the lanes that hold events below the one up to which may be deleted

	// Of carried events that are still needed.
	carriedEvents int
	carriedBytes  int64
	sweeping      bool          // a sweep is under way: it deletes carried events that nobody needs
	sweepAt       uint64        // the event where it goes on
	maySweep      bool          // this run has begun no sweep yet
	sweep         sweepResult   // what the sweep under way has found
	unserved      unservedUsage // what unserved lanes hold of them, as of the last sweep and the carrying since
	expired       expiredCounts // deliveries that became failed and were not reported yet
	carrying      carrying
}

// failures is what retention knows of the failed deliveries of a lane.
type failures struct {
	below uint64 // those of events below it were looked at, and deleted
	due   int64  // none of them is too old before (queue time, Unix milliseconds)
}

// sweepResult is what a sweep has found so far.
type sweepResult struct {
	unserved  unservedUsage
	took      time.Duration
	notBefore int64 // no sweep begins before (uptime)
}

// carrying is how far the carrying of a segment has come.
type carrying struct {
	segment       uint64
	at            uint64          // what lanes hold of the events below it was carried
	carriedBlocks int             // how many blocks of carried events were carried again
	done          map[uint64]bool // the events that were carried
}

const (
	maxWatermarks = 64
	// retainSlice is how long the retainer works before the writer saves.
	retainSlice = 30 * time.Millisecond
	// shortenEvery is how often a piece of a deleted segment's file is cut off.
	shortenEvery = 50 * time.Millisecond
	// After a sweep that took more than a second, none begins for sweepPause times as long.
	sweepPause = 20
	// segmentsPerPeriod is into how many segments at least a period of retention or dedup is cut.
	segmentsPerPeriod = 16
)

// interval is the time between two runs.
func (r *retainer) interval(o Options) time.Duration {
	return min(max(min(o.Retention, o.FailedRetention)/20, 250*time.Millisecond), 20*time.Second)
}

// segmentAge is the age in queue time, milliseconds, at which a segment is sealed though it is not full: its oldest event is
// kept as long as its youngest.
func (o *Options) segmentAge() int64 {
	return max(max(o.Retention, o.DedupWindow)/segmentsPerPeriod, min(o.Retention, time.Second), 100*time.Millisecond).Milliseconds()
}

// run deletes until there is nothing more to delete. Between two steps it lets the writer save, and serves calls.
func (r *retainer) run(q *Queue) error {
	r.failuresDone, r.maySweep = false, true
	defer r.needed.forget(q)
	for {
		if _, clean := q.disk.adjustBallast(q); !clean {
			return nil // even a deletion has to be written
		}
		more, err := r.step(q)
		if q.disk.noteShortage(q, err) {
			return r.countCarried(q) // nobody knows how far it came
		}
		if err != nil || !more {
			return err
		}
		if err := q.writer.save(q, true); err != nil {
			return err
		}
		q.writer.serveWaitingCalls(q)
		if q.over() {
			return nil
		}
	}
}

// step works for about retainSlice, and reports whether there is more to do.
func (r *retainer) step(q *Queue) (more bool, err error) {
	began := uptime()
	over := func() bool { return uptime()-began > int64(retainSlice) }
	now := time.UnixMilli(q.now())
	done := r.noteWatermark(q, now)
	if !r.failuresDone {
		if more, err = r.expireFailures(q, now, over); err != nil || more {
			return more, err
		}
		r.failuresDone = true
	}
	if len(q.writer.pending)+len(q.writer.added)+len(q.writer.refused) > 0 {
		return false, nil // the disk is full: records that the store does not have yet can't be looked for in it
	}
	if more, err = r.sweepCarried(q, over); err != nil || more {
		return more, err
	}
	if more, err = r.expireUnserved(q, now, over); err != nil || more {
		return more, err
	}
	if q.log.Full(now.UnixMilli() - q.opts.segmentAge()) {
		if err := q.writer.flush(q); err != nil {
			return false, err
		}
	}
	// What all lanes have to be asked is asked once a step: with thousands of them that costs more than a segment does.
	r.holders = slices.DeleteFunc(q.Lanes(), func(l *Lane) bool { return !l.holdsBelow(done) })
	for {
		deleted, more, err := r.deleteSegment(q, done, now.UnixMilli(), over)
		if err != nil || !deleted || over() {
			return more, err
		}
	}
}

// noteWatermark notes up to which event no lane needs the log now, and returns up to which none has for the time of
// retention.
func (r *retainer) noteWatermark(q *Queue, now time.Time) (done uint64) {
	floor := min(q.end.Load(), q.applied.Load())
	for _, l := range q.Lanes() {
		floor = l.floor(floor)
	}
	at := now.UnixMilli()
	if from := q.neededFrom.Swap(0); from != 0 { // that no lane needs what is behind it is not so any more
		for i := range r.watermarks {
			r.watermarks[i].next = min(r.watermarks[i].next, from)
		}
	}
	n := len(r.watermarks)
	if n == 0 || r.watermarks[n-1].next < floor {
		near := q.opts.Retention.Milliseconds() / maxWatermarks
		if n > 1 && r.watermarks[n-1].at-r.watermarks[n-2].at < near && at >= r.watermarks[n-1].at && at-r.watermarks[n-1].at < near {
			// The last watermark is close to the one before it: it moves on, until it is far enough to stay. After a time in
			// which nobody looked, such as while the relay was off, it stays: what it says is that old.
			r.watermarks[n-1] = watermark{at, floor}
		} else {
			r.watermarks = append(r.watermarks, watermark{at, floor})
		}
	}
	passed := -1
	for i, m := range r.watermarks {
		if at-m.at >= q.opts.Retention.Milliseconds() {
			passed = i
			done = m.next
		}
	}
	if passed > 0 {
		r.watermarks = slices.Delete(r.watermarks, 0, passed)
	}
	if len(r.watermarks) > maxWatermarks+1 { // retention became longer; dropping a watermark only deletes a little later
		r.watermarks = slices.Delete(r.watermarks, 1, len(r.watermarks)-maxWatermarks)
	}
	return done
}

// deleteSegment deletes the oldest segment of which nobody needs anything, or strips one of its events; or it does some of
// what comes before that, and there is more to do.
func (r *retainer) deleteSegment(q *Queue, done uint64, now int64, over func() bool) (deleted, more bool, err error) {
	segments := q.log.Segments()
	for i, s := range segments {
		if !s.Sealed || s.EndEvent > done || s.EndEntry > q.index.store.Applied()+1 {
			return false, false, nil
		}
		if s.EndEvent == s.FirstEvent && now-s.Made < q.opts.Retention.Milliseconds() {
			return false, false, nil // it has nothing but carried events, which would only be carried again
		}
		idsGone := s.LastAt == 0 || !q.withinWindow(s.LastAt, now)
		if !idsGone && s.Stripped || idsGone && i > 0 {
			continue
		}
		if q.writer.lastSnapshot.segment <= s.Number {
			more, err = q.writer.snapshotStep(q)
			return false, more, err // without a later snapshot the log is needed as it is
		}
		if !s.Stripped {
			if q.writer.requireCounts(r.holders, s.EndEvent) {
				return false, !q.writer.saveRefused.Load(), nil // after a save
			}
			if more, err := r.carry(q, &s, done, over); err != nil || more {
				return false, more, err
			}
			if !q.writer.storeIsSound(q) {
				return false, false, nil // what is needed of it was read from the store; the comparison's end wakes the writer
			}
		}
		if idsGone {
			// First the checkpoint, synced: a first segment that it does not name was not deleted by us.
			low := log.Segment{Number: s.Number + 1, FirstEvent: s.EndEvent}
			if i+1 < len(segments) {
				low = segments[i+1]
			}
			if err = q.writer.writeCheckpoint(q, &low); err == nil {
				err = q.checkpoint.sync()
			}
			if err == nil {
				err = q.log.Remove()
			}
		} else {
			err = q.log.Strip(s.Number)
		}
		r.carrying = carrying{}
		q.carriedBelow.Store(q.log.FirstKeptEvent())
		q.tail.forget(q.log.FirstKeptEvent())
		if err == nil {
			err = r.dropPlaces(q)
		}
		q.writer.showCounts(q)
		return err == nil, err == nil, err
	}
	return false, false, nil
}

// dropPlaces deletes the places of deleted blocks. That comes after the deletion of the segment: a place that the log has
// and the store lacks would be damage. A place that is left over, because we died or the disk was full, is found by the next
// run.
func (r *retainer) dropPlaces(q *Queue) error {
	a := newApplier(q.index.store)
	low := q.log.FirstKeptEvent()
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
	return a.finish()
}

// expireFailures deletes failed deliveries that are older than FailedRetention, and reports whether there is more to look at.
// It reads those of a lane only when one can be too old: the oldest that was left, or one that was recorded since.
func (r *retainer) expireFailures(q *Queue, now time.Time, over func() bool) (more bool, err error) {
	if r.failures == nil {
		r.failures = map[LaneID]failures{}
	}
	looked := false
	for _, l := range q.Lanes() {
		if l.id < r.expiring {
			continue
		}
		any, oldest := l.newFailures()
		known := r.failures[l.id]
		known.below = min(known.below, oldest)
		r.failures[l.id] = known
		if !any || now.UnixMilli() < known.due {
			continue
		}
		if looked && over() { // each step looks at one lane at least, else many lanes would never all be looked at
			r.expiring = l.id
			return true, nil
		}
		looked = true
		var gone []uint64
		young := 0
		due := now // of what is recorded from here on, at the earliest
		from := store.FailedKey(uint32(l.id), known.below)
		to := store.FailedKey(uint32(l.id), math.MaxUint64)
		err := q.index.scan(from, to, func(key store.Key, value []byte) (bool, error) {
			f, err := parseFailure(key.Number, value)
			if err != nil {
				return true, nil // it stays
			}
			if now.Sub(f.At) < q.opts.FailedRetention {
				if f.At.Before(due) {
					due = f.At
				}
				young++ // one that a replay had fail again is younger than those behind it
				return young < maxChanges, nil
			}
			gone = append(gone, key.Number)
			if young == 0 {
				known.below = key.Number + 1
			}
			return len(gone) < maxChanges, nil
		})
		if err != nil {
			return false, err
		}
		n, err := l.deleteFailed(gone, func(f *Failure) bool { return now.Sub(f.At) >= q.opts.FailedRetention })
		if err != nil {
			return false, err
		}
		if n > 0 {
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d failed deliveries are older than queue.failed_retention and were deleted", l.name, n))
		}
		if known.due = due.Add(q.opts.FailedRetention).UnixMilli(); n < len(gone) || len(gone) == maxChanges {
			known.due = 0 // a replay has one of them in flight, or there are more
		}
		r.failures[l.id] = known
		more = more || len(gone) == maxChanges
	}
	r.expiring = 0
	return more, nil
}

// sweepCarried deletes the places of carried events that no lane needs any more. Their bytes go with the segment that they
// are in.
func (r *retainer) sweepCarried(q *Queue, over func() bool) (more bool, err error) {
	if !r.sweeping {
		if !r.maySweep || uptime() < r.sweep.notBefore || !q.freed.Swap(false) {
			return false, nil
		}
		r.sweeping, r.sweepAt = true, 0
	}
	if r.maySweep = false; r.sweepAt == 0 {
		r.sweep = sweepResult{}
	}
	began := uptime()
	defer func() { r.sweep.took += since(began) }()
	type one struct {
		key store.Key
		carried
	}
	var list []one
	for !over() {
		list = list[:0]
		err := q.index.scan(store.CarriedKey(r.sweepAt), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
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
			r.sweepAt = o.key.Number + 1
			needed := false
			var failed error
			o.lanes.Each(func(id LaneID) {
				if needed || int(id) >= len(lanes) || lanes[id] == nil {
					return
				}
				has, again, err := lanes[id].needsEvent(o.key.Number)
				needed, failed = needed || has, errors.Join(failed, err)
				if again {
					q.freed.Store(true)
				}
			})
			if failed != nil {
				return false, failed
			}
			if needed {
				if err := r.sweep.unserved.add(q, o.key.Number, o.bytes, o.lanes); err != nil {
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
			if err := a.finish(); err != nil {
				return false, err
			}
		}
		if len(list) < 512 {
			r.sweeping, r.unserved = false, r.sweep.unserved
			if took := r.sweep.took + since(began); took > time.Second { // so that sweeps stay a small part of the work
				r.sweep.notBefore = uptime() + sweepPause*int64(took)
			}
			q.writer.showCounts(q)
			return false, nil
		}
	}
	return true, nil
}

// countCarried counts the carried events in a store that was just opened, and forgets what was read from the one before.
func (r *retainer) countCarried(q *Queue) error {
	r.failures = nil
	r.needed.forget(q)
	r.carriedEvents, r.carriedBytes, r.carrying = 0, 0, carrying{}
	r.unserved, r.sweep = unservedUsage{}, sweepResult{}
	q.carriedBelow.Store(q.log.FirstKeptEvent())
	r.sweeping, r.sweepAt = true, 0 // those that the last process did not need any more may still be there
	// add reads the same store inside this scan: only the writer's goroutine, which runs this, replaces it.
	return q.index.scan(store.First(store.Carried), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
		c, err := parseCarried(value)
		r.carriedEvents++
		r.carriedBytes += int64(c.bytes)
		return true, errors.Join(err, r.unserved.add(q, key.Number, c.bytes, c.lanes))
	})
}
