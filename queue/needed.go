package queue

import (
	"slices"
	"sync/atomic"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// neededEvents are the events that retention has to carry, of all events that it may delete in one run. Asking each lane for
// each segment costs two searches of the store a lane, which with thousands of lanes is more than everything else. So when
// lanes have few records each, all records are read once. The list is valid until a record of an event below changes. Only
// the writer uses it.
type neededEvents struct {
	from, below uint64
	list        []uint64 // ascending
	lanes       *[]*Lane
	changes     uint64
}

// recordWatch counts changes of the records of events below one.
type recordWatch struct{ below, changes atomic.Uint64 }

// note is called for each record that is made or deleted.
func (w *recordWatch) note(seq uint64) {
	if seq < w.below.Load() {
		w.changes.Add(1)
	}
}

// fewRecords is up to how many records a lane, on average, all records are read at once.
const fewRecords = 16

// within returns the events of a range, up to below to, that are needed, ascending. below is up to where this run may
// delete.
func (n *neededEvents) within(q *Queue, from, to, below uint64) ([]uint64, error) {
	if n.from > from || n.below < to || n.lanes != q.lanes.Load() || n.changes != q.watched.changes.Load() {
		all, records := q.Lanes(), int64(0)
		for _, l := range all {
			records += l.recordCount()
		}
		if records > fewRecords*int64(len(all)) {
			return q.needed(from, to)
		}
		if err := n.gather(q, from, max(to, below)); err != nil {
			return nil, err
		}
	}
	at, _ := slices.BinarySearch(n.list, from)
	end, _ := slices.BinarySearch(n.list, to)
	if q.replaying.Load() == 0 {
		return n.list[at:end], nil
	}
	set := map[uint64]struct{}{}
	for _, l := range q.Lanes() {
		l.addNeeded(from, to, set) // what a replay has in flight is in no record
	}
	for _, seq := range n.list[at:end] {
		set[seq] = struct{}{}
	}
	return ascending(set), nil
}

// gather reads all records of the events of a range. Records that are not in the store yet come from the lanes.
func (n *neededEvents) gather(q *Queue, from, below uint64) error {
	q.watched.below.Store(below)
	*n = neededEvents{from: from, below: below, lanes: q.lanes.Load(), changes: q.watched.changes.Load()}
	set := map[uint64]struct{}{}
	for _, kind := range []store.Kind{store.Retry, store.Failed} {
		err := q.index.scan(store.First(kind), store.Last(kind), func(key store.Key, _ []byte) (bool, error) {
			if lanes := *n.lanes; from <= key.Number && key.Number < below && int(key.Lane) < len(lanes) && lanes[key.Lane] != nil {
				set[key.Number] = struct{}{}
			}
			return true, nil
		})
		if err != nil {
			n.forget(q)
			return err
		}
	}
	for _, l := range q.Lanes() {
		l.addNeeded(from, below, set)
	}
	n.list = ascending(set)
	return nil
}

// forget empties the list.
func (n *neededEvents) forget(q *Queue) {
	q.watched.below.Store(0)
	*n = neededEvents{}
}

func ascending(set map[uint64]struct{}) []uint64 {
	list := make([]uint64, 0, len(set))
	for seq := range set {
		list = append(list, seq)
	}
	slices.Sort(list)
	return list
}

// needed finds, lane by lane, the events of a range, up to below to, that are retrying, failed, or in flight in a replay,
// ascending.
func (q *Queue) needed(from, to uint64) (list []uint64, err error) {
	if from >= to {
		return nil, nil
	}
	set := map[uint64]struct{}{}
	for _, l := range q.Lanes() {
		for _, kind := range []entry.RecordKind{entry.Retry, entry.Failed} {
			if !l.mayHave(kind) {
				continue
			}
			err := q.index.scan(recordKey(l.id, kind, from), recordKey(l.id, kind, to-1), func(key store.Key, _ []byte) (bool, error) {
				set[key.Number] = struct{}{}
				return true, nil
			})
			if err != nil {
				return nil, err
			}
		}
		l.addNeeded(from, to, set)
	}
	return ascending(set), nil
}
