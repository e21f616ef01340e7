package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
)

// What Append may answer beside nil. Callers turn them into answers for their clients.
var (
	// ErrDiskLow: less space is free than Options.MinFree, or than the queue needs to go on. Nothing was stored.
	ErrDiskLow = errors.New("too little disk space is free")
	// ErrOverloaded: the disk did not keep up within Options.AppendTimeout. Nothing was stored.
	ErrOverloaded = errors.New("the disk does not keep up")
	// ErrClosed: the queue is closing. Nothing was stored.
	ErrClosed = errors.New("the queue is closing")
	// ErrFailed: a write failed. Nobody knows whether the events are on disk; the queue accepts no more until it is
	// opened again.
	ErrFailed = errors.New("the queue failed and must be opened again")
)

// Queue keeps events until every lane has settled them. All methods are safe for concurrent use.
type Queue struct {
	opts       Options
	clock      *clock
	checkpoint *checkpointFile // written by the writer, and by the committer when the journal changes its slot
	boot       [16]byte        // id of the machine's boot
	dir        *directory.Directory
	journal    *journal.Journal // written by the committer alone
	log        *log.Log         // written by the writer alone
	index      index            // written by the writer alone

	memTable int64         // bytes of the store's table in memory
	replaced chan struct{} // closed when the store is replaced; the writer's

	requests  chan *request
	progress  chan *saveRequest
	committed chan struct{} // closed when the committer has returned
	closing   chan struct{}
	closed    sync.Once
	owners    sync.WaitGroup // committer, shedder, writer, and those that compare the store and load filters beside them

	tail tail
	// Two positions in the log, as the sequence number behind the last event: all events below applied are in log and store;
	// lanes may read all events below end.
	applied atomic.Uint64
	end     atomic.Uint64
	// And as entry numbers: all entries below logged are in the log; nextEntry is the number of the next entry.
	logged    atomic.Uint64
	nextEntry atomic.Uint64

	dirty           dirtyLanes
	watched         recordWatch             // changes of the records that retention has read
	replaying       atomic.Int64            // how many events replays have in flight
	neededFrom      atomic.Uint64           // from this event on a lane that is served again needs the log; 0: retention knows of all
	freed           atomic.Bool             // some carried event may not be needed any more
	carriedBelow    atomic.Uint64           // the segments of all events below it are deleted
	expired         atomic.Int64            // deliveries that became failed because no endpoint is served by their lane
	lanes           atomic.Pointer[[]*Lane] // by id, nil where a lane was discarded; the writer replaces the slice
	names           atomic.Pointer[map[string]*Lane]
	retriesInMemory atomic.Int64 // of all lanes

	writer       writer
	disk         disk
	reservations reservations
	excerpts     excerpts
	backingUp    atomic.Bool

	failure atomic.Pointer[error]
	failed  chan struct{}

	appending  atomic.Int64 // calls of Append that have not returned
	busy       atomic.Int64 // since when the committer takes no request (uptime); 0 while it waits for one
	committing atomic.Int64 // since when a commit runs (uptime); 0 while none does
	commits    atomic.Int64
	// Of each commit: its events, and the nanoseconds from its first byte to the end of the sync.
	commitEvents, commitTimes *Histogram

	accepted   atomic.Int64
	duplicates atomic.Int64
	damaged    atomic.Int64
	lost       lostEvents
}

const (
	// closeLimit is how long the store may take to close, failedCloseLimit how long when its disk is full or broken.
	closeLimit       = 15 * time.Second
	failedCloseLimit = 3 * time.Second
)

// Close stops Append, waits for the commits under way, makes all progress durable, writes a snapshot and closes the files.
// It waits for the disk, for the store at most closeLimit. Nobody may use the lanes afterwards.
func (q *Queue) Close() error {
	var err error
	q.closed.Do(func() {
		close(q.closing)
		q.freeLanes()
		q.owners.Wait()
		limit := closeLimit
		if q.failure.Load() != nil {
			err, limit = *q.failure.Load(), failedCloseLimit
		} else if q.writer.saveRefused.Load() {
			limit = failedCloseLimit
		}
		err = errors.Join(err, q.index.store.Close(limit), q.log.Close(), q.journal.Close(), q.checkpoint.close(), q.dir.Close())
	})
	if err != nil {
		return fmt.Errorf("close queue %q: %w", q.opts.Dir, err)
	}
	return nil
}

// Failed is closed when a write has failed: the queue must be opened again. Err returns the reason. It waits for nothing.
func (q *Queue) Failed() <-chan struct{} { return q.failed }

// Err is the first write error, nil while there is none. It waits for nothing.
func (q *Queue) Err() error {
	if err := q.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (q *Queue) fail(err error) {
	if q.failure.CompareAndSwap(nil, &err) {
		close(q.failed)
		q.freeLanes()
	}
}

// over reports that nobody may wait for a save any more: the queue has failed or is closing.
func (q *Queue) over() bool {
	select {
	case <-q.failed:
		return true
	case <-q.closing:
		return true
	default:
		return false
	}
}

// freeLanes wakes everybody who waits for a save.
func (q *Queue) freeLanes() { q.writer.broadcast(false) }

// Ready returns why Append would refuse an event now, nil when it would accept it. At most once in 100 ms it asks the file
// system for free space.
func (q *Queue) Ready() error {
	if q.Err() != nil {
		return fmt.Errorf("%w: %w", ErrFailed, q.Err())
	}
	select {
	case <-q.closing:
		return ErrClosed
	default:
	}
	return q.disk.check(q)
}

// The fields of entries are defined in package entry.
type (
	// LaneID numbers a lane for good: it is never given to another.
	LaneID = entry.LaneID
	// LaneSet is an immutable set of lanes: the endpoints that one event goes to.
	LaneSet = entry.LaneSet
	// Words are by which members an event is found.
	Words = entry.Words
	// Event is what Append stores. Its slices are the caller's; they are copied before Append returns.
	Event = entry.Event
	// Stored is one event of the log. Its byte slices are shared and must not be written to.
	Stored = entry.Stored
	// Attempt is the record of one POST of one delivery.
	Attempt = entry.Attempt
	// Letter says of which failed delivery an event is a copy.
	Letter = entry.Letter
)

// NewLaneSet makes the set of the given lanes.
func NewLaneSet(ids ...LaneID) LaneSet { return entry.NewLaneSet(ids...) }
