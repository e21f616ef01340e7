package ingest

import (
	"slices"
	"sync"
	"time"
)

// semaphore bounds how many bodies that are much work are read or verified at a time: what they take of processors and memory follows from that,
// not from how many clients come. Owners that wait for it take turns, so that one with a thousand requests keeps another waiting for one
// of them. Safe for concurrent use.
type semaphore struct {
	mu      sync.Mutex
	free    int              // 0 while anybody waits
	waiting []*turn          // in the order in which they came
	turns   map[owner]uint64 // the last turn of owners, none for those that had none for long
	turn    uint64           // the last one
}

// turn is a request that waits.
type turn struct {
	owner owner
	comes chan struct{} // closed when it does
}

// mostTurns is of how many owners the last turn is remembered.
const mostTurns = 1024

func newSemaphore(free int) *semaphore { return &semaphore{free: free, turns: map[owner]uint64{}} }

// during does something while it holds the semaphore, or at once if the body is little work: then body is 0, and else its bytes, twice of
// which w reserves ahead. It reports false when there is no room, or its turn did not come within semaphoreWait.
func (s *semaphore) during(w *buffers, body int, do func()) bool {
	if body == 0 {
		do()
		return true
	}
	if w.reservation.takeAhead(2*body) != nil {
		return false
	}
	defer w.reservation.settle()
	if !s.enter(w.reservation.owner) {
		return false
	}
	defer s.leave()
	do()
	return true
}

// enter waits for the turn of an owner, and reports whether it came.
func (s *semaphore) enter(o owner) bool {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	t := &turn{o, make(chan struct{})}
	s.waiting = append(s.waiting, t)
	s.mu.Unlock()
	late := time.NewTimer(semaphoreWait)
	defer late.Stop()
	select {
	case <-t.comes:
		return true
	case <-late.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.waiting, t)
	if at < 0 {
		return true // it came meanwhile
	}
	s.waiting = slices.Delete(s.waiting, at, at+1)
	return false
}

// leave lets the request in that came first of those owners whose last turn was the longest ago.
func (s *semaphore) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.free++
		return
	}
	next := 0
	for i, t := range s.waiting {
		if s.turns[t.owner] < s.turns[s.waiting[next].owner] {
			next = i
		}
	}
	t := s.waiting[next]
	s.waiting = slices.Delete(s.waiting, next, next+1)
	if len(s.turns) >= mostTurns {
		clear(s.turns)
	}
	s.turn++
	s.turns[t.owner] = s.turn
	close(t.comes)
}
