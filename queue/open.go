package queue

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// The names in the queue's directory.
const (
	journalName = "journal"
	logName     = "log"
	storeName   = "store"
)

// memTableSize is written into the format file: opening a store with a smaller one than it was written with fails.
const memTableSize = 4 << 20

// What Open may answer beside nil, apart from errors of the file system.
var (
	// ErrInUse: another process has the queue's directory open.
	ErrInUse = directory.ErrInUse
	// ErrUnwritable: the disk is full or the file system read-only. Nothing was lost; open again when that is over.
	ErrUnwritable = errors.New("it can't be written now")
)

// Open opens the queue in opts.Dir, making it when there is none. Everything that was acknowledged is there when Open
// returns, and on stable storage. A queue of an older format is taken over first.
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
	format, err := dir.ReadFormat() // a directory of a newer version is not touched
	if err != nil {
		return nil, err
	}
	q = &Queue{
		opts: opts, dir: dir, memTable: max(format.MemTable, memTableSize),
		requests: make(chan *request, 1024), progress: make(chan *saveRequest), committed: make(chan struct{}),
		closing: make(chan struct{}), failed: make(chan struct{}),
		commitEvents: NewHistogram(commitEventBounds...), commitTimes: NewHistogram(commitTimeBounds...),
	}
	q.keeper.init()
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
			return nil, fmt.Errorf("have the files in %q written in place: %w", path, err)
		}
	}
	if err := syncDir(opts.Dir); err != nil {
		return nil, err
	}
	mark, high, err := openMark(opts.Dir, opts.fault)
	if err != nil {
		return nil, err
	}
	undo = append(undo, mark.close)
	q.mark = mark
	q.startClock(high.clock)
	q.keeper.retain.marks = high.marks
	if err := q.openLog(&undo, high); err != nil {
		return nil, err
	}
	if err := q.openIndex(&undo); err != nil {
		return nil, err
	}
	if err := q.restore(); err != nil {
		return nil, err
	}
	q.start()
	return q, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openLog opens journal and log, and appends to the log what only the journal has: whatever a repeat may be answered by is
// then written anew and synced.
func (q *Queue) openLog(undo *[]func() error, high highWater) error {
	opts := &q.opts
	j, records, damages, err := journal.Open(journal.Options{
		Dir: filepath.Join(opts.Dir, journalName), SlotSize: opts.slotSize, MaxSlots: opts.maxSlots,
		Room: func() bool { return opts.free() >= criticalFree+opts.slotSize }, Fault: opts.fault,
	})
	if err != nil {
		return err
	}
	*undo = append(*undo, j.Close)
	q.journal = j
	// The mark was written when the log had been synced up to what it says the store had.
	list, start := q.readRecords(records, high.version+1)
	l, found, err := log.Open(log.Options{
		Dir: filepath.Join(opts.Dir, logName), SegmentSize: opts.segmentSize, BlockSize: blockBytes, FilterBytes: opts.FilterBytes,
		Fault: opts.fault, Now: q.now, Notice: opts.Notice,
	}, start)
	if err != nil {
		return err
	}
	*undo = append(*undo, l.Close)
	q.log = l
	for _, what := range found.Damage {
		q.damaged.Add(1)
		opts.Notice("log is damaged: " + what)
	}
	for _, gap := range found.Gaps {
		q.tellGap("log", gap.FromEvent, gap.ToEvent, gap.FromEntry, gap.ToEntry, nil)
	}
	if low := l.Segments()[0]; high.low > 0 && low.Number > high.low {
		q.tellGap("log", high.first, low.FirstEvent, 0, 0, nil)
	}
	q.tellJournal(damages)
	return q.addRecords(list, found, damages, high)
}

// logged is an entry of the journal.
type loggedEntry struct {
	h     entry.Header
	raw   []byte
	frame *entry.Frame
	p     *entry.Progress
}

