package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
)

// committer is the one goroutine that writes the journal. It takes all requests that wait, makes one record of them, one
// write and one sync, and then answers them. It has no timer: requests gather during the sync before. Requests that still
// wait when it returns are answered by the shedder.
type committer struct {
	q          *Queue
	next       uint64 // the sequence number of the next event
	now        int64  // queue time at which the current record was begun
	requests   []*request
	saves      []*saveRequest
	lookupErr  error // an id could not be looked up
	draft      entry.Draft
	drafted    map[entry.Hash]uint64 // ids in the draft, and their events
	perSet     []int64               // events of the draft by lane set
	perLane    []int64               // events of the frame by lane
	recipients []*Lane               // lanes that have some of them
	buf        []byte                // of the last record, used again for the next
}

// saveRequest is progress that the writer wants in the journal. The committer answers it, once.
type saveRequest struct {
	list []*entryDraft
	done chan error
}

const (
	// maxFrame is how many bytes of bodies a frame may have before later requests wait for the next one.
	maxFrame = 1 << 20
	// maxReused is the longest record, in bytes, whose buffer is used again.
	maxReused = 256 << 10
	// loggedSize is the length of the number, in front of each record, of the first entry that the log does not have.
	loggedSize = 8
)

func (c *committer) run() {
	defer close(c.q.committed)
	c.q.busy.Store(uptime())
	for {
		// Requests that wait here are not taken yet, and the shedder may refuse them.
		if c.q.writer.awaitBacklog(c.q) != nil {
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
		err := c.lookupErr
		if err == nil {
			err = c.commit()
		}
		c.q.committing.Store(0)
		if errors.Is(err, ErrDiskLow) || errors.Is(err, ErrClosed) {
			c.q.disk.journalFull.Store(errors.Is(err, ErrDiskLow))
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

// begin empties what the last commit gathered.
func (c *committer) begin() {
	c.requests, c.saves = c.requests[:0], c.saves[:0]
	c.draft.Reset()
	clear(c.drafted)
	c.lookupErr = nil
}

// gather takes r and all requests that wait behind it. It first lets other goroutines run: those that have read a request
// but not parsed it yet get into this commit. That makes fewer and larger frames on busy processors, and costs nothing on
// idle ones.
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

// take decides which events of a request are new and adds these to the draft.
func (c *committer) take(r *request) {
	c.requests = append(c.requests, r)
	for i := range r.events {
		ev, receipt := &r.events[i], &r.receipts[i]
		switch {
		case ev.Letter != nil:
			*receipt = Receipt{Seq: c.next + uint64(c.draft.Len())}
		case !receipt.Duplicate:
			c.decide(r, &r.ids[i], receipt)
		}
		if receipt.Duplicate {
			c.q.duplicates.Add(1)
			continue
		}
		c.drafted[r.ids[i]] = receipt.Seq
		c.draft.Add(r.source, ev, r.ids[i])
	}
}

// decide fills the receipt of an event whose id was new when the request asked.
func (c *committer) decide(r *request, h *entry.Hash, receipt *Receipt) {
	if seq, ok := c.drafted[*h]; ok {
		*receipt = Receipt{Seq: seq, Duplicate: true}
		return
	}
	// Ids that came in between are in memory, unless a segment was sealed since.
	_, ok := c.q.log.RecentID(h)
	if ok || r.seals != c.q.log.SealCount() {
		seq, known, err := c.q.known(h, c.now)
		if err != nil && c.lookupErr == nil {
			c.lookupErr = err // nobody knows whether the id is new
		}
		if known {
			*receipt = Receipt{Seq: seq, Duplicate: true}
			return
		}
	}
	*receipt = Receipt{Seq: c.next + uint64(c.draft.Len())}
}

// commit makes durable and visible what was gathered. If we die before the sync returns, nobody was told that the events are
// stored; if we die after it, the next start finds them in the journal.
func (c *committer) commit() error {
	n := c.draft.Len()
	if n == 0 && len(c.saves) == 0 {
		return nil
	}
	began := time.Now()
	c.now = max(c.q.now(), c.now)
	if err := c.q.checkDirectory(); err != nil {
		return err
	}
	size := journal.Header + loggedSize
	for _, s := range c.saves {
		for _, g := range s.list {
			size += g.bound()
		}
	}
	if n > 0 {
		size += c.draft.Size()
	}
	buf := c.buffer(pages(size))[:journal.Header+loggedSize]
	clear(buf)
	first := c.q.nextEntry.Load()
	next := first
	list := make([]durableEntry, 0, len(c.saves)+1)
	for _, s := range c.saves {
		for _, g := range s.list {
			from := len(buf)
			buf = g.append(buf, next, c.now)
			list = append(list, durableEntry{h: entry.Header{Kind: g.kind(), Number: next, At: c.now}, raw: slices.Clone(buf[from:]), draft: g})
			next++
		}
	}
	var f *entry.Frame
	if n > 0 {
		buf, f = c.draft.Seal(buf, next, c.next, c.now)
		list = append(list, durableEntry{h: entry.Header{Kind: entry.KindFrame, Number: next, At: c.now}, raw: f.Raw, frame: f})
		next++
	}
	if next == first {
		return nil
	}
	if err := c.write(buf, first, next); err != nil {
		return err
	}
	c.q.nextEntry.Store(next)
	c.q.writer.journalBytes.Store(c.q.journal.Bytes())
	if slot := c.q.journal.Generation(); c.q.writer.journalGeneration.Swap(slot) != slot {
		if err := c.q.checkpoint.noteGeneration(slot); err != nil {
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
	c.q.writer.enqueue(list)
	return nil
}

// buffer returns at least size bytes. What outlives the commit is copied out of them, since a record of one event takes a
// whole page of the journal.
func (c *committer) buffer(size int) []byte {
	switch {
	case size > maxReused:
		return make([]byte, size)
	case cap(c.buf) < size:
		c.buf = make([]byte, size)
	}
	return c.buf[:size]
}

// pages rounds up to whole pages of 4 KiB.
func pages(n int) int { return (n + 4095) &^ 4095 }

// write appends a record to the journal. Records that leave much of their slots empty can fill the journal before
// awaitBacklog blocks; then write waits for the writer. Nothing is written in that case yet.
func (c *committer) write(buf []byte, first, end uint64) error {
	for {
		free := c.q.logged.Load()
		binary.LittleEndian.PutUint64(buf[journal.Header:], free)
		err := c.q.journal.Append(buf, first, end, free)
		if !errors.Is(err, journal.ErrFull) {
			return err
		}
		if free == first {
			return c.q.disk.shortageOf(c.q.opts, nil) // the log has everything: only one more slot, which the disk refuses, would make room
		}
		if err := c.q.writer.awaitJournalSpace(c.q); err != nil {
			return err
		}
	}
}

func (c *committer) answer(err error) {
	for i, s := range c.saves {
		c.saves[i] = nil
		s.done <- err
	}
	for i, r := range c.requests {
		c.requests[i] = nil
		r.done <- err
	}
}

// publish shows a frame that is durable to the lanes: first its deliveries are counted, then it becomes readable, then
// senders that wait are woken. All events of a lane are counted in one step, in however many lane sets of the frame it is: a
// count that is saved in between would miss the rest for good.
func (c *committer) publish(f *entry.Frame) {
	c.q.tail.add(f)
	lanes := *c.q.lanes.Load()
	c.perSet = c.draft.Counts(c.perSet[:0])
	c.perLane = slices.Grow(c.perLane, len(lanes))[:max(len(lanes), len(c.perLane))]
	for i, set := range f.Sets {
		set.Each(func(id LaneID) {
			if int(id) < len(lanes) && lanes[id] != nil {
				if c.perLane[id] == 0 {
					c.recipients = append(c.recipients, lanes[id])
				}
				c.perLane[id] += c.perSet[i]
			}
		})
	}
	for _, l := range c.recipients {
		l.arrive(f.First, f.End(), c.perLane[l.id])
		c.perLane[l.id] = 0
	}
	c.q.end.Store(f.End())
	for _, l := range c.recipients {
		l.wake()
	}
	clear(c.recipients)
	c.recipients = c.recipients[:0]
}
