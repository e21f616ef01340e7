package delivery

import (
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/memory"
)

// memoryBudget bounds the memory of all attempts under way, as far as it can without one endpoint waiting for another. Each lane may
// always have one attempt under way. It may begin another as long as it holds less than is free: the more lanes want much, the
// smaller the share of each, and there is always some left for the next. Half of the budget is reserved for lanes that get answers:
// an attempt that was answered earns its lane the next one, and one more if the lane was refused one. So an endpoint that answers
// soon gets as many attempts as it needs beside thousands that hang. Safe for concurrent use.
type memoryBudget struct {
	limit atomic.Int64 // bytes
	used  atomic.Int64
}

const (
	// memoryPercent is how much of the memory that the process may use is for attempts under way.
	memoryPercent = 25
	// attemptCost is about how many bytes an attempt under way holds beside its event's body: a connection with its buffers,
	// those of the kernel included, and a sender.
	attemptCost = 20 << 10
	// memoryRetry is after what time a lane that was refused asks again, unless one of its own attempts ends before.
	memoryRetry = time.Second
	// earnedFor is for how long after its last answer a lane keeps what it earned: one that hangs since then begins anew.
	earnedFor = time.Second
)

// memoryShare is what one lane holds of the budget. It belongs to the lane, under the lane's lock.
type memoryShare struct {
	inFlight   int
	bytes      int64
	earned     int       // attempts, by answers, and not begun since
	answeredAt time.Time // last
	refused    bool      // an attempt, since it had earned none, after the last answer
}

// newMemoryBudget makes a budget of this machine's memory.
func newMemoryBudget() *memoryBudget { return memoryBudgetOf(memory.Part(memoryPercent)) }

func memoryBudgetOf(bytes int64) *memoryBudget {
	b := &memoryBudget{}
	b.limit.Store(bytes)
	return b
}

// admits reports whether a lane may begin another attempt.
func (b *memoryBudget) admits(s *memoryShare, now time.Time) bool {
	limit, used := b.limit.Load(), b.used.Load()
	if now.Sub(s.answeredAt) > earnedFor {
		s.earned = 0
	}
	if s.inFlight == 0 || s.bytes < limit/2-used || s.earned > 0 && s.bytes < limit-used {
		return true
	}
	s.refused = s.earned == 0
	return false
}

// begin counts an attempt that begins, with a body of so many bytes, and returns how many it holds.
func (b *memoryBudget) begin(s *memoryShare, body int) (cost int64) {
	cost = attemptCost + int64(body)
	s.inFlight++
	s.bytes += cost
	s.earned = max(s.earned-1, 0)
	b.used.Add(cost)
	return cost
}

// end counts an attempt that has ended; answered says that an answer came.
func (b *memoryBudget) end(s *memoryShare, cost int64, answered bool, now time.Time) {
	s.inFlight--
	s.bytes -= cost
	b.used.Add(-cost)
	if !answered {
		s.earned = 0
		return
	}
	s.earned, s.answeredAt = s.earned+1, now
	if s.refused {
		s.earned, s.refused = s.earned+1, false
	}
}
