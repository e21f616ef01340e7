package queue

import (
	"math"

	"realtorbot-relay/queue/entry"
)

// state tells in which state the delivery of an event that is for this lane is.
func (l *Lane) state(seq uint64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked(seq)
}

func (l *Lane) stateLocked(seq uint64) (string, error) {
	if l.failed > 0 {
		if failure, err := l.kept(entry.Failed, seq); err != nil || failure != nil {
			return GivenUp, err
		}
	}
	if l.retrying > 0 {
		if retry, err := l.kept(entry.Retry, seq); err != nil || retry != nil {
			return Retrying, err
		}
	}
	if l.isPending(seq) {
		return Pending, nil
	}
	return Settled, nil
}

// kept returns a record of the lane, also one that the store does not have yet; nil when there is none. It may read the
// store. The caller holds mu.
func (l *Lane) kept(what entry.What, seq uint64) ([]byte, error) {
	if u, ok := l.unsaved[recordName{what, seq}]; ok {
		return u.record, nil
	}
	return l.q.index.get(recordKey(l.id, what, seq))
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
