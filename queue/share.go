package queue

import (
	"errors"
	"sync"
)

// ErrSourceFull: as much is kept of a source's events as may be. Nothing was stored.
var ErrSourceFull = errors.New("the source's share of the queue is used up")

// ErrAboveShare: the events of one request are more than the source's share, so that no waiting helps. Nothing was stored.
var ErrAboveShare = errors.New("the events of this request are more than the source's share of the queue")

// shares bounds what is kept of a source's events by what requests that are under way bring, so that many at once do not go
// beyond it together. What was accepted the log knows.
type shares struct {
	mu    sync.Mutex
	under map[string]int64 // bytes of bodies, by source; those that have a bound only
}

// Kept tells how many of a source's events are kept, and the bytes of their bodies: what was accepted and not deleted yet,
// delivered or not, but for letters, which no source posted. Space comes back a segment at a time.
func (q *Queue) Kept(source string) (events, bytes int64) {
	k := q.log.Kept(source)
	return k.Events, k.Bytes
}

// AppendWithin is Append for a source of whose events at most that many bytes of bodies may be kept, as Kept counts them; 0
// sets no bound. Beyond it events are ErrSourceFull, or ErrAboveShare when they alone are more, but for
// repeats, which need no room; receipts tell which are some.
func (q *Queue) AppendWithin(most int64, source string, events []Event, receipts []Receipt) error {
	return q.append(most, source, events, receipts)
}

// enter takes room for the events of a request that are not known. leave gives it back once the log knows those that were
// accepted: in between they count twice, never not at all.
func (q *Queue) enter(r *request, most int64) (leave func(), err error) {
	size := int64(0)
	for i := range r.events {
		if !r.receipts[i].Duplicate {
			size += int64(len(r.events[i].Body))
		}
	}
	if size > most {
		return nil, ErrAboveShare
	}
	s := &q.shares
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.log.Kept(r.source).Bytes+s.under[r.source]+size > most {
		return nil, ErrSourceFull
	}
	if s.under == nil {
		s.under = map[string]int64{}
	}
	s.under[r.source] += size
	source := r.source
	return func() {
		s.mu.Lock()
		if s.under[source] -= size; s.under[source] == 0 {
			delete(s.under, source)
		}
		s.mu.Unlock()
	}, nil
}
