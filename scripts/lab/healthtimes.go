package main

import (
	"sync"
	"time"
)

// times is how long events of one load took to arrive at one receiver, for the first time. It is safe for concurrent use.
type times struct {
	mu      sync.Mutex
	posted  map[uint64]time.Time
	arrived map[uint64]time.Time
}

func newTimes(r *receiver) *times {
	t := &times{posted: map[uint64]time.Time{}, arrived: map[uint64]time.Time{}}
	o := observer(func(id []byte, at time.Time) {
		if _, seq, ok := parseID(id); ok {
			t.mu.Lock()
			defer t.mu.Unlock()
			if _, again := t.arrived[seq]; !again {
				t.arrived[seq] = at
			}
		}
	})
	r.observer.Store(&o)
	return t
}

// note is told of each event that was answered 200.
func (t *times) note(seq uint64, posted, _ time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.posted[seq] = posted
}

// within sums up those that were posted within some spans and arrived.
func (t *times) within(calm spans) quantiles {
	t.mu.Lock()
	defer t.mu.Unlock()
	var h histogram
	for seq, posted := range t.posted {
		if at, came := t.arrived[seq]; came && calm.holds(posted, 0) {
			h.record(at.Sub(posted))
		}
	}
	return h.quantiles()
}
