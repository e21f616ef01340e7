package queue

import (
	"time"

	"realtorbot-relay/queue/fault"
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
	Tail   int64                            // how many bytes of the newest events are kept in memory; 0: as elsewhere
}

// On has the queue run on a simulated machine. Options.Now is its wall clock, with the monotonic one in each reading.
func (o Options) On(m Machine) Options {
	o.fault, o.up, o.noMerges = m.Fault, m.Up, !m.Merges
	o.slotSize, o.segmentSize, o.ballast = 4<<20/int64(m.Disk), 64<<20/int64(m.Disk), 32<<20/int64(m.Disk)
	o.tailBytes = m.Tail
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

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
