package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Damage is bytes that were written and can't be read any more.
type Damage struct {
	File  string
	What  string // a clause for the operator
	Grave bool   // to be reported even when no entries are missing
	Torn  bool   // what a crash leaves of a record that was not answered
}

// Open opens the journal in o.Dir, and makes its first two slots when there are none. It reads all slots, and returns all
// records by First, no entry twice. They are on stable storage, and their payloads belong to the caller. Entries that the
// log has may be among them.
//
// What can't be read is passed over and returned in damages, with its file; it matters when entries are missing. An error is
// something that can be put right without losing anything: a disk that can't be written, another user's file.
func Open(o Options) (j *Journal, records []Record, damages []Damage, err error) {
	o.SlotSize, o.MaxSlots = max(roundUp(o.SlotSize), 3*page), max(o.MaxSlots, 2)
	j = &Journal{opts: o}
	if o.writeAt == nil {
		j.opts.writeAt = (*os.File).WriteAt
	}
	if o.sync == nil {
		j.syncer = newSyncer()
		j.opts.sync = j.syncer.sync
	}
	if o.syncDir == nil {
		j.opts.syncDir = syncDir
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open journal %q: %w", o.Dir, err), j.Close())
			j = nil
		}
	}()
	op := opening{j: j}
	if err := op.readSlots(); err != nil {
		return j, nil, nil, err
	}
	// A file whose name a crash kept from being synced is used like any other from here on.
	if err := j.opts.syncDir(o.Dir); err != nil {
		return j, nil, nil, err
	}
	for len(j.slots) < 2 {
		if _, err := j.addSlot(0); err != nil {
			return j, nil, nil, err
		}
	}
	distinct := op.dropRepeats()
	if err := op.rewriteLast(distinct); err != nil {
		return j, nil, nil, err
	}
	for _, f := range distinct {
		records = append(records, f.Record)
	}
	return j, records, op.damages, nil
}

// opening is one call of Open.
type opening struct {
	j       *Journal
	raw     []byte // of the slot being read
	found   []foundRecord
	damages []Damage
}

func (o *opening) report(d Damage, format string, args ...any) {
	d.What = fmt.Sprintf(format, args...)
	o.damages = append(o.damages, d)
}

// readSlots reads all slots.
func (o *opening) readSlots() error {
	j := o.j
	names, err := filepath.Glob(filepath.Join(j.opts.Dir, "slot-*"))
	if err != nil {
		return err
	}
	lost := uint64(0) // slots whose generation can't be read
	for _, name := range names {
		s, err := openSlot(name)
		if err != nil && temporary(err) {
			return err
		}
		if err != nil {
			o.report(Damage{File: name, Grave: true}, "%q can't be opened: %v", name, err)
			lost++
			continue
		}
		j.slots = append(j.slots, s)
		unread, err := o.readSlot(s)
		if err != nil {
			return err
		}
		if known := o.parseSlot(s); !known || unread > 0 {
			lost++
		}
		if unread > 0 {
			// Nothing is written to it any more, so that people who look at the disk find it as it is.
			s.closed = true
			j.slots = j.slots[:len(j.slots)-1]
			j.damaged = append(j.damaged, s)
		}
	}
	slices.SortStableFunc(j.slots, older)
	for _, s := range j.all() {
		j.used = max(j.used, s.generation)
		if s.generation > 0 && s.generation == j.used {
			j.active.Store(s)
		}
	}
	if s := j.active.Load(); s != nil && s.closed {
		j.active.Store(nil)
	}
	for i := 1; i < len(j.slots); i++ {
		if a, b := j.slots[i-1], j.slots[i]; a.generation > 0 && a.incarnation == b.incarnation {
			o.report(Damage{File: a.file.Name()}, "%q and %q are copies of one slot", a.file.Name(), b.file.Name())
		}
	}
	// A generation that can't be read must not be used again: that would bring back what is left of it.
	j.used += lost
	return nil
}

