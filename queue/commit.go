package queue

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// Event is what Append stores. Its slices are the caller's; they are copied before Append returns.
type Event struct {
	ID    []byte
	Type  []byte
	Body  []byte
	Lanes LaneSet // where it goes
}

// Receipt tells what became of one event.
type Receipt struct {
	Seq       uint64 // its place in the log, or that of the event with the same id
	Duplicate bool
}

// request is one Append on its way through the committer. Whoever takes it off the channel answers it, once.
type request struct {
	source   string
	events   []Event
	receipts []Receipt
	seen     uint64 // the store was asked for the ids when it had all events below this
	done     chan error
}

var requestPool = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

// Append stores events that came in one request, all or none, and fills receipts, which is as long as events. When it
// returns nil, every event that is not a duplicate is on disk, and so is every event that a duplicate repeats.
//
// An id that was accepted within the dedup window makes its event a duplicate. That is decided here for what the store
// knows, on the caller's goroutine, and by the committer for what came since.
func (q *Queue) Append(source string, events []Event, receipts []Receipt) error {
	// First of all: the doorman stays for as long as anybody who found the queue open is inside.
	q.inside.Add(1)
	defer q.inside.Add(-1)
	if err := q.Ready(); err != nil {
		return err
	}
	seen := q.applied.Load()
	fresh, err := q.screen(events, receipts)
	if err != nil {
		return err
	}
	if fresh == 0 {
		q.repeats.Add(int64(len(events)))
		return nil
	}
	r := requestPool.Get().(*request)
	r.source, r.events, r.receipts, r.seen = source, events, receipts, seen
	q.requests <- r
	err = <-r.done
	r.events, r.receipts = nil, nil
	requestPool.Put(r)
	return err
}

// screen asks the store for the ids of events, fills their receipts and says how many it does not know.
func (q *Queue) screen(events []Event, receipts []Receipt) (fresh int, err error) {
	now := q.now()
	err = q.store.read(func(txn *badger.Txn) error {
		for i := range events {
			seq, known, err := q.knownTo(txn, events[i].ID, now)
			if err != nil {
				return err
			}
			receipts[i] = Receipt{Seq: seq, Duplicate: known}
			if !known {
				fresh++
			}
		}
		return nil
	})
	return fresh, err
}

// known asks the store for an id.
func (q *Queue) known(id []byte) (seq uint64, known bool, err error) {
	err = q.store.read(func(txn *badger.Txn) error {
		seq, known, err = q.knownTo(txn, id, q.now())
		return err
	})
	return seq, known, err
}

func (q *Queue) knownTo(txn *badger.Txn, id []byte, now int64) (seq uint64, known bool, err error) {
	var buf [160]byte
	record, err := txnGet(txn, appendIDKey(buf[:0], id))
	if err != nil || record == nil {
		return 0, false, err
	}
	seq, at, err := parseIDRecord(record)
	if err != nil {
		return 0, false, err
	}
	return seq, q.withinWindow(at, now), nil
}

// withinWindow reports whether an id accepted at a moment is still known at another.
func (q *Queue) withinWindow(at, now int64) bool { return now-at < q.opts.DedupWindow.Milliseconds() }

// committer is the one goroutine that writes the journal. It takes whatever waits, makes it one frame, one write and one
// sync, and then wakes all who waited. There is no timer: the sync before is the time in which requests gather. Requests
// that still wait when it leaves are the doorman's.
type committer struct {
	q      *Queue
	next   uint64 // the sequence number of the next event
	now    int64  // when the frame at hand was begun, Unix milliseconds
	taken  []*request
	broken error // the store could not be asked for an id
	draft  draft
	counts []int64 // events by lane set of the draft

	// recent knows the ids accepted lately, at least all those that a request may have missed in the store.
	// frames are those whose ids it holds.
	recent  map[string]accepted
	frames  []recentFrame
	horizon uint64 // recent has every id from here on
}

// accepted is where an id's event is, and when it came, Unix milliseconds.
type accepted struct {
	seq uint64
	at  int64
}

type recentFrame struct {
	end uint64
	ids []string
}

const (
	// maxFrame is how many bytes of bodies a frame takes before the rest waits for the next one.
	maxFrame = 1 << 20
	// recentKeep is how many events recent holds beyond the newest that the store has, so that requests which asked the
	// store a while ago need not ask again.
	recentKeep = 8192
)

func (c *committer) run() {
	defer close(c.q.committed)
	c.q.busy.Store(uptime())
	for {
		// Whoever waits meanwhile is not taken yet, and the doorman may turn it away.
		if c.q.keeper.admit(c.q) != nil {
			return
		}
		c.q.busy.Store(0)
		select {
		case r := <-c.q.requests:
			c.q.busy.Store(uptime())
			c.now = c.q.now()
			c.gather(r)
		case <-c.q.closing:
			return
		case <-c.q.failed:
			return
		}
		c.q.committing.Store(uptime())
		err := c.broken
		if err == nil {
			err = c.commit()
		}
		c.q.committing.Store(0)
		if errors.Is(err, ErrDiskLow) || errors.Is(err, ErrClosed) {
			c.q.disk.full.Store(errors.Is(err, ErrDiskLow))
			c.forget()
			c.answer(err)
			continue
		}
		if err != nil {
			c.q.fail(err)
			c.answer(fmt.Errorf("%w: %w", ErrFailed, err))
			return
		}
		c.answer(nil)
	}
}

