package queue

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// Lane is an endpoint's state in the queue: what it has been given, what of it is pending, retrying or failed. It knows
// nothing of attempts but their records. All methods are safe for concurrent use; a Delivery that Take or TakeDue handed
// out belongs to the caller until it gives it to exactly one of Delivered, Retry, Failed, Release.
//
// Progress is saved by the keeper, within Options.saveEvery. If we die before that, the deliveries settled since are
// pending or due again: at least once, and no more than that window.
type Lane struct {
	q    *Queue
	id   LaneID
	name string
	born uint64 // the end of the log when it was made; 0 when that is not known

	// What the committer touches. It must never wait for mu, under which the lane reads from disk.
	ready  atomic.Pointer[func()] // tells the endpoint's senders that there is something to take
	passed atomic.Int64           // deliveries that are not pending any more, ever
	jump   atomic.Uint64          // nothing below is pending: don't read it
	gift   given

	mu        sync.Mutex
	saved     uint64 // the cursor on disk
	gone      bool   // given up
	delivered int64
	retrying  int64
	failed    int64
	replayed  int64 // deliveries that had gone well and were attempted again on purpose
	paused    string
	health    Health

	oldestFailed uint64 // no failed delivery below it was recorded since the janitor looked

	// Reading the log. Everything below next has been handed out or was not for this lane.
	next   uint64
	reader entry.Reader
	ahead  []*entry.Frame      // behind the reader's frame
	finder *log.Finder         // of blocks that have something for it
	skip   map[uint64]struct{} // settled before the last start, not below next

	window []*flight // first attempts handed out and those settled since, by event; the first one is not settled
	open   int64     // of these, not settled
	again  []*flight // released, by event, to be handed out before anything new

	retries retryHeap

	replays   []*replay           // those that run and the latest that ended, oldest first
	replaying map[uint64]struct{} // events of which a replay has a first attempt under way
	turn      int                 // whose replay's it is

	// Since the keeper asked last: changes, which are saved together with the lane's record, and attempts.
	dirty       bool
	batch       uint64 // how often it asked
	changes     []entry.Change
	changeBytes int
	made        []entry.Made
	madeBytes   int
	unsaved     map[recordName]unsaved // records that the store does not have yet
	countSaved  int64                  // deliveries it was given, as they were saved last
}

// given counts what a lane was given. The committer counts, and waits for nobody who reads or writes a file.
type given struct {
	mu      sync.Mutex
	matched int64  // deliveries, ever; at least those that passed
	counted uint64 // all events below it are counted
}

func (l *Lane) given() int64 {
	l.gift.mu.Lock()
	defer l.gift.mu.Unlock()
	return l.gift.matched
}

// counts are how many deliveries the lane was given by the events below a sequence number.
func (l *Lane) counts() (matched int64, counted uint64) {
	l.gift.mu.Lock()
	defer l.gift.mu.Unlock()
	return l.gift.matched, max(l.gift.counted, l.q.end.Load())
}

// flight is a first attempt under way or settled out of order.
type flight struct {
	ev      Stored
	settled bool
	noted   bool // has a record of an attempt that was not charged

	replay *replay // whose it is; nil for one of the log
	failed bool    // it had failed when the replay took it up
}

// retry is a delivery that was attempted and will be again.
type retry struct {
	seq      uint64
	due      time.Time
	attempts int
	replay   uint64 // that it is part of, 0 for none
}

// Delivery is one event for one endpoint. Event's bytes are shared and must not be written to.
type Delivery struct {
	Event    Stored
	Attempts int    // made so far
	Replay   uint64 // the number of the replay that it is part of, 0 for none; see ReplayID
	began    int64  // of that replay, Unix milliseconds of the wall clock
	flight   *flight
	retry    *retry
}

const (
	// maxWindow bounds how far deliveries may be settled ahead of one that is slow.
	maxWindow = 65536
	// maxRetrying bounds the retries of all lanes together, which are in memory; a lane may always have laneRetrying.
	maxRetrying  = 131072
	laneRetrying = 1024
	// maxChanges and maxChangeBytes are how much a lane settles between two saves before it hands out nothing more. With
	// what is under way then, at most 1024 deliveries of two short records each, and the lane's own record, at most
	// maxWindow short numbers, it fits into one transaction.
	maxChanges     = 1024
	maxChangeBytes = 128 << 10
	// maxUnsaved is how many records of a lane may wait for the store.
	maxUnsaved = 16 * maxChanges
	// readAgain is how long to wait after the log could not be read.
	readAgain = time.Second
	// maxMadeBytes is how much of attempts may wait for a save.
	maxMadeBytes = 2 << 20
)

