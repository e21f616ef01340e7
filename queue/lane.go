package queue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// Lane is an endpoint's state in the queue: which events it was given, and which of its deliveries are pending, retrying or
// failed. Of attempts it knows only their records. All methods are safe for concurrent use. A Delivery that Take, TakeDue or
// TakeReplay returned belongs to the caller until it passes it to exactly one of Delivered, Retry, Failed, Release.
//
// The writer saves progress within Options.saveEvery. If we die before that, deliveries that were settled since are pending
// or due again: at least once, and no more than that.
type Lane struct {
	q    *Queue
	id   LaneID
	name string
	born uint64 // the end of the log when the lane was made; 0 when that is not known

	// For the committer, which takes none of the locks below.
	ready    atomic.Pointer[func()] // tells the endpoint's senders that there may be something to take
	passed   atomic.Int64           // deliveries that are not pending any more, ever
	skipTo   atomic.Uint64          // nothing below is pending: don't read it
	assigned assignment

	// Each of these is held while the disk is read, and mu is not: a save, Stats and callers that settle never wait for a
	// disk.
	logReading    sync.Mutex // for reads of the log; held by Take
	replayReading sync.Mutex // for reads for the replays; held by TakeReplay
	retryReading  sync.Mutex // for reads of retries' records; held by TakeDue

	mu        sync.Mutex
	saved     uint64 // the cursor's low as it was saved last
	discarded bool   // the lane is deleted
	delivered int64  // ever
	retrying  int64
	failed    int64
	replayed  int64  // deliveries that had gone well and were attempted again on purpose, ever
	paused    string // why, empty while it is not
	health    Health
	unserved  int64 // since when the lane serves no endpoint, queue time; 0 while it serves one
	expired   int64 // deliveries that became failed for that, since the queue was opened

	oldestFailed uint64 // no failed delivery of an event below it was recorded since retention looked
	discardedTo  uint64 // no failed delivery of an event from it on was ever deleted

	// The reader of the log (take.go). It is changed under both logReading and mu, so either is enough to look at it; a
	// field marked * needs logReading.
	cursor
	reader        entry.Reader
	ahead         []*entry.Frame // frames behind the reader's
	carried       []Stored       // carried events that were read and not handed out; they come before the reader's
	carriedTo     uint64         // of the carried events all below were read
	carriedSeqs   []uint64       // * carried events that are still to be read, of all lanes
	carriedListed uint64         // * below which the log was deleted when they were listed
	finder        *log.Finder    // * finds blocks that have events for this lane
	oldestLookup  chan struct{}  // closed when the look-up of the oldest event ends; nil while none runs
	lastReadAt    int64          // when the last event that was read was accepted, queue time

	openAttempts int64 // first attempts handed out and not settled

	retries retries
	letters letters

	replays    []*replay           // those that run and the latest that ended, oldest first
	replaying  map[uint64]struct{} // events that a replay has in flight
	nextReplay int                 // counts calls of TakeReplay, to take from the replays in turn

	// What happened since the writer asked last: changes, which are saved in one entry with the lane's record, and attempts.
	dirty        bool   // there is something to save
	saveNumber   uint64 // how often the writer asked
	changes      []entry.Change
	changeBytes  int
	attempts     []entry.EventAttempt
	attemptBytes int
	unsaved      map[recordName]unsaved // records that the store does not have yet
	applyCount   uint64                 // how often the store got some of them
	countSaved   int64                  // matched as it was saved last
	countedTo    uint64                 // counted as it was saved last

	excerptsUntil int64             // see excerpts
	newest        map[uint64]newest // by event
}

// assignment counts what a lane was given. The committer counts, under a lock that nobody holds over disk.
type assignment struct {
	mu      sync.Mutex
	matched int64  // deliveries, ever
	counted uint64 // all events below it are counted
}

// assignedCount is how many deliveries the lane was given, ever.
func (l *Lane) assignedCount() int64 {
	l.assigned.mu.Lock()
	defer l.assigned.mu.Unlock()
	return l.assigned.matched
}

// counts is how many deliveries the lane was given by the events below counted.
func (l *Lane) counts() (matched int64, counted uint64) {
	l.assigned.mu.Lock()
	defer l.assigned.mu.Unlock()
	return l.assigned.matched, max(l.assigned.counted, l.q.end.Load())
}

// flight is a first attempt that is in flight, or settled out of order.
type flight struct {
	ev        Stored
	settled   bool
	uncharged bool // an attempt that was not charged is recorded

	replay *replay // whose attempt it is; nil: the lane's own
	failed bool    // the delivery was failed when the replay took it up
}

