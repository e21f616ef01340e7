package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"realtorbot-relay/queue/entry"
)

// Start is where the entries begin that the journal has and that will be added again. Blocks that begin at or behind it are
// cut off, since nobody knows whether they were synced.
type Start struct{ Entry, Event uint64 }

// NoStart: the journal has no entries.
var NoStart = Start{^uint64(0), ^uint64(0)}

// Open opens the log in o.Dir, or makes one. It reads all of the open segment, and header and trailer of the others. It
// reports what can't be read in found, and deletes none of it. The caller adds the entries from start on again.
func Open(o Options, start Start) (l *Log, found Found, err error) {
	l = &Log{opts: o, ids: map[entry.Hash]uint64{}, former: map[entry.Hash][]uint64{}, carried: map[entry.Hash][]uint64{}, groupSealed: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err = l.openSegments(&found); err != nil {
		return l, found, err
	}
	if len(l.segments) == 0 {
		if l.key, err = newKey(); err != nil {
			return l, found, err
		}
	}
	if start != NoStart {
		if err = l.cutFrom(start.Entry, &found); err != nil {
			return l, found, err
		}
	}
	if err = l.ensureOpen(start); err != nil {
		return l, found, err
	}
	s := l.open()
	if err = l.loadOpen(s, &found); err != nil {
		return l, found, err
	}
	if err = l.countUsage(); err != nil {
		return l, found, err
	}
	l.appender.nextEntry, l.appender.nextEvent = s.endEntry, s.endEvent
	l.entries.Store(s.endEntry)
	l.events.Store(s.endEvent)
	l.findGaps(&found)
	found.NextEntry, found.NextEvent = s.endEntry, s.endEvent
	return l, found, nil
}

// openSegments opens all files, makes missing footers again, and removes what a crash left.
func (l *Log) openSegments(found *Found) error {
	files, err := os.ReadDir(l.opts.Dir)
	if err != nil {
		return err
	}
	for _, e := range files {
		name := e.Name()
		if strings.HasSuffix(name, suffixNew) || strings.HasSuffix(name, suffixGone) {
			if err := os.Remove(filepath.Join(l.opts.Dir, name)); err != nil {
				return err
			}
			continue
		}
		digits, is := strings.CutSuffix(name, suffix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !is || err != nil {
			continue
		}
		f, err := os.OpenFile(filepath.Join(l.opts.Dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s := &segment{number: number, path: f.Name(), file: f, fault: l.opts.Fault}
		if other, is := s.otherNumber(); is {
			found.Damage = append(found.Damage, fmt.Sprintf("the file of segment %d has the header of segment %d: it is left out, and renamed to %s", number, other, name+suffixAside))
			if err := errors.Join(f.Close(), os.Rename(s.path, s.path+suffixAside)); err != nil {
				return err
			}
			continue
		}
		l.segments = append(l.segments, s)
	}
	wholes := make([]bool, len(l.segments))
	for i, s := range slices.Backward(l.segments) {
		if wholes[i], err = s.readHeaderAndTrailer(); err != nil {
			return err
		}
		if wholes[i] {
			l.key = s.key // all have the same key: with another one nothing is found by postings and ids
		}
	}
	for i := 0; i < len(l.segments); i++ {
		s, whole := l.segments[i], wholes[i]
		if err := l.reorderBlocks(s, found); err != nil {
			return err
		}
		if !whole && i == len(l.segments)-1 && s.size <= headerSize {
			// A crash cut its making short: nothing was written to it.
			l.segments = l.segments[:i]
			if err := errors.Join(s.file.Close(), os.Remove(s.path)); err != nil {
				return err
			}
			continue
		}
		if !whole {
			found.Damage = append(found.Damage, fmt.Sprintf("the header of segment %d can't be read", s.number))
			l.reconstructHeader(s, i)
		}
	}
	for i, s := range l.segments {
		if s.sealed || i == len(l.segments)-1 {
			continue
		}
		found.Damage = append(found.Damage, fmt.Sprintf("segment %d has no readable footer: it is made again from the blocks", s.number))
		if err := l.rebuildFooter(s, found); err != nil {
			return err
		}
	}
	return nil
}

// readHeaderAndTrailer reads both ends of the file. whole is false when the header can't be read.
func (s *segment) readHeaderAndTrailer() (whole bool, err error) {
	info, err := s.file.Stat()
	if err != nil {
		return false, err
	}
	s.size = info.Size()
	head := make([]byte, headerSize)
	if _, err := s.file.ReadAt(head, 0); err == nil || errors.Is(err, io.EOF) {
		number := s.number
		whole = s.parseHeader(head) && s.number == number
		s.number = number
	}
	if s.size >= headerSize+trailerSize {
		tail := make([]byte, trailerSize)
		if _, err := s.file.ReadAt(tail, s.size-trailerSize); err == nil {
			if t, ok := parseTrailer(tail); ok {
				s.trailer, s.sealed = t, true
			}
		}
	}
	return whole, nil
}

// ensureOpen makes an open segment when there is none.
func (l *Log) ensureOpen(start Start) error {
	n := len(l.segments)
	if n > 0 && !l.segments[n-1].sealed {
		return nil
	}
	number, firstEntry, firstEvent := uint64(1), uint64(1), uint64(1)
	switch {
	case n > 0:
		last := l.segments[n-1]
		number, firstEntry, firstEvent = last.number+1, last.endEntry, last.endEvent
	case start != NoStart:
		firstEntry, firstEvent = start.Entry, start.Event
	}
	s, err := l.createSegment(number, firstEntry, firstEvent)
	if err != nil {
		return err
	}
	l.segments = append(l.segments, s)
	return nil
}

// findGaps notes what is missing between segments, and between blocks of the open one.
func (l *Log) findGaps(found *Found) {
	note := func(endEntry, endEvent, firstEntry, firstEvent uint64) {
		if firstEntry > endEntry || firstEvent > endEvent {
			found.Gaps = append(found.Gaps, Gap{endEntry, firstEntry, endEvent, firstEvent})
		}
	}
	for i := 1; i < len(l.segments); i++ {
		a, b := l.segments[i-1], l.segments[i]
		note(a.endEntry, a.endEvent, b.firstEntry, b.firstEvent)
	}
	s := l.open()
	endEntry, endEvent := s.firstEntry, s.firstEvent
	for i := range s.blocks {
		if b := &s.blocks[i]; b.Kind == Entries {
			note(endEntry, endEvent, b.FirstEntry, b.FirstEvent)
			endEntry, endEvent = b.EndEntry(), b.EndEvent()
		}
	}
}

// Skip makes nextEntry and nextEvent the next numbers: those between are lost.
func (l *Log) Skip(nextEntry, nextEvent uint64) {
	l.endBlock()
	l.appender.nextEntry, l.appender.nextEvent = max(l.appender.nextEntry, nextEntry), max(l.appender.nextEvent, nextEvent)
	l.entries.Store(l.appender.nextEntry)
	l.events.Store(l.appender.nextEvent)
}
