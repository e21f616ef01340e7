package queue

import (
	"bytes"
	"math"
)

// state tells in which state the delivery of an event that is for this lane is.
func (l *Lane) state(seq uint64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked(seq)
}

func (l *Lane) stateLocked(seq uint64) (string, error) {
	if l.failed > 0 {
		if failure, err := l.kept(deliveryKey(kindFailed, l.id, seq)); err != nil || failure != nil {
			return GivenUp, err
		}
	}
	if l.retrying > 0 {
		if retry, err := l.kept(deliveryKey(kindRetry, l.id, seq)); err != nil || retry != nil {
			return Retrying, err
		}
	}
	if l.isPending(seq) {
		return Pending, nil
	}
	return Settled, nil
}

// kept returns a record of the lane, also one that is not on disk yet; nil when there is none.
func (l *Lane) kept(key []byte) ([]byte, error) {
	for _, unsaved := range [][]write{l.changes, l.saving} {
		for i := len(unsaved) - 1; i >= 0; i-- {
			if bytes.Equal(unsaved[i].key, key) {
				return unsaved[i].value, nil
			}
		}
	}
	return l.q.store.get(key)
}

// span tells where in the log the lane's states change: all that is pending is from low on, all that is settled below high.
func (l *Lane) span() (low, high uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	low, high = l.next, l.next
	if len(l.window) > 0 {
		low = l.window[0].ev.Seq
	}
	if l.matched.Load() == l.passed.Load() {
		low = math.MaxUint64
	}
	for seq := range l.skip {
		high = max(high, seq+1)
	}
	return low, high
}

// keyBefore returns the last event below seq that has a record of the kind on disk, 0 when there is none.
func (l *Lane) keyBefore(kind byte, seq uint64) (uint64, error) {
	if seq == 0 {
		return 0, nil
	}
	prefix := deliveryKey(kind, l.id, 0)[:5]
	key, err := l.q.store.keyBefore(prefix, deliveryKey(kind, l.id, seq-1))
	_, last, _ := parseDeliveryKey(key)
	return last, err
}
