package ingest

import (
	"time"
)

// semaphore bounds how many large bodies are read or verified at a time: what they take of processors and memory follows from that,
// not from how many clients come.
type semaphore chan struct{}

// during does something while it holds the semaphore, or at once if the body is not large: then body is 0, and else its bytes, twice of
// which w reserves ahead. It reports false when there is no room, or the semaphore was not free within semaphoreWait.
func (t semaphore) during(w *buffers, body int, do func()) bool {
	if body == 0 {
		do()
		return true
	}
	if w.reservation.takeAhead(2*body) != nil {
		return false
	}
	defer w.reservation.settle()
	select {
	case t <- struct{}{}:
	default:
		late := time.NewTimer(semaphoreWait)
		defer late.Stop()
		select {
		case t <- struct{}{}:
		case <-late.C:
			return false
		}
	}
	defer func() { <-t }()
	do()
	return true
}
