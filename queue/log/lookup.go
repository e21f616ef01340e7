package log

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sort"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// acceptTime is when the events from first on were accepted, queue time.
type acceptTime struct {
	first uint64
	at    int64
}

// Accept makes the ids of a frame known, and counts it for its sources. The frame is durable; frames come in order. It takes
// one mutex and reads no file.
func (l *Log) Accept(f *entry.Frame) {
	f.EachUsage(l.usage.add)
	ids := f.IDs
	if ids == nil {
		ids = l.hashes(f)
	}
	l.idsMu.Lock()
	for i := range ids {
		seq := f.First + uint64(i)
		if had, twice := l.ids[ids[i]]; twice && had != seq { // the id was used again after its window
			l.former[ids[i]] = append(l.former[ids[i]], had)
		}
		l.ids[ids[i]] = seq
	}
	l.times = append(l.times, acceptTime{f.First, f.At})
	l.idsMu.Unlock()
}

func (l *Log) hashes(f *entry.Frame) (ids []entry.Hash) {
	for r := f.Reader(); ; {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			return ids
		}
		ids = append(ids, l.key.EventHash(ev.ID, ev.Letter))
	}
}

// forgetIDs takes the ids of a segment that was sealed out of memory, a few thousand at a time.
func (l *Log) forgetIDs(s *segment, ids []idPlace) {
	for len(ids) > 0 {
		n := min(len(ids), 4096)
		l.idsMu.Lock()
		for i := range ids[:n] {
			if ids[i].place >= carriedPlaces {
				delete(l.carried, ids[i].hash)
				continue
			}
			h, seq := ids[i].hash, s.seqOf(ids[i].place)
			if l.ids[h] == seq {
				delete(l.ids, h)
			} else if left := slices.DeleteFunc(l.former[h], func(one uint64) bool { return one == seq }); len(left) > 0 {
				l.former[h] = left
			} else {
				delete(l.former, h)
			}
		}
		l.idsMu.Unlock()
		ids = ids[n:]
	}
	l.idsMu.Lock()
	n, _ := slices.BinarySearchFunc(l.times, s.endEvent, func(t acceptTime, seq uint64) int {
		if t.first < seq {
			return -1
		}
		return 1
	})
	l.times = slices.Delete(l.times, 0, n)
	l.idsMu.Unlock()
}

// SealCount counts seals. An id that Lookup did not find is still new if RecentID does not find it either and no segment was
// sealed in between.
func (l *Log) SealCount() uint64 { return l.sealCount.Load() }

// RecentID finds the newest event with an id among those that are in no sealed segment yet. It reads memory.
func (l *Log) RecentID(h *entry.Hash) (seq uint64, ok bool) {
	l.idsMu.RLock()
	seq, ok = l.ids[*h]
	l.idsMu.RUnlock()
	return seq, ok
}

// Lookup finds the newest event with an id that was accepted at or after oldest, a queue time, as far as a segment's trailer
// can say; see At. It reads a page of each segment whose filter says that it may have the id.
func (l *Log) Lookup(h *entry.Hash, oldest int64) (seq uint64, ok bool, err error) {
	if seq, ok = l.RecentID(h); ok {
		return seq, true, nil
	}
	list := l.list()
	for list = list[:max(len(list)-1, 0)]; len(list) > 0; { // all but the last are sealed
		some := list[max(len(list)-64, 0):]
		list = list[:len(list)-len(some)]
		may := uint64(0) // of some, those whose filters may let the id pass
		last, pass := unasked, uint64(0)
		for i, s := range slices.Backward(some) {
			if s.lastAt != 0 && s.lastAt < oldest {
				list = nil
				break
			}
			if s.rebuiltIDs.Load() != nil {
				may |= 1 << i
				continue
			}
			if f := s.filter.Load(); f != last {
				last, pass = f, f.passes(h)
			}
			may |= pass << i
		}
		for ; may != 0; may &^= 1 << (bits.Len64(may) - 1) {
			seqs, err := l.lookIn(some[bits.Len64(may)-1], h)
			for _, found := range seqs {
				seq, ok = max(seq, found), true
			}
			if ok || err != nil {
				return seq, ok, err
			}
		}
	}
	return 0, false, nil
}

// unasked is the filter of no segment.
var unasked = &filter{}

// lookIn returns the events with an id that a sealed segment has of its own, as far as its filter lets the id pass: carried
// ones are older than all others.
func (l *Log) lookIn(s *segment, h *entry.Hash) ([]uint64, error) {
	if s.rebuiltIDs.Load() == nil && !s.filter.Load().mayHave(h) {
		return nil, nil
	}
	seqs, err := l.findIn(s, h)
	return slices.DeleteFunc(seqs, func(seq uint64) bool { return seq < s.firstEvent }), err
}