func openSlot(name string) (*slot, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	s, err := newSlot(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// temporary reports whether an error comes from outside the file, and ends when somebody mends that.
func temporary(err error) bool {
	for _, errno := range [...]error{unix.EACCES, unix.EPERM, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// readSlot reads a slot into raw, with zeros for pages that can't be read, and returns how many bytes these are.
func (o *opening) readSlot(s *slot) (unread int64, err error) {
	o.raw = slices.Grow(o.raw[:0], int(roundUp(s.size)))[:roundUp(s.size)]
	clear(o.raw)
	const chunk = 64 * page
	tries := readTries
	var from int64 // the first of them
	var why error
	for at := int64(0); at < s.size; at += chunk {
		part := o.raw[at:min(at+chunk, int64(len(o.raw)))]
		err := o.readAt(s, part, at)
		if err == nil {
			continue
		}
		for n := 0; n < len(part); n += page {
			err := o.readPage(s, part[n:n+page], at+int64(n), tries)
			if err == nil {
				continue
			}
			if temporary(err) {
				return 0, err
			}
			tries = 1
			clear(part[n : n+page])
			if unread == 0 {
				from, why = at+int64(n), err
			}
			unread += page
		}
	}
	if unread > 0 {
		o.report(Damage{File: s.file.Name(), Grave: true},
			"%d KiB of %q, from byte %d on, can't be read: %v; it is not written to any more: look at the disk (dmesg), and remove the file when the relay has run for a minute",
			unread>>10, s.file.Name(), from, why)
	}
	return unread, nil
}

const (
	// readTries is how often a page is read before its error is damage; once in a slot that has damage.
	readTries = 8
	readAgain = 200 * time.Millisecond
)

// readPage reads a page, several times when that fails: a disk may give it in the end.
func (o *opening) readPage(s *slot, to []byte, at int64, tries int) (err error) {
	for try := 1; ; try++ {
		if err = o.readAt(s, to, at); err == nil || temporary(err) || try >= tries {
			return err
		}
		if try > 1 { // most disks answer the second read
			time.Sleep(readAgain)
		}
	}
}

func (o *opening) readAt(s *slot, to []byte, at int64) error {
	if hook := o.j.opts.ReadFault; hook != nil {
		if err := hook(s.file.Name(), at, int64(len(to))); err != nil {
			return err
		}
	}
	_, err := s.file.ReadAt(to, at)
	if err == io.EOF {
		err = nil
	}
	return err
}

// parseSlot finds out what a slot has. It returns false when the slot had a generation that can't be read any more.
func (o *opening) parseSlot(s *slot) (known bool) {
	name, raw := s.file.Name(), o.raw
	defer func() { s.size -= s.size % page }()
	front, made := parseHeader(raw)
	if front.generation == 0 {
		made = s.size
	}
	// A crash may have kept one of the headers from the disk; damage may have left only the first record.
	s.incarnation = front
	if len(raw) >= 2*page {
		back, _ := parseHeader(raw[len(raw)-page:])
		first, _, _, _ := parseRecord(raw[page:])
		for _, l := range [...]incarnation{back, first} {
			if l.generation > s.generation {
				s.incarnation = l
			}
		}
	}
	strange := front.generation == 0 && !isZero(raw[:min(page, len(raw))])
	if s.size < made || s.size < o.j.opts.SlotSize && front.generation == 0 && !isZero(raw) {
		s.closed = true
		o.report(Damage{File: name, Grave: true}, "%q is shorter than it was, and what was at its end is missing", name)
	}
	if s.generation == 0 {
		if strange {
			o.report(Damage{File: name, Grave: true}, "the header of %q can't be read", name)
		}
		return !strange
	}
	records, end, broken, torn := scan(raw[:min(max(made-page, page), int64(len(raw)))], s.incarnation)
	if front.generation == 0 && (strange || len(records) > 0) { // before the first record, a crash may have kept the header from the disk
		o.report(Damage{File: name, Grave: true}, "the header of %q can't be read", name)
	}
	for _, at := range broken {
		o.report(Damage{File: name}, "record at byte %d of %q can't be read, others follow", at, name)
	}
	if torn > 0 {
		o.report(Damage{File: name, Torn: true}, "the last record of %q, at byte %d, is torn; after a power cut it was not answered yet", name, torn)
	}
	s.end = end
	s.size = min(s.size, made) // a longer file was about to grow when the process died
	for i, f := range records {
		f.slot = s
		if f.stored = nil; i == len(records)-1 {
			f.stored = bytes.Clone(records[i].stored)
		}
		s.next = max(s.next, f.End)
		o.found = append(o.found, f)
	}
	return !strange
}

func isZero(raw []byte) bool { return len(bytes.TrimLeft(raw, "\x00")) == 0 }

// dropRepeats leaves out records whose entries are there twice: of two with the same number the newest counts.
func (o *opening) dropRepeats() []foundRecord {
	slices.SortStableFunc(o.found, func(a, b foundRecord) int {
		return cmp.Or(cmp.Compare(b.slot.generation, a.slot.generation), cmp.Compare(b.at, a.at))
	})
	var distinct []foundRecord // by First, downwards
	for _, f := range o.found {
		at, _ := slices.BinarySearchFunc(distinct, f.First, func(k foundRecord, first uint64) int { return cmp.Compare(first, k.First) })
		// kept[at-1] begins above f, kept[at] at it or below.
		var other *foundRecord
		if at > 0 && distinct[at-1].First < f.End {
			other = &distinct[at-1]
		} else if at < len(distinct) && distinct[at].End > f.First {
			other = &distinct[at]
		}
		if other == nil {
			distinct = slices.Insert(distinct, at, f)
		} else if other.First != f.First || other.End != f.End || !bytes.Equal(other.Payload, f.Payload) {
			o.report(Damage{File: f.slot.file.Name(), Grave: true}, "entries %d to %d are in %q and in %q, and differ: the newer ones count",
				f.First, f.End-1, f.slot.file.Name(), other.slot.file.Name())
		}
	}
	slices.Reverse(distinct)
	return distinct
}

// rewriteLast writes the last record anew and syncs it. The process that wrote it may have died before the sync, or the sync
// may have failed: then what was read is in the page cache alone, and a sync without a write would skip it. All records
// before it were synced. The same holds for the header of a slot that has no record yet.
func (o *opening) rewriteLast(distinct []foundRecord) error {
	if s := o.j.active.Load(); s != nil && s.end == page {
		if err := o.j.writeHeaders(s); err != nil {
			return err
		}
	}
	if len(distinct) == 0 {
		return nil
	}
	last := slices.MaxFunc(distinct, func(a, b foundRecord) int {
		return cmp.Or(cmp.Compare(a.slot.generation, b.slot.generation), cmp.Compare(a.at, b.at))
	})
	err := o.j.writeRecord(last.slot, last.stored, last.at)
	if err != nil && slices.Contains(o.j.damaged, last.slot) {
		o.report(Damage{File: last.slot.file.Name(), Grave: true}, "the last record of %q can't be written anew: %v", last.slot.file.Name(), err)
		return nil
	}
	return err
}
