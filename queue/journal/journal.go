package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/fault"
)

// Fault places: what a test's fault.Func is asked about.
const (
	PlaceFill     = "zeros of a new slot"
	PlaceSlotName = "name of a new slot"
	PlaceHeader   = "header of a slot"
	PlaceRecord   = "record"
	PlaceSync     = "sync of a slot"
)

// Options say where a journal is and how large it may get.
type Options struct {
	Dir      string      // it must exist
	SlotSize int64       // bytes, rounded up to pages of 4 KiB; three pages at least
	MaxSlots int         // two at least
	MayGrow  func() bool // reports whether the disk has room for one more slot; nil: always
	Fault    fault.Func

	// ReadFault is called before each read of n bytes of a file; an error is the read's. For tests; nil: no call.
	ReadFault func(file string, at, n int64) error

	writeAt func(*os.File, []byte, int64) (int, error) // for tests that watch what is written
	sync    func(*os.File) error                       // for tests, in the syncer's place
	syncDir func(string) error
}

// Record is what one Append made durable.
type Record struct {
	First, End uint64 // the numbers of the entries in it, and the one behind the last
	Payload    []byte
}

// ErrFull: every slot has entries that only the journal has, and there may not be more slots, or can't be. Nothing was
// written: Append can be tried again when free has risen.
var ErrFull = errors.New("journal is full")

// Journal is an open journal. One goroutine uses it at a time, but for CheckSlot.
type Journal struct {
	opts    Options
	slots   []*slot              // in use, by generation
	active  atomic.Pointer[slot] // the one that is written to; nil: the next record takes another slot
	damaged []*slot              // slots that could not be read in full: nothing is written to them any more
	used    uint64               // the highest generation ever
	failure error                // why Append fails from now on
	syncer  *syncer              // nil when Options.sync is set
	packed  []byte               // buffer for a packed record
}

// Append makes a record durable. buf is Header free bytes and the payload behind them; until Append returns it belongs to
// the journal, also what lies between its length and its capacity. first is the number of the first entry in the record, end
// the number behind the last. The log has all entries below free: slots with nothing else may be used again.
//
// It writes once and syncs once, and waits for both; with a new slot it writes and syncs the header before. When it returns
// nil, the record is on stable storage. After ErrFull nothing was written. After any other error nobody knows what the disk
// has, and every later Append returns the same error.
func (j *Journal) Append(buf []byte, first, end, free uint64) error {
	if j.failure != nil {
		return j.failure
	}
	if len(buf) < Header || len(buf)-Header > math.MaxInt32 || end <= first {
		return fmt.Errorf("write journal: %d bytes for entries %d to %d are no record", len(buf), first, end)
	}
	err := j.append(buf, first, end, free)
	if err != nil && !errors.Is(err, ErrFull) {
		j.failure = err
	}
	return err
}

func (j *Journal) append(buf []byte, first, end, free uint64) error {
	record, packed := j.pack(buf)
	size := roundUp(int64(len(record)))
	s := j.active.Load()
	if s == nil || s.end+size > s.limit() {
		var err error
		if s, err = j.nextSlot(size, free); err != nil {
			return err
		}
	}
	s.seal(record, first, end, packed)
	if err := j.writeRecord(s, record, s.end); err != nil {
		return err
	}
	s.end += size
	s.next = end
	return nil
}

// maxReused is the capacity up to which the buffer for packed records is used again.
const maxReused = 256 << 10

// pack packs a record where that saves pages.
func (j *Journal) pack(buf []byte) (record []byte, packed bool) {
	if len(buf) <= page {
		return buf, false
	}
	record = pack(j.packed[:0], buf)
	if j.packed = record[:0]; cap(record) > maxReused {
		j.packed = nil
	}
	if roundUp(int64(len(record))) < roundUp(int64(len(buf))) {
		return record, true
	}
	return buf, false
}

// writeRecord writes a record, with all of its last page, and syncs it.
func (j *Journal) writeRecord(s *slot, record []byte, at int64) error {
	n, size := len(record), int(roundUp(int64(len(record))))
	record = slices.Grow(record, size-n)[:size]
	clear(record[n:])
	if err := j.write(PlaceRecord, s.file, record, at); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := j.flush(s.file); err != nil {
		return fmt.Errorf("sync journal %q: %w", s.file.Name(), err)
	}
	return nil
}

func (j *Journal) write(place string, f *os.File, raw []byte, at int64) error {
	err := j.opts.Fault.Before(place)
	if err == nil {
		_, err = j.opts.writeAt(f, raw, at)
		err = j.opts.Fault.After(place, err)
	}
	return err
}

func (j *Journal) flush(f *os.File) error {
	err := j.opts.Fault.Before(PlaceSync)
	if err == nil {
		err = j.opts.Fault.After(PlaceSync, j.opts.sync(f))
	}
	return err
}

// nextSlot begins to use a free slot that has room for a record of size bytes.
func (j *Journal) nextSlot(size int64, free uint64) (*slot, error) {
	s, err := j.freeSlot(size+2*page, free)
	if err != nil {
		return nil, err
	}
	// The file of a slot whose name is gone would be gone with the process.
	if err := checkFile(s); err != nil {
		return nil, err
	}
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // it never fails
	j.used++
	s.incarnation = incarnation{j.used, binary.LittleEndian.Uint64(salt[:])}
	s.end, s.next, s.closed = page, 0, false
	j.active.Store(s)
	slices.SortStableFunc(j.slots, older)
	return s, j.writeHeaders(s)
}

