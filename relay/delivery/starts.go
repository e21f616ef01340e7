package delivery

import (
	"sync"
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// starts keep a thousand lanes that get no answer from doing the same at the same moment: their attempts time out together, are
// recorded together and begin again together, and whatever else wants the processor, the accepting of events above all, stands
// in line behind them. So they begin one after the other, and are recorded one at a time. Who gets answers waits for nobody.
// Safe for concurrent use.
type starts struct {
	record chan struct{} // holds one token while an attempt without an answer is recorded

	mu   sync.Mutex
	next time.Time // the first place that is free
}

const (
	// startsPerSecond is how many attempts a second the lanes without an answer begin, all together. One costs some 0.3 ms of
	// processor from its beginning to its record.
	startsPerSecond = 500
	// startGrace is for how long a place is kept.
	startGrace = 100 * time.Millisecond
)

func newStarts() *starts { return &starts{record: make(chan struct{}, 1)} }

// start is one lane's, under its lock.
type start struct {
	at     time.Time // its place; zero without one
	silent bool      // nothing answered the lane's last attempt that has ended
}

// begin says when a lane may begin an attempt: the zero Time for now.
func (ss *starts) begin(s *start, now time.Time) (again time.Time) {
	if !s.silent {
		return time.Time{}
	}
	if s.at.IsZero() || now.Sub(s.at) > startGrace {
		ss.mu.Lock()
		s.at = latest(ss.next, now)
		ss.next = s.at.Add(time.Second / startsPerSecond)
		ss.mu.Unlock()
	}
	if s.at.After(now) {
		return s.at
	}
	return time.Time{}
}

// recording waits until an attempt that came out as o may be recorded, which over ends.
func (ss *starts) recording(o *client.Outcome) (over func()) {
	if o.Status != 0 || o.Aborted {
		return func() {}
	}
	ss.record <- struct{}{}
	return func() { <-ss.record }
}

// ended is told how an attempt came out.
func (s *start) ended(o *client.Outcome) {
	if !o.Aborted {
		s.silent = o.Status == 0
	}
}
