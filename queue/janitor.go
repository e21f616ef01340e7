package queue

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// janitor deletes what nobody needs any more: it is the keeper between two saves. Blocks go from the head of the log
// once no lane needs them and retention and dedup window are over; events of such a block that are retrying or failed
// are kept one by one. Positions are remembered so that no search begins in a range that was deleted.
type janitor struct {
	marks    []mark // ascending; the last one may be saved later than it was made
	block    uint64 // no block ends below this
	ids      uint64 // no ids of a deleted block below this
	wells    map[LaneID]uint64
	failures map[LaneID]uint64
	kept     uint64 // where the sweep of kept events goes on
	digest   uint64 // no digest begins below this
	deleted  int64  // bytes, since space was reclaimed
}

const (
	maxMarks = 64
	// janitorTurn is how long the janitor works before it lets the keeper save.
	janitorTurn = 30 * time.Millisecond
	// reclaimBytes is how much must have been deleted before the store is asked to give space back.
	reclaimBytes = 4 << 20
	keptPerTurn  = 256
)

func (j *janitor) every(o Options) time.Duration {
	return min(max(min(o.Retention, o.FailedRetention)/20, 250*time.Millisecond), 20*time.Second)
}

func (j *janitor) load(s *store) error {
	j.wells, j.failures = map[LaneID]uint64{}, map[LaneID]uint64{}
	record, err := s.get(keyMarks)
	if err == nil && record != nil {
		j.marks, err = parseMarks(record)
	}
	return err
}

// run takes turns with saving until there is nothing more to delete.
func (j *janitor) run(q *Queue) error {
	for {
		if _, clean := q.disk.tend(q); !clean || q.store.spare() != nil {
			return nil // even a deletion is written first
		}
		more, err := j.turn(q)
		if err != nil || !more {
			return err
		}
		if err := q.keeper.save(q); err != nil {
			return err
		}
		if q.over() {
			return nil
		}
	}
}

func (j *janitor) turn(q *Queue) (more bool, err error) {
	now := time.UnixMilli(q.now())
	b := q.store.batch()
	done := j.note(q, b, now)
	if err := j.expireFailures(q, now); err != nil {
		return false, err
	}
	began := time.Now()
	for !more {
		last, frames, ok, err := q.store.block(j.block)
		if err != nil {
			// What can't be read is not deleted. The lanes tell of it.
			j.block = last + 1
			q.damaged.Add(1)
			q.opts.Notice(fmt.Sprintf("store: the block up to event %d can't be read and is left where it is: %v", last, err))
			continue
		}
		if !ok || last >= done || len(frames) == 0 {
			break
		}
		if err := j.deleteBlock(q, b, last, frames, now.UnixMilli()); err != nil {
			return false, err
		}
		j.block = last + 1
		more = time.Since(began) > janitorTurn
	}
	if !more {
		if more, err = j.expireIDs(q, b, now.UnixMilli()); err != nil {
			return false, err
		}
	}
	if !more {
		if err := j.sweepKept(q, b, now.UnixMilli()); err != nil {
			return false, err
		}
	}
	if err := b.flush(); err != nil {
		return false, err
	}
	j.deleted += b.freed
	q.keeper.showCounts()
	if !more {
		return false, j.reclaim(q)
	}
	return true, nil
}

// note remembers up to where no lane needs the log now, and returns up to where none has for the time of retention.
func (j *janitor) note(q *Queue, b *batch, now time.Time) (done uint64) {
	floor := min(q.end.Load(), q.keeper.applied.next)
	for _, l := range q.Lanes() {
		floor = l.floor(floor)
	}
	at := now.UnixMilli()
	n := len(j.marks)
	changed := false
	if n == 0 || j.marks[n-1].next < floor {
		if n > 1 && j.marks[n-1].at-j.marks[n-2].at < q.opts.Retention.Milliseconds()/maxMarks && at >= j.marks[n-1].at {
			// The last mark is still close to the one before it: it moves on, until it is far enough to stay.
			j.marks[n-1] = mark{at, floor}
		} else {
			j.marks = append(j.marks, mark{at, floor})
			changed = true
		}
	}
	passed := -1
	for i, m := range j.marks {
		if at-m.at >= q.opts.Retention.Milliseconds() {
			passed = i
			done = m.next
		}
	}
	if passed > 0 {
		j.marks = slices.Delete(j.marks, 0, passed)
		changed = true
	}
	if changed {
		b.set(keyMarks, appendMarks(nil, j.marks))
	}
	return done
}

