package queue

import (
	"errors"
	"sync"
)

// ErrSourceFull: the queue has as much of the source's events as it may. Nothing was stored.
var ErrSourceFull = errors.New("the source's share of the queue is used up")

// ErrAboveShare: the events of one request are more than the source's share, so that waiting does not help. Nothing was
// stored.
var ErrAboveShare = errors.New("the events of this request are more than the source's share of the queue")

// reservations are the bytes that requests under way bring to sources with a bound, so that many requests at once do not
// exceed it. The log counts what was accepted.
type reservations struct {
	mu    sync.Mutex
	bytes map[string]int64 // of bodies, by source
}

// Usage returns how many events of a source are in the queue, and the bytes of their bodies: all that were accepted and not
// deleted, delivered or not, without letters, which no source posted. Space comes back a segment at a time. It takes one
// mutex that nobody holds over disk.
func (q *Queue) Usage(source string) (events, bytes int64) {
	k := q.log.Usage(source)
	return k.Events, k.Bytes
}

// AppendWithin is Append for a source of whose events the queue may have most bytes of bodies, as Usage counts them; 0: no
// bound. An event that would exceed it gets ErrSourceFull, or ErrAboveShare when the request alone is more. Duplicates need
// no room; receipts say which events are duplicates.
func (q *Queue) AppendWithin(most int64, source string, events []Event, receipts []Receipt) error {
	return q.append(most, source, events, receipts)
}

// reserve reserves the bytes of a request's new events. The caller calls release when the log has counted those that were
// accepted: in between they count twice, and never not at all.
func (q *Queue) reserve(r *request, most int64) (release func(), err error) {
	size := int64(0)
	for i := range r.events {
		if !r.receipts[i].Duplicate {
			size += int64(len(r.events[i].Body))
		}
	}
	if size > most {
		return nil, ErrAboveShare
	}
	s := &q.reservations
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.log.Usage(r.source).Bytes+s.bytes[r.source]+size > most {
		return nil, ErrSourceFull
	}
	if s.bytes == nil {
		s.bytes = map[string]int64{}
	}
	s.bytes[r.source] += size
	source := r.source
	return func() {
		s.mu.Lock()
		if s.bytes[source] -= size; s.bytes[source] == 0 {
			delete(s.bytes, source)
		}
		s.mu.Unlock()
	}, nil
}
