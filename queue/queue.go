package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
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

// Options say where a queue is and how long it keeps what it has. A field that has a default may be zero.
type Options struct {
	Dir             string
	DedupWindow     time.Duration // for how long an event id is known
	Retention       time.Duration // for how long an event is kept that no lane needs
	FailedRetention time.Duration // for how long a failed delivery is kept

	// A lane is unserved when it serves no endpoint (SetServed). Its deliveries become failed after UnservedRetention. Before
	// that, while all unserved lanes together hold more than UnservedBytes of what retention would have deleted, the oldest
	// deliveries of the lane that holds most become failed. 0: no bound.
	UnservedRetention time.Duration
	UnservedBytes     int64
	NoCreate          bool  // a directory without a queue is an error: its file system may not be mounted
	MinFree           int64 // bytes; with less free space, or less than the queue itself needs (Stats.MinFree), Append returns ErrDiskLow

	AppendTimeout time.Duration         // how long Append waits until the committer takes its events; default 10 s
	Notice        func(string)          // gets one line for the operator; called from any goroutine
	Now           func() time.Time      // default time.Now
	Free          func() (int64, error) // free bytes on the file system of Dir; default: statfs

	ExcerptBytes int64 // of disk for whole excerpts of answers; one lane may use a quarter; default 256 MiB
	FilterBytes  int64 // of memory for the filters that say "this id is new" without a read; default 32 MiB

	segmentSize int64 // of the log
	slotSize    int64 // of the journal
	maxSlots    int
	tailBytes   int64         // how much of the newest events is kept in memory
	saveEvery   time.Duration // after which progress is made durable at the latest
	snapshots   time.Duration // how long the writer works on a snapshot before it saves again
	laneRetries int           // retries that a lane may always have in memory. It may have 16 times as many while all lanes together
	allRetries  int           // have fewer than allRetries in memory
	files       func() int64  // how many files can be made on the file system of Dir; nil: statfs
	ballast     int64         // bytes of the file that is deleted when the disk is full
	noMerges    bool          // Badger's own goroutines merge no tables
	clocks      func() (n time.Time, mono, wall int64)
	up          func() (int64, [16]byte) // as sinceBoot; nil when a test sets Now
	fault       fault.Func
}

// WithFault makes reads and writes of the queue fail or wait, for tests of other packages.
func (o Options) WithFault(f fault.Func) Options {
	o.fault = f
	return o
}

// Machine is what a simulated machine has in place of the real one.
type Machine struct {
	Fault  fault.Func
	Up     func() (up int64, boot [16]byte) // for how long it has been up, in milliseconds, and which boot that is
	Merges bool                             // Badger merges tables, for which it wakes 40 times a second
	Disk   int                              // the files that are made beforehand are so many times smaller
}

// On has the queue run on a simulated machine. Options.Now is its wall clock, with the monotonic one in each reading.
func (o Options) On(m Machine) Options {
	o.fault, o.up, o.noMerges = m.Fault, m.Up, !m.Merges
	o.slotSize, o.segmentSize, o.ballast = 4<<20/int64(m.Disk), 64<<20/int64(m.Disk), 32<<20/int64(m.Disk)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o Options) withDefaults() Options {
	setDefault(&o.AppendTimeout, 10*time.Second)
	setDefault(&o.ExcerptBytes, 256<<20)
	setDefault(&o.FilterBytes, 32<<20)
	setDefault(&o.segmentSize, 64<<20)
	setDefault(&o.slotSize, 4<<20)
	setDefault(&o.maxSlots, 6)
	setDefault(&o.tailBytes, 4<<20)
	setDefault(&o.saveEvery, 100*time.Millisecond)
	setDefault(&o.snapshots, snapshotTime)
	setDefault(&o.laneRetries, 1024)
	setDefault(&o.allRetries, 131072)
	setDefault(&o.ballast, 32<<20)
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	if o.Now == nil {
		o.Now, o.up = time.Now, sinceBoot
	}
	if o.clocks == nil {
		o.clocks = readClocks(o.Now)
	}
	if o.Free == nil {
		o.Free = func() (int64, error) { return freeBytes(o.Dir) }
	}
	return o
}

