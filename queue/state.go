package queue

import (
	"math"

	"realtorbot-relay/queue/entry"
)

// state tells in which state the delivery of an event that is for this lane is. It may read the store.
func (l *Lane) state(seq uint64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.standing(seq)
	return s.state, err
}

// standing is the state of a delivery, with its record when it is retrying or failed.
type standing struct {
	state  string
	record []byte
}

// standing tells how a delivery stands now. The caller holds mu, and it is let go while the store is read.
func (l *Lane) standing(seq uint64) (standing, error) {
	records, err := l.kept(seq, entry.Failed, entry.Retry)
	switch {
	case err != nil:
		return standing{}, err
	case records[0] != nil:
		return standing{GivenUp, records[0]}, nil
	case records[1] != nil:
		return standing{Retrying, records[1]}, nil
	case l.isPending(seq):
		return standing{state: Pending}, nil
	}
	return standing{state: Settled}, nil
}

// kept returns records of a delivery as of one moment, which is when it returns, also those that the store does not have
// yet; nil for one that is not there. The caller holds mu, and it is let go while the store is read: what changes meanwhile
// is among the unsaved, unless it has come into the store by then, and then the store is read again.
func (l *Lane) kept(seq uint64, kinds ...entry.What) (records [][]byte, err error) {
	records = make([][]byte, len(kinds))
	for {
		landings, read := l.landings, false
		for i, what := range kinds {
			u, ok := l.unsaved[recordName{what, seq}]
			if records[i] = u.record; ok || what == entry.Failed && l.failed == 0 || what == entry.Retry && l.retrying == 0 {
				continue
			}
			read = true
			l.mu.Unlock()
			records[i], err = l.q.index.get(recordKey(l.id, what, seq))
			l.mu.Lock()
			if err != nil {
				return nil, err
			}
		}
		if !read {
			return records, nil
		}
		if l.landings != landings {
			continue
		}
		for i, what := range kinds {
			if u, ok := l.unsaved[recordName{what, seq}]; ok {
				records[i] = u.record
			}
		}
		return records, nil
	}
}

// span tells where in the log the lane's states change: all that is pending is from low on, all that is settled below high.
func (l *Lane) span() (low, high uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	low, high = l.next, l.next
	if len(l.window) > 0 {
		low = l.window[0].ev.Seq
	}
	if l.given() == l.passed.Load() {
		low = math.MaxUint64
	}
	for seq := range l.skip {
		high = max(high, seq+1)
	}
	return low, high
}

// recordBefore returns the last event below seq that has a record of the kind in the store, 0 when there is none.
func (l *Lane) recordBefore(what entry.What, seq uint64) (uint64, error) {
	if seq == 0 {
		return 0, nil
	}
	key, _, err := l.q.index.before(recordKey(l.id, what, 0), recordKey(l.id, what, seq-1))
	return key.Number, err
}
