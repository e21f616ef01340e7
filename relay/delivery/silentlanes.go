package delivery

import (
	"sync"
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// silentLanes spreads the attempts of lanes that get no answers. A thousand of them would time out together, be recorded together and
// begin again together, and everything else that needs the processor, above all the intake, would wait for them. So their attempts
// begin one after the other, and are recorded one at a time. Lanes that get answers wait for nobody. Safe for concurrent use.
type silentLanes struct {
	recordToken chan struct{} // holds one token while an attempt without an answer is recorded

	mu   sync.Mutex
	next time.Time // when the next attempt may begin
}

const (
	// startsPerSecond is how many attempts a second all lanes without an answer may begin. One costs some 0.3 ms of processor
	// time from its beginning to its record.
	startsPerSecond = 500
	// startGrace is how long after its time an attempt may still begin.
	startGrace = 100 * time.Millisecond
)

func newSilentLanes() *silentLanes { return &silentLanes{recordToken: make(chan struct{}, 1)} }

// silentLane is one lane's state, under the lane's lock.
type silentLane struct {
	at     time.Time // when the lane's next attempt may begin; zero when that is not decided
	silent bool      // the last attempt that ended got no answer
}

// begin returns when a lane may begin an attempt; the zero Time means now.
func (ss *silentLanes) begin(s *silentLane, now time.Time) (again time.Time) {
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

// record waits until an attempt with this outcome may be recorded. Its caller calls over when it is recorded.
func (ss *silentLanes) record(o *client.Outcome) (over func()) {
	if o.Status != 0 || o.Aborted {
		return func() {}
	}
	ss.recordToken <- struct{}{}
	return func() { <-ss.recordToken }
}

// ended notes an attempt that has ended.
func (s *silentLane) ended(o *client.Outcome) {
	if !o.Aborted {
		s.silent = o.Status == 0
	}
}