// readRecords takes the records of the journal apart and leaves out what the log has for certain: what is below free, or what
// a record says. start is where the rest begins.
func (q *Queue) readRecords(records []journal.Record, free uint64) (list []loggedEntry, start log.Start) {
	for _, r := range records {
		if len(r.Payload) >= freeSize {
			free = max(free, binary.LittleEndian.Uint64(r.Payload))
		}
	}
	for _, r := range records {
		if r.End <= free || len(r.Payload) < freeSize {
			continue
		}
		for rest := r.Payload[freeSize:]; len(rest) > 0; {
			h, raw, more, err := entry.Next(rest)
			e := loggedEntry{h: h, raw: raw}
			if err == nil && h.Kind == entry.KindFrame {
				e.frame, err = entry.ParseFrame(h, raw)
			} else if err == nil && h.Kind == entry.KindProgress {
				e.p, err = entry.ParseProgress(h, raw)
			}
			if err != nil {
				q.damaged.Add(1)
				q.opts.Notice(fmt.Sprintf("journal is damaged: a record of entries %d to %d: %v", r.First, r.End-1, err))
				break
			}
			rest = more
			if h.Number >= free {
				list = append(list, e)
			}
		}
	}
	start = log.NoStart
	if len(list) > 0 {
		start.Entry, start.Event = list[0].h.Number, 1
		for i := range list {
			if list[i].frame != nil {
				start.Event = list[i].frame.First
				break
			}
		}
	}
	return list, start
}

// addRecords appends to the log what only the journal has, in a way that is on disk afterwards.
func (q *Queue) addRecords(list []loggedEntry, found log.Found, damages []journal.Damage, high highWater) error {
	next, event := found.NextEntry, found.NextEvent
	for i := range list {
		e := &list[i]
		if e.h.Number < next {
			continue
		}
		first := event
		if e.frame != nil {
			first = e.frame.First
		}
		if e.h.Number > next || first > event {
			q.tellGap("journal", event, first, next, e.h.Number, damages)
		}
		if e.frame != nil {
			event = e.frame.End()
			q.log.Accept(e.frame)
		}
		q.log.Add(e.h, e.raw, e.frame, e.p)
		next = e.h.Number + 1
	}
	if _, err := q.log.Save(); err != nil {
		return err
	}
	lost := high.slot > q.journal.Generation()
	if lost {
		q.damaged.Add(1)
		q.tellDamage("the slot that was in use last holds nothing any more, and events that only it had are missing")
		q.journal.Skip(high.slot)
	}
	if event < high.end {
		q.damaged.Add(int64(high.end - event))
		q.tellDamage(fmt.Sprintf("events %d to %d are missing at its end", event, high.end-1))
	}
	// Numbers that were given out are not given out again.
	next, event = max(next, high.version+1), max(event, high.end)
	q.log.Skip(next, event)
	q.nextEntry.Store(next)
	q.logged.Store(next)
	q.end.Store(event)
	q.keeper.journalBytes.Store(q.journal.Bytes())
	q.keeper.slot.Store(q.journal.Generation())
	return nil
}

// tellJournal reports what can't be read of the journal, whatever it held.
func (q *Queue) tellJournal(damages []journal.Damage) {
	for _, d := range damages {
		switch {
		case d.Grave:
			q.damaged.Add(1)
			q.tellDamage(d.What)
		case d.Torn:
			q.opts.Notice(fmt.Sprintf("journal %q: %s", d.File, d.What))
		}
	}
}

// tellGap reports acknowledged events that should be there and are not.
func (q *Queue) tellGap(where string, fromEvent, toEvent, fromEntry, toEntry uint64, damages []journal.Damage) {
	what := "no broken record was found"
	if len(damages) > 0 {
		what = damages[0].What
	}
	if toEvent > fromEvent {
		q.damaged.Add(int64(toEvent - fromEvent))
		what = fmt.Sprintf("events %d to %d can't be read (%s)", fromEvent, toEvent-1, what)
	} else {
		q.damaged.Add(1)
		what = fmt.Sprintf("entries %d to %d can't be read: what lanes did in them may be done again (%s)", fromEntry, toEntry-1, what)
	}
	if where == "journal" {
		q.tellDamage(what)
		return
	}
	q.opts.Notice(where + " is damaged: " + what)
}

