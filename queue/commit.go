package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
)

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
	ids      []entry.Hash // of the events
	seals    uint64       // of the log when it was asked for the ids
	done     chan error
}

var requestPool = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

// Append stores events that came in one request, all or none, and fills receipts, which is as long as events. When it
// returns nil, every event that is not a duplicate is on disk, and so is every event that a duplicate repeats.
//
// An id that was accepted within the dedup window makes its event a duplicate. That is decided here, on the caller's
// goroutine, for what is known by then, and by the committer for what came since. A letter repeats nothing.
func (q *Queue) Append(source string, events []Event, receipts []Receipt) error {
	return q.append(0, source, events, receipts)
}

func (q *Queue) append(most int64, source string, events []Event, receipts []Receipt) error {
	// First of all: the doorman stays for as long as anybody who found the queue open is inside.
	q.inside.Add(1)
	defer q.inside.Add(-1)
	if err := q.Ready(); err != nil {
		return err
	}
	r := requestPool.Get().(*request)
	r.source, r.events, r.receipts, r.ids = source, events, receipts, r.ids[:0]
	fresh, err := q.screen(r)
	if err == nil && most > 0 && fresh > 0 {
		var leave func()
		if leave, err = q.enter(r, most); err == nil {
			defer leave()
		}
	}
	switch {
	case err != nil:
	case fresh == 0:
		q.repeats.Add(int64(len(events)))
		err = q.owned()
	default:
		q.requests <- r
		err = <-r.done
	}
	r.events, r.receipts = nil, nil
	requestPool.Put(r)
	return err
}

