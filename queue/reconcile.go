package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	badger "github.com/dgraph-io/badger/v4"
)

// reconcile makes a mended store agree with itself: what it says of its events, their ids, digests and lanes is made anew
// from the events, retries and failed deliveries that are there. A delivery of which two states were found is pending or
// retrying rather than delivered, and failed rather than retrying. It returns how many events of the log are missing.
func (q *Queue) reconcile() (missing uint64, err error) {
	k := &q.keeper
	r := reconciler{q: q, b: q.store.batch(), lanes: map[LaneID]*laneRecord{}, states: map[LaneID]map[uint64]byte{}, pending: map[LaneID]int64{}}
	k.applied = applied{next: 1, matched: map[LaneID]int64{}}
	if record, err := q.store.get(keyApplied); err == nil && record != nil {
		if a, err := parseApplied(record); err == nil {
			k.applied = a
		}
	}
	if err := r.takeFromJournal(); err != nil {
		return 0, err
	}
	r.b = q.store.batch()
	for _, step := range []func() error{r.readLanes, r.readStates, r.readLog, r.readKept} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	r.writeLanes()
	k.applied.events, k.applied.bytes = r.events, r.bytes
	r.b.set(keyApplied, k.applied.append(nil))
	return r.missing, r.b.flush()
}

type reconciler struct {
	q       *Queue
	b       *batch
	lanes   map[LaneID]*laneRecord
	states  map[LaneID]map[uint64]byte // kindRetry or kindFailed, by event
	pending map[LaneID]int64
	events  int64
	bytes   int64
	missing uint64
}

// takeFromJournal adds to the log what the journal has behind its last block.
func (r *reconciler) takeFromJournal() error {
	blocks, err := r.blocks()
	if err != nil {
		return err
	}
	k := &r.q.keeper
	next := k.applied.next
	if n := len(blocks); n > 0 {
		next = blocks[n-1] + 1
	}
	frames, _, err := r.q.journal.load(next) // restore tells of what can't be read there
	if err != nil {
		return err
	}
	frames = slices.DeleteFunc(frames, func(f *frame) bool { return f.first < next })
	if len(frames) > 0 {
		k.writeFrames(r.q, r.b, frames)
	} else {
		k.applied.next = max(k.applied.next, next)
	}
	return r.b.flush()
}

