package queue

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// Before a segment is deleted, what is still needed of it is carried: appended to the log again, synced, and placed in the
// store.

// requireCounts has the next save include the counts of those of some lanes that hold events below one, and reports whether
// there are such lanes: events that are deleted can't be counted at a start.
func (w *writer) requireCounts(lanes []*Lane, below uint64) bool {
	if !slices.ContainsFunc(lanes, func(l *Lane) bool { return l.holdsBelow(below) && l.uncounted(below) }) {
		return false
	}
	w.countedBytes = countEvery
	return true
}

// carriedBlock gathers carried events for a block.
type carriedBlock struct {
	log    *log.Log
	entry  uint64 // the entry that they follow
	raw    []byte
	events []*entry.Frame
	bodies int // bytes
}

func (b *carriedBlock) add(ev *Stored) {
	var d entry.Draft
	d.Add(ev.Source, ev.Event(), entry.Hash{})
	var f *entry.Frame
	b.raw, f = d.Seal(b.raw, b.entry, ev.Seq, ev.At)
	b.events, b.bodies = append(b.events, f), b.bodies+len(ev.Body)
	if len(b.raw) >= blockBytes {
		b.flush()
	}
}

func (b *carriedBlock) flush() {
	if len(b.events) > 0 {
		b.log.Carry(b.raw, b.events, b.bodies)
		b.raw, b.events, b.bodies = nil, nil, 0
	}
}

// carry carries what is needed of a segment: events that are pending, retrying or failed, or that a replay has in flight,
// and their attempts. What lanes hold may be much and is carried in several steps; it only gets less meanwhile. The rest is
// carried at once, right before the segment goes. done is the event up to which retention may delete in this run.
func (r *retainer) carry(q *Queue, s *log.Segment, done uint64, over func() bool) (more bool, err error) {
	c := &r.carrying
	if c.segment != s.Number {
		*c = carrying{segment: s.Number, at: s.FirstEvent, done: map[uint64]bool{}}
	}
	b := &carriedBlock{log: q.log, entry: s.EndEntry}
	if more, err = r.carryHeld(q, s, b, over); err == nil && !more {
		more, err = r.carryAgain(q, s, b, over)
	}
	if err == nil && !more {
		err = r.carryNeeded(q, s, b, done)
	}
	if err != nil {
		return false, err
	}
	b.flush()
	if !more && (len(c.done) > 0 || r.carriedEvents > 0) {
		if err := r.carryAttempts(q, s, c.done); err != nil {
			return false, err
		}
	}
	saved, err := q.log.Save()
	if err != nil {
		return false, err
	}
	return more, r.placeCarried(q, saved)
}

// errTimeUp ends a walk over blocks whose time slice is over.
var errTimeUp = errors.New("the time slice is over")

// carryHeld carries what lanes hold of a segment. As a rule lanes that are served hold nothing: a segment goes when they
// have not needed it for long. A lane that was unserved until now is an exception.
func (r *retainer) carryHeld(q *Queue, s *log.Segment, b *carriedBlock, over func() bool) (more bool, err error) {
	c := &r.carrying
	var lanes []*Lane
	var words []uint64
	for _, l := range r.holders {
		if c.at < s.EndEvent && l.holdsBelow(s.EndEvent) {
			lanes, words = append(lanes, l), append(words, log.LaneWord(q.log.Key(), l.id))
		}
	}
	if len(lanes) == 0 {
		c.at = s.EndEvent
		return false, nil
	}
	err = q.log.BlocksWith(words, c.at, s.EndEvent, func(p log.Place, info *log.Info, which []int) error {
		if over() {
			return errTimeUp
		}
		block, err := q.log.Read(p)
		var frames []*entry.Frame
		if err == nil {
			frames, err = block.Frames()
		}
		if errors.Is(err, codec.ErrDamaged) {
			q.unreadable(max(c.at, info.FirstEvent), info.EndEvent(), err)
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range frames {
			for rd := f.Reader(); ; {
				ev, ok, err := rd.Next()
				if err != nil {
					q.unreadable(rd.Seq(), f.End(), err)
				}
				if err != nil || !ok {
					break
				}
				if ev.Seq < c.at || c.done[ev.Seq] {
					continue
				}
				needed := slices.ContainsFunc(which, func(i int) bool { return ev.Lanes.Has(lanes[i].id) && lanes[i].holds(ev.Seq) })
				if needed {
					b.add(&ev)
					c.done[ev.Seq] = true
				}
			}
			c.at = max(c.at, f.End())
		}
		return nil
	})
	if errors.Is(err, errTimeUp) {
		return true, nil
	}
	if err == nil {
		c.at = s.EndEvent
	}
	return false, err
}

// carryAgain carries what had been carried into a segment.
func (r *retainer) carryAgain(q *Queue, s *log.Segment, b *carriedBlock, over func() bool) (more bool, err error) {
	c, n := &r.carrying, 0
	err = q.log.BlocksOf(s.Number, log.Carried, func(p log.Place, _ *log.Info) error {
		if n++; n <= c.carriedBlocks {
			return nil
		}
		if over() {
			return errTimeUp
		}
		c.carriedBlocks = n
		block, err := q.log.Read(p)
		var frames []*entry.Frame
		if err == nil {
			frames, err = block.Frames()
		}
		if errors.Is(err, codec.ErrDamaged) {
			return r.reportLost(q, p, err)
		}
		if err != nil {
			return err
		}
		for _, f := range frames {
			value, err := q.index.get(store.CarriedKey(f.First))
			if err != nil {
				return err
			}
			if value == nil {
				continue
			}
			if at, err := parseCarried(value); err != nil || at.Place != p {
				continue // it was carried again already
			}
			if ev, err := f.Find(f.First); err == nil {
				b.add(&ev)
				c.done[ev.Seq] = true
			}
		}
		return nil
	})
	if errors.Is(err, errTimeUp) {
		return true, nil
	}
	return false, err
}

// carryNeeded carries the events of a segment that are retrying or failed, or in flight in a replay.
func (r *retainer) carryNeeded(q *Queue, s *log.Segment, b *carriedBlock, done uint64) error {
	needed, err := r.needed.within(q, s.FirstEvent, s.EndEvent, done)
	if err != nil {
		return err
	}
	var reader eventReader
	for _, seq := range needed {
		if r.carrying.done[seq] {
			continue
		}
		ev, ok, err := reader.find(q, seq)
		if err != nil {
			return err
		}
		if ok {
			b.add(&ev)
			r.carrying.done[seq] = true
		}
	}
	return nil
}

// reportLost reports which carried events were in a block that can't be read.
func (r *retainer) reportLost(q *Queue, p log.Place, why error) error {
	var gone []uint64
	err := q.index.scan(store.First(store.Carried), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
		c, err := parseCarried(value)
		if err == nil && c.Place == p {
			gone = append(gone, key.Number)
		}
		return true, err
	})
	q.reportCarriedLost(gone, why)
	return err
}

