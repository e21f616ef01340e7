package queue

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// The journal is where a commit becomes durable: one write and one fdatasync into a file whose blocks are allocated and
// written beforehand, so that the sync has no metadata to carry and a full disk can't refuse it. It is a handful of
// slots, files of one size, used in turn; a slot is free again as soon as the store has taken over all its frames.
// Which slot is which is told by the generation in its header and not by its name, so nothing is ever renamed.
//
//	slot:   magic, 8 bytes; generation, 8; CRC-32C of these, 4; zeros up to 64; entries
//	entry:  generation, 8 bytes; length of the frame, 4; CRC-32C of these and of the frame's own sum, 4; frame
//
// Bytes left from a slot's earlier life have another generation, which is how the end of a slot is known. An entry that
// is broken while good ones of the same generation lie behind it was not torn by a crash, since an entry is synced before
// the next is written: that is damage.
type journal struct {
	dir      string
	slotSize int64
	maxSlots int
	slots    []*slot // by generation, the active one last
	used     uint64  // the highest generation in use
	syncer   *syncer
	sync     func(*os.File) error // the syncer's; tests put others in its place
	room     func() bool          // whether the disk has room for one more slot; nil: always
	fault    fault
}

type slot struct {
	file       *os.File
	size       int64
	generation uint64
	end        int64  // where the next entry goes
	next       uint64 // the sequence number behind the slot's last event; 0 in an empty slot
}

const (
	slotMagic   = "RBJOURN1"
	slotHeader  = 64
	entryHeader = 16
)

// errJournalFull says that every slot still holds frames that the store has not taken over, and that there may not be
// more slots.
var errJournalFull = errors.New("journal is full")

// openJournal opens the slots in dir. load must follow.
func openJournal(dir string, slotSize int64, maxSlots int) (*journal, error) {
	j := &journal{dir: dir, slotSize: slotSize, maxSlots: maxSlots, syncer: newSyncer()}
	j.sync = j.syncer.sync
	names, err := filepath.Glob(filepath.Join(dir, "slot-*"))
	if err != nil {
		return nil, fmt.Errorf("open journal %q: %w", dir, err)
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open journal: %w", err), j.close())
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open journal: %w", err), f.Close(), j.close())
		}
		j.slots = append(j.slots, &slot{file: f, size: info.Size(), end: slotHeader})
	}
	return j, nil
}

