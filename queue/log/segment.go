package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
)

// segment is one file. A sealed one does not change. Of the open one the writer alone changes fields, under the log's mu
// where readers look.
type segment struct {
	number uint64
	path   string
	file   *os.File
	key    entry.Key
	fault  fault.Func // of reads
	// readFailed: a read failed however often it was repeated.
	readFailed atomic.Bool
	trailer
	sealed bool
	made   int64 // queue time at which it was begun, Unix milliseconds

	// Of the open one, for its footer:
	size     int64
	blocks   []Info
	ids      []idPlace // the writer's
	postings postings
	attempts []attemptedEvents

	usage usage // of all events in it, carried ones too

	filter     atomic.Pointer[filter]                  // of this segment, or of its group
	rebuiltIDs atomic.Pointer[map[entry.Hash][]uint32] // places by id, when the pages of ids can't be read
	reported   atomic.Bool                             // that something in it is damaged
}

// trailer is a segment's summary of itself.
type trailer struct {
	firstEntry, endEntry uint64
	firstEvent, endEvent uint64
	firstAt, lastAt      int64 // of its events; 0 when there are none
	events, bodies       int64 // in it, without those that were carried into it
	attemptsLow          uint64
	attemptsHigh         uint64 // it has attempts of deliveries of events from attemptsLow up to below attemptsHigh
	stripped             bool   // it has ids and no blocks
	stored               int64  // bytes of blocks
	sections             [4]section
	values               uint32 // length of the named values, which stand behind the sections
}

// valuesAt is where the named values begin.
func (t *trailer) valuesAt() int64 {
	last := t.sections[sectionAttempts]
	return last.offset + last.length
}

// section is one part of the footer.
type section struct {
	offset, length int64
	sum            uint32
}

// The sections of a footer.
const (
	sectionTable = iota
	sectionIDs
	sectionPostings
	sectionAttempts
)

const (
	segmentMagic = "RBSEG002"
	sealMagic    = "RBSEAL02"
	headerSize   = 256
	trailerSize  = 192
	suffix       = ".seg"
	suffixNew    = ".seg.new"
	suffixGone   = ".gone"
	// suffixAside is appended to the name of a file that belongs to another segment.
	suffixAside = ".strange"
)

func (s *segment) appendHeader(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint64(dst, s.number)
	dst = binary.LittleEndian.AppendUint64(dst, s.firstEntry)
	dst = binary.LittleEndian.AppendUint64(dst, s.firstEvent)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.made))
	dst = append(dst, s.key[:]...)
	dst = append(dst, make([]byte, headerSize-4-(len(dst)-from))...)
	return binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
}

func (s *segment) parseHeader(raw []byte) bool {
	le := binary.LittleEndian
	if len(raw) < headerSize || string(raw[:8]) != segmentMagic || codec.Sum(raw[:headerSize-4]) != le.Uint32(raw[headerSize-4:]) {
		return false
	}
	s.number, s.firstEntry, s.firstEvent, s.made = le.Uint64(raw[8:]), le.Uint64(raw[16:]), le.Uint64(raw[24:]), int64(le.Uint64(raw[32:]))
	copy(s.key[:], raw[40:])
	s.endEntry, s.endEvent = s.firstEntry, s.firstEvent
	return true
}

func (t *trailer) append(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, sealMagic...)
	stripped := uint64(0)
	if t.stripped {
		stripped = 1
	}
	for _, n := range [...]uint64{
		t.firstEntry, t.endEntry, t.firstEvent, t.endEvent, uint64(t.firstAt), uint64(t.lastAt), uint64(t.events), uint64(t.bodies),
		t.attemptsLow, t.attemptsHigh, stripped, uint64(t.stored),
	} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	for _, s := range t.sections {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.offset))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.length))
		dst = binary.LittleEndian.AppendUint32(dst, s.sum)
	}
	dst = binary.LittleEndian.AppendUint32(dst, t.values)
	dst = append(dst, make([]byte, trailerSize-4-(len(dst)-from))...)
	return binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
}

func parseTrailer(raw []byte) (t trailer, ok bool) {
	le := binary.LittleEndian
	if len(raw) != trailerSize || string(raw[:8]) != sealMagic || codec.Sum(raw[:trailerSize-4]) != le.Uint32(raw[trailerSize-4:]) {
		return t, false
	}
	at := 8
	next := func() uint64 { at += 8; return le.Uint64(raw[at-8:]) }
	t.firstEntry, t.endEntry, t.firstEvent, t.endEvent = next(), next(), next(), next()
	t.firstAt, t.lastAt, t.events, t.bodies = int64(next()), int64(next()), int64(next()), int64(next())
	t.attemptsLow, t.attemptsHigh = next(), next()
	t.stripped, t.stored = next() == 1, int64(next())
	for i := range t.sections {
		t.sections[i] = section{offset: int64(next()), length: int64(next()), sum: le.Uint32(raw[at:])}
		at += 4
	}
	t.values = le.Uint32(raw[at:])
	return t, true
}

