package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/directory"
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

// Options say where a queue is and how long it keeps what it has. The zero value of a field that has a default gets it.
type Options struct {
	Dir             string
	DedupWindow     time.Duration // for how long an event id is known
	Retention       time.Duration // for how long an event is kept that no lane needs
	FailedRetention time.Duration // for how long a failed delivery is kept

	// What lanes hold that serve no endpoint (Serve) becomes failed after UnservedRetention, and before that the oldest of the
	// lane that holds most, as long as all together hold more than UnservedBytes of what retention would have deleted. 0: never.
	UnservedRetention time.Duration
	UnservedBytes     int64
	NoCreate          bool  // a directory without a queue is an error: a file system may not be mounted there
	MinFree           int64 // bytes; with less free space Append answers ErrDiskLow, and with less than the queue needs itself (Stats.MinFree)

	AppendTimeout time.Duration         // how long Append waits for its turn; default 10 s
	Notice        func(string)          // gets one line for whoever runs the relay; may be called from any goroutine
	Now           func() time.Time      // default time.Now
	Free          func() (int64, error) // free bytes where Dir is; default asks the file system

	ExcerptBytes int64 // of the disk for whole excerpts of answers, a quarter of it for one lane's; default 256 MiB
	FilterBytes  int64 // of memory for what tells new ids from known ones without reading; default 32 MiB

	segmentSize int64 // of the log
	slotSize    int64 // of the journal
	maxSlots    int
	tailBytes   int64         // how much of the newest events is kept in memory
	saveEvery   time.Duration // the longest that progress stays unsaved
	snapshots   time.Duration // how long a turn of writing one may take
	laneRetries int           // that a lane may always have in memory, and 16 times as many as long as all lanes together
	allRetries  int           // have fewer than this
	files       func() int64  // how many files can be made where Dir is; nil asks the file system
	ballast     int64         // bytes of disk that are held for the clean-up
	clocks      func() (mono, wall int64)
	up          func() (int64, [16]byte) // as sinceBoot; nil when Now is the test's
	fault       fault.Func
}

// WithFault has tests of those who use a queue make its reads and writes fail or wait.
func (o Options) WithFault(f fault.Func) Options {
	o.fault = f
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

// maxUnsaved bounds the frames that wait for the store, in memory and in the journal, in bytes. One frame may go beyond.
func (o *Options) maxUnsaved() int64 { return o.slotSize * int64(o.maxSlots-3) }

// The bounds of the histograms of commits.
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
	opts    Options
	clock   *clock
	mark    *marker  // the keeper's
	boot    [16]byte // id of the machine's boot
	dir     *directory.Directory
	journal *journal.Journal // the committer's
	log     *log.Log         // written by the keeper alone
	index   index            // so is it

	memTable int64         // of the store
	replaced chan struct{} // closed when the store is replaced; the keeper's

	requests  chan *request
	progress  chan *saveRequest
	committed chan struct{} // closed when the committer has left
	closing   chan struct{}
	closed    sync.Once
	owners    sync.WaitGroup // committer, doorman, keeper, and those who look at the store and the log beside them

	tail tail
	// Two positions in the log, each a sequence number behind the last event that it covers: everything below applied is in
	// log and store, everything below end may be read by the lanes.
	applied atomic.Uint64
	end     atomic.Uint64
	// And two entries: everything below logged is in the log, nextEntry is the number of the next one.
	logged    atomic.Uint64
	nextEntry atomic.Uint64

	watched      watch                   // of the records that retention has read
	freed        atomic.Bool             // a carried event may not be needed any more
	carriedBelow atomic.Uint64           // the segments of all events below are gone
	expired      atomic.Int64            // deliveries that became failed since nobody serves their lanes
	lanes        atomic.Pointer[[]*Lane] // by id, nil where a lane was given up; replaced by the keeper
	names        atomic.Pointer[map[string]*Lane]
	retriesHeld  atomic.Int64 // in memory, of all lanes

	keeper    keeper
	disk      disk
	shares    shares
	excerpts  excerpts
	backingUp atomic.Bool

	failure atomic.Pointer[error]
	failed  chan struct{}

	inside     atomic.Int64 // calls of Append under way
	busy       atomic.Int64 // since when the committer takes no request (uptime), 0 when it waits for one
	committing atomic.Int64 // since when a commit is under way (uptime), 0 when none is
	commits    atomic.Int64
	// What the commits were: events, and nanoseconds from the sealed frame to the sync.
	commitEvents, commitTimes *Histogram

	accepted atomic.Int64
	repeats  atomic.Int64
	damaged  atomic.Int64
	lost     lost
}

