package queue

import (
	"errors"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// blockBytes is how many bytes of entries are packed together, and read at a time.
const blockBytes = 64 << 10

// block finds the block that holds event seq or, when that is deleted, the first block behind it. ok is false when there is
// none. It reads the store and a segment. What the store does not find, or finds in a segment that does not exist, it asks
// of the log itself.
func (q *Queue) block(seq uint64) (last uint64, frames []*entry.Frame, ok bool, err error) {
	gone := false
	for range 3 {
		key, value, found, err := q.index.seek(store.PlaceKey(seq), store.Last(store.Place))
		var p placed
		if err == nil && found {
			p, err = parsePlaced(value)
		}
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return 0, nil, false, err
		}
		last = key.Number
		if err != nil || !found || p.first > seq || gone {
			// The store has none that holds it. If the store lost it, the log has it.
			place, info, there, err := q.log.Find(seq)
			if err != nil || !there {
				return last, nil, false, err
			}
			if !found || info.FirstEvent < p.first || gone {
				if !gone && info.EndEvent() <= q.applied.Load() {
					q.writer.suspectStore()
				}
				p, last = placed{place, info.FirstEvent}, info.EndEvent()-1
			}
		}
		b, err := q.log.Read(p.Place)
		if log.Gone(err) {
			gone = true // deleted just now, or missing since the start
			continue
		}
		if err == nil {
			frames, err = b.Frames()
		}
		return last, frames, true, err
	}
	return last, nil, false, nil
}

// frames returns frames from the one on that holds event seq, or from the first behind it: from memory when they are new,
// else one block from disk. The last one ends at most where lanes may read to. damagedTo is set when a block could not be
// read: everything below it is to be passed over.
func (q *Queue) frames(seq uint64) (frames []*entry.Frame, damagedTo uint64, err error) {
	end := q.end.Load()
	if seq >= end {
		return nil, 0, nil
	}
	for at := seq; ; {
		if frames = q.tail.framesFrom(at, blockBytes); frames != nil {
			break
		}
		oldest, applied := q.tail.first(), q.applied.Load()
		last, found, ok, err := q.block(at)
		if err != nil && (!ok || last < applied) {
			return nil, max(last, seq) + 1, err
		}
		if err == nil && len(found) > 0 && found[0].First < oldest {
			frames = found
			break
		}
		if oldest == noFrames {
			break
		}
		// The log has nothing before what is in memory, or is just saving it. If that leaves memory now, the next round
		// finds it in the log.
		at = oldest
	}
	return slices.DeleteFunc(frames, func(f *entry.Frame) bool { return f.End() <= seq || f.First >= end }), 0, nil
}

// find returns one event of the log. ok is false when it is not kept any more. It may read the store and a block.
func (q *Queue) find(seq uint64) (ev Stored, ok bool, err error) {
	if seq >= q.end.Load() {
		return ev, false, nil
	}
	if frames := q.tail.framesFrom(seq, 0); frames != nil {
		ev, err = frames[0].Find(seq)
		return ev, err == nil, err
	}
	if seq >= q.log.FirstKeptEvent() {
		_, frames, _, err := q.block(seq)
		for _, f := range frames {
			if f.First <= seq && seq < f.End() {
				ev, err = f.Find(seq)
				return ev, err == nil, err
			}
		}
		if err != nil {
			return ev, false, err
		}
	}
	f, err := q.carriedFrame(seq)
	if f == nil {
		return ev, false, err
	}
	ev, err = f.Find(seq)
	return ev, err == nil, err
}

// carriedFrame returns the frame of an event whose segment is deleted, nil when it was not carried. It reads the store and a
// block.
func (q *Queue) carriedFrame(seq uint64) (*entry.Frame, error) {
	for range 3 {
		value, err := q.index.get(store.CarriedKey(seq))
		if err != nil || value == nil {
			return nil, err
		}
		c, err := parseCarried(value)
		if err != nil {
			return nil, err
		}
		b, err := q.log.Read(c.Place)
		if log.Gone(err) {
			continue // carried again just now
		}
		if err != nil {
			return nil, err
		}
		frames, err := b.Frames()
		at := slices.IndexFunc(frames, func(f *entry.Frame) bool { return f.First == seq })
		if at < 0 {
			return nil, err
		}
		return frames[at], nil
	}
	return nil, nil
}

// framesBefore returns the frames of the block that holds the event before seq, or of the nearest block before that; from
// memory or from disk. It passes over what can't be read; the lanes report that.
func (q *Queue) framesBefore(seq uint64) (frames []*entry.Frame, err error) {
	if seq <= 1 {
		return nil, nil
	}
	if frames := q.tail.framesFrom(seq-1, 0); frames != nil {
		return frames, nil
	}
	all := q.log.NewFinder(nil, nil, nil, 0, 0)
	for {
		from, to, ok, err := all.Before(seq)
		if err != nil || !ok {
			return nil, err
		}
		_, frames, _, err := q.block(to - 1)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return nil, err
		}
		if err == nil && len(frames) > 0 && frames[0].First < seq {
			return frames, nil
		}
		seq = from
	}
}

// eventReader finds events one by one, in order, and reads each block once.
type eventReader struct {
	frames []*entry.Frame
	bytes  int // that were read
}

// find returns an event. ok is false when it is not kept any more, or can't be read, which is reported. It may read disk.
func (r *eventReader) find(q *Queue, seq uint64) (ev Stored, ok bool, err error) {
	for fresh := false; ; fresh = true {
		for _, f := range r.frames {
			if f.First <= seq && seq < f.End() {
				if ev, err = f.Find(seq); err != nil {
					q.unreadable(seq, seq+1, err)
				}
				return ev, err == nil, nil
			}
		}
		if fresh {
			break
		}
		r.frames, _, err = q.frames(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return ev, false, err
		}
		for _, f := range r.frames {
			r.bytes += len(f.Raw)
		}
	}
	ev, ok, err = q.find(seq)
	r.bytes += len(ev.Body)
	if errors.Is(err, codec.ErrDamaged) {
		q.unreadable(seq, seq+1, err)
		err = nil
	}
	return ev, ok, err
}
