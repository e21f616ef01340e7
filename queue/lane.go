package queue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

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

	// What the committer touches. It waits for none of the locks below.
	ready  atomic.Pointer[func()] // tells the endpoint's senders that there is something to take
	passed atomic.Int64           // deliveries that are not pending any more, ever
	jump   atomic.Uint64          // nothing below is pending: don't read it
	gift   given

	// Who reads from disk holds one of these, and never mu: a save, Stats and whoever settles don't wait for a disk.
	walking   sync.Mutex // reads the log onward; held by Take
	reviewing sync.Mutex // reads for the replays; held by TakeReplay
	recalling sync.Mutex // reads the records of retries; held by TakeDue

	mu        sync.Mutex
	saved     uint64 // the cursor on disk
	gone      bool   // given up
	delivered int64
	retrying  int64
	failed    int64
	replayed  int64 // deliveries that had gone well and were attempted again on purpose
	paused    string
	health    Health
	unserved  int64 // since when no endpoint is served by it, queue time; 0 while one is
	expired   int64 // deliveries that became failed for that, since the queue was opened

	oldestFailed uint64 // no failed delivery below it was recorded since the janitor looked

	// Reading the log (walk.go): changed under walking and mu, so that either is enough to look at it.
	next   uint64 // everything below has been handed out or was not for this lane
	reader entry.Reader
	ahead  []*entry.Frame      // behind the reader's frame
	old    []Stored            // carried events that were read and not handed out; they come before the reader's
	oldTo  uint64              // everything below was read of what was carried
	listed []uint64            // carried events to be read, of all lanes; under walking alone, as is the next
	lists  uint64              // up to where the log was gone when they were listed
	finder *log.Finder         // of blocks that have something for it; under walking alone
	skip   map[uint64]struct{} // settled before the last start, not below next
	look   chan struct{}       // closed when the look for the oldest that is under way ends; nil: none is
	walkAt int64               // when the last event that was read was accepted, Unix milliseconds as it is shown

	window []*flight // first attempts handed out and those settled since, by event; the first one is not settled
	open   int64     // of these, not settled
	again  []*flight // released, by event, to be handed out before anything new

	retries retries
	letters letters

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
	landings    uint64                 // how often some of them came into the store
	countSaved  int64                  // deliveries it was given, as they were saved last
	countedTo   uint64                 // the events below which these were given

	excerptsUntil int64             // see excerpts
	newest        map[uint64]newest // by event
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

// Delivery is one event for one endpoint. Event's bytes are shared and must not be written to.
type Delivery struct {
	Event    Stored
	Attempts int       // made so far
	Replay   uint64    // the number of the replay that it is part of, 0 for none; see ReplayID
	Due      time.Time // of a retry, when it was due
	began    int64     // of that replay, Unix milliseconds of the wall clock
	flight   *flight
	retry    *retry
}

const (
	// maxWindow bounds how far deliveries may be settled ahead of one that is slow.
	maxWindow = 65536
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
		delivered: r.delivered, retrying: r.retrying, failed: r.failed, born: r.born, replayed: r.replayed, unserved: r.unserved,
		health: r.health.moved(func(t time.Time) time.Time { return time.UnixMilli(q.shown(t.UnixMilli())) }),
	}
	l.gift.matched, l.gift.counted, l.countSaved, l.countedTo = r.matched, r.counted, r.matched, r.counted
	l.excerptsUntil = r.excerpts
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

// close makes the lane give out nothing any more.
func (l *Lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	l.forgetAllNewest()
	l.ready.Store(nil)
	l.forgetRetries()
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
