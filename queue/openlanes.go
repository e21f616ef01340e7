package queue

import (
	"errors"
	"math"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// loadState makes the state in memory from store and log.
func (q *Queue) loadState() error {
	w := &q.writer
	if applied, next := q.index.store.Applied(), q.nextEntry.Load(); applied >= next {
		_, event := q.log.End()
		q.reportGap("log", event, event, next, applied+1, nil)
		q.log.Skip(applied+1, event)
		q.nextEntry.Store(applied + 1)
		q.logged.Store(applied + 1)
	}
	_, saved := q.log.End()
	q.applied.Store(saved)
	if err := errors.Join(q.loadLanes(), q.loadReplays()); err != nil {
		return err
	}
	if err := errors.Join(q.recountFailed(), q.recountRetrying()); err != nil {
		return err
	}
	if err := q.countMatched(); err != nil {
		return err
	}
	if err := errors.Join(w.retain.countCarried(q), w.retain.dropPlaces(q)); err != nil {
		return err
	}
	w.showCounts(q)
	// A crash before the next snapshot must not lengthen the way from the last one again and again.
	segments := q.log.Segments()
	w.lastSnapshot.writtenAt = -segments[len(segments)-1].Bytes
	return nil
}

// loadLanes reads the lanes and their retries. What it costs does not depend on how much is queued.
func (q *Queue) loadLanes() error {
	var made []*Lane
	_, end := q.log.End()
	err := q.index.scan(store.First(store.Lane), store.Last(store.Lane), func(key store.Key, record []byte) (bool, error) {
		if key == nextLaneKey {
			d := codec.Decoder{Buf: record}
			q.writer.nextLane = max(q.writer.nextLane, LaneID(d.Uvarint()))
			return true, nil
		}
		r, err := parseLane(record)
		if err != nil {
			return false, err
		}
		if r.cursor > end && end >= q.end.Load() { // it had settled events that are lost
			r.cursor, r.settled = end, nil
		}
		made = append(made, newLane(q, LaneID(key.Lane), r))
		q.writer.nextLane = max(q.writer.nextLane, LaneID(key.Lane)+1)
		return true, nil
	})
	if err != nil {
		return err
	}
	q.addLanes(made)
	q.loadExcerpts(made)
	lanes := *q.lanes.Load()
	return q.index.scan(store.First(store.Retry), store.Last(store.Retry), func(key store.Key, record []byte) (bool, error) {
		if int(key.Lane) >= len(lanes) || lanes[key.Lane] == nil {
			return true, nil
		}
		r, err := parseRetry(key.Number, record)
		if err != nil {
			return false, err
		}
		r.due = q.loaded(r.due)
		lanes[key.Lane].addRetry(r)
		return true, nil
	})
}

// countMatched counts the deliveries that lanes were given since their records were saved. Lanes with old records are idle
// ones: blocks that have nothing for them, by the postings, are not read.
func (q *Queue) countMatched() error {
	lanes := *q.lanes.Load()
	near := q.log.Recent(2 * countEvery)
	var old []*Lane
	lowest := uint64(math.MaxUint64)
	for _, l := range lanes {
		if l == nil {
			continue
		}
		if l.assigned.counted < near {
			old = append(old, l)
		}
		lowest = min(lowest, max(l.assigned.counted, near))
	}
	count := func(f *entry.Frame, of func(LaneID) *Lane, below uint64) {
		for r := f.Reader(); ; {
			ev, ok, err := r.Next()
			if err != nil || !ok {
				return
			}
			if ev.Seq >= below {
				return
			}
			ev.Lanes.Each(func(id LaneID) {
				if l := of(id); l != nil && ev.Seq >= l.assigned.counted {
					l.assigned.matched++
				}
			})
		}
	}
	if len(old) > 0 {
		if err := q.countOld(old, near, count); err != nil {
			return err
		}
	}
	for seq := lowest; ; {
		last, frames, ok, err := q.block(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if !ok {
			break
		}
		for _, f := range frames {
			if f.End() > seq {
				count(f, func(id LaneID) *Lane {
					if int(id) < len(lanes) {
						return lanes[id]
					}
					return nil
				}, math.MaxUint64)
			}
		}
		seq = max(last+1, seq+1)
	}
	end := q.end.Load()
	for _, l := range lanes {
		if l != nil {
			l.assigned.counted = max(l.assigned.counted, end)
			if l.assigned.matched < l.passed.Load() {
				l.assigned.matched = l.passed.Load()
			}
		}
	}
	return nil
}

// countOld counts for lanes whose records are old, events up to below near.
func (q *Queue) countOld(old []*Lane, near uint64, count func(*entry.Frame, func(LaneID) *Lane, uint64)) error {
	words := make([]uint64, len(old))
	from := uint64(math.MaxUint64)
	for i, l := range old {
		words[i] = log.LaneWord(q.log.Key(), l.id)
		from = min(from, l.assigned.counted)
	}
	return q.log.BlocksWith(words, from, near, func(p log.Place, _ *log.Info, which []int) error {
		b, err := q.log.Read(p)
		var frames []*entry.Frame
		if err == nil {
			frames, err = b.Frames()
		}
		if errors.Is(err, codec.ErrDamaged) {
			return nil // the lanes report it when they come there
		}
		if err != nil {
			return err
		}
		in := map[LaneID]*Lane{}
		for _, i := range which {
			in[old[i].id] = old[i]
		}
		for _, f := range frames {
			count(f, func(id LaneID) *Lane { return in[id] }, near)
		}
		return nil
	})
}
