package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"realtorbot-relay/queue/codec"
)

// Held is the segments of a log as they were at one moment. What retention takes out of the log or strips meanwhile keeps
// its bytes until Release. Its methods are safe for concurrent use.
type Held struct {
	log      *Log
	list     []HeldSegment
	released atomic.Bool
}

// HeldSegment is one file as it was: what is written behind its size is not part of it.
type HeldSegment struct {
	Name   string // of the file, without its directory
	Size   int64  // bytes
	log    *Log
	seg    *segment
	file   *os.File
	sealed bool
	trailer
	blocks []Info // of the open one
}

// Hold holds all that is saved. The log's writer calls it; nothing is read or written.
func (l *Log) Hold() *Held {
	l.holds.Add(1)
	h := &Held{log: l}
	for _, s := range l.list() {
		h.list = append(h.list, HeldSegment{
			Name: filepath.Base(s.path), Size: l.sumUp(s).Bytes, log: l, seg: s, file: s.file, sealed: s.sealed, trailer: s.trailer, blocks: s.blocks,
		})
	}
	return h
}

// Segments are the files, ascending.
func (h *Held) Segments() []HeldSegment { return h.list }

// Release lets retention have what was held. More than one call is one.
func (h *Held) Release() {
	if !h.released.Swap(true) {
		h.log.holds.Add(-1)
	}
}

// HeldBack is how many bytes of files would be gone if nobody held them.
func (l *Log) HeldBack() int64 { return l.heldBack.Load() }

// letGo closes the file of a segment that is not part of the log any more, later when somebody holds it.
func (l *Log) letGo(f *os.File, bytes int64) error {
	if l.holds.Load() > 0 {
		l.parked = append(l.parked, f)
		l.heldBack.Add(bytes)
		return nil
	}
	return f.Close() // waits for those who read
}

// unpark closes what was held, once nobody holds it any more.
func (l *Log) unpark() error {
	var errs []error
	for _, f := range l.parked {
		errs = append(errs, f.Close())
	}
	l.parked = nil
	l.heldBack.Store(0)
	return errors.Join(errs...)
}

const (
	holdPiece = 256 << 10
	holdPage  = 4 << 10
)

// WriteTo writes the file as it was, Size bytes. What the disk can't give is zeros, and is told with whatever else a start
// would find damaged; events that are told may be told in more than one line. An error is one of w, or that the log was closed.
func (s *HeldSegment) WriteTo(w io.Writer, damaged func(what string)) error {
	blocks := s.blocks
	if s.sealed {
		var err error
		if blocks, err = s.log.table(s.seg); err != nil {
			return err
		}
	}
	at := int64(0)
	for i := range blocks {
		b := &blocks[i]
		if b.Offset < at || b.end() > s.Size {
			continue
		}
		if good := max(at, headerSize); b.Offset > good {
			damaged(fmt.Sprintf("%s: there is no block that can be read in the bytes %d to %d", s.Name, good, b.Offset-1))
		}
		if err := s.copy(w, at, b.Offset, damaged); err != nil {
			return err
		}
		raw, err := s.fetch(b.Offset, b.end(), damaged)
		if err != nil {
			return err
		}
		if info, ok := parseHeader(raw, b.Offset); !ok || info.Sum != b.Sum || codec.Sum(raw[blockHeader:]) != b.Sum {
			damaged(fmt.Sprintf("%s: the block at byte %d can't be read, with %s", s.Name, b.Offset, b.holds()))
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
		at = b.end()
	}
	if s.sealed && s.stripped {
		return s.copyIDs(w, at, damaged)
	}
	return s.copy(w, at, s.Size, damaged)
}

// holds says what is in a block.
func (b *Info) holds() string {
	switch {
	case b.Kind == Carried:
		return fmt.Sprintf("%d events that failed or are retrying", b.Events)
	case b.Kind == Entries && b.Events > 0:
		return fmt.Sprintf("events %d to %d", b.FirstEvent, b.EndEvent()-1)
	}
	return "no event"
}

// copy writes bytes as they are.
func (s *HeldSegment) copy(w io.Writer, from, to int64, damaged func(string)) error {
	for from < to {
		next := min(to, from+holdPiece)
		raw, err := s.fetch(from, next, damaged)
		if err == nil {
			_, err = w.Write(raw)
		}
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// copyIDs is copy of a segment that has nothing but ids, which are nowhere else.
func (s *HeldSegment) copyIDs(w io.Writer, from int64, damaged func(string)) error {
	ids := s.sections[sectionIDs]
	if err := s.copy(w, from, ids.offset, damaged); err != nil {
		return err
	}
	for at := ids.offset; at < ids.offset+ids.length; at += idPage {
		raw, err := s.fetch(at, at+idPage, damaged)
		if err != nil {
			return err
		}
		if codec.Sum(raw[:idPage-4]) != binary.LittleEndian.Uint32(raw[idPage-4:]) {
			damaged(fmt.Sprintf("%s: a page of ids at byte %d can't be read: up to %d ids are not known any more", s.Name, at, idsOnPage))
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	return s.copy(w, ids.offset+ids.length, s.Size, damaged)
}

// fetch reads bytes, with zeros for the pages that the disk can't give.
func (s *HeldSegment) fetch(from, to int64, damaged func(string)) ([]byte, error) {
	raw := make([]byte, to-from)
	_, err := s.file.ReadAt(raw, from)
	if err == nil {
		return raw, nil
	}
	if errors.Is(err, fs.ErrClosed) {
		return nil, fmt.Errorf("read %s: %w", s.Name, errGone)
	}
	clear(raw)
	unread := 0
	for at := 0; at < len(raw); at += holdPage {
		page := raw[at:min(at+holdPage, len(raw))]
		if _, err := s.file.ReadAt(page, from+int64(at)); err != nil {
			clear(page)
			unread += len(page)
		}
	}
	if unread > 0 {
		damaged(fmt.Sprintf("%s: %d of the bytes %d to %d can't be read: %v", s.Name, unread, from, to-1, err))
	}
	return raw, nil
}
