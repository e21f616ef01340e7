package queue

import (
	"errors"
	"fmt"
	"sync"

	"realtorbot-relay/queue/entry"
)

// Receipt says what became of one event.
type Receipt struct {
	Seq       uint64 // its sequence number, or that of the event with the same id
	Duplicate bool
}

// request is one call of Append on its way through the committer. The goroutine that receives it from the channel answers
// it, once.
type request struct {
	source   string
	events   []Event
	receipts []Receipt
	ids      []entry.Hash // of the events
	seals    uint64       // how often the log had sealed a segment when it was asked for the ids
	done     chan error
}

var requestPool = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

// Append stores the events of one request, all or none, and fills receipts, which is as long as events. When it returns nil,
// every event that is not a duplicate is synced in the journal, and so is every event that a duplicate repeats.
//
// An id that was accepted within the dedup window makes its event a duplicate. Append looks the ids up on the caller's
// goroutine, and the committer does it again for what was committed in between. A letter is never a duplicate.
//
// It may read one page of a segment for each id that is not in memory, and then waits for one sync: at most AppendTimeout
// until the committer takes the request, and then as long as the disk takes.
func (q *Queue) Append(source string, events []Event, receipts []Receipt) error {
	return q.append(0, source, events, receipts)
}

func (q *Queue) append(most int64, source string, events []Event, receipts []Receipt) error {
	// The shedder returns only when no call that found the queue open is left, so this comes before the look at Ready.
	q.appending.Add(1)
	defer q.appending.Add(-1)
	if err := q.Ready(); err != nil {
		return err
	}
	r := requestPool.Get().(*request)
	r.source, r.events, r.receipts, r.ids = source, events, receipts, r.ids[:0]
	fresh, err := q.lookUpIDs(r)
	if err == nil && most > 0 && fresh > 0 {
		var release func()
		if release, err = q.reserve(r, most); err == nil {
			defer release()
		}
	}
	switch {
	case err != nil:
	case fresh == 0:
		q.duplicates.Add(int64(len(events)))
		err = q.checkDirectory()
	default:
		q.requests <- r
		err = <-r.done
	}
	r.events, r.receipts = nil, nil
	requestPool.Put(r)
	return err
}

// lookUpIDs looks up the ids of a request's events, fills its receipts and returns how many ids are new.
func (q *Queue) lookUpIDs(r *request) (fresh int, err error) {
	now := q.now()
	r.seals = q.log.SealCount()
	for i := range r.events {
		h := q.log.Key().EventHash(r.events[i].ID, r.events[i].Letter)
		r.ids = append(r.ids, h)
		if r.events[i].Letter != nil {
			r.receipts[i] = Receipt{}
			fresh++
			continue
		}
		seq, known, err := q.known(&h, now)
		if err != nil {
			return 0, err
		}
		r.receipts[i] = Receipt{Seq: seq, Duplicate: known}
		if !known {
			fresh++
		}
	}
	return fresh, nil
}

// known looks for an event with an id that was accepted within the dedup window before now. It may read one page of a
// segment.
func (q *Queue) known(h *entry.Hash, now int64) (seq uint64, known bool, err error) {
	seq, ok, err := q.log.Lookup(h, now-q.opts.DedupWindow.Milliseconds())
	if err != nil || !ok {
		return 0, false, err
	}
	at, ok, err := q.log.At(seq)
	return seq, ok && q.withinWindow(at, now), err
}

// withinWindow reports whether an id that was accepted at one moment is still known at another.
func (q *Queue) withinWindow(at, now int64) bool { return now-at < q.opts.DedupWindow.Milliseconds() }

// checkDirectory fails the queue when its path is not the directory that was opened any more: nothing may be answered then.
// It costs two system calls.
func (q *Queue) checkDirectory() error {
	if err := errors.Join(q.dir.Check(), q.journal.CheckSlot()); err != nil {
		q.fail(err)
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}
