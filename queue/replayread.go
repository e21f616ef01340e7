package queue

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// replayBatch is what was read at once for a replay.
type replayBatch struct {
	ahead  []Stored
	passed int64  // events that are not kept or not for the lane
	read   uint64 // all events below it were read
}

// readReplay reads the next events that a replay may be for. One caller at a time for each replay; the caller does not hold
// mu, and passes the result to add.
func (l *Lane) readReplay(r *replay) (b replayBatch, err error) {
	b.read = r.read
	switch {
	case len(r.spec.Seqs) > 0:
		err = l.readSeqs(r, &b)
	case r.spec.Failed:
		err = l.readFailed(r, &b)
	default:
		err = l.readSettled(r, &b)
	}
	return b, err
}

// add takes over a batch. The caller holds mu, or nobody else knows the replay.
func (r *replay) add(b replayBatch) {
	r.ahead, r.read = append(r.ahead, b.ahead...), b.read
	r.passed += b.passed
}

// readSeqs reads events that the replay names.
func (l *Lane) readSeqs(r *replay, b *replayBatch) error {
	at, _ := slices.BinarySearch(r.spec.Seqs, b.read)
	var reader eventReader
	for n := 0; at < len(r.spec.Seqs) && n < replayReadEvents && reader.bytes < replayReadBytes; n++ {
		seq := r.spec.Seqs[at]
		ev, ok, err := reader.find(l.q, seq)
		if err != nil {
			return err
		}
		at, b.read = at+1, seq+1
		if ok && ev.Lanes.Has(l.id) {
			b.ahead = append(b.ahead, ev)
		} else {
			b.passed++
		}
	}
	return nil
}

// readFailed reads events whose deliveries failed before the replay began.
func (l *Lane) readFailed(r *replay, b *replayBatch) error {
	var list []Failure
	keys, last := 0, b.read
	fresh := l.unsavedFailures() // before the store is read: what it gets meanwhile is in both
	err := l.q.index.scan(recordKey(l.id, entry.Failed, b.read), recordKey(l.id, entry.Failed, math.MaxUint64), func(key store.Key, record []byte) (bool, error) {
		seq := key.Number
		if seq >= r.end {
			return false, nil
		}
		keys, last = keys+1, seq
		if f, err := parseFailure(seq, record); err != nil {
			l.q.unreadable(seq, seq+1, err)
			b.passed++
		} else {
			list = append(list, f)
		}
		return keys < replayReadEvents, nil
	})
	if err != nil {
		return err
	}
	to := r.end
	if keys >= replayReadEvents {
		to = last + 1
	}
	list = withUnsaved(list, fresh, b.read, to)
	var reader eventReader
	for _, o := range list {
		if reader.bytes >= replayReadBytes {
			return nil
		}
		b.read = o.Seq + 1
		if !r.matches(&o) {
			continue
		}
		if r.withoutEvents {
			b.ahead = append(b.ahead, Stored{Seq: o.Seq})
			continue
		}
		ev, ok, err := reader.find(l.q, o.Seq)
		if err != nil {
			b.read = o.Seq
			return err
		}
		switch {
		case !ok:
			b.passed++
		case matchesType(r.spec.Types, ev.Type):
			b.ahead = append(b.ahead, ev)
		}
	}
	if keys < replayReadEvents {
		b.read = r.end
	}
	return nil
}

// unsavedFailures are the records of failed deliveries that the store does not have yet, nil where one is deleted. On a full
// disk there may be many.
func (l *Lane) unsavedFailures() map[uint64][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := map[uint64][]byte{}
	for name, u := range l.unsaved {
		if name.kind == entry.Failed {
			fresh[name.seq] = u.record
		}
	}
	return fresh
}

// withUnsaved replaces records of events from one up to below to, as they were read from the store, by unsaved ones.
func withUnsaved(list []Failure, fresh map[uint64][]byte, from, to uint64) []Failure {
	list = slices.DeleteFunc(list, func(f Failure) bool {
		_, is := fresh[f.Seq]
		return is
	})
	for seq, record := range fresh {
		if seq < from || seq >= to || record == nil {
			continue
		}
		if f, err := parseFailure(seq, record); err == nil {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b Failure) int { return cmp.Compare(a.Seq, b.Seq) })
	return list
}

// matches reports whether the replay is for a delivery that failed so.
func (r *replay) matches(f *Failure) bool {
	at := f.At.UnixMilli()
	return at <= int64(r.number) && at >= unixMilli(r.spec.Since) &&
		(r.spec.Until.IsZero() || at < unixMilli(r.spec.Until)) &&
		(len(r.spec.Classes) == 0 || slices.Contains(r.spec.Classes, f.Class))
}

// readSettled reads events of the log that were accepted when the replay says.
func (l *Lane) readSettled(r *replay, b *replayBatch) error {
	wanted := criteria{types: r.spec.Types, lane: l, since: unixMilli(r.spec.Since), until: unixMilli(r.spec.Until)}
	add := func(ev *Stored, to uint64) {
		if ev.Seq >= b.read && ev.Seq < to && wanted.match(ev) {
			b.ahead = append(b.ahead, *ev)
		}
	}
	if low := min(l.q.log.FirstKeptEvent(), r.end); b.read < low {
		return l.readCarried(b, low, add)
	}
	if r.finder == nil {
		r.finder = l.q.finder(&wanted)
	}
	from, to, err := r.finder.From(b.read)
	if err != nil {
		return err
	}
	if from >= r.end {
		b.read = r.end
		return nil
	}
	frames, damagedTo, err := l.q.frames(from)
	if err != nil && !errors.Is(err, codec.ErrDamaged) {
		return err
	}
	if damagedTo > 0 {
		b.read = min(damagedTo, r.end)
		l.q.unreadable(from, b.read, err)
		return nil
	}
	if len(frames) == 0 {
		b.read = r.end
		return nil
	}
	to = min(max(to, frames[len(frames)-1].End()), r.end)
	for _, f := range frames {
		for rd := f.Reader(); ; {
			at := rd.Seq()
			ev, ok, err := rd.Next()
			if err != nil {
				l.q.unreadable(max(at, b.read), min(f.End(), r.end), err)
			}
			if err != nil || !ok {
				break
			}
			add(&ev, to)
		}
	}
	b.read = max(min(to, frames[len(frames)-1].End()), from+1)
	return nil
}

// readCarried reads carried events below low.
func (l *Lane) readCarried(b *replayBatch, low uint64, add func(*Stored, uint64)) error {
	var seqs []uint64
	err := l.q.index.scan(store.CarriedKey(b.read), store.CarriedKey(low-1), func(key store.Key, _ []byte) (bool, error) {
		seqs = append(seqs, key.Number)
		return len(seqs) < replayReadEvents, nil
	})
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		f, err := l.q.carriedFrame(seq)
		var ev Stored
		if f != nil && err == nil {
			ev, err = f.Find(seq)
		}
		switch {
		case errors.Is(err, codec.ErrDamaged):
			l.q.unreadable(seq, seq+1, err)
		case err != nil:
			return err
		case f != nil:
			add(&ev, low)
		}
		b.read = seq + 1
	}
	if len(seqs) < replayReadEvents {
		b.read = low
	}
	return nil
}