// writeHeaders writes both headers of a slot and syncs them, so that no record can be on the disk without them.
func (j *Journal) writeHeaders(s *slot) error {
	header := s.header(s.size)
	for _, at := range [...]int64{s.limit(), 0} {
		if err := j.write(PlaceHeader, s.file, header, at); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	if err := j.flush(s.file); err != nil {
		return fmt.Errorf("sync journal %q: %w", s.file.Name(), err)
	}
	return nil
}

func older(a, b *slot) int {
	return cmp.Or(cmp.Compare(a.generation, b.generation), cmp.Compare(a.next, b.next))
}

// freeSlot finds a free slot of at least need bytes, or makes one.
func (j *Journal) freeSlot(need int64, free uint64) (*slot, error) {
	var short *slot // the first free slot that is too small
	for _, s := range j.slots {
		if s.next > free {
			continue
		}
		if s.size >= max(need, j.opts.SlotSize) {
			return s, nil
		}
		if short == nil {
			short = s
		}
	}
	full := ErrFull
	if short != nil || len(j.slots) < j.opts.MaxSlots {
		if j.opts.MayGrow == nil || j.opts.MayGrow() {
			if short == nil {
				return j.addSlot(need)
			}
			err := j.fill(short, max(need, j.opts.SlotSize))
			if err == nil {
				return short, nil
			}
			if full = fullError(err); !errors.Is(full, ErrFull) {
				return nil, full
			}
		}
	}
	// A smaller slot than SlotSize is better than none.
	if i := slices.IndexFunc(j.slots, func(s *slot) bool { return s.next <= free && s.size >= need }); i >= 0 {
		return j.slots[i], nil
	}
	return nil, full
}

// fullError returns ErrFull for an error that only says that a resource is used up, and any other error as it is.
func fullError(err error) error {
	if fault.UsedUp(err) {
		return fmt.Errorf("%w, and it can't grow: %w", ErrFull, err)
	}
	return err
}

// addSlot makes one more slot for records of need bytes: filled with zeros, and synced with its directory entry. After an
// error there is none.
func (j *Journal) addSlot(need int64) (*slot, error) {
	var f *os.File
	var err error
	for n := 0; ; n++ {
		f, err = os.OpenFile(filepath.Join(j.opts.Dir, fmt.Sprintf("slot-%02d", n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, fullError(fmt.Errorf("make journal slot: %w", err))
	}
	s, err := newSlot(f)
	if err == nil {
		err = j.fill(s, max(need, j.opts.SlotSize))
	}
	if err == nil {
		err = j.opts.Fault.Before(PlaceSlotName)
	}
	if err == nil {
		err = j.opts.Fault.After(PlaceSlotName, j.opts.syncDir(j.opts.Dir))
	}
	if err != nil {
		// Left behind, it would merely be small.
		return nil, fullError(errors.Join(fmt.Errorf("make journal slot: %w", err), f.Close(), os.Remove(f.Name())))
	}
	j.slots = slices.Insert(j.slots, 0, s)
	return s, nil
}

// fill writes zeros behind the end of a slot, up to size, and syncs them. After an error the slot is as long as before.
func (j *Journal) fill(s *slot, size int64) error {
	// A page at a time: the page cache keeps together what is written together, and each later sync of a few bytes would
	// count, and on some kernels write, all of it.
	zeros := make([]byte, page)
	var err error
	for at := s.size; at < size && err == nil; at += page {
		err = j.write(PlaceFill, s.file, zeros, at)
	}
	if err == nil {
		err = j.flush(s.file)
	}
	if err != nil {
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.size = size
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// CheckSlot returns an error when the file of the slot in use is not the one that its path names any more: the file was
// removed, a directory above it was renamed, or something was mounted over it. It costs one stat. Any goroutine may call it.
func (j *Journal) CheckSlot() error {
	if s := j.active.Load(); s != nil {
		return checkFile(s)
	}
	return nil
}

func checkFile(s *slot) error {
	path := s.file.Name()
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case err == nil && st.Dev == s.device && st.Ino == s.inode:
		return nil
	case err == nil:
		err = errors.New("its path names another file now")
	case unix.Fstat(int(s.file.Fd()), &st) == nil && st.Nlink == 0:
		err = errors.New("it was removed")
	}
	return fmt.Errorf("journal slot %q can't be found any more, and what is written to it could be lost: put it or its directory back, or start the relay again: %w", path, err)
}

// Bytes is the size of all slots. It reads memory.
func (j *Journal) Bytes() (n int64) {
	for _, s := range j.all() {
		n += s.size
	}
	return n
}

func (j *Journal) all() []*slot { return slices.Concat(j.slots, j.damaged) }

// Generation is the highest generation that was ever used, as far as the journal knows. The caller saves it elsewhere, so
// that the next start sees whether the slot that was in use still exists.
func (j *Journal) Generation() uint64 { return j.used }

// SkipGenerations keeps generations up to one that was used, as the caller knows, from being used again.
func (j *Journal) SkipGenerations(generation uint64) { j.used = max(j.used, generation) }

// Close closes all files. Everything that was appended is durable already.
func (j *Journal) Close() error {
	var errs []error
	if j.syncer != nil {
		j.syncer.close()
	}
	for _, s := range j.all() {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
