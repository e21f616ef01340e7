package queue

import (
	"errors"
	"fmt"
	"slices"
	"time"
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
	record, err := q.store.get(appendIDKey(nil, id))
	if err != nil || record == nil {
		return ev, nil, false, err
	}
	seq, _, err := parseIDRecord(record)
	if err != nil {
		return ev, nil, false, err
	}
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
	for i, l := range lanes {
		if err := q.addAttempts(l, seq, &deliveries[i]); err != nil {
			return ev, nil, true, err
		}
	}
	return ev, deliveries, true, nil
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
		record, err := q.store.get(appendIDKey(nil, []byte(id)))
		if err != nil {
			return nil, err
		}
		if record == nil {
			continue
		}
		seq, _, err := parseIDRecord(record)
		if err != nil {
			return nil, err
		}
		ev, found, err := q.find(seq)
		if err != nil && !errors.Is(err, errDamaged) {
			return nil, err
		}
		if !found {
			continue
		}
		list[i].Seq = seq
		if ev.Lanes.Has(l.id) {
			if list[i].State, err = l.state(seq); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// deliveryStory tells how a delivery stands, without its attempts.
func (q *Queue) deliveryStory(l *Lane, seq uint64) (DeliveryStory, error) {
	s := DeliveryStory{Lane: l.name, State: Settled}
	l.mu.Lock()
	state, err := l.stateLocked(seq)
	var record []byte
	if err == nil && state == GivenUp {
		record, err = l.kept(deliveryKey(kindFailed, l.id, seq))
	} else if err == nil && state == Retrying {
		record, err = l.kept(deliveryKey(kindRetry, l.id, seq))
	}
	l.mu.Unlock()
	if err != nil {
		return s, err
	}
	switch s.State = state; state {
	case GivenUp:
		f, err := parseFailure(seq, record)
		if err != nil {
			return s, err
		}
		f.At = time.UnixMilli(q.shown(f.At.UnixMilli()))
		s.Failure = &f
	case Retrying:
		r, err := parseRetry(seq, record)
		if err != nil {
			return s, err
		}
		s.Next, s.Replay = time.UnixMilli(q.shown(r.due.UnixMilli())), r.replay
	}
	return s, nil
}

// addAttempts reads the records of a delivery's attempts.
func (q *Queue) addAttempts(l *Lane, seq uint64, s *DeliveryStory) error {
	prefix := attemptKey(seq, l.id, 0, 0)[:13]
	err := q.store.scan(prefix, prefix, false, func(_ []byte, value func() ([]byte, error)) (bool, error) {
		record, err := value()
		if err != nil {
			return false, err
		}
		d := decoder{buf: record}
		a := d.attempt()
		a.Replay = d.replay()
		if !d.ok() {
			return false, fmt.Errorf("read attempts of event %d: %w", seq, errDamaged)
		}
		s.Attempts = append(s.Attempts, a)
		return true, nil
	})
	first := slices.ContainsFunc(s.Attempts, func(a Attempt) bool { return a.Replay == 0 })
	if err == nil && s.State != Pending && !first {
		err = q.wellAttempt(l, seq, s)
	}
	return err
}

// maxWellSearch bounds how many blocks of attempts are searched for one event: those saved while the slowest attempt ran.
const maxWellSearch = 8192

// wellAttempt finds the record of a first attempt that went well. It lies in a block that ends with this event or a later
// one: with one later by as much as was settled while this attempt ran.
func (q *Queue) wellAttempt(l *Lane, seq uint64, s *DeliveryStory) error {
	from := wellKey(l.id, seq, 0)
	searched := 0
	return q.store.scan(from[:5], from, false, func(_ []byte, value func() ([]byte, error)) (bool, error) {
		record, err := value()
		if err != nil {
			return false, err
		}
		a, ok, err := findWell(record, seq)
		if ok {
			s.Attempts = slices.Insert(s.Attempts, 0, a) // before those of replays
		}
		searched++
		return !ok && searched < maxWellSearch, err
	})
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
