package queue

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// DeliveryStory is everything that is known of one event's delivery to one endpoint.
type DeliveryStory struct {
	Lane     string
	State    string    // pending, retrying, delivered, failed or discarded
	Next     time.Time // when a retrying delivery is due
	Replay   uint64    // number of the replay that a retrying delivery is part of; 0 for none
	Attempts []Attempt // those whose records are kept, in order
	Failure  *Failure  // of a failed delivery
	Letter   *Letter   // set when the delivery is of a letter: what failed elsewhere

	unproven bool // delivered only if one of its attempts went well: see deliveryState
}

// EventStory is an event with everything that happened to it.
type EventStory struct {
	Stored
	Deliveries []DeliveryStory
}

// IsSettled reports that no delivery of the event is pending or retrying, and that no letter of it is about to be made.
func (e *EventStory) IsSettled() bool {
	return !slices.ContainsFunc(e.Deliveries, func(d DeliveryStory) bool {
		return d.State == Pending || d.State == Retrying || d.Failure != nil && d.Failure.Owed
	})
}

// Story returns the event with an id and everything that happened to it; the newest one when the id was used again after its
// window. found is false when no such event is kept. It waits for two saves, reads disk and holds no lock meanwhile: it is
// meant for people.
func (q *Queue) Story(id []byte) (ev Stored, deliveries []DeliveryStory, found bool, err error) {
	list, err := q.Stories(id, 1)
	if len(list) == 0 {
		return ev, nil, false, err
	}
	return list[0].Stored, list[0].Deliveries, true, err
}

// Stories returns the events that have an id, newest first, most at most. Deliveries of letters are among those of the event
// they are copies of, as long as that event is kept. It costs what Story does.
func (q *Queue) Stories(id []byte, most int) (list []EventStory, err error) {
	if err := q.saveProgress(); err != nil {
		return nil, err
	}
	var lanes [][]*Lane
	originals, letters := 0, 0
	err = q.eachOf(id, func(ev *Stored) (bool, error) {
		one := EventStory{Stored: *ev}
		one.At = q.shown(ev.At)
		if ev.Letter == nil {
			originals++
		} else if letters++; letters > maxLetters {
			return true, nil
		}
		var of []*Lane
		for _, l := range q.lanesOf(ev.Lanes) {
			story, err := q.deliveryStory(l, ev.Seq)
			if err != nil {
				return false, err
			}
			story.Letter = LetterOf(ev)
			of, one.Deliveries = append(of, l), append(one.Deliveries, story)
		}
		list, lanes = append(list, one), append(lanes, of)
		return originals < most, nil
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	// The states are as of now, the attempts as of the last save: without another save, attempts that led to a state could
	// be missing.
	if err := q.saveProgress(); err != nil {
		return nil, err
	}
	for i := range list {
		if err := q.addAttempts(list[i].Seq, lanes[i], list[i].Deliveries); err != nil {
			return nil, err
		}
	}
	return foldLetters(list), nil
}

// foldLetters moves the deliveries of letters to the events they are copies of. Letters of an event that is not kept any
// more stay.
func foldLetters(list []EventStory) (folded []EventStory) {
	of := map[uint64]int{} // where an event is in folded
	for i := range list {
		if list[i].Letter == nil {
			of[list[i].Seq] = len(folded)
			folded = append(folded, list[i])
		}
	}
	for i := range slices.Backward(list) {
		letter := LetterOf(&list[i].Stored)
		if letter == nil {
			continue
		}
		if at, is := of[letter.Seq]; is {
			folded[at].Deliveries = append(folded[at].Deliveries, list[i].Deliveries...)
		} else {
			folded = append(folded, list[i])
		}
	}
	return folded
}

// eachOf calls fn with the kept events that have an id, newest first, until it returns false. There are several when the id
// was used again after its window, or when there are letters.
func (q *Queue) eachOf(id []byte, fn func(ev *Stored) (more bool, err error)) error {
	seqs, err := q.withLetters(id)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		ev, ok, err := q.find(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if !ok || err != nil {
			continue
		}
		if more, err := fn(&ev); err != nil || !more {
			return err
		}
	}
	return nil
}

// Standing is the state of an event's delivery to a lane.
type Standing struct {
	Seq   uint64 // 0 when no such event is kept
	State string // empty when the event is not for the lane; Delivered for a discarded one, too
}

// Standings looks events up by their ids. It waits for a save, reads disk and holds no lock meanwhile.
func (q *Queue) Standings(l *Lane, ids []string) ([]Standing, error) {
	if err := q.saveProgress(); err != nil {
		return nil, err
	}
	list := make([]Standing, len(ids))
	for i, id := range ids {
		// Of several events the newest counts whose delivery is failed, else the newest.
		err := q.eachOf([]byte(id), func(ev *Stored) (more bool, err error) {
			one := Standing{Seq: ev.Seq}
			if ev.Letter != nil && !ev.Lanes.Has(l.id) {
				return true, nil
			}
			if ev.Lanes.Has(l.id) {
				s, err := l.state(ev.Seq)
				if err != nil {
					return false, err
				}
				one.State = s.state
			}
			if list[i].Seq == 0 || one.State == Failed {
				list[i] = one
			}
			return one.State != Failed, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// deliveryStory returns the state of a delivery, without its attempts.
func (q *Queue) deliveryStory(l *Lane, seq uint64) (DeliveryStory, error) {
	s := DeliveryStory{Lane: l.name, State: Delivered}
	l.mu.Lock()
	now, err := l.deliveryState(seq)
	l.mu.Unlock()
	if err != nil {
		return s, err
	}
	switch s.State, s.unproven = now.state, now.unproven; now.state {
	case Failed:
		f, err := parseFailure(seq, now.record)
		if err != nil {
			return s, err
		}
		f.At = time.UnixMilli(q.shown(f.At.UnixMilli()))
		f.Owed = f.Owed && l.owesLetters()
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
	places, err := q.log.AttemptBlocks(seq)
	if err != nil {
		return err
	}
	of := make(map[LaneID]int, len(lanes))
	for i, l := range lanes {
		of[l.id] = i
	}
	for _, p := range places {
		err := q.eachProgress(p, func(p *entry.Progress) {
			at, ok := of[p.Lane]
			for _, m := range p.Attempts {
				if ok && m.Seq == seq {
					stories[at].Attempts = append(stories[at].Attempts, m.Attempt)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	for i := range stories {
		// Carried attempts are there twice as long as their first segment is.
		list := stories[i].Attempts
		slices.SortStableFunc(list, func(a, b Attempt) int {
			return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Replay, b.Replay))
		})
		stories[i].Attempts = slices.CompactFunc(list, func(a, b Attempt) bool {
			return a.At.Equal(b.At) && a.Number == b.Number && a.Replay == b.Replay && a.Took == b.Took
		})
		lanes[i].completeNewest(seq, stories[i].Attempts)
		if stories[i].unproven && !slices.ContainsFunc(stories[i].Attempts, func(a Attempt) bool { return a.WentWell() }) {
			stories[i].State = Discarded
		}
	}
	return nil
}
