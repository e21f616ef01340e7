package log

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// Start is where the entries begin that somebody else has and that are to be added again: the journal's first. Blocks that
// begin at or behind it are cut off, since nobody knows whether they were synced.
type Start struct{ Entry, Event uint64 }

// NoStart: nobody has any entries.
var NoStart = Start{^uint64(0), ^uint64(0)}

// Open opens the log in o.Dir, making it when there is none. It reads the open segment and the trailers of all others. What
// can't be read is told in what it found, never deleted. Entries from start on are to be added again.
func Open(o Options, start Start) (l *Log, found Found, err error) {
	l = &Log{opts: o, ids: map[entry.Hash]uint64{}, former: map[entry.Hash][]uint64{}, carried: map[entry.Hash][]uint64{}}
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
		if err = l.cutAt(start.Entry, &found); err != nil {
			return l, found, err
		}
	}
	if err = l.begun(start); err != nil {
		return l, found, err
	}
	s := l.open()
	if err = l.load(s, &found); err != nil {
		return l, found, err
	}
	if err = l.openShares(); err != nil {
		return l, found, err
	}
	l.w.next, l.w.nextSeq = s.endEntry, s.endEvent
	l.entries.Store(s.endEntry)
	l.events.Store(s.endEvent)
	l.findGaps(&found)
	found.NextEntry, found.NextEvent = s.endEntry, s.endEvent
	return l, found, nil
}

// openSegments opens all files, makes footers again that are missing and removes what a crash left.
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
		if other, is := s.copyOf(); is {
			found.Damage = append(found.Damage, fmt.Sprintf("the file of segment %d is one of segment %d: it is left out, and named %s", number, other, name+suffixStrange))
			if err := errors.Join(f.Close(), os.Rename(s.path, s.path+suffixStrange)); err != nil {
				return err
			}
			continue
		}
		l.segments = append(l.segments, s)
	}
	wholes := make([]bool, len(l.segments))
	for i, s := range slices.Backward(l.segments) {
		if wholes[i], err = s.readEnds(); err != nil {
			return err
		}
		if wholes[i] {
			l.key = s.key // all have the same: with another one nothing is found by postings and ids
		}
	}
	for i := 0; i < len(l.segments); i++ {
		s, whole := l.segments[i], wholes[i]
		if err := l.straighten(s, found); err != nil {
			return err
		}
		if !whole && i == len(l.segments)-1 && s.size <= headerSize {
			// It was being begun: nothing was ever written to it.
			l.segments = l.segments[:i]
			if err := errors.Join(s.file.Close(), os.Remove(s.path)); err != nil {
				return err
			}
			continue
		}
		if !whole {
			found.Damage = append(found.Damage, fmt.Sprintf("the header of segment %d can't be read", s.number))
			l.guessHeader(s, i)
		}
	}
	for i, s := range l.segments {
		if s.sealed || i == len(l.segments)-1 {
			continue
		}
		found.Damage = append(found.Damage, fmt.Sprintf("segment %d has no footer that can be read: it is made again from its blocks", s.number))
		if err := l.sealAgain(s, found); err != nil {
			return err
		}
	}
	return nil
}