// deleteBlock deletes a block with all that hangs on its events. Ids that are still in the dedup window are listed under
// a key of their own, to be forgotten when it is over.
func (j *janitor) deleteBlock(q *Queue, b *batch, last uint64, frames []*frame, now int64) error {
	first := frames[0].first
	var known idList
	needed, err := q.needed(first, last)
	if err != nil {
		return err
	}
	var events, bodies int64
	for _, f := range frames {
		j.deleted += int64(len(f.raw))
		for r := f.reader(); ; {
			ev, ok, err := r.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if _, ok := needed[ev.Seq]; ok {
				var d draft
				d.add(ev.Source, &Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: ev.Lanes}, "")
				_, kept := d.seal(ev.Seq, ev.At, 0)
				writeBlock(b, kindKept, ev.Seq, kept.raw)
				continue
			}
			events, bodies = events+1, bodies+int64(len(ev.Body))
			if q.withinWindow(ev.At, now) {
				known.add(ev.Seq, ev.At, ev.ID)
				if len(known.record) >= maxValue/2 {
					b.set(idsKey(ev.Seq), known.pack())
					known = idList{}
				}
			} else if err := deleteID(q, b, ev.Seq, ev.ID); err != nil {
				return err
			}
		}
	}
	if len(known.record) > 0 {
		b.set(idsKey(last), known.pack())
	}
	from := attemptKey(first, 0, 0, 0)
	err = j.deleteKeys(q, b, []byte{kindAttempt}, from, func(key []byte) bool {
		seq, _, ok := parseAttemptKey(key)
		return ok && seq <= last
	}, func(key []byte) bool {
		seq, _, _ := parseAttemptKey(key)
		_, keep := needed[seq]
		return keep
	})
	if err != nil {
		return err
	}
	for _, l := range q.Lanes() {
		if err := j.deleteWells(q, b, l.id, last); err != nil {
			return err
		}
	}
	if err := j.deleteDigests(q, b, last+1); err != nil {
		return err
	}
	// Last, and in one transaction with the counters: until then the block is found again, and all that hangs on it with it.
	// Its pieces are consecutive keys.
	var pieces []write
	size := 0
	prefix := blockKey(last, 0)[:9]
	err = q.store.scan(prefix, prefix, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		pieces = append(pieces, write{key: slices.Clone(key)})
		size += len(key)
		return true, nil
	})
	if err != nil {
		return err
	}
	b.together(len(pieces)+1, size+len(keyApplied)+len(q.keeper.applied.append(nil))+16)
	for _, w := range pieces {
		b.delete(w.key)
	}
	q.keeper.keep(b, -events, -bodies)
	return nil
}

func (j *janitor) deleteWells(q *Queue, b *batch, lane LaneID, last uint64) error {
	prefix := wellKey(lane, 0, 0)[:5]
	err := j.deleteKeys(q, b, prefix, wellKey(lane, j.wells[lane], 0), func(key []byte) bool {
		_, to, ok := parseWellKey(key)
		return ok && to <= last
	})
	j.wells[lane] = last
	return err
}

// deleteDigests deletes those that tell of nothing but events below end.
func (j *janitor) deleteDigests(q *Queue, b *batch, end uint64) error {
	return q.store.scan([]byte{kindDigest}, digestKey(j.digest), false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		first, ok := parseDigestKey(key)
		if !ok || first >= end {
			return false, nil
		}
		record, err := value()
		if err != nil {
			return false, err
		}
		if d, err := parseDigest(first, record); err == nil && d.end() > end || first == q.keeper.digest.first {
			return false, nil
		}
		b.delete(slices.Clone(key))
		j.digest = first + 1
		return b.err == nil, b.err
	})
}

// deleteKeys deletes from a key onwards while fits says so, all but those that keep spares.
func (j *janitor) deleteKeys(q *Queue, b *batch, prefix, from []byte, fits func([]byte) bool, keep ...func([]byte) bool) error {
	return q.store.scan(prefix, from, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		if !fits(key) {
			return false, nil
		}
		if len(keep) == 0 || !keep[0](key) {
			b.delete(slices.Clone(key))
		}
		return b.err == nil, b.err
	})
}

// deleteID forgets an id, unless it was accepted again since.
func deleteID(q *Queue, b *batch, of uint64, id []byte) error {
	key := appendIDKey(nil, id)
	record, err := q.store.get(key)
	if err != nil || record == nil {
		return err
	}
	seq, _, err := parseIDRecord(record)
	if err == nil && seq == of {
		b.delete(key)
	}
	return nil
}

// expireIDs forgets the ids of deleted blocks once the dedup window is over for all of a block. more says that it stopped
// because its turn was over.
func (j *janitor) expireIDs(q *Queue, b *batch, now int64) (more bool, err error) {
	began := time.Now()
	err = q.store.scan([]byte{kindIDs}, idsKey(j.ids), false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		packed, err := value()
		if err != nil {
			return false, err
		}
		known, err := parseIDs(packed)
		if err != nil {
			return true, nil // left where it is
		}
		if q.withinWindow(known[len(known)-1].at, now) {
			return false, nil
		}
		for _, k := range known {
			if err := deleteID(q, b, k.seq, k.id); err != nil {
				return false, err
			}
		}
		b.delete(slices.Clone(key))
		j.ids = known[len(known)-1].seq
		more = time.Since(began) > janitorTurn
		return !more && b.err == nil, b.err
	})
	return more, err
}