// gather takes r and all that waits behind it, or is about to: requests that have arrived but not yet been parsed get their
// turn first. That makes fewer and larger frames when the processors are busy, and costs nothing when they are not.
func (c *committer) gather(r *request) {
	c.taken = c.taken[:0]
	c.draft.reset()
	runtime.Gosched()
	for c.take(r); c.draft.bytes < maxFrame; {
		select {
		case r := <-c.q.requests:
			c.take(r)
			continue
		default:
		}
		return
	}
}

// take decides which of the request's events are new and drafts them.
func (c *committer) take(r *request) {
	c.taken = append(c.taken, r)
	for i := range r.events {
		ev, receipt := &r.events[i], &r.receipts[i]
		if !receipt.Duplicate {
			c.decide(r, ev, receipt)
		}
		if receipt.Duplicate {
			c.q.repeats.Add(1)
			continue
		}
		id := string(ev.ID)
		c.recent[id] = accepted{receipt.Seq, c.now}
		c.draft.add(r.source, ev, id)
	}
}

func (c *committer) decide(r *request, ev *Event, receipt *Receipt) {
	if known, ok := c.recent[string(ev.ID)]; ok && (known.seq >= c.next || c.q.withinWindow(known.at, c.now)) {
		*receipt = Receipt{Seq: known.seq, Duplicate: true}
		return
	}
	if r.seen < c.horizon {
		// The request asked the store so long ago that an id may have passed through recent since.
		seq, known, err := c.q.known(ev.ID)
		if err != nil && c.broken == nil {
			c.broken = err // nobody can say whether the id is new
		}
		if known {
			*receipt = Receipt{Seq: seq, Duplicate: true}
			return
		}
	}
	*receipt = Receipt{Seq: c.next + uint64(len(c.draft.events))}
}

// commit makes the draft durable and visible. If we die before the sync has returned, nobody was told that the events
// are stored; if after, they are found in the journal.
func (c *committer) commit() error {
	n := len(c.draft.events)
	if n == 0 {
		return nil
	}
	began := time.Now()
	buf, f := c.draft.seal(c.next, c.now, entryHeader)
	err := c.q.journal.append(buf, f, c.q.applied.Load())
	for errors.Is(err, errJournalFull) {
		// Frames that leave much of their slots empty can fill the journal before admit closes: nothing is written yet.
		if err := c.q.keeper.drain(c.q); err != nil {
			return err
		}
		err = c.q.journal.append(buf, f, c.q.applied.Load())
	}
	if err != nil {
		return err
	}
	c.next = f.end()
	c.remember(f)
	c.q.keeper.journalBytes.Store(c.q.journal.bytes())
	c.q.keeper.slot.Store(c.q.journal.used)
	c.q.commits.Add(1)
	c.q.commitEvents.Add(int64(n))
	c.q.commitTimes.Add(int64(time.Since(began)))
	c.q.accepted.Add(int64(n))
	c.counts = c.counts[:0]
	for range f.sets {
		c.counts = append(c.counts, 0)
	}
	for i := range c.draft.events {
		c.counts[c.draft.events[i].set]++
	}
	c.q.publish(f, c.counts)
	return nil
}

// remember files the ids of a new frame, and forgets those that every request finds in the store.
func (c *committer) remember(f *frame) {
	ids := make([]string, len(c.draft.events))
	for i := range c.draft.events {
		ids[i] = c.draft.events[i].id
	}
	c.frames = append(c.frames, recentFrame{f.end(), ids})
	applied := c.q.applied.Load()
	for len(c.frames) > 0 && c.frames[0].end <= applied && c.next-c.frames[0].end > recentKeep {
		for _, id := range c.frames[0].ids {
			if c.recent[id].seq < c.frames[0].end {
				delete(c.recent, id) // unless it was accepted again
			}
		}
		c.horizon = c.frames[0].end
		c.frames = c.frames[1:]
	}
}

// forget takes back the ids of a draft that was not written.
func (c *committer) forget() {
	for id, known := range c.recent {
		if known.seq >= c.next {
			delete(c.recent, id)
		}
	}
}

func (c *committer) answer(err error) {
	for i, r := range c.taken {
		c.taken[i] = nil
		r.done <- err
	}
}

// publish shows a frame that is on disk to the lanes: first its deliveries are counted, then it can be read, then those
// who wait are woken. counts has the number of events for each of the frame's lane sets.
func (q *Queue) publish(f *frame, counts []int64) {
	q.tail.add(f)
	lanes := *q.lanes.Load()
	for i, set := range f.sets {
		set.each(func(id LaneID) {
			if int(id) < len(lanes) && lanes[id] != nil {
				lanes[id].arrive(f.first, counts[i])
			}
		})
	}
	q.end.Store(f.end())
	for _, set := range f.sets {
		set.each(func(id LaneID) {
			if int(id) < len(lanes) && lanes[id] != nil {
				lanes[id].wake()
			}
		})
	}
	q.keeper.grown(q, len(f.raw))
}