// readAt fills buf. It repeats a read that fails, since what counts as damage is lost: lanes pass over it, and a store that
// is made without it lacks it. After that the error is damage, unless the segment was deleted meanwhile.
func (s *segment) readAt(buf []byte, at int64) error {
	for try := 1; ; try++ {
		err := s.fault.Before(PlaceRead)
		if err == nil {
			_, err = s.file.ReadAt(buf, at)
			err = s.fault.After(PlaceRead, err)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrClosed):
			return fmt.Errorf("read segment %d: %w", s.number, errGone)
		case errors.Is(err, io.EOF):
			return fmt.Errorf("read segment %d at byte %d: it ends before: %w", s.number, at, codec.ErrDamaged)
		}
		if try >= readTries || s.readFailed.Load() {
			s.readFailed.Store(true)
			return fmt.Errorf("read segment %d at byte %d: %w: %w", s.number, at, err, codec.ErrDamaged)
		}
		if try > 1 { // most disks answer the second read
			time.Sleep(readAgain)
		}
	}
}

const (
	// readTries is how often a read is made before its error is damage; once in a segment that has damage.
	readTries = 8
	readAgain = 200 * time.Millisecond
)

// errGone: the segment was deleted.
var errGone = errors.New("the segment is deleted")

// read returns the bytes of a section, verified.
func (s *segment) read(which int) ([]byte, error) {
	sec := s.sections[which]
	if sec.length == 0 {
		return nil, nil
	}
	raw := make([]byte, sec.length)
	if err := s.readAt(raw, sec.offset); err != nil {
		return nil, err
	}
	if codec.Sum(raw) != sec.sum {
		return nil, fmt.Errorf("read the footer of segment %d: checksum: %w", s.number, codec.ErrDamaged)
	}
	return raw, nil
}

// block reads the block at offset. With a sum, it must be the block with that sum.
func (s *segment) block(offset int64, sum *uint32) (*Block, error) {
	var head [blockHeader]byte
	if err := s.readAt(head[:], offset); err != nil {
		return nil, err
	}
	info, ok := parseHeader(head[:], offset)
	if !ok || sum != nil && info.Sum != *sum {
		return nil, fmt.Errorf("read segment %d: no such block at byte %d: %w", s.number, offset, codec.ErrDamaged)
	}
	stored := make([]byte, info.Stored)
	if err := s.readAt(stored, offset+blockHeader); err != nil {
		return nil, err
	}
	raw, err := info.open(stored)
	if err != nil {
		return nil, fmt.Errorf("read segment %d: block at byte %d: %w", s.number, offset, err)
	}
	return &Block{info, raw}, nil
}

// tableEntry is the size of a block's entry in the table.
const tableEntry = 8 + blockHeader

func appendTable(dst []byte, blocks []Info) []byte {
	for i := range blocks {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(blocks[i].Offset))
		at := len(dst)
		dst = blocks[i].appendHeader(dst)
		clear(dst[at : at+4]) // else a walk would take it for a block
	}
	return dst
}

func parseTable(raw []byte) (blocks []Info, ok bool) {
	blocks = make([]Info, 0, len(raw)/tableEntry)
	for ; len(raw) >= tableEntry; raw = raw[tableEntry:] {
		binary.LittleEndian.PutUint32(raw[8:], blockMagic)
		info, ok := parseHeader(raw[8:tableEntry], int64(binary.LittleEndian.Uint64(raw)))
		if !ok {
			return nil, false
		}
		blocks = append(blocks, info)
	}
	return blocks, len(raw) == 0
}

// count adds a block to the summary.
func (t *trailer) count(b *Info) {
	t.stored += blockHeader + int64(b.Stored)
	switch b.Kind {
	case Entries:
		t.endEntry = max(t.endEntry, b.EndEntry())
		if b.Events > 0 {
			if t.firstAt == 0 {
				t.firstAt = b.FirstAt
			}
			t.endEvent, t.lastAt = max(t.endEvent, b.EndEvent()), b.LastAt
		}
		t.events, t.bodies = t.events+int64(b.Events), t.bodies+int64(b.Bodies)
	}
}