// needed finds the events of a range that are retrying or failed.
func (q *Queue) needed(first, last uint64) (map[uint64]struct{}, error) {
	needed := map[uint64]struct{}{}
	for _, l := range q.Lanes() {
		l.mu.Lock()
		kinds := make([]byte, 0, 2)
		if l.retrying > 0 || len(l.changes) > 0 { // of what ended just now, disk may not know yet
			kinds = append(kinds, kindRetry)
		}
		if l.failed > 0 || len(l.changes) > 0 {
			kinds = append(kinds, kindFailed)
		}
		for seq := range l.replaying { // an attempt that fails makes it retrying
			if first <= seq && seq <= last {
				needed[seq] = struct{}{}
			}
		}
		l.mu.Unlock()
		for _, kind := range kinds {
			from := deliveryKey(kind, l.id, first)
			err := q.store.scan(from[:5], from, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
				_, seq, ok := parseDeliveryKey(key)
				if !ok || seq > last {
					return false, nil
				}
				needed[seq] = struct{}{}
				return true, nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return needed, nil
}

// expireFailures forgets failed deliveries whose time is over, and says how many.
func (j *janitor) expireFailures(q *Queue, now time.Time) error {
	for _, l := range q.Lanes() {
		l.mu.Lock()
		any := l.failed > 0
		j.failures[l.id] = min(j.failures[l.id], l.oldestFailed)
		l.oldestFailed = math.MaxUint64
		l.mu.Unlock()
		if !any {
			continue
		}
		var gone []uint64
		young := 0
		from := deliveryKey(kindFailed, l.id, j.failures[l.id])
		err := q.store.scan(from[:5], from, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
			record, err := value()
			if err != nil {
				return false, err
			}
			_, seq, _ := parseDeliveryKey(key)
			f, err := parseFailure(seq, record)
			if err != nil {
				return true, nil // left where it is
			}
			if now.Sub(f.At) < q.opts.FailedRetention {
				young++ // what a replay had fail again is younger than what follows it
				return young < maxChanges, nil
			}
			gone = append(gone, seq)
			if young == 0 {
				j.failures[l.id] = seq + 1
			}
			return len(gone) < maxChanges, nil
		})
		if err != nil {
			return err
		}
		if n := l.forgetFailed(gone, func(f *Failure) bool { return now.Sub(f.At) >= q.opts.FailedRetention }); n > 0 {
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d failed deliveries are older than queue.failed_retention and were deleted", l.name, n))
		}
	}
	return nil
}

// sweepKept walks some of the events that were kept one by one and deletes those that no lane needs any more.
func (j *janitor) sweepKept(q *Queue, b *batch, now int64) error {
	var some []uint64
	err := q.store.scan([]byte{kindKept}, keptKey(j.kept, 0), true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		if seq, piece, ok := parsePieceKey(key); ok && piece == 0 {
			some = append(some, seq)
		}
		return len(some) < keptPerTurn, nil
	})
	if err != nil {
		return err
	}
	j.kept = 0
	for _, seq := range some {
		if len(some) == keptPerTurn {
			j.kept = seq + 1
		}
		needed, err := q.needed(seq, seq)
		if err != nil {
			return err
		}
		if len(needed) > 0 {
			continue
		}
		f, err := q.store.kept(seq)
		if err != nil || f == nil {
			continue // left where it is
		}
		ev, err := f.find(seq)
		if err != nil {
			continue
		}
		if q.withinWindow(ev.At, now) {
			continue // its id is still to be known
		}
		if err := deleteID(q, b, ev.Seq, ev.ID); err != nil {
			return err
		}
		from := attemptKey(seq, 0, 0, 0)
		if err := j.deleteKeys(q, b, from[:9], from, func([]byte) bool { return true }); err != nil {
			return err
		}
		prefix := keptKey(seq, 0)[:9]
		if err := j.deleteKeys(q, b, prefix, prefix, func([]byte) bool { return true }); err != nil {
			return err
		}
		j.deleted += int64(len(f.raw))
		q.keeper.keep(b, -1, -int64(len(ev.Body)))
	}
	return nil
}

// reclaim makes the store give back the space of what was deleted, when that is a good part of it: tombstones in memory
// are written out and the levels merged, which costs reading and writing what is left.
func (j *janitor) reclaim(q *Queue) error {
	if j.deleted < reclaimBytes {
		return nil
	}
	db := q.store.db
	var size int64
	for _, t := range db.Tables() {
		size += int64(t.OnDiskSize)
	}
	// Blocks lie compressed in the tables, so this counts what was deleted for a little more than it took.
	if j.deleted < size/2 {
		return nil
	}
	j.deleted = 0
	b := q.store.batch()
	b.set(keyScratch, []byte{1})
	if err := b.flush(); err != nil {
		return err
	}
	if err := db.DropPrefix(keyScratch); err != nil {
		return fmt.Errorf("reclaim space: %w", err)
	}
	if err := db.Flatten(1); err != nil {
		return fmt.Errorf("reclaim space: %w", err)
	}
	return nil
}
