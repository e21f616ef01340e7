package log

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
)

// Options say where a log is and how it is cut into segments and blocks.
type Options struct {
	Dir         string
	SegmentSize int64 // bytes of blocks after which a segment is sealed
	BlockSize   int   // bytes of entries that are packed together
	FilterBytes int64 // of memory for the filters of sealed segments
	Fault       fault.Func
	Now         func() int64 // queue time, Unix milliseconds
	Notice      func(string) // gets one line for the operator; called from any goroutine
	Lost        func(int64)  // called, from any goroutine, with the number of ids that were lost; may be nil
}

// Fault places: what a test's fault.Func is asked about.
const (
	PlaceHeader  = "header of a segment"
	PlaceName    = "name of a segment"
	PlaceBlocks  = "blocks"
	PlaceSync    = "sync of blocks"
	PlaceFooter  = "footer of a segment"
	PlaceSeal    = "sync of a footer"
	PlaceCut     = "cutting a segment"
	PlaceRewrite = "segment written anew"
	PlaceRename  = "name of a segment written anew"
	PlaceDelete  = "name of a deleted segment"
	PlaceShorten = "shortening a deleted segment"
	PlaceUnlink  = "unlinking a deleted segment"
	PlaceRead    = "read of a segment"
)

// Log is the segments of a queue. One goroutine writes: it alone calls Add, Local, Carry, Save, Full, Seal, Skip, Remove,
// Strip, Shorten and Pin. Everything else is safe for concurrent use. No method holds a lock while it reads or writes a
// file.
type Log struct {
	opts     Options
	key      entry.Key
	appender appender

	mu       sync.RWMutex // guards the list, and what readers need of the open segment
	segments []*segment   // ascending; the last one is open. The slice is replaced, not changed

	idsMu     sync.RWMutex            // guards the four below
	ids       map[entry.Hash]uint64   // events in no sealed segment, and some sealed just now: sequence numbers by id
	times     []acceptTime            // when they were accepted, ascending
	former    map[entry.Hash][]uint64 // events in no sealed segment whose id was used again
	carried   map[entry.Hash][]uint64 // events that were carried into the open segment
	sealCount atomic.Uint64           // how often a segment was sealed
	idMoves   atomic.Uint64           // how often ids moved to another place
	written   atomic.Int64            // bytes of blocks that were saved since Open
	deleting  []*os.File              // files that Shorten deletes; the writer's
	deferred  []*os.File              // files of segments that left the log and that somebody pinned; the writer's
	pins      atomic.Int64            // how many Pins are not released
	// groupSealed tells KeepFilters that a group of segments is complete.
	groupSealed chan struct{}
	broken      error // a write failed, and nobody knows what the disk has; the writer's
	tables      tables
	usage       usageTable    // by source
	entries     atomic.Uint64 // the number behind the last saved entry
	events      atomic.Uint64 // the sequence number behind the last saved event

	pinnedBytes atomic.Int64 // of deferred
}

// Found says what Open found.
type Found struct {
	NextEntry uint64 // behind the last entry
	NextEvent uint64
	Gaps      []Gap    // what is missing between segments or blocks, ascending
	Damage    []string // what can't be read, one line each
}

// Gap is a range of entries, and of events among them, that are missing.
type Gap struct{ FromEntry, ToEntry, FromEvent, ToEvent uint64 }

// Key is the key of the hashes of ids and words.
func (l *Log) Key() *entry.Key { return &l.key }

// End returns the numbers behind the last saved entry and the last saved event. It waits for nothing.
func (l *Log) End() (nextEntry, nextEvent uint64) { return l.entries.Load(), l.events.Load() }

// list returns the segments, ascending.
func (l *Log) list() []*segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segments
}

