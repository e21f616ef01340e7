package format1

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"realtorbot-relay/queue/codec"
)

// The journal has the newest frames, also those that the store did not have yet: in slots, files that are written again and
// again.
//
//	slot:   magic, 8 bytes; generation, 8; CRC-32C of these, 4; zeros up to 64; entries
//	entry:  generation, 8 bytes; length of the frame, 4; CRC-32C of these and of the frame's own sum, 4; frame
//
// Bytes of an earlier use of a slot have another generation. An entry that can't be read while good ones of the same
// generation lie behind it was not torn by a crash, since an entry was synced before the next was written: that is damage.
type journal struct {
	frames []framePlace // by first event
	used   uint64       // the highest generation found
	raw    []byte
}

// framePlace is where a frame lies.
type framePlace struct {
	first uint64
	count int
	path  string
	at    int64
	size  int
}

func (p *framePlace) end() uint64 { return p.first + uint64(p.count) }

const (
	slotMagic   = "RBJOURN1"
	slotHeader  = 64
	entryHeader = 16
)

// openJournal finds the frames of the slots in dir. It calls bad with what can't be read, and torn with an entry that a
// crash may have torn.
func openJournal(dir string, bad, torn func(what string)) (*journal, error) {
	j := &journal{}
	paths, err := filepath.Glob(filepath.Join(dir, "slot-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		name := filepath.Base(path)
		raw, unread, err := readAround(path)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if err != nil {
			bad(fmt.Sprintf("%q can't be read: %v", name, err))
		}
		if unread > 0 {
			bad(fmt.Sprintf("%d bytes of %q can't be read", unread, name))
		}
		generation := slotGeneration(raw)
		if generation == 0 {
			if len(bytes.TrimRight(raw[:min(slotHeader, len(raw))], "\x00")) > 0 {
				bad(fmt.Sprintf("the header of %q can't be read", name))
			}
			// There may be entries behind zeros: a page that the disk can't read is zeros here.
			if generation = firstGeneration(raw); generation == 0 {
				continue
			}
		}
		j.used = max(j.used, generation)
		found, end, broken := scanSlot(raw, generation)
		for i := range found {
			found[i].path = path
		}
		j.frames = append(j.frames, found...)
		for _, at := range broken {
			bad(fmt.Sprintf("the entry at byte %d of %q can't be read, good ones follow", at, name))
		}
		if len(raw)-int(end) >= entryHeader && binary.LittleEndian.Uint64(raw[end:]) == generation {
			torn(fmt.Sprintf("the last entry of %q, at byte %d, is torn; after a power cut it was not answered yet", name, end))
		}
	}
	slices.SortFunc(j.frames, func(a, b framePlace) int { return cmp.Compare(a.first, b.first) })
	return j, nil
}

func slotGeneration(raw []byte) uint64 {
	if len(raw) < slotHeader || string(raw[:8]) != slotMagic || codec.Sum(raw[:16]) != binary.LittleEndian.Uint32(raw[16:]) {
		return 0
	}
	return binary.LittleEndian.Uint64(raw[8:])
}

// firstGeneration returns the generation of a slot whose header is lost, from its first entry; 0 when that is lost, too.
func firstGeneration(raw []byte) uint64 {
	if len(raw) < slotHeader+entryHeader {
		return 0
	}
	generation := binary.LittleEndian.Uint64(raw[slotHeader:])
	if _, ok := parseEntry(raw[slotHeader:], generation); !ok {
		return 0
	}
	return generation
}

// scanSlot finds the entries of a slot, the position behind the last, and the positions of damaged places before it.
func scanSlot(raw []byte, generation uint64) (frames []framePlace, end int64, broken []int64) {
	at, good := slotHeader, slotHeader
	var prefix [8]byte
	binary.LittleEndian.PutUint64(prefix[:], generation)
	for at <= len(raw) {
		p, ok := parseEntry(raw[at:], generation)
		if ok {
			if at != good {
				broken = append(broken, int64(good))
			}
			p.at += int64(at)
			frames = append(frames, p)
			at += entryHeader + p.size
			good = at
			continue
		}
		// This is no entry. Look for one further on: every entry begins with the generation.
		if at+1 > len(raw) {
			break
		}
		skip := bytes.Index(raw[at+1:], prefix[:])
		if skip < 0 {
			break
		}
		at += 1 + skip
	}
	return frames, int64(good), broken
}

// parseEntry finds the frame of the entry at the start of raw.
func parseEntry(raw []byte, generation uint64) (p framePlace, ok bool) {
	if len(raw) < entryHeader+frameHeader || binary.LittleEndian.Uint64(raw) != generation {
		return p, false
	}
	size := int(binary.LittleEndian.Uint32(raw[8:]))
	if size < frameHeader || size > len(raw)-entryHeader {
		return p, false
	}
	body := raw[entryHeader : entryHeader+size]
	// The sum ties the frame, by the frame's own sum, to this use of the slot.
	if crc32.Update(codec.Sum(raw[:12]), codec.Castagnoli, body[8:12]) != binary.LittleEndian.Uint32(raw[12:]) {
		return p, false
	}
	_, rest, first, count, err := parseHead(body)
	if err != nil || len(rest) > 0 {
		return p, false
	}
	return framePlace{first: first, count: count, at: entryHeader, size: size}, true
}

// read returns the bytes of a frame, valid until the next call.
func (j *journal) read(p *framePlace) ([]byte, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cap(j.raw) < p.size {
		j.raw = make([]byte, p.size)
	}
	_, err = f.ReadAt(j.raw[:p.size], p.at)
	return j.raw[:p.size], err
}
