package queue

import (
	"errors"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// blockBytes is how much of the log is packed together and read at a time.
const blockBytes = 64 << 10

// block finds the block that holds event seq or, when that is gone, the first one behind it. ok is false when there is
// none. It reads the store and a segment; what the store does not find, or finds in a segment that is not there, is asked of
// the log itself.
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
			// The store has none that holds it. It may have lost it, and then the log has it.
			place, info, there, err := q.log.Find(seq)
			if err != nil || !there {
				return last, nil, false, err
			}
			if !found || info.FirstEvent < p.first || gone {
				if !gone && info.EndEvent() <= q.applied.Load() {
					q.keeper.doubt()
				}
				p, last = placed{place, info.FirstEvent}, info.EndEvent()-1
			}
		}
		b, err := q.log.Read(p.Place)
		if log.Gone(err) {
			gone = true // deleted just now, or it was missing at the start
			continue
		}
		if err == nil {
			frames, err = b.Frames()
		}
		return last, frames, true, err
	}
	return last, nil, false, nil
}

// frames returns the frames from the one that holds event seq, or from the first behind it, in order: from memory when
// they are new, else one block. Frames end at the position that the lanes may read to. damagedTo is set when a block
// could not be read: all below it must be passed over.
func (q *Queue) frames(seq uint64) (frames []*entry.Frame, damagedTo uint64, err error) {
	end := q.end.Load()
	if seq >= end {
		return nil, 0, nil
	}
	for at := seq; ; {
		if frames = q.tail.from(at, blockBytes); frames != nil {
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
		// The log has nothing that comes before what is in memory, or is just saving it. Should that leave memory now, the
		// next round finds it in the log.
		at = oldest
	}
	return slices.DeleteFunc(frames, func(f *entry.Frame) bool { return f.End() <= seq || f.First >= end }), 0, nil
}

// find returns one event of the log. ok is false when it is not kept any more.
func (q *Queue) find(seq uint64) (ev Stored, ok bool, err error) {
	if seq >= q.end.Load() {
		return ev, false, nil
	}
	if frames := q.tail.from(seq, 0); frames != nil {
		ev, err = frames[0].Find(seq)
		return ev, err == nil, err
	}
	if seq >= q.log.Low() {
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

// carriedFrame returns the frame of an event whose segment is gone, nil when it was not carried.
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
			continue // carried on just now
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