func newLane(q *Queue, id LaneID, r laneRecord) *Lane {
	l := &Lane{
		q: q, id: id, name: r.name, next: r.cursor, saved: r.cursor, paused: r.paused,
		delivered: r.delivered, retrying: r.retrying, failed: r.failed, born: r.born, replayed: r.replayed,
		health: r.health.moved(func(t time.Time) time.Time { return time.UnixMilli(q.shown(t.UnixMilli())) }),
	}
	l.gift.matched, l.gift.counted, l.countSaved = r.matched, r.counted, r.matched
	l.passed.Store(r.passed)
	if len(r.settled) > 0 {
		l.skip = make(map[uint64]struct{}, len(r.settled))
		for _, seq := range r.settled {
			l.skip[seq] = struct{}{}
		}
	}
	return l
}

// Name is the endpoint's name.
func (l *Lane) Name() string { return l.name }

// ID is the lane's number in lane sets.
func (l *Lane) ID() LaneID { return l.id }

// Began reports whether the lane was there when an event was accepted; true as well when that is not known any more.
func (l *Lane) Began(seq uint64) bool { return seq >= l.born }

// OnReady sets the function that is called, from any goroutine, when there may be something to take. It must not block
// and must not call the lane.
func (l *Lane) OnReady(fn func()) { l.ready.Store(&fn) }

// arrive counts deliveries of a frame, from event first up to below end, that is about to become readable. Only the
// committer calls it.
func (l *Lane) arrive(first, end uint64, count int64) {
	l.gift.mu.Lock()
	defer l.gift.mu.Unlock()
	if l.gift.matched == l.passed.Load() {
		// All that the lane was given before is settled, and stays so: what lies between is not for it.
		l.jump.Store(first)
	}
	l.gift.matched += count
	l.gift.counted = end
}

func (l *Lane) wake() {
	if fn := l.ready.Load(); fn != nil {
		(*fn)()
	}
}

// Take hands out the next delivery that was not attempted yet, in order of arrival, and says whether there are more. It
// returns nil when there is none now.
func (l *Lane) Take() (d *Delivery, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeLocked()
}

func (l *Lane) takeLocked() (d *Delivery, more bool) {
	if l.full() {
		return nil, false // save wakes
	}
	if len(l.again) > 0 {
		f := l.again[0]
		l.again = slices.Delete(l.again, 0, 1)
		return &Delivery{Event: f.ev, flight: f}, true
	}
	if l.waiting() <= 0 || len(l.window)+len(l.skip) >= maxWindow || l.gone {
		return nil, false
	}
	if l.retrying >= laneRetrying && l.q.retrying.Load() >= maxRetrying {
		return nil, false
	}
	if jump := l.jump.Load(); jump > l.next {
		l.next, l.reader, l.ahead, l.skip = jump, entry.Reader{}, nil, nil
	}
	ev, ok := l.read()
	if !ok {
		return nil, false
	}
	ev.At = l.q.shown(ev.At)
	f := &flight{ev: ev}
	l.window = append(l.window, f)
	l.open++
	return &Delivery{Event: ev, flight: f}, l.waiting() > 0
}

// waiting is the number of pending deliveries that are not handed out.
func (l *Lane) waiting() int64 { return l.given() - l.passed.Load() - l.open }

// read steps to the next event of the log that is for this lane.
func (l *Lane) read() (Stored, bool) {
	for {
		ev, ok, err := l.reader.Next()
		switch {
		case err != nil:
			l.passOver(l.reader.Frame().End(), err)
			continue
		case ok:
			if ev.Seq < l.next {
				continue
			}
			l.next = ev.Seq + 1
			if !ev.Lanes.Has(l.id) {
				continue
			}
			if _, settled := l.skip[ev.Seq]; settled {
				delete(l.skip, ev.Seq)
				if len(l.window) > 0 {
					// The cursor stays below it: the next save must still tell that it is settled.
					l.window = append(l.window, &flight{ev: Stored{Seq: ev.Seq}, settled: true})
				}
				continue
			}
			return ev, true
		}
		if len(l.ahead) == 0 {
			if err = l.stepOver(); err != nil && !errors.Is(err, codec.ErrDamaged) {
				l.tryLater(err)
				return Stored{}, false
			}
			var damagedTo uint64
			l.ahead, damagedTo, err = l.q.frames(l.next)
			if err != nil && !errors.Is(err, codec.ErrDamaged) {
				l.tryLater(err)
				return Stored{}, false
			}
			if err != nil {
				l.passOver(damagedTo, err)
				continue
			}
			if len(l.ahead) == 0 {
				l.reader = entry.Reader{}
				if applied := l.q.applied.Load(); l.next < applied {
					// Neither the store nor the log has any of them.
					l.q.missing(l.name, l.next, applied)
					l.next = applied
					continue
				}
				l.forgetLost()
				return Stored{}, false
			}
		}
		if first := l.ahead[0].First; first > l.next {
			l.q.missing(l.name, l.next, first)
		}
		l.reader = l.ahead[0].Reader()
		l.ahead = l.ahead[1:]
	}
}

