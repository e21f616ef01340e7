package queue

import (
	"fmt"

	"realtorbot-relay/queue/store"
)

// recount compares what the lanes' records count as failed or retrying with the records that there are, and calls fix with
// what each lane counts too many. They differ when entries from which the store was made could not be read: the lane's
// record is from a later entry. It reads a kind's records only when their sum has another count.
func (q *Queue) recount(kind store.Kind, of func(*laneRecord) int64, fix func(LaneID, int64)) error {
	counted, all := map[LaneID]int64{}, int64(0)
	err := q.index.scan(store.First(store.Lane), store.Last(store.Lane), func(key store.Key, record []byte) (bool, error) {
		if key == nextLaneKey {
			return true, nil
		}
		r, err := parseLane(record)
		if err == nil {
			counted[LaneID(key.Lane)] = of(&r)
			all += of(&r)
		}
		return err == nil, err
	})
	_, sums := q.index.store.Sums()
	if err != nil || all == int64(sums.Of(kind).Count) {
		return err
	}
	err = q.index.scan(store.First(kind), store.Last(kind), func(key store.Key, _ []byte) (bool, error) {
		counted[LaneID(key.Lane)]--
		return true, nil
	})
	if err != nil {
		return err
	}
	for id, n := range counted {
		if n != 0 {
			fix(id, n)
		}
	}
	return nil
}

// recountFailed takes failed deliveries that are lost off the lanes' counts.
func (q *Queue) recountFailed() error {
	lanes := *q.lanes.Load()
	return q.recount(store.Failed, func(r *laneRecord) int64 { return r.failed }, func(id LaneID, n int64) {
		if int(id) >= len(lanes) || lanes[id] == nil {
			return
		}
		l := lanes[id]
		l.mu.Lock()
		l.failed -= n
		l.changed()
		l.mu.Unlock()
		if n > 0 {
			q.damaged.Add(n)
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d failed deliveries are lost: their records can't be read any more", l.name, n))
		}
	})
}

// recountRetrying takes retries that are lost off the lanes' counts, at a start.
func (q *Queue) recountRetrying() error {
	lanes := *q.lanes.Load()
	return q.recount(store.Retry, func(r *laneRecord) int64 { return r.retrying }, func(id LaneID, n int64) {
		if int(id) >= len(lanes) || lanes[id] == nil {
			return
		}
		l := lanes[id]
		l.retrying -= n
		l.changed()
		if n > 0 {
			q.damaged.Add(n)
			q.opts.Notice(fmt.Sprintf("endpoint %q: %d retrying deliveries are lost: their records can't be read any more", l.name, n))
		}
	})
}
