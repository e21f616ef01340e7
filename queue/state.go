package queue

import (
	"errors"
	"math"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// state returns the state of the delivery of an event that is for this lane. It may read the store, without mu.
func (l *Lane) state(seq uint64) (deliveryState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deliveryState(seq)
}

// deliveryState is the state of a delivery, with its record when it is retrying or failed.
type deliveryState struct {
	state  string
	record []byte
	// It has no record, and the lane deleted records of failed deliveries of events as new as this one: without an attempt
	// that went well the state is Discarded.
	unproven bool
}

// deliveryState returns the state of a delivery. The caller holds mu; mu is not held while the store is read.
func (l *Lane) deliveryState(seq uint64) (deliveryState, error) {
	records, err := l.recordsOf(seq, entry.Failed, entry.Retry)
	switch {
	case err != nil:
		return deliveryState{}, err
	case records[0] != nil:
		return deliveryState{state: Failed, record: records[0]}, nil
	case records[1] != nil:
		return deliveryState{state: Retrying, record: records[1]}, nil
	case l.isPending(seq):
		return deliveryState{state: Pending}, nil
	}
	return deliveryState{state: Delivered, unproven: seq < l.discardedTo}, nil
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

// spans returns where in the log the lane's states change: everything pending is from low on, everything settled is below
// high, everything discarded below discardedTo.
func (l *Lane) spans() (low, high, discardedTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	low, high = l.low(), l.next
	if l.assignedCount() == l.passed.Load() {
		low = math.MaxUint64
	}
	for seq := range l.settledAbove {
		high = max(high, seq+1)
	}
	return low, high, l.discardedTo
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
	Discarded = "discarded" // it had failed, and was deleted from the failed ones: by a command, or for its age
)

// attempted is the delivery of an event to a lane.
type attempted struct {
	lane LaneID
	seq  uint64
}

// wentWell returns those of the deliveries, by ascending event, that have an attempt that went well in the log. It has the
// attempts of a kept event as long as the event, from the save on that followed them. wentWell reads disk, each block once.
func (q *Queue) wentWell(deliveries []attempted) (map[attempted]bool, error) {
	seqs := make([]uint64, len(deliveries))
	asked := make(map[attempted]bool, len(deliveries))
	for i, d := range deliveries {
		seqs[i], asked[d] = d.seq, true
	}
	places, err := q.log.AttemptBlocks(seqs...)
	good := map[attempted]bool{}
	for i := 0; i < len(places) && err == nil; i++ {
		err = q.eachProgress(places[i], func(p *entry.Progress) {
			for i := range p.Attempts {
				a := &p.Attempts[i]
				if d := (attempted{p.Lane, a.Seq}); a.WentWell() && asked[d] {
					good[d] = true
				}
			}
		})
	}
	return good, err
}

// eachProgress calls fn with what lanes did, as a block of the log has it; not at all when the block is deleted or can't be
// read. It reads disk.
func (q *Queue) eachProgress(p log.Place, fn func(*entry.Progress)) error {
	b, err := q.log.Read(p)
	if err == nil {
		err = b.Unpack(func(h entry.Header, raw []byte) error {
			if h.Kind != entry.KindProgress {
				return nil
			}
			progress, err := entry.ParseProgress(h, raw)
			if err == nil {
				fn(progress)
			}
			return err
		})
	}
	if log.Gone(err) || errors.Is(err, codec.ErrDamaged) {
		return nil
	}
	return err
}
