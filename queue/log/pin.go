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

// Pin is the segments of a log as they were at one moment. What retention takes out of the log or strips meanwhile stays on
// disk until Release. Its methods are safe for concurrent use.
type Pin struct {
	log      *Log
	list     []PinnedSegment
	released atomic.Bool
}

// PinnedSegment is one file as it was: what is written behind its size is not part of it.
type PinnedSegment struct {
	Name   string // of the file, without its directory
	Size   int64  // bytes
	log    *Log
	seg    *segment
	file   *os.File
	sealed bool
	trailer
	blocks []Info // of the open one
}

// Pin pins everything that is saved. The writer calls it; it reads and writes no file.
func (l *Log) Pin() *Pin {
	l.pins.Add(1)
	h := &Pin{log: l}
	for _, s := range l.list() {
		h.list = append(h.list, PinnedSegment{
			Name: filepath.Base(s.path), Size: l.summary(s).Bytes, log: l, seg: s, file: s.file, sealed: s.sealed, trailer: s.trailer, blocks: s.blocks,
		})
	}
	return h
}

// Segments are the files, ascending.
func (p *Pin) Segments() []PinnedSegment { return p.list }

// Release lets retention delete what was pinned. A second call does nothing.
func (p *Pin) Release() {
	if !p.released.Swap(true) {
		p.log.pins.Add(-1)
	}
}

// PinnedBytes is how many bytes of files would be deleted if nobody had pinned them.
func (l *Log) PinnedBytes() int64 { return l.pinnedBytes.Load() }

// closeUnlessPinned closes the file of a segment that left the log, or defers that while the log is pinned.
func (l *Log) closeUnlessPinned(f *os.File, bytes int64) error {
	if l.pins.Load() > 0 {
		l.deferred = append(l.deferred, f)
		l.pinnedBytes.Add(bytes)
		return nil
	}
	return f.Close() // the read under way keeps it open
}

// closeDeferred closes the deferred files.
func (l *Log) closeDeferred() error {
	var errs []error
	for _, f := range l.deferred {
		errs = append(errs, f.Close())
	}
	l.deferred = nil
	l.pinnedBytes.Store(0)
	return errors.Join(errs...)
}

const (
	copyPiece = 256 << 10
	copyPage  = 4 << 10
)

// WriteTo writes the file as it was, Size bytes, to w. What the disk can't read becomes zeros; damaged gets a line for it,
// and for everything else that a start would find damaged. An error is one of w, or says that the log was closed. It reads
// disk without a lock.
func (s *PinnedSegment) WriteTo(w io.Writer, damaged func(what string)) error {
	c := copier{PinnedSegment: s, w: w, damaged: damaged}
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
			c.report("there is no block that can be read in the bytes %d to %d", good, b.Offset-1)
		}
		if err := c.copy(at, b.Offset); err != nil {
			return err
		}
		raw, err := c.readAround(b.Offset, b.end())
		if err != nil {
			return err
		}
		if info, ok := parseHeader(raw, b.Offset); !ok || info.Sum != b.Sum || codec.Sum(raw[blockHeader:]) != b.Sum {
			c.report("the block at byte %d can't be read, with %s", b.Offset, b.holds())
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

// copier writes one pinned segment.
type copier struct {
	*PinnedSegment
	w       io.Writer
	damaged func(what string)
	buf     []byte
}

func (c *copier) report(format string, args ...any) {
	c.damaged(c.Name + ": " + fmt.Sprintf(format, args...))
}

// copy writes bytes as they are.
func (c *copier) copy(from, to int64) error {
	for from < to {
		next := min(to, from+copyPiece)
		raw, err := c.readAround(from, next)
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

// copyIDs is copy for a segment that has nothing but ids: they are nowhere else.
func (c *copier) copyIDs(from int64) error {
	ids := c.sections[sectionIDs]
	if err := c.copy(from, ids.offset); err != nil {
		return err
	}
	for at := ids.offset; at < ids.offset+ids.length; at += idPage {
		raw, err := c.readAround(at, at+idPage)
		if err != nil {
			return err
		}
		if codec.Sum(raw[:idPage-4]) != binary.LittleEndian.Uint32(raw[idPage-4:]) {
			c.report("a page of ids at byte %d can't be read: up to %d ids are not known any more", at, idsOnPage)
		}
		if _, err := c.w.Write(raw); err != nil {
			return err
		}
	}
	return c.copy(ids.offset+ids.length, c.Size)
}

// readAround reads bytes, with zeros for the pages that the disk can't read. They are valid until the next call.
func (c *copier) readAround(from, to int64) ([]byte, error) {
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
	for at := 0; at < len(raw); at += copyPage {
		page := raw[at:min(at+copyPage, len(raw))]
		if _, err := c.file.ReadAt(page, from+int64(at)); err != nil {
			clear(page)
			unread += len(page)
		}
	}
	if unread > 0 {
		c.report("%d of the bytes %d to %d can't be read: %v", unread, from, to-1, err)
	}
	return raw, nil
}
