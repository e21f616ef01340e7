package queue

import (
	"errors"
	"slices"
	"time"
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
	var s bookmark
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
	from := deliveryKey(kindFailed, l.id, r.read)
	err := l.q.store.scan(from[:5], from, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		_, seq, _ := parseDeliveryKey(key)
		if seq >= r.to {
			return false, nil
		}
		record, err := value()
		if err != nil {
			return false, err
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
	var s bookmark
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
	from, to, err := l.q.stretchFrom(&sv, r.read, r.to)
	if err != nil {
		return err
	}
	r.read = from
	if from == to {
		return nil
	}
	kept, more, err := l.q.keptBetween(from, to)
	if err != nil {
		return err
	}
	frames, damagedTo, err := l.q.frames(from)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if damagedTo > 0 {
		to, frames = min(to, damagedTo), nil
	}
	first := to
	if len(frames) > 0 {
		first = min(first, frames[0].first)
		to = min(to, frames[len(frames)-1].end())
	}
	add := func(ev *Stored) {
		if ev.Seq >= r.read && ev.Seq < to && sv.passes(ev) {
			r.ahead = append(r.ahead, *ev)
		}
	}
	for _, seq := range kept {
		if seq >= first {
			break
		}
		if f, err := l.q.store.kept(seq); err == nil && f != nil {
			if ev, err := f.find(seq); err == nil {
				add(&ev)
			}
		}
		r.read = seq + 1
	}
	if more && r.read < first {
		return nil // there are more before the first block
	}
	for _, f := range frames {
		for rd := f.reader(); ; {
			ev, ok, err := rd.next()
			if err != nil || !ok {
				break // damage, of which the lanes tell
			}
			add(&ev)
		}
	}
	r.read = max(to, from+1)
	return nil
}

// keptBetween lists some events of a range that were kept when their blocks were deleted, and says whether there are more.
func (q *Queue) keptBetween(from, to uint64) (seqs []uint64, more bool, err error) {
	err = q.store.scan([]byte{kindKept}, keptKey(from, 0), true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		seq, piece, ok := parsePieceKey(key)
		if !ok || seq >= to {
			return false, nil
		}
		if piece == 0 {
			seqs = append(seqs, seq)
		}
		more = len(seqs) == replayRead
		return !more, nil
	})
	return seqs, more, err
}

// digestSteps is how many digests are looked at before whoever asked gets the word again.
const digestSteps = 64

// stretchFrom returns the nearest events from seq on and below end that may pass the sieve. from and to are equal when
// there are none below them.
func (q *Queue) stretchFrom(s *sieve, seq, end uint64) (from, to uint64, err error) {
	for steps := 0; seq < end && steps < digestSteps; steps++ {
		list, err := q.digestsBefore(seq+1, 1)
		if err != nil {
			return seq, seq, err
		}
		if len(list) == 0 || list[0].end() <= seq {
			to = end // what has no digest is looked at itself
			err := q.store.scan([]byte{kindDigest}, digestKey(seq+1), true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
				if first, ok := parseDigestKey(key); ok {
					to = min(end, first)
				}
				return false, nil
			})
			return seq, to, err
		}
		d := list[0]
		in := s.slots(d)
		for slot, slotEnd := range d.ends {
			if slotEnd <= seq || in&(1<<slot) == 0 {
				continue
			}
			from = max(seq, d.begin(slot))
			for slot+1 < len(d.ends) && in&(1<<(slot+1)) != 0 {
				slot++
			}
			return from, min(end, d.ends[slot]), nil
		}
		seq = d.end()
	}
	seq = min(seq, end)
	return seq, seq, nil
}

// bookmark finds events one by one, in order, and reads each block once.
type bookmark struct {
	frames []*frame
	bytes  int // read
}

// find returns an event; ok is false when it can't be read any more.
func (s *bookmark) find(q *Queue, seq uint64) (ev Stored, ok bool, err error) {
	for fresh := false; ; fresh = true {
		for _, f := range s.frames {
			if f.first <= seq && seq < f.end() {
				ev, err = f.find(seq)
				return ev, err == nil, nil
			}
		}
		if fresh {
			break
		}
		s.frames, _, err = q.frames(seq)
		if err != nil && !errors.Is(err, errDamaged) {
			return ev, false, err
		}
		for _, f := range s.frames {
			s.bytes += len(f.raw)
		}
	}
	ev, ok, err = q.find(seq)
	s.bytes += len(ev.Body)
	if errors.Is(err, errDamaged) {
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