// segment returns the segment with a number, nil when there is none.
func (l *Log) segment(number uint64) *segment {
	list := l.list()
	at, ok := slices.BinarySearchFunc(list, number, func(s *segment, n uint64) int {
		switch {
		case s.number < n:
			return -1
		case s.number > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return list[at]
}

// Read reads the block at a place from disk. An error wraps codec.ErrDamaged unless the segment was deleted (see Gone). A
// read that fails is repeated for up to 1.2 s.
func (l *Log) Read(p Place) (*Block, error) {
	s := l.segment(p.Segment)
	if s == nil {
		return nil, fmt.Errorf("read segment %d: %w", p.Segment, errGone)
	}
	return s.block(p.Offset, &p.Sum)
}

// Gone reports whether an error says that a segment was deleted.
func Gone(err error) bool { return errors.Is(err, errGone) }

// state returns what the writer may change.
func (l *Log) state(s *segment) (sealed bool, t trailer) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.sealed, s.trailer
}

// Blocks calls fn with place and header of each block of a kind that ends behind entry from, in order. It reads the tables
// of sealed segments that are not cached, from disk.
func (l *Log) Blocks(kind Kind, from uint64, fn func(Place, *Info) error) error {
	for _, s := range l.list() {
		if err := l.blocksOf(s, kind, from, fn); err != nil {
			return err
		}
	}
	return nil
}

// BlocksOf is Blocks for one segment.
func (l *Log) BlocksOf(number uint64, kind Kind, fn func(Place, *Info) error) error {
	s := l.segment(number)
	if s == nil {
		return fmt.Errorf("read segment %d: %w", number, errGone)
	}
	return l.blocksOf(s, kind, 0, fn)
}

func (l *Log) blocksOf(s *segment, kind Kind, from uint64, fn func(Place, *Info) error) error {
	if sealed, t := l.state(s); sealed && kind == Entries && t.endEntry <= from {
		return nil
	}
	blocks, err := l.table(s)
	if err != nil {
		return err
	}
	for i := range blocks {
		b := &blocks[i]
		if b.Kind != kind || kind == Entries && b.EndEntry() <= from {
			continue
		}
		if err := fn(Place{s.number, b.Offset, b.Sum}, b); err != nil {
			return err
		}
	}
	return nil
}

// Find finds, without the store, the block that holds event seq or, when that is gone, the first block behind it. ok is
// false when there is none. It may read tables from disk.
func (l *Log) Find(seq uint64) (p Place, info Info, ok bool, err error) {
	for _, s := range l.list() {
		if sealed, t := l.state(s); sealed && (t.endEvent <= seq || t.stripped) {
			continue
		}
		blocks, err := l.table(s)
		if err != nil {
			return p, info, false, err
		}
		for i := range blocks {
			if b := &blocks[i]; b.Kind == Entries && b.Events > 0 && b.EndEvent() > seq {
				return Place{s.number, b.Offset, b.Sum}, *b, true, nil
			}
		}
	}
	return p, info, false, nil
}

// Segment is a summary of a segment, for decisions about what is kept.
type Segment struct {
	Number               uint64
	FirstEntry, EndEntry uint64
	FirstEvent, EndEvent uint64
	FirstAt, LastAt      int64 // queue times of its first and last event, 0 without any
	Made                 int64 // queue time at which it was begun
	Sealed, Stripped     bool
	Bytes                int64 // of the file
}

// summary returns a segment's summary. The caller holds mu, or is the writer.
func (l *Log) summary(s *segment) Segment {
	size := s.size
	if s.sealed {
		size = s.fileEnd()
	}
	return Segment{
		Number: s.number, FirstEntry: s.firstEntry, EndEntry: s.endEntry, FirstEvent: s.firstEvent, EndEvent: s.endEvent,
		FirstAt: s.firstAt, LastAt: s.lastAt, Made: s.made, Sealed: s.sealed, Stripped: s.stripped, Bytes: size,
	}
}

func (s *segment) fileEnd() int64 {
	return s.valuesAt() + int64(s.values) + trailerSize
}

// Segments returns a summary of each segment, ascending; the last one is open. It reads memory.
func (l *Log) Segments() []Segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]Segment, len(l.segments))
	for i, s := range l.segments {
		list[i] = l.summary(s)
	}
	return list
}

// Totals returns events and bytes of their bodies in all segments, without carried ones, and bytes of all files. It reads
// memory.
func (l *Log) Totals() (events, bodies, bytes int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.segments {
		events, bodies = events+s.events, bodies+s.bodies
		bytes += l.summary(s).Bytes
	}
	return events, bodies, bytes
}

// Close closes the files. What was added and not saved is lost.
func (l *Log) Close() error {
	var errs []error
	for _, s := range l.list() {
		errs = append(errs, s.file.Close())
	}
	for _, f := range l.deleting {
		errs = append(errs, f.Close())
	}
	errs = append(errs, l.closeDeferred())
	return errors.Join(errs...)
}

func newKey() (key entry.Key, err error) {
	_, err = rand.Read(key[:])
	return key, err
}

func (l *Log) path(number uint64, suffix string) string {
	return filepath.Join(l.opts.Dir, fmt.Sprintf("%010d%s", number, suffix))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// FirstKeptEvent is the sequence number of the first event whose block is kept: those below it are deleted or were carried.
// It reads memory.
func (l *Log) FirstKeptEvent() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.segments {
		if !s.stripped && s.endEvent > s.firstEvent {
			return s.firstEvent
		}
	}
	return l.segments[len(l.segments)-1].endEvent
}

// Written is how many bytes of blocks were saved since the log was opened.
func (l *Log) Written() int64 { return l.written.Load() }

// OpenNumber is the number of the open segment.
func (l *Log) OpenNumber() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segments[len(l.segments)-1].number
}