// LookupAll finds all events with an id, newest first. It reads a page of each segment whose filter says so.
func (l *Log) LookupAll(h *entry.Hash) (seqs []uint64, err error) {
	for range 4 {
		moves := l.idMoves.Load()
		if seqs, err = l.lookupAll(h); err != nil || moves == l.idMoves.Load() {
			return seqs, err
		}
		// Something was sealed or carried meanwhile, and may have been looked for in its new place before it was there and
		// in its old place after.
	}
	return seqs, err
}

func (l *Log) lookupAll(h *entry.Hash) (seqs []uint64, err error) {
	l.idsMu.RLock()
	if seq, ok := l.ids[*h]; ok {
		seqs = append(seqs, seq)
	}
	seqs = append(append(seqs, l.former[*h]...), l.carried[*h]...)
	l.idsMu.RUnlock()
	for _, s := range slices.Backward(l.list()) {
		if sealed, _ := l.state(s); !sealed {
			continue
		}
		more, err := l.findIn(s, h)
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, more...)
	}
	slices.SortFunc(seqs, func(a, b uint64) int { return cmp.Compare(b, a) })
	return slices.Compact(seqs), nil
}

// findIn returns the events of a sealed segment with an id.
func (l *Log) findIn(s *segment, h *entry.Hash) (seqs []uint64, err error) {
	var places []uint32
	if m := s.rebuiltIDs.Load(); m != nil {
		places = (*m)[*h]
	} else {
		places, err = s.findID(h)
	}
	switch {
	case Gone(err):
		// It was deleted, or stripped: then its ids are in the new file.
		if now := l.segment(s.number); now != nil && now != s {
			return l.findIn(now, h)
		}
		return nil, nil
	case errors.Is(err, codec.ErrDamaged):
		if err = l.rebuildIDs(s); err == nil {
			return l.findIn(s, h)
		}
	}
	for _, place := range places {
		seqs = append(seqs, s.seqOf(place))
	}
	return seqs, err
}

// rebuildIDs reads the ids of a segment from its blocks, since the pages can't be read. They stay in memory.
func (l *Log) rebuildIDs(s *segment) error {
	blocks, err := l.table(s)
	if err != nil {
		return err
	}
	ids, lost := map[entry.Hash][]uint32{}, 0
	for i := range blocks {
		if blocks[i].Kind != Entries && blocks[i].Kind != Carried || blocks[i].Events == 0 {
			continue
		}
		b, err := s.block(blocks[i].Offset, &blocks[i].Sum)
		if Gone(err) {
			return err
		}
		var frames []*entry.Frame
		if err == nil {
			frames, err = b.Frames()
		}
		if err != nil {
			lost += int(blocks[i].Events)
		}
		for _, f := range frames {
			for n, h := range l.hashes(f) {
				ids[h] = append(ids[h], uint32(f.First+uint64(n)-s.firstEvent))
			}
		}
	}
	if _, t := l.state(s); t.stripped {
		lost = int(t.endEvent - t.firstEvent)
	}
	if !s.rebuiltIDs.CompareAndSwap(nil, &ids) {
		return nil // another goroutine did it meanwhile, and reported
	}
	if lost == 0 {
		l.reportDamage(s, "some of its ids can't be read: all were taken from its events")
		return nil
	}
	if l.opts.Lost != nil {
		l.opts.Lost(int64(lost))
	}
	l.opts.Notice(fmt.Sprintf("log: segment %d is damaged: some of its ids can't be read, and %d ids are lost with their events: an event that repeats one of them is accepted again", s.number, lost))
	return nil
}

// At returns when an event was accepted, queue time; ok is false when that is not known any more. It may read a block.
func (l *Log) At(seq uint64) (at int64, ok bool, err error) {
	l.idsMu.RLock()
	n := sort.Search(len(l.times), func(i int) bool { return l.times[i].first > seq })
	if n > 0 {
		at = l.times[n-1].at
		l.idsMu.RUnlock()
		return at, true, nil
	}
	l.idsMu.RUnlock()
	list := l.list()
	i := sort.Search(len(list), func(i int) bool { return list[i].firstEvent > seq })
	if i == 0 {
		return 0, false, nil
	}
	s := list[i-1]
	_, t := l.state(s)
	if t.stripped || t.firstAt == t.lastAt {
		return t.lastAt, true, nil // rather a little too late than too early
	}
	blocks, err := l.table(s)
	if err != nil {
		return 0, false, err
	}
	for j := range blocks {
		b := &blocks[j]
		if b.Kind != Entries || b.Events == 0 || seq < b.FirstEvent || seq >= b.EndEvent() {
			continue
		}
		if b.FirstAt == b.LastAt {
			return b.LastAt, true, nil
		}
		block, err := s.block(b.Offset, &b.Sum)
		if err != nil {
			return b.LastAt, true, nil // rather a little too late than too early
		}
		frames, _ := block.Frames()
		for _, f := range frames {
			if f.First <= seq && seq < f.End() {
				return f.At, true, nil
			}
		}
		return b.LastAt, true, nil
	}
	return 0, false, nil
}