// tellDamage reports damage of the journal and copies its files aside.
func (q *Queue) tellDamage(what string) {
	aside := q.opts.asidePath("journal")
	err := os.MkdirAll(aside, 0o700)
	files, _ := filepath.Glob(filepath.Join(q.opts.Dir, journalName, "slot-*"))
	for _, path := range files {
		if err == nil {
			err = copyFile(filepath.Join(aside, filepath.Base(path)), path)
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

// openIndex opens the store, or makes it from the log when it is not there or proves to be damaged, and applies what the
// log has and it does not.
func (q *Queue) openIndex(undo *[]func() error) error {
	restored := readRestored(q.opts.Dir)
	taken := filepath.Join(q.opts.Dir, takeName)
	_, err := os.Lstat(taken)
	if err := q.openStore(undo, restored != nil || err == nil); err != nil {
		return err
	}
	if restored != nil {
		if err := q.tellRestored(restored); err != nil {
			return err
		}
	}
	if err != nil {
		return nil
	}
	return q.step(placeTakeEnd, func() error { return os.RemoveAll(taken) })
}

// openStore is openIndex of a store that is not there yet, when first says so: that is no damage then.
func (q *Queue) openStore(undo *[]func() error, first bool) error {
	dir := filepath.Join(q.opts.Dir, storeName)
	why := ""
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if end, _ := q.log.End(); end > 1 {
			why = "it is missing"
		}
	}
	if why == "" {
		s, err := store.Open(q.storeOptions(dir, false))
		switch {
		case err == nil:
			q.index.store = s
			why, err = q.catchUp(s)
			if why == "" && err == nil {
				*undo = append(*undo, func() error { return q.index.store.Close(failedCloseLimit) })
				return s.Opened()
			}
			if err2 := s.Close(failedCloseLimit); err != nil {
				return errors.Join(err, err2)
			}
		case errors.Is(err, codec.ErrDamaged) || errors.Is(err, store.ErrNoAnswer) || errors.Is(err, store.ErrDied):
			why = err.Error()
		default:
			return err
		}
	}
	began := uptime()
	if err := q.makeStore(); err != nil {
		return err
	}
	aside, err := q.installStore()
	if err != nil {
		return err
	}
	s, err := store.Open(q.storeOptions(dir, false))
	if err != nil {
		return err
	}
	q.index.store = s
	*undo = append(*undo, func() error { return q.index.store.Close(failedCloseLimit) })
	if !first || aside != "" {
		q.tellRemade(why, aside, s, since(began))
	}
	return s.Opened()
}

// catchUp applies to the store what the log has behind it. why says what is wrong with the store, "" when nothing is.
func (q *Queue) catchUp(s *store.Store) (why string, err error) {
	applied := s.Applied()
	if first := q.log.Segments()[0].FirstEntry; applied+1 < first {
		return fmt.Sprintf("it is an older one: it ends with entry %d, and the log begins with %d", applied, first), nil
	}
	a := newApplier(s)
	next := applied + 1
	_, err = q.entriesFrom(applied+1, func(h entry.Header, raw []byte) error {
		next = h.Number + 1
		return a.entry(h, raw)
	})
	if err == nil {
		// Numbers behind the last entry, which the log skipped, are the store's, too.
		a.applied = max(a.applied, next-1)
		err = q.placeLast(a, applied)
	}
	if err == nil {
		err = a.end()
	}
	if err == nil && len(a.missing) == 0 {
		err = q.dropLanes(a)
	}
	switch {
	case errors.Is(err, codec.ErrDamaged):
		return err.Error(), nil
	case err != nil:
		return "", err
	case len(a.missing) > 0:
		return fmt.Sprintf("%d records that were to be replaced are not there", len(a.missing)), nil
	}
	return "", nil
}

// placeLast tells the store the places of the blocks behind the entries that it had, and of those that were appended anew.
func (q *Queue) placeLast(a *applier, applied uint64) error {
	segments := q.log.Segments()
	last := segments[len(segments)-1]
	var drop []store.Key
	err := a.store.Scan(store.PlaceKey(last.FirstEvent), store.Last(store.Place), func(key store.Key, _ []byte) (bool, error) {
		drop = append(drop, key)
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, key := range drop {
		if err := a.room(1, 0); err != nil {
			return err
		}
		if err := a.batch.Delete(key); err != nil {
			return err
		}
	}
	from := min(last.FirstEntry, applied+1)
	err = q.log.Blocks(log.Entries, from, func(p log.Place, info *log.Info) error {
		if info.Events == 0 {
			return nil
		}
		b := placeOf(p, info)
		return a.place(&b, p.Segment != last.Number)
	})
	if err != nil {
		return err
	}
	return q.log.BlocksOf(last.Number, log.Carried, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if err != nil {
			return nil // whoever needs one of them tells
		}
		var failed error
		err = eachCarried(b, p, func(seq uint64, c carried) {
			had, err := a.store.Get(store.CarriedKey(seq))
			if err == nil && had != nil {
				if err = a.room(1, len(had)+8); err == nil {
					err = a.batch.Set(store.CarriedKey(seq), c.append(nil))
				}
			}
			failed = errors.Join(failed, err)
		})
		return errors.Join(err, failed)
	})
}

// dropLanes deletes what is left of lanes whose giving up was cut short: their own record went first.
func (q *Queue) dropLanes(a *applier) error {
	for _, kind := range []store.Kind{store.Retry, store.Replay, store.Failed} {
		for from := store.First(kind); ; {
			key, _, found, err := a.store.Seek(from, store.Last(kind))
			if err != nil || !found {
				if err != nil {
					return err
				}
				break
			}
			record, err := a.store.Get(store.LaneKey(key.Lane))
			if err != nil {
				return err
			}
			if record == nil {
				if err := a.drop(LaneID(key.Lane)); err != nil {
					return err
				}
			}
			if key.Lane == math.MaxUint32 {
				break
			}
			from = store.Key{Kind: kind, Lane: key.Lane + 1}
		}
	}
	return nil
}

// restore puts the state together from store and log.
func (q *Queue) restore() error {
	k := &q.keeper
	if applied, next := q.index.store.Applied(), q.nextEntry.Load(); applied >= next {
		_, event := q.log.End()
		q.tellGap("log", event, event, next, applied+1, nil)
		q.log.Skip(applied+1, event)
		q.nextEntry.Store(applied + 1)
		q.logged.Store(applied + 1)
	}
	_, saved := q.log.End()
	q.applied.Store(saved)
	if err := errors.Join(q.restoreLanes(), q.restoreReplays()); err != nil {
		return err
	}
	if err := q.countMatched(); err != nil {
		return err
	}
	if err := errors.Join(k.retain.countCarried(q), k.retain.dropPlaces(q)); err != nil {
		return err
	}
	k.showCounts(q)
	// A crash before the next snapshot must not make the way from the last one longer and longer.
	segments := q.log.Segments()
	k.snapped.mark = -segments[len(segments)-1].Bytes
	return nil
}

// restoreLanes reads the lanes and what is retrying; neither depends on how much is queued.
func (q *Queue) restoreLanes() error {
	var made []*Lane
	_, end := q.log.End()
	err := q.index.scan(store.First(store.Lane), store.Last(store.Lane), func(key store.Key, record []byte) (bool, error) {
		if key == nextLaneKey {
			d := codec.Decoder{Buf: record}
			q.keeper.nextLane = max(q.keeper.nextLane, LaneID(d.Uvarint()))
			return true, nil
		}
		r, err := parseLane(record)
		if err != nil {
			return false, err
		}
		if r.cursor > end && end >= q.end.Load() { // it had settled events that are lost
			r.cursor, r.settled = end, nil
		}
		made = append(made, newLane(q, LaneID(key.Lane), r))
		q.keeper.nextLane = max(q.keeper.nextLane, LaneID(key.Lane)+1)
		return true, nil
	})
	if err != nil {
		return err
	}
	q.addLanes(made)
	lanes := *q.lanes.Load()
	return q.index.scan(store.First(store.Retry), store.Last(store.Retry), func(key store.Key, record []byte) (bool, error) {
		if int(key.Lane) >= len(lanes) || lanes[key.Lane] == nil {
			return true, nil
		}
		r, err := parseRetry(key.Number, record)
		if err != nil {
			return false, err
		}
		r.due = q.due(r.due)
		heap.Push(&lanes[key.Lane].retries, r)
		q.retrying.Add(1)
		return true, nil
	})
}

// countMatched counts the deliveries that lanes were given behind what their records tell. Lanes whose records are old are
// quiet ones: where the postings say that nothing is for them nothing is read.
func (q *Queue) countMatched() error {
	lanes := *q.lanes.Load()
	near := q.log.Recent(2 * countEvery)
	var old []*Lane
	lowest := uint64(math.MaxUint64)
	for _, l := range lanes {
		if l == nil {
			continue
		}
		if l.gift.counted < near {
			old = append(old, l)
		}
		lowest = min(lowest, max(l.gift.counted, near))
	}
	count := func(f *entry.Frame, of func(LaneID) *Lane, below uint64) {
		for r := f.Reader(); ; {
			ev, ok, err := r.Next()
			if err != nil || !ok {
				return
			}
			if ev.Seq >= below {
				return
			}
			ev.Lanes.Each(func(id LaneID) {
				if l := of(id); l != nil && ev.Seq >= l.gift.counted {
					l.gift.matched++
				}
			})
		}
	}
	if len(old) > 0 {
		if err := q.countOld(old, near, count); err != nil {
			return err
		}
	}
	for seq := lowest; ; {
		last, frames, ok, err := q.block(seq)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if !ok {
			break
		}
		for _, f := range frames {
			if f.End() > seq {
				count(f, func(id LaneID) *Lane {
					if int(id) < len(lanes) {
						return lanes[id]
					}
					return nil
				}, math.MaxUint64)
			}
		}
		seq = max(last+1, seq+1)
	}
	end := q.end.Load()
	for _, l := range lanes {
		if l != nil {
			l.gift.counted = max(l.gift.counted, end)
			if l.gift.matched < l.passed.Load() {
				l.gift.matched = l.passed.Load()
			}
		}
	}
	return nil
}

// countOld counts for lanes whose records are old, up to below near.
func (q *Queue) countOld(old []*Lane, near uint64, count func(*entry.Frame, func(LaneID) *Lane, uint64)) error {
	words := make([]uint64, len(old))
	from := uint64(math.MaxUint64)
	for i, l := range old {
		words[i] = log.LaneWord(q.log.Key(), l.id)
		from = min(from, l.gift.counted)
	}
	return q.log.BlocksWith(words, from, near, func(p log.Place, which []int) error {
		b, err := q.log.Read(p)
		var frames []*entry.Frame
		if err == nil {
			frames, err = b.Frames()
		}
		if errors.Is(err, codec.ErrDamaged) {
			return nil // the lanes tell of it when they come there
		}
		if err != nil {
			return err
		}
		in := map[LaneID]*Lane{}
		for _, i := range which {
			in[old[i].id] = old[i]
		}
		for _, f := range frames {
			count(f, func(id LaneID) *Lane { return in[id] }, near)
		}
		return nil
	})
}

// start sets the goroutines going. Close waits for them.
func (q *Queue) start() {
	c := &committer{q: q, next: q.end.Load(), drafted: map[entry.Hash]uint64{}}
	q.watch(q.index.store)
	q.owners.Go(c.run)
	q.owners.Go(q.doorman)
	q.owners.Go(func() { q.keeper.run(q, q.committed) })
	q.owners.Go(func() { q.log.Fill(q.closing) })
	q.keeper.check(q, slices.Clone(store.Kinds))
}