// addSlot makes one more slot, filled with zeros and synced together with its directory entry.
func (j *journal) addSlot() error {
	var f *os.File
	var err error
	for n := 0; ; n++ {
		f, err = os.OpenFile(filepath.Join(j.dir, fmt.Sprintf("slot-%02d", n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("make journal slot: %w", err)
	}
	// A page at a time: what is written together is kept together in the page cache, and each later sync of a few bytes
	// would count, and on some kernels write, all of it.
	zeros := make([]byte, 4<<10)
	for at := int64(0); at < j.slotSize && err == nil; at += int64(len(zeros)) {
		if err = j.fault.before(placeFill); err == nil {
			_, err = f.WriteAt(zeros[:min(int64(len(zeros)), j.slotSize-at)], at)
			err = j.fault.after(placeFill, err)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fault.before(placeSlotDir)
	}
	if err == nil {
		err = j.fault.after(placeSlotDir, syncDir(j.dir))
	}
	if err != nil {
		// A slot that is not whole would be found short at the next open; without a header it is merely small.
		return errors.Join(fmt.Errorf("make journal slot: %w", err), f.Close(), os.Remove(f.Name()))
	}
	s := &slot{file: f, size: j.slotSize, end: slotHeader}
	j.slots = slices.Insert(j.slots, 0, s)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// damage tells of bytes that were written and can't be read any more.
type damage struct {
	file  string
	what  string
	grave bool // to be told even when no events are missing
	torn  bool // what a crash leaves of an entry that nobody was told is stored
}

// load reads all frames with events at or above next, in order, and makes the first two slots when there are none. What
// can't be read is passed over and reported, with the file it is in: it matters when the frames have a gap, and does not
// when the store had taken it over already.
func (j *journal) load(next uint64) (frames []*frame, damages []damage, err error) {
	for len(j.slots) < 2 {
		if err := j.addSlot(); err != nil {
			return nil, nil, err
		}
	}
	lost := uint64(0)
	for _, s := range j.slots {
		raw := make([]byte, s.size)
		if _, err := s.file.ReadAt(raw, 0); err != nil && err != io.EOF {
			return nil, nil, fmt.Errorf("read journal: %w", err)
		}
		if s.size < j.slotSize && len(bytes.TrimRight(raw, "\x00")) > 0 {
			damages = append(damages, damage{file: s.file.Name(), what: fmt.Sprintf("%q is shorter than it was made, and what its end held is missing", s.file.Name()), grave: true})
		}
		if s.generation = slotGeneration(raw); s.generation == 0 {
			if strange := bytes.TrimRight(raw[:min(slotHeader, len(raw))], "\x00"); len(strange) > 0 {
				damages = append(damages, damage{file: s.file.Name(), what: fmt.Sprintf("the header of %q can't be read", s.file.Name()), grave: true})
				lost++
				s.generation = firstGeneration(raw)
			}
			if s.generation == 0 {
				continue
			}
		}
		found, end, broken := scanSlot(raw, s.generation)
		for _, at := range broken {
			damages = append(damages, damage{file: s.file.Name(), what: fmt.Sprintf("entry at byte %d can't be read, good ones follow", at)})
		}
		if len(raw)-int(end) >= entryHeader && binary.LittleEndian.Uint64(raw[end:]) == s.generation {
			damages = append(damages, damage{file: s.file.Name(), what: fmt.Sprintf("the last entry, at byte %d, is torn; after a power cut it was not answered yet", end), torn: true})
		}
		s.end = end
		if len(found) > 0 {
			s.next = found[len(found)-1].end()
		}
		frames = append(frames, found...)
	}
	slices.SortFunc(j.slots, func(a, b *slot) int { return cmp.Compare(a.generation, b.generation) })
	// A generation that can't be read any more must not be used again: it would bring back what is left of it.
	j.used = j.slots[len(j.slots)-1].generation + lost
	frames = slices.DeleteFunc(frames, func(f *frame) bool { return f.end() <= next })
	for _, f := range frames {
		f.raw = bytes.Clone(f.raw) // the tail must not hold on to whole slots
	}
	slices.SortFunc(frames, func(a, b *frame) int { return cmp.Compare(a.first, b.first) })
	return frames, damages, nil
}

func slotGeneration(raw []byte) uint64 {
	if len(raw) < slotHeader || string(raw[:8]) != slotMagic {
		return 0
	}
	if crc32.Checksum(raw[:16], castagnoli) != binary.LittleEndian.Uint32(raw[16:]) {
		return 0
	}
	return binary.LittleEndian.Uint64(raw[8:])
}

// firstGeneration tells the generation of a slot whose header is lost from its first entry, 0 when that is lost too.
func firstGeneration(raw []byte) uint64 {
	if len(raw) < slotHeader+entryHeader {
		return 0
	}
	generation := binary.LittleEndian.Uint64(raw[slotHeader:])
	if f, _ := parseEntry(raw[slotHeader:], generation); f == nil {
		return 0
	}
	return generation
}

// scanSlot finds the entries of a slot, the position behind the last and the positions of broken places before it.
func scanSlot(raw []byte, generation uint64) (frames []*frame, end int64, broken []int64) {
	at, good := slotHeader, slotHeader
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], generation)
	for {
		f, size := parseEntry(raw[at:], generation)
		if f != nil {
			if at != good {
				broken = append(broken, int64(good))
			}
			frames = append(frames, f)
			at += size
			good = at
			continue
		}
		// Not an entry. Look for one further on: every entry begins with the generation.
		if at+1 > len(raw) {
			break
		}
		skip := bytes.Index(raw[at+1:], mark[:])
		if skip < 0 {
			break
		}
		at += 1 + skip
	}
	return frames, int64(good), broken
}

func parseEntry(raw []byte, generation uint64) (*frame, int) {
	if len(raw) < entryHeader+frameHeader || binary.LittleEndian.Uint64(raw) != generation {
		return nil, 0
	}
	size := int(binary.LittleEndian.Uint32(raw[8:]))
	if size < frameHeader || size > len(raw)-entryHeader {
		return nil, 0
	}
	body := raw[entryHeader : entryHeader+size]
	if entrySum(raw[:12], body) != binary.LittleEndian.Uint32(raw[12:]) {
		return nil, 0
	}
	f, rest, err := parseFrame(body)
	if err != nil || len(rest) > 0 {
		return nil, 0
	}
	return f, entryHeader + size
}

// entrySum ties a frame, by its own checksum, to the slot's life that it was written in.
func entrySum(header, frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:12], castagnoli), castagnoli, frame[8:12])
}

