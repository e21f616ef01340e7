package queue

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	formatFile    = "FORMAT"
	formatVersion = 1
)

// What Open may answer beside nil, apart from errors of the file system.
var (
	// ErrInUse: another process has the queue's directory open.
	ErrInUse = errors.New("it is in use by another process: stop that one, or give this one a directory of its own")
	// ErrUnwritable: the disk is full or the file system read-only. Nothing was lost; open again when that is over.
	ErrUnwritable = errors.New("it can't be written now")
)

// Open opens the queue in opts.Dir, making it when there is none. What the journal has and the store does not is read
// into memory and saved by the keeper; everything that was acknowledged is there when Open returns.
func Open(opts Options) (*Queue, error) {
	opts = opts.withDefaults()
	q, err := open(opts)
	if err != nil {
		return nil, fmt.Errorf("open queue %q: %w", opts.Dir, opts.unwritable(err))
	}
	return q, nil
}

// errNarrow: Badger's table builder (ristretto's Allocator) loses its place where an int has 32 bits, writes one block over
// another, and what was stored can't be read back.
var errNarrow = errors.New("this processor has 32 bits, and on those the store damages what it keeps: use a 64-bit system")

func open(opts Options) (q *Queue, err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	journalDir, storeDir := filepath.Join(opts.Dir, "journal"), filepath.Join(opts.Dir, "store")
	if math.MaxInt == math.MaxInt32 {
		return nil, errNarrow
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	memTable, err := readFormat(opts.Dir) // first of all: a directory of a newer version is not touched
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	undo = append(undo, unlock)
	q = &Queue{
		opts: opts, unlock: unlock,
		requests: make(chan *request, 1024), committed: make(chan struct{}), closing: make(chan struct{}), failed: make(chan struct{}),
		commitEvents: NewHistogram(commitEventBounds...), commitTimes: NewHistogram(commitTimeBounds...),
	}
	if err := q.disk.requireSpace(opts); err != nil {
		return nil, err
	}
	if memTable == 0 {
		memTable = memTableSize
		if err := writeFormat(opts.Dir, memTable, opts.fault); err != nil {
			return nil, err
		}
	}
	if err := finishMending(storeDir); err != nil {
		return nil, err
	}
	for _, dir := range []string{journalDir, storeDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := syncDir(opts.Dir); err != nil {
		return nil, err
	}
	q.keeper.init()
	q.lanes.Store(new([]*Lane))
	mark, high, err := openMark(opts.Dir, opts.fault)
	if err != nil {
		return nil, err
	}
	undo = append(undo, mark.close)
	q.startClock(high.clock)
	if err := q.inspect(storeDir, memTable, high.version); err != nil {
		return nil, err
	}
	if q.store, err = openStore(storeDir, memTable, opts.Notice); err != nil {
		return nil, err
	}
	kept := q.store
	undo = append(undo, func() error { return kept.close(failedCloseLimit) })
	if q.journal, err = openJournal(journalDir, opts.slotSize, opts.maxSlots); err != nil {
		return nil, err
	}
	undo = append(undo, q.journal.close)
	q.store.fault, q.journal.fault = opts.fault, opts.fault
	q.store.saved = func(version uint64) error {
		return mark.write(highWater{version: version, end: q.end.Load(), slot: q.keeper.slot.Load(), clock: q.clockState()})
	}
	q.mark = mark
	q.store.suspect = func(err error) {
		q.suspect()
		q.fail(fmt.Errorf("the store is damaged, and mended with the next start: %w", err))
	}
	q.store.relief = func() bool { return q.disk.give(opts) == nil }
	q.journal.room = func() bool { return opts.free() >= criticalFree+opts.slotSize }
	if there(filepath.Join(storeDir, uncountedFile)) {
		missing, err := q.reconcile()
		if err = errors.Join(err, counted(storeDir)); err != nil {
			return nil, err
		}
		if missing > 0 {
			q.damaged.Add(int64(missing))
			opts.Notice(fmt.Sprintf("store was damaged: %d events are missing from the log", missing))
		}
	}
	next, recent, err := q.restore(high)
	if err != nil {
		return nil, err
	}
	q.start(next, recent)
	return q, nil
}

// inspect looks at the store's files before they are opened, and mends what is damaged.
func (q *Queue) inspect(dir string, memTable int64, version uint64) error {
	suspect := filepath.Join(q.opts.Dir, suspectFile)
	found, err := inspect(dir, version, there(suspect))
	if err != nil {
		return err
	}
	q.whole.Store(found.whole)
	if len(found.complain) > 0 {
		aside, err := q.opts.mend(found, memTable)
		if err != nil {
			return err
		}
		q.damaged.Add(int64(len(found.complain)))
		more := ""
		if n := len(found.complain) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more)", n)
		}
		q.opts.Notice(fmt.Sprintf("store is damaged: %s%s; it was set aside as %q, and goes on with all that can be read of it", found.complain[0], more, aside))
	}
	if err := os.Remove(suspect); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// suspect has the next start read the whole store before it is opened.
func (q *Queue) suspect() {
	if err := os.WriteFile(filepath.Join(q.opts.Dir, suspectFile), nil, 0o600); err != nil {
		q.opts.Notice(fmt.Sprintf("the next start can't be asked to look for damage: %v", err))
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// start sets the three goroutines going. Close waits for them.
func (q *Queue) start(next uint64, recent []recentFrame) {
	c := &committer{q: q, next: next, recent: map[string]accepted{}, frames: recent, horizon: q.applied.Load()}
	for i, f := range q.tail.above(q.applied.Load()) {
		for n, id := range recent[i].ids {
			c.recent[id] = accepted{f.first + uint64(n), f.at}
		}
	}
	q.owners.Go(c.run)
	q.owners.Go(q.doorman)
	q.owners.Go(func() { q.keeper.run(q, q.committed) })
}

// lockDir makes sure that no second process opens the directory. The kernel lets go of the lock when we die.
func lockDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f.Close, nil
}

// readFormat reads the format file: the version of the format and the size of the store's tables in memory, which must
// not become smaller; 0 for a new queue.
func readFormat(dir string) (memTable int64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		if entries, err := os.ReadDir(filepath.Join(dir, "store")); err == nil && len(entries) > 0 {
			return 0, fmt.Errorf("the directory has a store but no file %q, so its format is not known: put the file back from a copy, or use an empty directory", formatFile)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var version int
	if _, err := fmt.Sscanf(string(text), "realtorbot-relay queue, format %d, memtable %d", &version, &memTable); version > formatVersion {
		return 0, fmt.Errorf("it was written by a newer version of the relay (format %d, this one knows %d): install that version, or use another directory; nothing was touched", version, formatVersion)
	} else if err != nil || version < 1 || memTable < 1<<20 || memTable > 1<<30 {
		return 0, fmt.Errorf("file %q reads %q, which no version of the relay writes: put it back from a copy, or use another directory", formatFile, strings.TrimSpace(string(text)))
	}
	return memTable, nil
}

// writeFormat writes the file so that it is there whole or not at all.
func writeFormat(dir string, memTable int64, fault fault) error {
	path := filepath.Join(dir, formatFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = fault.before(placeFormat); err == nil {
		_, err = fmt.Fprintf(f, "realtorbot-relay queue, format %d, memtable %d\n", formatVersion, memTable)
	}
	if err = errors.Join(fault.after(placeFormat, err), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = fault.before(placeFormatDir); err == nil {
		err = fault.after(placeFormatDir, errors.Join(os.Rename(path+".new", path), syncDir(dir)))
	}
	return err
}

// restore puts the state together from store and journal, which must come as far as the high-water mark. It returns the sequence number of the next event and the ids
// that the store does not know.
func (q *Queue) restore(high highWater) (next uint64, recent []recentFrame, err error) {
	k := &q.keeper
	k.applied.matched = map[LaneID]int64{}
	record, err := q.store.get(keyApplied)
	if err != nil {
		return 0, nil, err
	}
	k.applied.next = 1 // sequence numbers begin with 1
	if record != nil {
		if k.applied, err = parseApplied(record); err != nil {
			return 0, nil, err
		}
	}
	k.showCounts()
	// Serials of one process must not repeat those of one before it: they tell apart blocks that end with the same event.
	k.serial = uint64(max(q.now(), 0)) * 1_000_000
	if err := k.janitor.load(q.store); err != nil {
		return 0, nil, err
	}
	if err := q.restoreLanes(); err != nil {
		return 0, nil, err
	}
	if err := errors.Join(q.restoreReplays(), q.dropBlocks(k.applied.next), q.restoreDigest(k.applied.next)); err != nil {
		return 0, nil, err
	}
	frames, damages, err := q.journal.load(k.applied.next)
	if err != nil {
		return 0, nil, err
	}
	next = k.applied.next
	for _, d := range damages {
		if d.grave {
			q.damaged.Add(1)
			q.tellDamage(d.what)
		} else if d.torn {
			q.opts.Notice(fmt.Sprintf("journal %q: %s", d.file, d.what))
		}
	}
	lanes := *q.lanes.Load()
	for _, f := range frames {
		if f.first < next {
			q.damaged.Add(1)
			q.tellDamage(fmt.Sprintf("events %d to %d are there twice", f.first, f.end()-1))
			continue
		}
		if f.first > next {
			q.tellGap(next, f.first, damages)
		}
		next = f.end()
		ids := make([]string, 0, f.count)
		given := map[LaneID]int64{}
		for r := f.reader(); ; {
			ev, ok, err := r.next()
			if err != nil {
				return 0, nil, err
			}
			if !ok {
				break
			}
			ids = append(ids, string(ev.ID))
			ev.Lanes.each(func(id LaneID) { given[id]++ })
		}
		for id, n := range given {
			if int(id) < len(lanes) && lanes[id] != nil {
				lanes[id].arrive(f.first, n)
			}
		}
		recent = append(recent, recentFrame{f.end(), ids})
		q.tail.add(f)
		k.unsaved.Add(int64(len(f.raw)))
	}
	if lost := high.slot > q.journal.used; lost || next < high.end {
		next = q.tellShort(next, high, lost)
	}
	k.journalBytes.Store(q.journal.bytes())
	k.slot.Store(q.journal.used)
	q.applied.Store(k.applied.next)
	q.end.Store(next)
	signal(k.kick)
	return next, recent, nil
}

// dropBlocks deletes what a save that was cut short left of blocks: their frames are in the journal and will be written
// again, in blocks that may end elsewhere.
func (q *Queue) dropBlocks(next uint64) error {
	b := q.store.batch()
	err := q.store.scan([]byte{kindBlock}, blockKey(next, 0), true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		b.delete(slices.Clone(key))
		return b.err == nil, b.err
	})
	return errors.Join(err, b.flush())
}

// tellGap reports acknowledged events that the journal had and does not give back.
func (q *Queue) tellGap(from, to uint64, damages []damage) {
	q.damaged.Add(int64(to - from))
	what := "no broken entry was found"
	if len(damages) > 0 {
		what = damages[0].what
	}
	q.tellDamage(fmt.Sprintf("events %d to %d can't be read (%s)", from, to-1, what))
}

// tellShort reports a journal that lacks its end: events that were answered, or the slot that was in use. It returns the
// sequence number of the next event. Numbers that were given out, to events and to slots, are not given out again.
func (q *Queue) tellShort(next uint64, high highWater, lost bool) uint64 {
	if lost {
		q.damaged.Add(1)
		q.tellDamage("the slot that was in use last holds nothing any more, and events that only it had are missing")
		q.journal.used = high.slot
	}
	if next < high.end {
		q.damaged.Add(int64(high.end - next))
		q.tellDamage(fmt.Sprintf("events %d to %d are missing at its end", next, high.end-1))
	}
	return max(next, high.end)
}

// tellDamage reports damage of the journal and copies its files aside.
func (q *Queue) tellDamage(what string) {
	aside := filepath.Join(q.opts.Dir, "aside", fmt.Sprintf("journal-%d", time.Now().Unix()))
	err := os.MkdirAll(aside, 0o700)
	for _, s := range q.journal.slots {
		if err == nil {
			err = copyFile(filepath.Join(aside, filepath.Base(s.file.Name())), s.file.Name())
		}
	}
	line := fmt.Sprintf("journal is damaged: %s; its files were copied to %q", what, aside)
	if err != nil {
		line = fmt.Sprintf("%s, but that failed: %v", line, err)
	}
	q.opts.Notice(line)
}

func copyFile(to, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o600)
}

// restoreLanes reads the lanes and what is retrying; neither depends on how much is queued.
func (q *Queue) restoreLanes() error {
	k := &q.keeper
	err := q.store.scan([]byte{kindLane}, []byte{kindLane}, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		record, err := value()
		if err != nil {
			return false, err
		}
		if len(key) != 5 {
			return false, fmt.Errorf("read lanes: key of %d bytes: %w", len(key), errDamaged)
		}
		r, err := parseLane(record)
		if err != nil {
			return false, err
		}
		id := LaneID(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
		q.addLane(newLane(q, id, r, k.applied.matched[id]))
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := q.dropLanes(); err != nil {
		return err
	}
	lanes := *q.lanes.Load()
	return q.store.scan([]byte{kindRetry}, []byte{kindRetry}, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		id, seq, ok := parseDeliveryKey(key)
		if !ok || int(id) >= len(lanes) || lanes[id] == nil {
			return true, nil
		}
		record, err := value()
		if err != nil {
			return false, err
		}
		r, err := parseRetry(seq, record)
		if err != nil {
			return false, err
		}
		r.due = q.due(r.due)
		heap.Push(&lanes[id].retries, r)
		q.retrying.Add(1)
		return true, nil
	})
}

// dropLanes deletes what is left of lanes whose giving up was cut short: their own record went first.
func (q *Queue) dropLanes() error {
	b := q.store.batch()
	lanes := *q.lanes.Load()
	for id := range q.keeper.applied.nextID {
		if int(id) >= len(lanes) || lanes[id] == nil {
			if err := q.dropDeliveries(b, id); err != nil {
				return err
			}
		}
	}
	return b.flush()
}
