package log

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"realtorbot-relay/queue/codec"
)

// otherNumber returns the number in the file's header when that is another segment's: what the file has belongs elsewhere,
// and as this segment it would hide that this one is missing.
func (s *segment) otherNumber() (number uint64, is bool) {
	head := make([]byte, headerSize)
	if _, err := s.file.ReadAt(head, 0); err != nil {
		return 0, false
	}
	var t segment
	is = t.parseHeader(head) && t.number != s.number
	return t.number, is
}

// reorderBlocks puts the blocks of a segment without a footer in the order of their entries, when they lie in another order
// or twice: everything is found by that order. The file as it was gets another name, since it has what could not be read.
func (l *Log) reorderBlocks(s *segment, found *Found) error {
	if s.sealed {
		return nil
	}
	infos, _, err := s.walk(s.size, nil)
	if err != nil {
		return err
	}
	isStraight, first, end := true, uint64(0), uint64(0)
	for i := range infos {
		if b := &infos[i]; b.Kind == Entries {
			isStraight = isStraight && b.FirstEntry >= first && b.EndEntry() > end
			first, end = b.FirstEntry, max(end, b.EndEntry())
		}
	}
	if isStraight {
		return nil
	}
	aside := s.path + suffixAside
	found.Damage = append(found.Damage, fmt.Sprintf("segment %d: its blocks are not in order: they are put in order, and the file as it was is kept as %s", s.number, filepath.Base(aside)))
	if err := os.Link(s.path, aside); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	slices.SortStableFunc(infos, func(a, b Info) int { return cmp.Compare(a.FirstEntry, b.FirstEntry) })
	head := make([]byte, headerSize)
	if _, err := s.file.ReadAt(head, 0); err != nil || !new(segment).parseHeader(head) {
		clear(head)
	}
	s.size, end = headerSize, 0
	return l.rewrite(s, func(f *os.File) error {
		_, err := f.Write(head)
		for i := range infos {
			b := &infos[i]
			if b.Kind == Entries && b.EndEntry() <= end {
				continue // it is there already
			}
			raw := make([]byte, b.end()-b.Offset)
			if err != nil || s.readAt(raw, b.Offset) != nil || codec.Sum(raw[blockHeader:]) != b.Sum {
				continue
			}
			if b.Kind == Entries {
				end = b.EndEntry()
			}
			_, err = f.Write(raw)
			s.size += int64(len(raw))
		}
		return err
	})
}

// reconstructHeader fills what a header would say, from what is around it.
func (l *Log) reconstructHeader(s *segment, at int) {
	s.key = l.key
	if s.sealed {
		return
	}
	if infos, _, err := s.walk(s.size, nil); err == nil && len(infos) > 0 {
		s.firstEntry, s.firstEvent, s.made = infos[0].FirstEntry, infos[0].FirstEvent, infos[0].FirstAt
	} else if at > 0 {
		s.firstEntry, s.firstEvent = l.segments[at-1].endEntry, l.segments[at-1].endEvent
	}
	s.endEntry, s.endEvent = s.firstEntry, s.firstEvent
}

// rebuildFooter makes the footer of a segment again from its blocks.
func (l *Log) rebuildFooter(s *segment, found *Found) error {
	s.endEntry, s.endEvent = s.firstEntry, s.firstEvent
	if err := l.loadOpen(s, found); err != nil {
		return err
	}
	footer, t := s.footer()
	err := l.opts.Fault.Before(PlaceFooter)
	if err == nil {
		_, err = s.file.WriteAt(footer, s.size)
		err = l.opts.Fault.After(PlaceFooter, errors.Join(err, s.file.Sync()))
	}
	if err != nil {
		return fmt.Errorf("make the footer of segment %d again: %w", s.number, err)
	}
	s.trailer, s.sealed = t, true
	l.forgetIDs(s, s.ids)
	s.blocks, s.postings, s.attempts, s.ids = nil, nil, nil, nil
	return nil
}

// cutFrom cuts off the blocks that begin at or behind an entry. Local records among them are kept.
func (l *Log) cutFrom(first uint64, found *Found) error {
	at := -1
	for i, s := range l.segments {
		if at < 0 || s.firstEntry < first {
			at = i
		}
	}
	if at < 0 {
		return nil
	}
	s := l.segments[at]
	later := l.segments[at+1:]
	end := s.size
	if s.sealed {
		end = s.sections[sectionTable].offset
	}
	infos, _, err := s.walk(end, nil)
	if err != nil {
		return err
	}
	remaining := len(infos)
	for remaining > 0 && !(infos[remaining-1].Kind == Entries && infos[remaining-1].FirstEntry < first) {
		remaining--
	}
	behind := slices.ContainsFunc(infos[remaining:], func(b Info) bool { return b.Kind == Entries })
	for _, other := range later {
		behind = behind || other.size > headerSize
	}
	if !behind {
		return nil
	}
	var local [][]byte
	gather := func(s *segment, infos []Info) {
		for i := range infos {
			if infos[i].Kind != Entries {
				raw := make([]byte, infos[i].end()-infos[i].Offset)
				if err := s.readAt(raw, infos[i].Offset); err == nil {
					local = append(local, raw)
				}
			}
		}
	}
	gather(s, infos[remaining:])
	for _, other := range later {
		end := other.size
		if other.sealed {
			end = other.sections[sectionTable].offset
		}
		infos, _, err := other.walk(end, nil)
		if err != nil {
			return err
		}
		gather(other, infos)
	}
	cut := int64(headerSize)
	if remaining > 0 {
		cut = infos[remaining-1].end()
	}
	if err := l.opts.Fault.Before(PlaceCut); err != nil {
		return err
	}
	if len(local) > 0 {
		if err := l.rewrite(s, func(f *os.File) error {
			if _, err := io.Copy(f, io.NewSectionReader(s.file, 0, cut)); err != nil {
				return err
			}
			for _, raw := range local {
				if _, err := f.Write(raw); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for i := len(later) - 1; i >= 0; i-- {
		if err := errors.Join(later[i].file.Close(), os.Remove(later[i].path)); err != nil {
			return err
		}
	}
	l.segments = l.segments[:at+1]
	if len(local) == 0 {
		if err := s.file.Truncate(cut); err != nil {
			return err
		}
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	s.sealed, s.size = false, info.Size()
	s.endEntry, s.endEvent = s.firstEntry, s.firstEvent
	return l.opts.Fault.After(PlaceCut, nil)
}

// rewrite replaces the file of a segment by one that fill writes: written, synced, renamed, directory synced.
func (l *Log) rewrite(s *segment, fill func(*os.File) error) error {
	path := l.path(s.number, suffixNew)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = l.opts.Fault.Before(PlaceRewrite); err == nil {
		err = l.opts.Fault.After(PlaceRewrite, errors.Join(fill(f), f.Sync()))
	}
	if err == nil {
		if err = l.opts.Fault.Before(PlaceRename); err == nil {
			err = l.opts.Fault.After(PlaceRename, errors.Join(os.Rename(path, s.path), syncDir(l.opts.Dir)))
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write segment %d anew: %w", s.number, err), f.Close())
	}
	old := s.file
	l.mu.Lock()
	s.file = f
	l.mu.Unlock()
	return old.Close()
}
