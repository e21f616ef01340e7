package queue

import (
	"errors"
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// readReplay reads a little more of what a replay may be for. The caller holds mu.
func (l *Lane) readReplay(r *replay) error {
	switch {
	case len(r.spec.Seqs) > 0:
		return l.readSeqs(r)
	case r.spec.Failed:
		return l.readFailed(r)
	default:
		return l.readSettled(r)
	}
}

// readSeqs reads the events that the replay names.
func (l *Lane) readSeqs(r *replay) error {
	at, _ := slices.BinarySearch(r.spec.Seqs, r.read)
	var s reading
	for n := 0; at < len(r.spec.Seqs) && n < replayRead && s.bytes < replayReadBytes; n++ {
		seq := r.spec.Seqs[at]
		ev, ok, err := s.find(l.q, seq)
		if err != nil {
			return err
		}
		at, r.read = at+1, seq+1
		if ok && ev.Lanes.Has(l.id) {
			r.ahead = append(r.ahead, ev)
		} else {
			r.passed++
		}
	}
	return nil
}

// readFailed reads events whose deliveries failed before the replay began.
func (l *Lane) readFailed(r *replay) error {
	type one struct {
		seq     uint64
		failure Failure
	}
	var list []one
	keys := 0
	err := l.q.index.scan(recordKey(l.id, entry.Failed, r.read), recordKey(l.id, entry.Failed, math.MaxUint64), func(key store.Key, record []byte) (bool, error) {
		seq := key.Number
		if seq >= r.to {
			return false, nil
		}
		f, err := parseFailure(seq, record)
		if err != nil {
			l.q.damaged.Add(1)
			r.passed++
		}
		list = append(list, one{seq, f})
		keys++
		return keys < replayRead, nil
	})
	if err != nil {
		return err
	}
	var s reading
	for _, o := range list {
		if s.bytes >= replayReadBytes {
			return nil
		}
		r.read = o.seq + 1
		if !r.wants(&o.failure) {
			continue
		}
		if r.bare {
			r.ahead = append(r.ahead, Stored{Seq: o.seq})
			continue
		}
		ev, ok, err := s.find(l.q, o.seq)
		if err != nil {
			r.read = o.seq
			return err
		}
		switch {
		case !ok:
			r.passed++
		case matchesType(r.spec.Types, ev.Type):
			r.ahead = append(r.ahead, ev)
		}
	}
	if keys < replayRead {
		r.read = r.to
	}
	return nil
}

// wants reports whether the replay is for a delivery that was given up so.
func (r *replay) wants(f *Failure) bool {
	at := f.At.UnixMilli()
	return at <= int64(r.number) && at >= unixMilli(r.spec.Since) &&
		(r.spec.Until.IsZero() || at < unixMilli(r.spec.Until)) &&
		(len(r.spec.Classes) == 0 || slices.Contains(r.spec.Classes, f.Class))
}

// readSettled reads events of the log that were accepted when the replay says.
func (l *Lane) readSettled(r *replay) error {
	sv := sieve{types: r.spec.Types, lane: l, since: unixMilli(r.spec.Since), until: unixMilli(r.spec.Until)}
	add := func(ev *Stored, to uint64) {
		if ev.Seq >= r.read && ev.Seq < to && sv.passes(ev) {
			r.ahead = append(r.ahead, *ev)
		}
	}
	if low := min(l.q.log.Low(), r.to); r.read < low {
		return l.readCarried(r, low, add)
	}
	if r.finder == nil {
		r.finder = l.q.finder(&sv)
	}
	from, to, err := r.finder.From(r.read)
	if err != nil {
		return err
	}
	if from >= r.to {
		r.read = r.to
		return nil
	}
	frames, damagedTo, err := l.q.frames(from)
	if err != nil && !errors.Is(err, codec.ErrDamaged) {
		return err
	}
	if damagedTo > 0 {
		r.read = min(damagedTo, r.to)
		return nil
	}
	if len(frames) == 0 {
		r.read = r.to
		return nil
	}
	to = min(max(to, frames[len(frames)-1].End()), r.to)
	for _, f := range frames {
		for rd := f.Reader(); ; {
			ev, ok, err := rd.Next()
			if err != nil || !ok {
				break // damage, of which the lanes tell
			}
			add(&ev, to)
		}
	}
	r.read = max(min(to, frames[len(frames)-1].End()), from+1)
	return nil
}

// readCarried reads events below low, whose segments are gone and which were carried.
func (l *Lane) readCarried(r *replay, low uint64, add func(*Stored, uint64)) error {
	var seqs []uint64
	err := l.q.index.scan(store.CarriedKey(r.read), store.CarriedKey(low-1), func(key store.Key, _ []byte) (bool, error) {
		seqs = append(seqs, key.Number)
		return len(seqs) < replayRead, nil
	})
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		f, err := l.q.carriedFrame(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if f != nil {
			if ev, err := f.Find(seq); err == nil {
				add(&ev, low)
			}
		}
		r.read = seq + 1
	}
	if len(seqs) < replayRead {
		r.read = low
	}
	return nil
}

// reading finds events one by one, in order, and reads each block once.
type reading struct {
	frames []*entry.Frame
	bytes  int // read
}

// find returns an event; ok is false when it can't be read any more.
func (s *reading) find(q *Queue, seq uint64) (ev Stored, ok bool, err error) {
	for fresh := false; ; fresh = true {
		for _, f := range s.frames {
			if f.First <= seq && seq < f.End() {
				ev, err = f.Find(seq)
				return ev, err == nil, nil
			}
		}
		if fresh {
			break
		}
		s.frames, _, err = q.frames(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return ev, false, err
		}
		for _, f := range s.frames {
			s.bytes += len(f.Raw)
		}
	}
	ev, ok, err = q.find(seq)
	s.bytes += len(ev.Body)
	if errors.Is(err, codec.ErrDamaged) {
		err = nil
	}
	return ev, ok, err
}

// Begun is when a delivery came to be: when its event was accepted or, of one that is replayed, when the replay began.
func (d *Delivery) Begun() time.Time {
	if d.Replay != 0 {
		return time.UnixMilli(d.began)
	}
	return time.UnixMilli(d.Event.At)
}