// append makes an entry durable. buf is the frame behind entryHeader free bytes, applied the position below which
// slots may be used again. After an error other than errJournalFull nobody knows what the disk holds.
func (j *journal) append(buf []byte, f *frame, applied uint64) error {
	s := j.slots[len(j.slots)-1]
	if s.generation == 0 || (s.end+int64(len(buf)) > s.size && s.end > slotHeader) {
		var err error
		if s, err = j.turn(applied); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint64(buf, s.generation)
	binary.LittleEndian.PutUint32(buf[8:], uint32(len(f.raw)))
	binary.LittleEndian.PutUint32(buf[12:], entrySum(buf[:12], f.raw))
	err := j.fault.before(placeEntry)
	if err == nil {
		_, err = s.file.WriteAt(buf, s.end)
		err = j.fault.after(placeEntry, err)
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err = j.fault.before(placeSync); err == nil {
		err = j.fault.after(placeSync, j.sync(s.file))
	}
	if err != nil {
		return fmt.Errorf("sync journal %q: %w", s.file.Name(), err)
	}
	s.end += int64(len(buf))
	s.size = max(s.size, s.end)
	s.next = f.end()
	return nil
}

// turn begins a new life of a free slot. Its header is synced together with the first entry.
func (j *journal) turn(applied uint64) (*slot, error) {
	free := slices.IndexFunc(j.slots, func(s *slot) bool { return s.next <= applied })
	if free < 0 {
		if len(j.slots) >= j.maxSlots || j.room != nil && !j.room() {
			return nil, errJournalFull
		}
		if err := j.addSlot(); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return nil, errJournalFull // somebody was quicker; nothing is left of the slot
		} else if err != nil {
			return nil, err
		}
		free = 0
	}
	s := j.slots[free]
	j.slots = append(slices.Delete(j.slots, free, free+1), s)
	j.used++
	s.generation, s.end, s.next = j.used, slotHeader, 0
	header := make([]byte, slotHeader)
	copy(header, slotMagic)
	binary.LittleEndian.PutUint64(header[8:], s.generation)
	binary.LittleEndian.PutUint32(header[16:], crc32.Checksum(header[:16], castagnoli))
	err := j.fault.before(placeHeader)
	if err == nil {
		_, err = s.file.WriteAt(header, 0)
		err = j.fault.after(placeHeader, err)
	}
	if err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	return s, nil
}

// bytes is the size of all slots.
func (j *journal) bytes() (n int64) {
	for _, s := range j.slots {
		n += s.size
	}
	return n
}

func (j *journal) close() error {
	var errs []error
	j.syncer.close()
	for _, s := range j.slots {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