// Delivery is one event for one endpoint. The event's bytes are shared and must not be written to.
type Delivery struct {
	Event    Stored
	Attempts int       // made so far
	Replay   uint64    // number of the replay that it is part of, 0 for none; see ReplayID
	Due      time.Time // of a retry, when it was due
	since    int64     // when the delivery came to be, queue time
	q        *Queue
	flight   *flight // nil for a retry
	retry    *retry
}

const (
	// maxWindow bounds how many deliveries may be settled above one that is slow.
	maxWindow = 65536
	// With maxChanges or maxChangeBytes of unsaved changes a lane hands out nothing until they are saved. With what is in
	// flight then, at most 1024 deliveries of two short records each, and the lane's own record, at most maxWindow short
	// numbers, they fit into one transaction.
	maxChanges     = 1024
	maxChangeBytes = 128 << 10
	// maxUnsaved is how many of its records may wait for the store.
	maxUnsaved = 16 * maxChanges
	// readAgain is how long a lane waits after the log could not be read.
	readAgain = time.Second
	// maxAttemptBytes is how much of its attempts may wait for a save.
	maxAttemptBytes = 2 << 20
)

// newLane makes a lane from its record.
func newLane(q *Queue, id LaneID, r laneRecord) *Lane {
	l := &Lane{
		q: q, id: id, name: r.name, cursor: newCursor(r.cursor, r.settled), saved: r.cursor, paused: r.paused,
		delivered: r.delivered, retrying: r.retrying, failed: r.failed, born: r.born, replayed: r.replayed, unserved: r.unserved,
		health: r.health.moved(q.loaded),
	}
	l.assigned.matched, l.assigned.counted, l.countSaved, l.countedTo = r.matched, r.counted, r.matched, r.counted
	l.excerptsUntil, l.discardedTo = r.excerpts, r.discardedTo
	l.passed.Store(r.passed)
	return l
}

// Name is the endpoint's name.
func (l *Lane) Name() string { return l.name }

// ID is the lane's number in lane sets.
func (l *Lane) ID() LaneID { return l.id }

// Existed reports whether the lane existed when an event was accepted; also true when that is not known any more.
func (l *Lane) Existed(seq uint64) bool { return seq >= l.born }

// OnReady sets the function that is called, from any goroutine, when there may be something to take. The function must not
// block and must not call the lane.
func (l *Lane) OnReady(fn func()) { l.ready.Store(&fn) }

// arrive counts the deliveries of a frame that is about to become readable, of events from first up to below end. Only the
// committer calls it.
func (l *Lane) arrive(first, end uint64, count int64) {
	l.assigned.mu.Lock()
	defer l.assigned.mu.Unlock()
	if l.assigned.matched == l.passed.Load() {
		// Everything that the lane was given before is settled. What lies between is not for it.
		l.skipTo.Store(first)
	}
	l.assigned.matched += count
	l.assigned.counted = end
}

// wake calls the function that OnReady set. It waits for nothing.
func (l *Lane) wake() {
	if fn := l.ready.Load(); fn != nil {
		(*fn)()
	}
}

// close makes a discarded lane hand out nothing any more.
func (l *Lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.discarded = true
	l.forgetAllNewest()
	l.ready.Store(nil)
	l.forgetRetries()
}

// Pause saves that the endpoint is paused, and why; an empty reason ends the pause. It waits for the disk: when it returns
// nil, the pause is durable.
func (l *Lane) Pause(reason string) error {
	l.mu.Lock()
	l.paused = reason
	l.setDirty()
	l.mu.Unlock()
	if err := l.q.writer.awaitSave(l.q); err != nil {
		return fmt.Errorf("save pause of lane %q: %w", l.name, err)
	}
	return nil
}

// Age is how long ago the delivery came to be: its event was accepted or, in a replay, the replay began. A wall clock that is set
// does not change it.
func (d *Delivery) Age() time.Duration {
	return time.Duration(d.q.now()-d.since) * time.Millisecond
}

// handOut makes the delivery of a first attempt. The flight's event has queue time, the delivery's the wall clock's as it is now.
func (l *Lane) handOut(f *flight) *Delivery {
	d := &Delivery{Event: f.ev, since: f.ev.At, q: l.q, flight: f}
	d.Event.At = l.q.shown(f.ev.At)
	if f.replay != nil {
		d.Replay, d.since = f.replay.number, int64(f.replay.number)
	}
	return d
}
