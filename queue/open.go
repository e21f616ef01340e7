package queue

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// Names in the queue's directory.
const (
	journalName = "journal"
	logName     = "log"
	storeName   = "store"
)

// memTableSize is written into the file FORMAT: a store can't be opened with a smaller one than it was written with.
const memTableSize = 4 << 20

// Errors of Open, apart from those of the file system.
var (
	// ErrInUse: another process has the queue's directory open.
	ErrInUse = directory.ErrInUse
	// ErrUnwritable: the disk is full or the file system read-only. Nothing is lost; open again when that is over.
	ErrUnwritable = errors.New("the queue can't be written now")
)

// Open opens the queue in opts.Dir, or makes it. When it returns, everything that was acknowledged is there and synced. It
// reads the journal, the open segment, the store and what the log has behind the store: how long that takes does not depend
// on how much is queued. A queue of format 1 is taken over first, and a store that is damaged is made again: both read
// everything.
func Open(opts Options) (*Queue, error) {
	opts = opts.withDefaults()
	q, err := open(opts)
	if err != nil {
		return nil, fmt.Errorf("open queue %q: %w", opts.Dir, opts.unwritable(err))
	}
	return q, nil
}

// errNarrow: where an int has 32 bits, Badger's table builder (ristretto's Allocator) loses its place and writes one block
// over another, and what was stored can't be read back.
var errNarrow = errors.New("this system has 32 bits, where the store damages its own data: use a 64-bit system")

func open(opts Options) (q *Queue, err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	if math.MaxInt == math.MaxInt32 {
		return nil, errNarrow
	}
	dir, err := directory.Claim(opts.Dir, !opts.NoCreate, opts.fault)
	if err != nil {
		if dir != nil {
			err = errors.Join(err, dir.Close())
		}
		return nil, err
	}
	undo = append(undo, dir.Close)
	format, err := dir.ReadFormat() // nothing in a directory of a newer version is touched
	if err != nil {
		return nil, err
	}
	q = &Queue{
		opts: opts, dir: dir, memTable: max(format.MemTable, memTableSize),
		requests: make(chan *request, 1024), progress: make(chan *saveRequest), committed: make(chan struct{}),
		closing: make(chan struct{}), failed: make(chan struct{}),
		commitEvents: NewHistogram(commitEventBounds...), commitTimes: NewHistogram(commitTimeBounds...),
	}
	q.writer.init()
	q.showLanes(nil)
	if err := q.disk.requireSpace(opts); err != nil {
		return nil, err
	}
	if format.Version == 0 {
		opts.Notice(fmt.Sprintf("a new queue is made in %q", opts.Dir))
		f := directory.Current
		f.MemTable = q.memTable
		if err := dir.WriteFormat(f); err != nil {
			return nil, err
		}
	}
	if err := q.takeOver(format); err != nil {
		return nil, err
	}
	for _, name := range []string{"", journalName, logName} {
		path := filepath.Join(opts.Dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		if err := directory.WriteInPlace(path); err != nil {
			return nil, fmt.Errorf("turn off copy-on-write in %q: %w", path, err)
		}
	}
	if err := syncDir(opts.Dir); err != nil {
		return nil, err
	}
	file, saved, err := openCheckpoint(opts.Dir, opts.fault)
	if err != nil {
		return nil, err
	}
	undo = append(undo, file.close)
	q.checkpoint = file
	q.startClock(saved.clock)
	q.writer.retain.watermarks = saved.watermarks
	if err := q.openLog(&undo, saved); err != nil {
		return nil, err
	}
	if err := q.openIndex(&undo); err != nil {
		return nil, err
	}
	if err := q.loadState(); err != nil {
		return nil, err
	}
	q.start()
	return q, nil
}

// start starts the goroutines. Close waits for them.
func (q *Queue) start() {
	c := &committer{q: q, next: q.end.Load(), drafted: map[entry.Hash]uint64{}}
	q.watchStore(q.index.store)
	q.owners.Go(c.run)
	q.owners.Go(q.shedder)
	q.owners.Go(func() { q.writer.run(q, q.committed) })
	q.owners.Go(func() { q.log.KeepFilters(q.closing) })
	q.writer.checkKinds(q, slices.Clone(store.Kinds), q.index.store.Merges())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
