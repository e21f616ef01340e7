package queue

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// DeliveryStory is what is known of one event's delivery to one endpoint.
type DeliveryStory struct {
	Lane     string
	State    string    // pending, retrying, delivered or failed
	Next     time.Time // when a retrying delivery is due
	Replay   uint64    // that a retrying delivery is part of; 0 for none
	Attempts []Attempt // those whose records are still kept, in order
	Failure  *Failure  // of a failed delivery
}

// The states of a delivery.
const (
	Pending  = "pending"
	Retrying = "retrying"
	Settled  = "delivered"
	GivenUp  = "failed"
)

// Story looks up an event by its id, with everything that happened to it. found is false when no such event is kept. It
// first saves the lanes' progress and is for those who ask now and then.
func (q *Queue) Story(id []byte) (ev Stored, deliveries []DeliveryStory, found bool, err error) {
	if err := q.settled(); err != nil {
		return ev, nil, false, err
	}
	seqs, err := q.kept(id)
	if err != nil || len(seqs) == 0 {
		return ev, nil, false, err
	}
	seq := seqs[0]
	if ev, found, err = q.find(seq); err != nil || !found {
		return ev, nil, false, err
	}
	ev.At = q.shown(ev.At)
	var lanes []*Lane
	for _, l := range q.Lanes() {
		if ev.Lanes.Has(l.id) {
			story, err := q.deliveryStory(l, seq)
			if err != nil {
				return ev, nil, true, err
			}
			lanes, deliveries = append(lanes, l), append(deliveries, story)
		}
	}
	// The states are as of now, the attempts as of the last save: without another one, some that led to a state could be
	// missing.
	if err := q.settled(); err != nil {
		return ev, nil, true, err
	}
	if err := q.addAttempts(seq, lanes, deliveries); err != nil {
		return ev, nil, true, err
	}
	return ev, deliveries, true, nil
}

// kept lists the events that are kept and have an id, newest first: there are several when it was used again after its
// window.
func (q *Queue) kept(id []byte) (seqs []uint64, err error) {
	h := q.log.Key().Hash(id)
	if seqs, err = q.log.LookupAll(&h); err != nil {
		return nil, err
	}
	kept := seqs[:0]
	for _, seq := range seqs {
		_, ok, err := q.find(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return nil, err
		}
		if ok {
			kept = append(kept, seq)
		}
	}
	return kept, nil
}

// Standing is how an event's delivery to a lane stands.
type Standing struct {
	Seq   uint64 // 0 when no such event is kept
	State string // empty when the event is not for the lane
}

// Standings looks up events by their ids.
func (q *Queue) Standings(l *Lane, ids []string) ([]Standing, error) {
	if err := q.settled(); err != nil {
		return nil, err
	}
	list := make([]Standing, len(ids))
	for i, id := range ids {
		seqs, err := q.kept([]byte(id))
		if err != nil {
			return nil, err
		}
		// Of several events the one counts whose delivery failed, else the newest.
		for n, seq := range seqs {
			ev, _, err := q.find(seq)
			if err != nil {
				return nil, err
			}
			state := ""
			if ev.Lanes.Has(l.id) {
				if state, err = l.state(seq); err != nil {
					return nil, err
				}
			}
			if n == 0 || state == GivenUp && list[i].State != GivenUp {
				list[i] = Standing{seq, state}
			}
		}
	}
	return list, nil
}

// deliveryStory tells how a delivery stands, without its attempts.
func (q *Queue) deliveryStory(l *Lane, seq uint64) (DeliveryStory, error) {
	s := DeliveryStory{Lane: l.name, State: Settled}
	l.mu.Lock()
	now, err := l.standing(seq)
	l.mu.Unlock()
	if err != nil {
		return s, err
	}
	switch s.State = now.state; now.state {
	case GivenUp:
		f, err := parseFailure(seq, now.record)
		if err != nil {
			return s, err
		}
		f.At = time.UnixMilli(q.shown(f.At.UnixMilli()))
		s.Failure = &f
	case Retrying:
		r, err := parseRetry(seq, now.record)
		if err != nil {
			return s, err
		}
		s.Next, s.Replay = time.UnixMilli(q.shown(r.due.UnixMilli())), r.replay
	}
	return s, nil
}

// addAttempts reads the attempts of an event's deliveries from the log.
func (q *Queue) addAttempts(seq uint64, lanes []*Lane, stories []DeliveryStory) error {
	places, err := q.log.Told(seq)
	if err != nil {
		return err
	}
	for _, p := range places {
		b, err := q.log.Read(p)
		if log.Gone(err) || errors.Is(err, codec.ErrDamaged) {
			continue // history that is gone or can't be read
		}
		if err != nil {
			return err
		}
		err = b.Unpack(func(h entry.Header, raw []byte) error {
			if h.Kind != entry.KindProgress {
				return nil
			}
			progress, err := entry.ParseProgress(h, raw)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(lanes, func(l *Lane) bool { return l.id == progress.Lane })
			for _, m := range progress.Attempts {
				if at >= 0 && m.Seq == seq {
					stories[at].Attempts = append(stories[at].Attempts, m.Attempt)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
	}
	for i := range stories {
		// Carried attempts come again, behind those that were not carried yet.
		list := stories[i].Attempts
		slices.SortStableFunc(list, func(a, b Attempt) int {
			return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Replay, b.Replay))
		})
		stories[i].Attempts = slices.CompactFunc(list, func(a, b Attempt) bool {
			return a.At.Equal(b.At) && a.Number == b.Number && a.Replay == b.Replay && a.Took == b.Took
		})
	}
	return nil
}

// isPending reports whether the lane has not attempted an event of the log that is for it. The caller holds mu.
func (l *Lane) isPending(seq uint64) bool {
	at, in := slices.BinarySearchFunc(l.window, seq, func(f *flight, seq uint64) int {
		switch {
		case f.ev.Seq < seq:
			return -1
		case f.ev.Seq > seq:
			return 1
		}
		return 0
	})
	if in {
		return !l.window[at].settled
	}
	_, settled := l.skip[seq]
	return seq >= l.next && !settled
}