// stepOver goes on to the next block that has something for this lane: what lies between is not read.
func (l *Lane) stepOver() error {
	if _, end := l.q.log.End(); l.next >= end {
		return nil
	}
	if l.finder == nil {
		l.finder = l.q.finder(&sieve{lane: l})
	}
	from, _, err := l.finder.From(l.next)
	if err == nil {
		l.next = max(l.next, from)
	}
	return err
}

// forgetLost corrects what is pending when the lane has come to the end of the log and more was counted than it found: that
// was in what can't be read any more, of which it has told.
func (l *Lane) forgetLost() {
	l.gift.mu.Lock()
	lost := int64(0)
	if l.gift.counted <= l.next && l.next >= l.q.end.Load() {
		lost = l.gift.matched - l.passed.Load() - l.open
	}
	l.gift.matched -= max(lost, 0)
	l.gift.mu.Unlock()
	if lost > 0 {
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: %d of its deliveries were among the events that can't be read any more, and are not pending any more", l.name, lost))
		l.changed()
	}
}

// tryLater leaves all as it is after a read that failed without showing damage, and has the senders look again.
func (l *Lane) tryLater(err error) {
	if errors.Is(err, ErrClosed) {
		return
	}
	l.q.opts.Notice(fmt.Sprintf("endpoint %q: the store can't be read and is tried again: %v", l.name, err))
	time.AfterFunc(readAgain, l.wake)
}

// missing tells of events that are not in the log any more although a lane needs them.
func (q *Queue) missing(lane string, from, to uint64) {
	q.damaged.Add(int64(to - from))
	q.opts.Notice(fmt.Sprintf("endpoint %q: events %d to %d are missing from the log and are passed over", lane, from, to-1))
}

// passOver steps behind events that can't be read any more. How many of them were for this lane is known when it has come to
// the end of the log (forgetLost).
func (l *Lane) passOver(to uint64, err error) {
	l.next, l.reader = max(to, l.next+1), entry.Reader{}
	l.q.damaged.Add(1)
	l.q.opts.Notice(fmt.Sprintf("endpoint %q: events up to %d can't be read and are passed over: %v", l.name, l.next-1, err))
}

// TakeDue hands out the retry that is due first, if it is due by now. With a later moment than now whoever probes an
// endpoint has one before its time.
func (l *Lane) TakeDue(now time.Time) (d *Delivery, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.retries) > 0 && !l.retries[0].due.After(now) && !l.gone && !l.full() {
		r := heap.Pop(&l.retries).(*retry)
		d := &Delivery{Event: Stored{Seq: r.seq}, Attempts: r.attempts, Replay: r.replay, began: l.q.shown(int64(r.replay)), retry: r}
		ev, found, err := l.q.find(r.seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			heap.Push(&l.retries, r)
			l.tryLater(err)
			return nil, false
		}
		if err != nil || !found {
			l.q.damaged.Add(1)
			l.q.opts.Notice(fmt.Sprintf("endpoint %q: event %d can't be read and its delivery is given up: %v", l.name, r.seq, err))
			l.fail(d, nil, Failure{Class: "unreadable", Reason: "the event can't be read from disk any more"})
			continue
		}
		ev.At = l.q.shown(ev.At)
		d.Event = ev
		return d, true
	}
	return nil, false
}

// close makes the lane give out nothing any more. It returns how many retries it held.
func (l *Lane) close() (retries int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	l.ready.Store(nil)
	l.retries = nil
	return l.retrying
}

// Pause notes, on disk, that the endpoint is paused, and why; an empty reason ends the pause.
func (l *Lane) Pause(reason string) error {
	l.mu.Lock()
	l.paused = reason
	l.dirty = true
	l.mu.Unlock()
	if err := l.q.keeper.drain(l.q); err != nil {
		return fmt.Errorf("save pause of lane %q: %w", l.name, err)
	}
	return nil
}

// retryHeap is a container/heap by due time, then by arrival.
type retryHeap []*retry

func (h retryHeap) Len() int      { return len(h) }
func (h retryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h retryHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}

// Push is for container/heap.
func (h *retryHeap) Push(x any) { *h = append(*h, x.(*retry)) }

// Pop is for container/heap.
func (h *retryHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}