// readEnds reads header and trailer. whole is false when the header can't be read.
func (s *segment) readEnds() (whole bool, err error) {
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

// copyOf tells whose file it is when its header says that of another segment: whatever it holds belongs elsewhere, and taken
// for this one it would hide that this one is gone.
func (s *segment) copyOf() (number uint64, is bool) {
	head := make([]byte, headerSize)
	if _, err := s.file.ReadAt(head, 0); err != nil {
		return 0, false
	}
	var t segment
	is = t.parseHeader(head) && t.number != s.number
	return t.number, is
}

// straighten puts the blocks of a segment without a footer in the order of their entries when they lie in another one, or twice,
// since all is found by that order. The file as it was gets another name: what could not be read in it is there.
func (l *Log) straighten(s *segment, found *Found) error {
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
	aside := s.path + suffixStrange
	found.Damage = append(found.Damage, fmt.Sprintf("segment %d: its blocks do not lie in their order: they are put in order, and the file as it was is named %s", s.number, filepath.Base(aside)))
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

// guessHeader fills what a header would say from what is around it.
func (l *Log) guessHeader(s *segment, at int) {
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

// walk reads the headers of the blocks up to end. It goes on behind what it can't read, of which damaged is told, and
// returns where the last block ends.
func (s *segment) walk(end int64, damaged func(from, to int64)) (infos []Info, at int64, err error) {
	var head [blockHeader]byte
	for at = headerSize; at+blockHeader <= end; {
		err := s.readAt(head[:], at)
		if Gone(err) {
			return nil, 0, err
		}
		if b, ok := parseHeader(head[:], at); err == nil && ok && b.end() <= end {
			infos, at = append(infos, b), b.end()
			continue
		}
		next := s.nextBlock(at+1, end)
		if next < 0 {
			break
		}
		if damaged != nil {
			damaged(at, next)
		}
		at = next
	}
	return infos, at, nil
}

// nextBlock looks for a header from a place on, -1 when there is none.
func (s *segment) nextBlock(at, end int64) int64 {
	const window = 64 << 10
	magic := le.AppendUint32(nil, blockMagic)
	buf := make([]byte, window+blockHeader)
	for ; at+blockHeader <= end; at += window {
		n, err := s.file.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			continue // these pages can't be read
		}
		for from := 0; from < n; {
			i := bytes.Index(buf[from:n], magic)
			if i < 0 {
				break
			}
			from += i
			if b, ok := parseHeader(buf[from:n], at+int64(from)); ok && b.end() <= end {
				return at + int64(from)
			}
			from++
		}
	}
	return -1
}

// load reads the blocks of a segment that has no footer, so that it can go on, or be sealed. A block at its end that can't
// be read is what a crash left, and is cut off; one before it is damage.
func (l *Log) load(s *segment, found *Found) error {
	infos, end, err := s.walk(s.size, func(from, to int64) {
		found.Damage = append(found.Damage, fmt.Sprintf("segment %d: bytes %d to %d can't be read", s.number, from, to-1))
	})
	if err != nil {
		return err
	}
	l.w.next, l.w.nextSeq = s.firstEntry, s.firstEvent
	s.trailer = trailer{firstEntry: s.firstEntry, endEntry: s.firstEntry, firstEvent: s.firstEvent, endEvent: s.firstEvent}
	for i := range infos {
		b, err := s.block(infos[i].Offset, &infos[i].Sum)
		if err == nil {
			err = l.takeIn(s, b, uint32(len(s.blocks)+len(l.w.blocks)))
		}
		if errors.Is(err, codec.ErrDamaged) {
			if i < len(infos)-1 {
				found.Damage = append(found.Damage, fmt.Sprintf("segment %d: the block at byte %d can't be read: %v", s.number, infos[i].Offset, err))
			} else {
				end = infos[i].Offset
			}
			continue
		}
		if err != nil {
			return err
		}
	}
	l.w.buf = l.w.buf[:0]
	size := s.size
	s.size = end
	l.publish(s)
	if size > end {
		if err := l.opts.Fault.Before(PlaceCut); err != nil {
			return err
		}
		return l.opts.Fault.After(PlaceCut, s.file.Truncate(end))
	}
	return nil
}

// takeIn gathers what the footer will say of a block that was read.
func (l *Log) takeIn(s *segment, b *Block, at uint32) error {
	w := &l.w
	if b.Kind == Entries || b.Kind == Told {
		var frames []*entry.Frame
		var told []uint64
		err := b.Unpack(func(h entry.Header, raw []byte) error {
			switch h.Kind {
			case entry.KindFrame:
				f, err := entry.ParseFrame(h, raw)
				frames = append(frames, f)
				return err
			case entry.KindProgress:
				p, err := entry.ParseProgress(h, raw)
				if err == nil {
					for i := range p.Attempts {
						told = append(told, p.Attempts[i].Seq)
					}
				}
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, f := range frames {
			l.absorb(s, f, at)
			l.Accept(f)
		}
		if len(told) > 0 {
			w.spoken = append(w.spoken, spoken{at, rangesOf(told)})
		}
	}
	if b.Kind == Carried {
		frames, err := b.Frames()
		if err != nil {
			return err
		}
		l.acceptCarried(s, frames)
	}
	if b.Kind == Entries {
		w.next, w.nextSeq = b.EndEntry(), max(w.nextSeq, b.EndEvent())
	}
	w.blocks = append(w.blocks, b.Info)
	return nil
}

// sealAgain makes the footer of a segment again.
func (l *Log) sealAgain(s *segment, found *Found) error {
	s.endEntry, s.endEvent = s.firstEntry, s.firstEvent
	if err := l.load(s, found); err != nil {
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
	l.forget(s, s.sealing)
	s.blocks, s.postings, s.spoken, s.sealing = nil, nil, nil, nil
	return nil
}

// cutAt cuts off the blocks that begin at or behind an entry. Their local records are kept.
func (l *Log) cutAt(first uint64, found *Found) error {
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
	keep := len(infos)
	for keep > 0 && !(infos[keep-1].Kind == Entries && infos[keep-1].FirstEntry < first) {
		keep--
	}
	behind := slices.ContainsFunc(infos[keep:], func(b Info) bool { return b.Kind == Entries })
	for _, other := range later {
		behind = behind || other.size > headerSize
	}
	if !behind {
		return nil
	}
	var rescued [][]byte
	gather := func(s *segment, infos []Info) {
		for i := range infos {
			if infos[i].Kind != Entries {
				raw := make([]byte, infos[i].end()-infos[i].Offset)
				if err := s.readAt(raw, infos[i].Offset); err == nil {
					rescued = append(rescued, raw)
				}
			}
		}
	}
	gather(s, infos[keep:])
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
	if keep > 0 {
		cut = infos[keep-1].end()
	}
	if err := l.opts.Fault.Before(PlaceCut); err != nil {
		return err
	}
	if len(rescued) > 0 {
		found.Rescued = true
		if err := l.rewrite(s, func(f *os.File) error {
			if _, err := io.Copy(f, io.NewSectionReader(s.file, 0, cut)); err != nil {
				return err
			}
			for _, raw := range rescued {
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
	if len(rescued) == 0 {
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

// rewrite replaces the file of a segment by one that fill writes: synced, renamed, its name synced.
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

// begun makes sure that there is an open segment.
func (l *Log) begun(start Start) error {
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
	s, err := l.begin(number, firstEntry, firstEvent)
	if err != nil {
		return err
	}
	l.segments = append(l.segments, s)
	return nil
}

// findGaps tells what is missing between segments and between the blocks of the open one.
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

// Skip makes the next entry the one with the given number and the next event the one with the given sequence number: those
// between are lost.
func (l *Log) Skip(nextEntry, nextEvent uint64) {
	l.cutBlock()
	l.w.next, l.w.nextSeq = max(l.w.next, nextEntry), max(l.w.nextSeq, nextEvent)
	l.entries.Store(l.w.next)
	l.events.Store(l.w.nextSeq)
}