// reportLostAttempts reports attempts that can't be carried.
func (q *Queue) reportLostAttempts(segment uint64, err error) {
	q.damaged.Add(1)
	q.opts.Notice(fmt.Sprintf("log: attempts of failed or retrying deliveries in segment %d can't be read and are lost: %v", segment, err))
}

// carriedBefore answers whether any event of a range was carried. It remembers where it found none, so that ranges that
// ascend cost a search for each carried event at most.
type carriedBefore struct {
	q        *Queue
	from, at uint64 // no event from one on and before the other was carried
	err      error  // of the first search that failed
}

func (c *carriedBefore) has(from, to uint64) bool {
	if from > c.at || from < c.from {
		key, _, found, err := c.q.index.seek(store.CarriedKey(from), store.Last(store.Carried))
		c.err = cmp.Or(c.err, err)
		if c.from, c.at = from, math.MaxUint64; found {
			c.at = key.Number
		}
	}
	return c.at < to
}

// carryAttempts carries the attempts that a segment has of carried events, those of now and those of before.
func (r *retainer) carryAttempts(q *Queue, s *log.Segment, now map[uint64]bool) error {
	list := make([]uint64, 0, len(now))
	for seq := range now {
		list = append(list, seq)
	}
	slices.Sort(list)
	before := carriedBefore{q: q}
	places, err := q.log.AttemptBlocksIn(s.Number, func(from, to uint64) bool {
		at, _ := slices.BinarySearch(list, from)
		return at < len(list) && list[at] < to || from < s.FirstEvent && before.has(from, min(to, s.FirstEvent))
	})
	if err = errors.Join(err, before.err); err != nil {
		return err
	}
	wanted := func(seq uint64) (bool, error) {
		is, known := now[seq]
		if !known && seq < s.FirstEvent {
			value, err := q.index.get(store.CarriedKey(seq))
			if err != nil {
				return false, err
			}
			is = value != nil
			now[seq] = is
		}
		return is, nil
	}
	lanes := map[LaneID][]entry.EventAttempt{}
	for _, p := range places {
		b, err := q.log.Read(p)
		if errors.Is(err, codec.ErrDamaged) {
			q.reportLostAttempts(s.Number, err)
			continue
		}
		if err != nil {
			return err
		}
		err = b.Unpack(func(h entry.Header, raw []byte) error {
			return entry.EachAttempt(h, raw, func(lane LaneID, m entry.EventAttempt) error {
				is, err := wanted(m.Seq)
				if is {
					lanes[lane] = append(lanes[lane], m)
				}
				return err
			})
		})
		if errors.Is(err, codec.ErrDamaged) {
			q.reportLostAttempts(s.Number, err)
		} else if err != nil {
			return err
		}
	}
	var raw []byte
	var seqs []uint64
	put := func() {
		if len(raw) > 0 {
			q.log.Local(log.CarriedAttempts, raw, seqs)
			raw, seqs = nil, nil
		}
	}
	ids := make([]LaneID, 0, len(lanes))
	for id := range lanes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		for made := lanes[id]; len(made) > 0; {
			n := min(len(made), 256)
			p := entry.Progress{Lane: id, Attempts: made[:n]}
			raw = p.Append(raw, s.EndEntry, q.now())
			for _, m := range made[:n] {
				seqs = append(seqs, m.Seq)
			}
			if made = made[n:]; len(raw) >= blockBytes {
				put()
			}
		}
	}
	put()
	return nil
}

// placeCarried writes the places of carried events into the store.
func (r *retainer) placeCarried(q *Queue, saved []log.Saved) error {
	a := newApplier(q.index.store)
	placed := map[uint64]bool{} // a save that the disk refused may have carried an event already: then it is there twice
	for i := range saved {
		if saved[i].Kind != log.Carried {
			continue
		}
		b, err := q.log.Read(saved[i].Place)
		if err != nil {
			return err
		}
		var failed error
		err = eachCarried(b, saved[i].Place, func(seq uint64, c carried) {
			had, err := q.index.get(store.CarriedKey(seq))
			if had == nil && !placed[seq] {
				placed[seq] = true
				r.carriedEvents++
				r.carriedBytes += int64(c.bytes)
				err = errors.Join(err, r.unserved.add(q, seq, c.bytes, c.lanes))
			}
			value := c.append(nil)
			err = errors.Join(err, a.fit(1, len(value)))
			if err == nil {
				err = a.batch.Set(store.CarriedKey(seq), value)
			}
			failed = errors.Join(failed, err)
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	return a.finish()
}