// maxUnsaved bounds, in bytes, the frames in memory and journal that are not in the log yet. One frame may exceed it.
func (o *Options) maxUnsaved() int64 { return o.slotSize * int64(o.maxSlots-3) }

// The bounds of the histograms of commits: events, and nanoseconds.
var (
	commitEventBounds = []int64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096}
	commitTimeBounds  = []int64{100_000, 250_000, 500_000, 1e6, 2_500_000, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 1e9, 5e9}
)

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

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

	watched         recordWatch             // changes of the records that retention has read
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

// Stats is a snapshot of the queue's figures.
type Stats struct {
	Events       int64   // in the log, delivered or not
	Bytes        int64   // of their bodies
	FreeDisk     int64   // bytes, -1 when the file system does not say
	MinFree      int64   // bytes; with less, events are refused: Options.MinFree, or what the queue itself needs
	Accepted     int64   // since the queue was opened, without letters
	Duplicates   int64   // since the queue was opened
	Commits      int64   // since the queue was opened
	CommitEvents Buckets // events per commit
	CommitTimes  Buckets // nanoseconds per commit, sync included
	Unserved     int64   // bytes that are kept for unserved lanes alone: Options.UnservedBytes bounds them
	Expired      int64   // deliveries of unserved lanes that became failed, since the queue was opened
	Damaged      int64   // things that could not be read and were set aside, since the queue was opened
	StoreBytes   int64   // of the files of log and store
	JournalBytes int64
	Err          error
}

// Stats returns the queue's figures. It asks the file system for free space and reads memory otherwise.
func (q *Queue) Stats() Stats {
	free, err := q.opts.Free()
	if err != nil {
		free = -1
	}
	s := Stats{
		Events: q.writer.events.Load(), Bytes: q.writer.bytes.Load(),
		FreeDisk: free, MinFree: q.disk.acceptFloor(q.opts),
		Accepted: q.accepted.Load(), Duplicates: q.duplicates.Load(), Commits: q.commits.Load(), Damaged: q.damaged.Load(),
		Unserved: q.writer.unserved.Load(), Expired: q.expired.Load(),
		CommitEvents: q.commitEvents.Buckets(), CommitTimes: q.commitTimes.Buckets(),
		StoreBytes: q.writer.logBytes.Load() + q.writer.storeBytes.Load(), JournalBytes: q.writer.journalBytes.Load(),
		Err: q.Err(),
	}
	return s
}

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

var started = time.Now()

// uptime is the time since the process began, in nanoseconds, by the monotonic clock; never 0.
func uptime() int64 { return int64(time.Since(started)) + 1 }

// since is the time that has passed since a reading of uptime.
func since(began int64) time.Duration { return time.Duration(uptime() - began) }

// Saves is how often all progress was saved since the queue was opened. It does not grow while no event comes and no
// delivery is settled. It takes the writer's mutex, which nobody holds over disk.
func (q *Queue) Saves() uint64 {
	q.writer.mu.Lock()
	defer q.writer.mu.Unlock()
	return q.writer.round
}

// Stalled is for how long the write under way, to journal or store, has been running; 0 when there is none. It waits for
// nothing.
func (q *Queue) Stalled() time.Duration {
	var longest time.Duration
	for _, since := range []*atomic.Int64{&q.committing, &q.writer.saving} {
		if at := since.Load(); at != 0 {
			longest = max(longest, time.Duration(uptime()-at))
		}
	}
	return longest
}

// The fields of entries are defined in package entry.
type (
	// LaneID numbers a lane for good: it is never given to another.
	LaneID = entry.LaneID
	// LaneSet is an immutable set of lanes: the endpoints that one event goes to.
	LaneSet = entry.LaneSet
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
