package format1

import (
	"cmp"
	"fmt"
	"slices"
)

// laneTable is what a queue has of its lanes.
type laneTable struct {
	lanes  []*lane // by number, nil where there is none
	found  uint32  // behind the highest number
	beyond uint64  // behind all events that they know of
}

type lane struct {
	Lane
	pending int64
}

// at returns a lane, nil when it does not exist.
func (h *laneTable) at(id uint32) *lane {
	if id >= uint32(len(h.lanes)) {
		return nil
	}
	return h.lanes[id]
}

func (h *laneTable) add(l *lane) {
	for uint32(len(h.lanes)) <= l.ID {
		h.lanes = append(h.lanes, nil)
	}
	h.lanes[l.ID] = l
	h.found = max(h.found, l.ID+1)
}

// lanes reads the lanes, once, and counts their retries and failed deliveries. A delivery with both records is failed. A
// delivery above a lane's cursor that has a record and is not listed as settled was saved after the lane's record.
func (r *Reader) lanes() (*laneTable, error) {
	if r.laneTable != nil {
		return r.laneTable, nil
	}
	h := &laneTable{}
	m := r.store.scan([]byte{kindLane})
	for e := m.next(); e != nil; e = m.next() {
		id, ok := parseLaneKey(e.key)
		if !ok {
			r.damage("store", fmt.Sprintf("a lane has the key %x", e.key))
			continue
		}
		l, err := parseLane(id, e.value)
		if err != nil {
			r.damage("store", fmt.Sprintf("lane %d: %v", id, err))
			continue
		}
		l.Retrying, l.Failed = 0, 0
		h.beyond = max(h.beyond, l.Cursor)
		if n := len(l.Settled); n > 0 {
			h.beyond = max(h.beyond, l.Settled[n-1]+1)
		}
		h.add(&lane{Lane: l})
	}
	m.close()
	given := map[uint32]bool{} // lanes that were deleted
	owner := func(id uint32) *lane {
		if l := h.at(id); l != nil || given[id] {
			return l
		}
		if _, deleted, _ := r.store.get(laneKey(id)); deleted {
			given[id] = true // its deletion was cut short
			return nil
		}
		l := &lane{Lane: Lane{ID: id, Name: fmt.Sprintf("lost-%d", id), Lost: true}}
		r.damage("lanes", fmt.Sprintf("lane %d has no record: its retrying and failed deliveries go on as %q", id, l.Name))
		h.add(l)
		return l
	}
	above := map[uint32][]uint64{}
	note := func(l *lane, seq uint64) {
		h.beyond = max(h.beyond, seq+1)
		if seq >= l.Cursor && !l.Lost {
			if _, listed := slices.BinarySearch(l.Settled, seq); !listed {
				above[l.ID] = append(above[l.ID], seq)
			}
		}
	}
	err := r.eachFailed(func(id uint32, f *Failure) error {
		if l := owner(id); l != nil {
			l.Failed++
			note(l, f.Seq)
		}
		return nil
	})
	if err == nil {
		err = r.eachRetry(func(id uint32, seq uint64, _ *retry) error {
			if l := owner(id); l != nil {
				l.Retrying++
				note(l, seq)
			}
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	for id, seqs := range above {
		l := h.lanes[id]
		l.Settled = append(l.Settled, seqs...)
		slices.Sort(l.Settled)
	}
	r.laneTable = h
	return h, nil
}

// Lanes calls fn with the lanes by number, as they were saved last, with pending, retrying and failed deliveries counted
// anew. It walks the log unless Frames has.
func (r *Reader) Lanes(fn func(Lane) error) error {
	t, err := r.count()
	if err != nil {
		return err
	}
	for _, l := range r.laneTable.lanes {
		if l == nil {
			continue
		}
		out := l.Lane
		if l.Lost {
			out.Cursor = t.next
		}
		out.Matched = out.Passed + l.pending
		if err := fn(out); err != nil {
			return err
		}
	}
	return nil
}

// Retries calls fn with the retries, by lane and event. due is queue time, Unix milliseconds; replay is the number of the
// replay that a retry is part of, 0 for none. A damaged log may lack its event.
func (r *Reader) Retries(fn func(lane uint32, seq uint64, due int64, attempts int, replay uint64) error) error {
	h, err := r.lanes()
	if err != nil {
		return err
	}
	return r.eachRetry(func(id uint32, seq uint64, retry *retry) error {
		if h.at(id) == nil {
			return nil
		}
		return fn(id, seq, retry.due, retry.attempts, retry.replay)
	})
}

// Failed calls fn with the failed deliveries, by lane and event. A damaged log may lack the event.
func (r *Reader) Failed(fn func(lane uint32, f Failure) error) error {
	h, err := r.lanes()
	if err != nil {
		return err
	}
	return r.eachFailed(func(id uint32, f *Failure) error {
		if h.at(id) == nil {
			return nil
		}
		return fn(id, *f)
	})
}

func (r *Reader) eachFailed(fn func(id uint32, f *Failure) error) error {
	m := r.store.scan([]byte{kindFailed})
	defer m.close()
	for e := m.next(); e != nil; e = m.next() {
		id, seq, ok := parseDeliveryKey(e.key)
		f, err := parseFailure(seq, e.value)
		if !ok || err != nil {
			r.damage("store", fmt.Sprintf("the failed delivery of event %d for lane %d can't be read", seq, id))
			continue
		}
		if err := fn(id, &f); err != nil {
			return err
		}
	}
	return r.store.err
}

// eachRetry passes over retries of deliveries that are failed as well.
func (r *Reader) eachRetry(fn func(id uint32, seq uint64, retry *retry) error) error {
	m, failed := r.store.scan([]byte{kindRetry}), r.store.scan([]byte{kindFailed})
	defer m.close()
	defer failed.close()
	f := failed.next()
	for e := m.next(); e != nil; e = m.next() {
		id, seq, ok := parseDeliveryKey(e.key)
		retry, err := parseRetry(e.value)
		if !ok || err != nil {
			r.damage("store", fmt.Sprintf("the retry of event %d for lane %d can't be read", seq, id))
			continue
		}
		order := -1
		for ; f != nil; f = failed.next() {
			if order = cmp.Compare(string(f.key[1:]), string(e.key[1:])); order >= 0 {
				break
			}
		}
		if f != nil && order == 0 {
			continue
		}
		if err := fn(id, seq, &retry); err != nil {
			return err
		}
	}
	return r.store.err
}

// Replays calls fn with the records of replays as they are, by lane and number.
func (r *Reader) Replays(fn func(lane uint32, number uint64, record []byte) error) error {
	h, err := r.lanes()
	if err != nil {
		return err
	}
	m := r.store.scan([]byte{kindReplay})
	defer m.close()
	for e := m.next(); e != nil; e = m.next() {
		id, number, ok := parseDeliveryKey(e.key)
		if !ok {
			r.damage("store", fmt.Sprintf("a replay has the key %x", e.key))
			continue
		}
		if h.at(id) == nil {
			continue
		}
		if err := fn(id, number, e.value); err != nil {
			return err
		}
	}
	return r.store.err
}