// screen asks for the ids of a request's events, fills their receipts and says how many are not known.
func (q *Queue) screen(r *request) (fresh int, err error) {
	now := q.now()
	r.seals = q.log.Seals()
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

// known asks for an id that was accepted within the dedup window before now. It may read a page of a segment.
func (q *Queue) known(h *entry.Hash, now int64) (seq uint64, known bool, err error) {
	seq, ok, err := q.log.Lookup(h, now-q.opts.DedupWindow.Milliseconds())
	if err != nil || !ok {
		return 0, false, err
	}
	at, ok, err := q.log.At(seq)
	return seq, ok && q.withinWindow(at, now), err
}

// withinWindow reports whether an id accepted at a moment is still known at another.
func (q *Queue) withinWindow(at, now int64) bool { return now-at < q.opts.DedupWindow.Milliseconds() }

// owned reports why nothing may be answered any more: the directory is not the one that was opened.
func (q *Queue) owned() error {
	if err := errors.Join(q.dir.Check(), q.journal.Gone()); err != nil {
		q.fail(err)
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

// committer is the one goroutine that writes the journal. It takes whatever waits, makes it one record, one write and one
// sync, and then wakes all who waited. There is no timer: the sync before is the time in which requests gather. Requests
// that still wait when it leaves are the doorman's.
type committer struct {
	q       *Queue
	next    uint64 // the sequence number of the next event
	now     int64  // when the record at hand was begun, queue time
	taken   []*request
	saves   []*saveRequest
	broken  error // an id could not be asked for
	draft   entry.Draft
	drafted map[entry.Hash]uint64 // ids of the draft
	counts  []int64               // events by lane set of the draft
	given   []int64               // and by lane
	reached []*Lane               // that have some of them
	buf     []byte                // of the last record, for the next
}

// saveRequest is progress that the keeper wants in the journal. It is answered once.
type saveRequest struct {
	list []*gathered
	done chan error
}

const (
	// maxFrame is how many bytes of bodies a frame takes before the rest waits for the next one.
	maxFrame = 1 << 20
	// keptRoom is how many bytes of a record are kept for the next one.
	keptRoom = 256 << 10
	// freeSize is how many bytes of a record say which entries are kept elsewhere.
	freeSize = 8
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
		c.begin()
		select {
		case r := <-c.q.requests:
			c.q.busy.Store(uptime())
			c.now = max(c.q.now(), c.now)
			c.gather(r)
		case s := <-c.q.progress:
			c.q.busy.Store(uptime())
			c.now = max(c.q.now(), c.now)
			c.saves = append(c.saves, s)
			c.gather(nil)
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

func (c *committer) begin() {
	c.taken, c.saves = c.taken[:0], c.saves[:0]
	c.draft.Reset()
	clear(c.drafted)
	c.broken = nil
}

// gather takes r and all that waits behind it, or is about to: requests that have arrived but not yet been parsed get their
// turn first. That makes fewer and larger frames when the processors are busy, and costs nothing when they are not.
func (c *committer) gather(r *request) {
	runtime.Gosched()
	if r != nil {
		c.take(r)
	}
	for c.draft.Bytes() < maxFrame {
		select {
		case r := <-c.q.requests:
			c.take(r)
			continue
		case s := <-c.q.progress:
			c.saves = append(c.saves, s)
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
		switch {
		case ev.Letter != nil:
			*receipt = Receipt{Seq: c.next + uint64(c.draft.Len())}
		case !receipt.Duplicate:
			c.decide(r, &r.ids[i], receipt)
		}
		if receipt.Duplicate {
			c.q.repeats.Add(1)
			continue
		}
		c.drafted[r.ids[i]] = receipt.Seq
		c.draft.Add(r.source, ev, r.ids[i])
	}
}

func (c *committer) decide(r *request, h *entry.Hash, receipt *Receipt) {
	if seq, ok := c.drafted[*h]; ok {
		*receipt = Receipt{Seq: seq, Duplicate: true}
		return
	}
	// What came since the request asked is in memory, unless a segment was sealed in between.
	_, ok := c.q.log.Young(h)
	if ok || r.seals != c.q.log.Seals() {
		seq, known, err := c.q.known(h, c.now)
		if err != nil && c.broken == nil {
			c.broken = err // nobody can say whether the id is new
		}
		if known {
			*receipt = Receipt{Seq: seq, Duplicate: true}
			return
		}
	}
	*receipt = Receipt{Seq: c.next + uint64(c.draft.Len())}
}

// commit makes what was gathered durable and visible. If we die before the sync has returned, nobody was told that the
// events are stored; if after, they are found in the journal.
func (c *committer) commit() error {
	n := c.draft.Len()
	if n == 0 && len(c.saves) == 0 {
		return nil
	}
	began := time.Now()
	c.now = max(c.q.now(), c.now)
	if err := c.q.owned(); err != nil {
		return err
	}
	size := journal.Header + freeSize
	for _, s := range c.saves {
		for _, g := range s.list {
			size += g.bound()
		}
	}
	if n > 0 {
		size += c.draft.Size()
	}
	buf := c.room(pages(size))[:journal.Header+freeSize]
	clear(buf)
	first := c.q.nextEntry.Load()
	next := first
	list := make([]committed, 0, len(c.saves)+1)
	for _, s := range c.saves {
		for _, g := range s.list {
			from := len(buf)
			buf = g.append(buf, next, c.now)
			list = append(list, committed{h: entry.Header{Kind: g.kind(), Number: next, At: c.now}, raw: slices.Clone(buf[from:]), gathered: g})
			next++
		}
	}
	var f *entry.Frame
	if n > 0 {
		buf, f = c.draft.Seal(buf, next, c.next, c.now)
		list = append(list, committed{h: entry.Header{Kind: entry.KindFrame, Number: next, At: c.now}, raw: f.Raw, frame: f})
		next++
	}
	if next == first {
		return nil
	}
	if err := c.write(buf, first, next); err != nil {
		return err
	}
	c.q.nextEntry.Store(next)
	c.q.keeper.journalBytes.Store(c.q.journal.Bytes())
	if slot := c.q.journal.Generation(); c.q.keeper.slot.Swap(slot) != slot {
		if err := c.q.mark.turned(slot); err != nil {
			return err
		}
	}
	list[len(list)-1].size = int64(pages(len(buf)))
	if f != nil {
		c.q.log.Accept(f)
		c.next = f.End()
		c.q.commits.Add(1)
		c.q.commitEvents.Add(int64(n))
		c.q.commitTimes.Add(int64(time.Since(began)))
		c.q.accepted.Add(c.draft.Accepted())
		c.publish(f)
	}
	c.q.keeper.grown(list)
	return nil
}

// room returns at least size bytes that are nobody else's: what is kept of a record is a copy, since a record of one event
// takes a page of the journal.
func (c *committer) room(size int) []byte {
	switch {
	case size > keptRoom:
		return make([]byte, size)
	case cap(c.buf) < size:
		c.buf = make([]byte, size)
	}
	return c.buf[:size]
}

func pages(n int) int { return (n + 4095) &^ 4095 }

// write appends a record to the journal. Records that leave much of their slots empty can fill it before admit closes; then
// it waits for the keeper: nothing is written yet.
func (c *committer) write(buf []byte, first, end uint64) error {
	for {
		free := c.q.logged.Load()
		binary.LittleEndian.PutUint64(buf[journal.Header:], free)
		err := c.q.journal.Append(buf, first, end, free)
		if !errors.Is(err, journal.ErrFull) {
			return err
		}
		if free == first {
			return c.q.disk.lackOf(c.q.opts, nil) // the log has all there is: only a slot that the disk refuses makes room
		}
		if err := c.q.keeper.makeRoom(c.q); err != nil {
			return err
		}
	}
}

func (c *committer) answer(err error) {
	for i, s := range c.saves {
		c.saves[i] = nil
		s.done <- err
	}
	for i, r := range c.taken {
		c.taken[i] = nil
		r.done <- err
	}
}

// publish shows a frame that is on disk to the lanes: first its deliveries are counted, then it can be read, then those
// who wait are woken. What a lane is given is counted at once, whatever number of the frame's lane sets it is in: a count
// that is saved in between would miss the rest for good.
func (c *committer) publish(f *entry.Frame) {
	c.q.tail.add(f)
	lanes := *c.q.lanes.Load()
	c.counts = c.draft.Counts(c.counts[:0])
	c.given = slices.Grow(c.given, len(lanes))[:max(len(lanes), len(c.given))]
	for i, set := range f.Sets {
		set.Each(func(id LaneID) {
			if int(id) < len(lanes) && lanes[id] != nil {
				if c.given[id] == 0 {
					c.reached = append(c.reached, lanes[id])
				}
				c.given[id] += c.counts[i]
			}
		})
	}
	for _, l := range c.reached {
		l.arrive(f.First, f.End(), c.given[l.id])
		c.given[l.id] = 0
	}
	c.q.end.Store(f.End())
	for _, l := range c.reached {
		l.wake()
	}
	clear(c.reached)
	c.reached = c.reached[:0]
}
