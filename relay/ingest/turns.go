package ingest

import (
	"time"
)

// turns are those at which large bodies are worked on: what they take of processors and memory follows from how many
// there are, not from how many clients come.
type turns chan struct{}

// during does what is to be done at its turn, at once if it is not large: then body is 0, and else the bytes of the body,
// twice of which w takes ahead. It reports false when there is no room or the turn did not come.
func (t turns) during(w *work, body int, do func()) bool {
	if body == 0 {
		do()
		return true
	}
	if w.hold.takeAhead(2*body) != nil {
		return false
	}
	defer w.hold.settle()
	select {
	case t <- struct{}{}:
	default:
		late := time.NewTimer(turnWait)
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
