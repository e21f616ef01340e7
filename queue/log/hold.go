package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
// would find damaged, in one line each. An error is one of w, or that the log was closed.
func (s *HeldSegment) WriteTo(w io.Writer, damaged func(what string)) error {
	c := copier{HeldSegment: s, w: w, damaged: damaged}
	blocks := s.blocks
	if s.sealed {
		footer, err := s.log.footerOf(s.seg)
		if err != nil {
			return err
		}
		blocks = footer.blocks
	}
	at := int64(0)
	for i := range blocks {
		b := &blocks[i]
		if b.Offset < at || b.end() > s.Size {
			continue
		}
		if good := max(at, headerSize); b.Offset > good {
			c.tell("there is no block that can be read in the bytes %d to %d", good, b.Offset-1)
		}
		if err := c.copy(at, b.Offset); err != nil {
			return err
		}
		raw, err := c.fetch(b.Offset, b.end())
		if err != nil {
			return err
		}
		if info, ok := parseHeader(raw, b.Offset); !ok || info.Sum != b.Sum || codec.Sum(raw[blockHeader:]) != b.Sum {
			c.tell("the block at byte %d can't be read, with %s", b.Offset, b.holds())
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
		at = b.end()
	}
	if s.sealed && s.stripped {
		return c.copyIDs(at)
	}
	return c.copy(at, s.Size)
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

// copier writes one held segment.
type copier struct {
	*HeldSegment
	w       io.Writer
	damaged func(what string)
	buf     []byte
}

func (c *copier) tell(format string, args ...any) {
	c.damaged(c.Name + ": " + fmt.Sprintf(format, args...))
}

// copy writes bytes as they are.
func (c *copier) copy(from, to int64) error {
	for from < to {
		next := min(to, from+holdPiece)
		raw, err := c.fetch(from, next)
		if err == nil {
			_, err = c.w.Write(raw)
		}
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// copyIDs is copy of what is behind a place in a segment that has nothing but ids, which are nowhere else.
func (c *copier) copyIDs(from int64) error {
	ids := c.sections[sectionIDs]
	if err := c.copy(from, ids.offset); err != nil {
		return err
	}
	for at := ids.offset; at < ids.offset+ids.length; at += idPage {
		raw, err := c.fetch(at, at+idPage)
		if err != nil {
			return err
		}
		if codec.Sum(raw[:idPage-4]) != binary.LittleEndian.Uint32(raw[idPage-4:]) {
			c.tell("a page of ids at byte %d can't be read: up to %d ids are not known any more", at, idsOnPage)
		}
		if _, err := c.w.Write(raw); err != nil {
			return err
		}
	}
	return c.copy(ids.offset+ids.length, c.Size)
}

// fetch reads bytes, with zeros for the pages that the disk can't give. They are good until the next call.
func (c *copier) fetch(from, to int64) ([]byte, error) {
	c.buf = slices.Grow(c.buf[:0], int(to-from))
	raw := c.buf[:to-from]
	_, err := c.file.ReadAt(raw, from)
	if err == nil {
		return raw, nil
	}
	if errors.Is(err, fs.ErrClosed) {
		return nil, fmt.Errorf("read %s: %w", c.Name, errGone)
	}
	clear(raw)
	unread := 0
	for at := 0; at < len(raw); at += holdPage {
		page := raw[at:min(at+holdPage, len(raw))]
		if _, err := c.file.ReadAt(page, from+int64(at)); err != nil {
			clear(page)
			unread += len(page)
		}
	}
	if unread > 0 {
		c.tell("%d of the bytes %d to %d can't be read: %v", unread, from, to-1, err)
	}
	return raw, nil
}