const (
	// closeLimit is how long the store may take to close; failedCloseLimit, when its disk is full or broken.
	closeLimit       = 15 * time.Second
	failedCloseLimit = 3 * time.Second
)

// Close stops accepting, waits for the commits under way, saves all progress and closes the files. The lanes must not be
// used any more.
func (q *Queue) Close() error {
	var err error
	q.closed.Do(func() {
		close(q.closing)
		q.freeLanes()
		q.owners.Wait()
		limit := closeLimit
		if q.failure.Load() != nil {
			err, limit = *q.failure.Load(), failedCloseLimit
		} else if q.keeper.starved.Load() {
			limit = failedCloseLimit
		}
		err = errors.Join(err, q.index.store.Close(limit), q.log.Close(), q.journal.Close(), q.mark.close(), q.dir.Close())
	})
	if err != nil {
		return fmt.Errorf("close queue %q: %w", q.opts.Dir, err)
	}
	return nil
}

// Failed is closed when a write has failed: the queue must be opened again. Err tells why.
func (q *Queue) Failed() <-chan struct{} { return q.failed }

// Err is the first write error, nil while all is well.
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

// over reports that nobody may wait for a save any more: the queue failed or is closing.
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

// freeLanes wakes those who wait for a save.
func (q *Queue) freeLanes() { q.keeper.broadcast(false) }

// Stats is a snapshot for those who look at the queue.
type Stats struct {
	Events       int64   // kept, delivered or not
	Bytes        int64   // of their bodies
	FreeDisk     int64   // bytes, -1 when it can't be told
	MinFree      int64   // with less events are refused: Options.MinFree, or what the queue needs to go on
	Accepted     int64   // since it was opened, without letters
	Duplicates   int64   // since it was opened
	Commits      int64   // since it was opened
	CommitEvents Buckets // how many events a commit had
	CommitTimes  Buckets // how many nanoseconds it took, sync included
	Unserved     int64   // bytes that are kept for lanes that serve no endpoint alone: Options.UnservedBytes bounds them
	Expired      int64   // deliveries of such lanes that became failed, since it was opened
	Damaged      int64   // things that could not be read and were set aside, since it was opened
	StoreBytes   int64   // of the files of log and store
	JournalBytes int64
	Err          error
}

// Stats tells how the queue is.
func (q *Queue) Stats() Stats {
	free, err := q.opts.Free()
	if err != nil {
		free = -1
	}
	s := Stats{
		Events: q.keeper.events.Load(), Bytes: q.keeper.bytes.Load(),
		FreeDisk: free, MinFree: q.disk.acceptFloor(q.opts),
		Accepted: q.accepted.Load(), Duplicates: q.repeats.Load(), Commits: q.commits.Load(), Damaged: q.damaged.Load(),
		Unserved: q.keeper.unserved.Load(), Expired: q.expired.Load(),
		CommitEvents: q.commitEvents.Buckets(), CommitTimes: q.commitTimes.Buckets(),
		StoreBytes: q.keeper.logBytes.Load() + q.keeper.storeBytes.Load(), JournalBytes: q.keeper.journalBytes.Load(),
		Err: q.Err(),
	}
	return s
}

// Ready reports why Append would refuse an event now, nil when it would not.
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

// uptime is the time since the process began, in nanoseconds, by a clock that nobody sets; never 0.
func uptime() int64 { return int64(time.Since(started)) + 1 }

// since is the time that has passed since a reading of uptime.
func since(began int64) time.Duration { return time.Duration(uptime() - began) }

// Saves is how often progress was saved since the queue was opened: it stays the same while nothing comes and nothing is
// settled.
func (q *Queue) Saves() uint64 {
	q.keeper.mu.Lock()
	defer q.keeper.mu.Unlock()
	return q.keeper.round
}

// Stalled is for how long the write under way, to the journal or to the store, has been running; 0 when none is.
func (q *Queue) Stalled() time.Duration {
	var longest time.Duration
	for _, since := range []*atomic.Int64{&q.committing, &q.keeper.saving} {
		if at := since.Load(); at != 0 {
			longest = max(longest, time.Duration(uptime()-at))
		}
	}
	return longest
}