// blocks lists the blocks of the log that can be read, ascending, and deletes those that a later one holds as well.
func (r *reconciler) blocks() (list []uint64, err error) {
	var lasts []uint64
	err = r.q.store.scan([]byte{kindBlock}, []byte{kindBlock}, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		if last, piece, ok := parsePieceKey(key); ok && piece == 0 {
			lasts = append(lasts, last)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	low := uint64(noFrames)
	for _, last := range slices.Backward(lasts) {
		frames, err := r.frames(last)
		if err != nil && !errors.Is(err, errDamaged) {
			return nil, err
		}
		if len(frames) == 0 {
			continue // left where it is
		}
		if last >= low {
			prefix := blockKey(last, 0)[:9]
			err := r.q.store.scan(prefix, prefix, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
				r.b.delete(slices.Clone(key))
				return r.b.err == nil, r.b.err
			})
			if err != nil {
				return nil, err
			}
			continue
		}
		low, list = frames[0].first, append(list, last)
	}
	slices.Reverse(list)
	return list, nil
}

func (r *reconciler) frames(last uint64) (frames []*frame, err error) {
	err = r.q.store.read(func(txn *badger.Txn) error {
		frames, err = readBlock(txn, kindBlock, last)
		return err
	})
	return frames, err
}

func (r *reconciler) readLanes() error {
	return r.q.store.scan([]byte{kindLane}, []byte{kindLane}, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		record, err := value()
		if err != nil || len(key) != 5 {
			return true, nil
		}
		if lane, err := parseLane(record); err == nil {
			id := LaneID(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
			lane.cursor = min(lane.cursor, r.q.keeper.applied.next)
			lane.retrying, lane.failed = 0, 0
			r.lanes[id] = &lane
		}
		return true, nil
	})
}

// readStates counts what is retrying and failed. A lane that has such deliveries and no record lost it: it is kept under a
// name of its own, as an orphan whose deliveries can be looked at.
func (r *reconciler) readStates() error {
	for _, kind := range []byte{kindFailed, kindRetry} {
		err := r.q.store.scan([]byte{kind}, []byte{kind}, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
			id, seq, ok := parseDeliveryKey(key)
			if !ok {
				return true, nil
			}
			lane := r.lanes[id]
			if lane == nil {
				lane = &laneRecord{name: fmt.Sprintf("lost-%d", id), cursor: r.q.keeper.applied.next}
				r.lanes[id] = lane
			}
			if r.states[id] == nil {
				r.states[id] = map[uint64]byte{}
			}
			switch {
			case r.states[id][seq] == kindFailed:
				r.b.delete(slices.Clone(key))
				return r.b.err == nil, r.b.err
			case kind == kindFailed:
				lane.failed++
			default:
				lane.retrying++
			}
			r.states[id][seq] = kind
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readLog walks the events.
func (r *reconciler) readLog() error {
	k := &r.q.keeper
	k.digest = digest{}
	err := r.q.store.scan([]byte{kindDigest}, []byte{kindDigest}, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		r.b.delete(slices.Clone(key))
		return r.b.err == nil, r.b.err
	})
	if err != nil {
		return err
	}
	blocks, err := r.blocks()
	if err != nil {
		return err
	}
	expected := uint64(0)
	for _, last := range blocks {
		frames, err := r.frames(last)
		if err != nil {
			return err
		}
		for _, f := range frames {
			if expected != 0 && f.first > expected {
				r.missing += f.first - expected
			}
			expected = f.end()
			for reader := f.reader(); ; {
				ev, ok, err := reader.next()
				if err != nil || !ok {
					break
				}
				if err := r.take(&ev); err != nil {
					return err
				}
				k.sum(r.b, &ev)
			}
		}
	}
	if expected != 0 {
		k.writeDigest(r.b)
		k.applied.next = max(k.applied.next, expected)
	}
	return nil
}

// take counts one event and what is to be delivered of it.
func (r *reconciler) take(ev *Stored) error {
	r.events++
	r.bytes += int64(len(ev.Body))
	key := appendIDKey(nil, ev.ID)
	if known, err := r.q.store.get(key); err != nil {
		return err
	} else if known == nil && r.q.withinWindow(ev.At, r.q.now()) {
		r.b.set(key, appendIDRecord(nil, ev.Seq, ev.At))
	}
	ev.Lanes.each(func(id LaneID) {
		lane := r.lanes[id]
		r.q.keeper.applied.nextID = max(r.q.keeper.applied.nextID, id+1)
		if lane == nil || ev.Seq < lane.cursor {
			return
		}
		at, settled := slices.BinarySearch(lane.settled, ev.Seq)
		switch {
		case settled:
		case r.states[id][ev.Seq] != 0:
			lane.settled = slices.Insert(lane.settled, at, ev.Seq)
		default:
			r.pending[id]++
		}
	})
	return r.b.err
}

// readKept counts the events that are kept one by one.
func (r *reconciler) readKept() error {
	return r.q.store.scan([]byte{kindKept}, []byte{kindKept}, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		if seq, piece, ok := parsePieceKey(key); ok && piece == 0 {
			if f, err := r.q.store.kept(seq); err == nil && f != nil {
				if ev, err := f.find(seq); err == nil {
					r.events++
					r.bytes += int64(len(ev.Body))
				}
			}
		}
		return true, nil
	})
}

func (r *reconciler) writeLanes() {
	a := &r.q.keeper.applied
	a.matched = map[LaneID]int64{}
	for id, lane := range r.lanes {
		a.nextID = max(a.nextID, id+1)
		a.matched[id] = lane.passed + r.pending[id]
		r.b.set(laneKey(id), lane.append(nil))
	}
}

// counted forgets that the store has to be reconciled.
func counted(dir string) error {
	err := os.Remove(filepath.Join(dir, uncountedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
