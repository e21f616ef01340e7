package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// shortenBy is how many bytes of a deleted file are cut off at a time: unlinking a large file at once delays a commit.
const shortenBy = 8 << 20

// Remove takes the oldest segment out of the log. Its file gets another name at once, which is synced; calls of Shorten
// delete it. What is still needed of it must be saved elsewhere before.
func (l *Log) Remove() error {
	s := l.list()[0]
	gone := l.path(s.number, suffixGone)
	err := l.opts.Fault.Before(PlaceDelete)
	if err == nil {
		err = l.opts.Fault.After(PlaceDelete, errors.Join(os.Rename(s.path, gone), syncDir(l.opts.Dir)))
	}
	if err != nil {
		return fmt.Errorf("delete segment %d: %w", s.number, err)
	}
	f, err := os.OpenFile(gone, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("delete segment %d: %w", s.number, err)
	}
	l.deleting = append(l.deleting, f)
	l.mu.Lock()
	l.segments = slices.Clone(l.segments[1:])
	l.mu.Unlock()
	l.usage.remove(s.usage)
	l.idMoves.Add(1)
	return l.closeUnlessPinned(s.file, s.fileEnd())
}

// Shorten deletes a piece of a removed segment's file, and reports whether there is more. While somebody has pinned the log
// it does nothing.
func (l *Log) Shorten() (more bool, err error) {
	if l.pins.Load() > 0 {
		return len(l.deleting) > 0, nil
	}
	if len(l.deferred) > 0 {
		if err := l.closeDeferred(); err != nil {
			return true, err
		}
	}
	if len(l.deleting) == 0 {
		return false, nil
	}
	f := l.deleting[0]
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if size := info.Size(); size > shortenBy {
		if err = l.opts.Fault.Before(PlaceShorten); err == nil {
			err = l.opts.Fault.After(PlaceShorten, f.Truncate(size-shortenBy))
		}
		return true, err
	}
	if err = l.opts.Fault.Before(PlaceUnlink); err == nil {
		err = l.opts.Fault.After(PlaceUnlink, errors.Join(os.Remove(f.Name()), f.Close()))
	}
	if err != nil {
		return true, err
	}
	l.deleting = l.deleting[1:]
	return len(l.deleting) > 0, nil
}

// Strip writes a sealed segment anew without its blocks, synced: its ids stay known. What is still needed of it must be
// saved elsewhere before.
func (l *Log) Strip(number uint64) error {
	s := l.segment(number)
	if s == nil || !s.sealed || s.stripped {
		return nil
	}
	t := s.trailer
	ids := s.sections[sectionIDs]
	t.stripped, t.events, t.bodies, t.stored, t.attemptsLow, t.attemptsHigh = true, 0, 0, 0, ^uint64(0), 0
	t.sections, t.values = [4]section{}, 0
	t.sections[sectionTable] = section{offset: headerSize}
	t.sections[sectionIDs] = section{offset: headerSize, length: ids.length, sum: ids.sum}
	end := headerSize + ids.length
	t.sections[sectionPostings], t.sections[sectionAttempts] = section{offset: end}, section{offset: end}
	fresh := &segment{number: s.number, path: s.path, key: s.key, fault: s.fault, made: s.made, trailer: t, sealed: true}
	path := l.path(s.number, suffixNew)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write segment %d anew: %w", number, err)
	}
	fresh.file = f
	if err = l.opts.Fault.Before(PlaceRewrite); err == nil {
		_, err = f.Write(fresh.appendHeader(nil))
		if err == nil {
			_, err = io.Copy(f, io.NewSectionReader(s.file, ids.offset, ids.length))
		}
		if err == nil {
			_, err = f.Write(t.append(nil))
		}
		err = l.opts.Fault.After(PlaceRewrite, errors.Join(err, f.Sync()))
	}
	if err == nil {
		if err = l.opts.Fault.Before(PlaceRename); err == nil {
			err = l.opts.Fault.After(PlaceRename, errors.Join(os.Rename(path, s.path), syncDir(l.opts.Dir)))
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write segment %d anew: %w", number, err), f.Close())
	}
	l.mu.Lock()
	l.segments = slices.Clone(l.segments)
	l.segments[slices.Index(l.segments, s)] = fresh
	fresh.filter.Store(s.filter.Load())
	fresh.rebuiltIDs.Store(s.rebuiltIDs.Load())
	l.mu.Unlock()
	l.usage.remove(s.usage)
	return l.closeUnlessPinned(s.file, s.fileEnd())
}
