package delivery

import (
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/memory"
)

// places bounds what all attempts under way hold in memory, as far as it can without one endpoint waiting for another. Each
// lane may always have one. It takes another as long as it holds less than is free: so the share of each gets smaller the
// more there are that want much, and there is always some for who comes next. Half is kept for lanes that get answers: an
// attempt that was answered earns the place for the next one, and one more if the lane was refused one. So whoever answers
// soon has as many as it needs beside thousands that hang. Safe for concurrent use.
type places struct {
	most atomic.Int64 // bytes
	held atomic.Int64
}

const (
	// placesPercent is how much of the memory that the process may use is for attempts under way.
	placesPercent = 25
	// attemptCost is about what an attempt under way holds beside its event's body: a connection and its buffers, in the
	// kernel as well, and a sender.
	attemptCost = 20 << 10
	// placeAgain is when a lane that was refused a place asks again, unless one of its own attempts ends before.
	placeAgain = time.Second
	// earnedFor is for how long after its last answer a lane has what it earned: one that hangs since begins anew.
	earnedFor = time.Second
)

// stake is what one lane holds of the places. It belongs to the lane and is changed under its lock.
type stake struct {
	underWay int
	bytes    int64
	earned   int       // places, by answers, and not taken since
	answered time.Time // last
	refused  bool      // a place, for having earned none, since the last answer
}

// newPlaces makes as many as the machine has room for.
func newPlaces() *places { return placesOf(memory.Part(placesPercent)) }

func placesOf(bytes int64) *places {
	p := &places{}
	p.most.Store(bytes)
	return p
}

// admits reports whether a lane may begin another attempt.
func (p *places) admits(s *stake, now time.Time) bool {
	most, held := p.most.Load(), p.held.Load()
	if now.Sub(s.answered) > earnedFor {
		s.earned = 0
	}
	if s.underWay == 0 || s.bytes < most/2-held || s.earned > 0 && s.bytes < most-held {
		return true
	}
	s.refused = s.earned == 0
	return false
}

// take counts an attempt that begins, with a body of so many bytes, and returns what it holds.
func (p *places) take(s *stake, body int) (cost int64) {
	cost = attemptCost + int64(body)
	s.underWay++
	s.bytes += cost
	s.earned = max(s.earned-1, 0)
	p.held.Add(cost)
	return cost
}

// give counts one that has ended; answered tells that an answer came.
func (p *places) give(s *stake, cost int64, answered bool, now time.Time) {
	s.underWay--
	s.bytes -= cost
	p.held.Add(-cost)
	if !answered {
		s.earned = 0
		return
	}
	s.earned, s.answered = s.earned+1, now
	if s.refused {
		s.earned, s.refused = s.earned+1, false
	}
}
