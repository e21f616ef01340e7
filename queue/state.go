package queue

import (
	"math"

	"realtorbot-relay/queue/entry"
)

// state returns the state of the delivery of an event that is for this lane. It may read the store, without mu.
func (l *Lane) state(seq uint64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.deliveryState(seq)
	return s.state, err
}

// deliveryState is the state of a delivery, with its record when it is retrying or failed.
type deliveryState struct {
	state  string
	record []byte
}

// deliveryState returns the state of a delivery. The caller holds mu; mu is not held while the store is read.
func (l *Lane) deliveryState(seq uint64) (deliveryState, error) {
	records, err := l.recordsOf(seq, entry.Failed, entry.Retry)
	switch {
	case err != nil:
		return deliveryState{}, err
	case records[0] != nil:
		return deliveryState{Failed, records[0]}, nil
	case records[1] != nil:
		return deliveryState{Retrying, records[1]}, nil
	case l.isPending(seq):
		return deliveryState{state: Pending}, nil
	}
	return deliveryState{state: Delivered}, nil
}

// recordsOf returns records of a delivery as of the moment at which it returns, also those that the store does not have yet;
// nil for one that does not exist. The caller holds mu; mu is not held while the store is read. What changes meanwhile is
// among the unsaved records, unless the store has it by then: in that case the store is read again.
func (l *Lane) recordsOf(seq uint64, kinds ...entry.RecordKind) (records [][]byte, err error) {
	records = make([][]byte, len(kinds))
	for {
		applied, read := l.applyCount, false
		for i, kind := range kinds {
			u, ok := l.unsaved[recordName{kind, seq}]
			if records[i] = u.record; ok || kind == entry.Failed && l.failed == 0 || kind == entry.Retry && l.retrying == 0 {
				continue
			}
			read = true
			l.mu.Unlock()
			records[i], err = l.q.index.get(recordKey(l.id, kind, seq))
			l.mu.Lock()
			if err != nil {
				return nil, err
			}
		}
		if !read {
			return records, nil
		}
		if l.applyCount != applied {
			continue
		}
		for i, kind := range kinds {
			if u, ok := l.unsaved[recordName{kind, seq}]; ok {
				records[i] = u.record
			}
		}
		return records, nil
	}
}

// pendingSpan returns where in the log the lane's states change: everything pending is from low on, everything settled is
// below high.
func (l *Lane) pendingSpan() (low, high uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	low, high = l.low(), l.next
	if l.assignedCount() == l.passed.Load() {
		low = math.MaxUint64
	}
	for seq := range l.settledAbove {
		high = max(high, seq+1)
	}
	return low, high
}

// recordBefore returns the last event below seq that has a record of the kind in the store, 0 when there is none.
func (l *Lane) recordBefore(kind entry.RecordKind, seq uint64) (uint64, error) {
	if seq == 0 {
		return 0, nil
	}
	key, _, err := l.q.index.before(recordKey(l.id, kind, 0), recordKey(l.id, kind, seq-1))
	return key.Number, err
}

// The states of a delivery.
const (
	Pending   = "pending"
	Retrying  = "retrying"
	Delivered = "delivered"
	Failed    = "failed"
)
