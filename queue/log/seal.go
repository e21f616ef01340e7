package log

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/fault"
)

// maxIDs is about how many ids a segment gets. Those of the open one are in memory, some 90 bytes each until it is sealed,
// and a start reads all of it: small events that pack well would fill 64 MiB with a million of them.
const maxIDs = 256 << 10

// Full reports whether the open segment is to be sealed: it has its size, or its number of ids, or has blocks and was begun
// before oldest, a queue time.
func (l *Log) Full(oldest int64) bool {
	s := l.open()
	return s.size >= l.opts.SegmentSize || len(s.ids) >= maxIDs || s.made < oldest && len(s.blocks) > 0
}

// Seal writes and syncs the footer of the open segment, and begins the next one. Everything that was added must be saved.
// When the disk is full, the segment stays open and goes on: Seal returns the error and can be tried again.
func (l *Log) Seal() error {
	if l.broken != nil {
		return l.broken
	}
	s := l.open()
	footer, t := s.footer()
	err := l.opts.Fault.Before(PlaceFooter)
	if err == nil {
		_, err = s.file.WriteAt(footer, s.size)
		err = l.opts.Fault.After(PlaceFooter, err)
	}
	if err != nil {
		// What was written of it is cut off: a later trailer must stand at the end.
		return errors.Join(fmt.Errorf("seal segment %d: %w", s.number, err), s.file.Truncate(s.size))
	}
	if err = l.opts.Fault.Before(PlaceSeal); err == nil {
		err = l.opts.Fault.After(PlaceSeal, fdatasync(s.file))
	}
	if err != nil {
		err = fmt.Errorf("seal segment %d: %w", s.number, err)
		if fault.UsedUp(err) {
			return errors.Join(err, s.file.Truncate(s.size))
		}
		l.broken = err
		return err
	}
	next, err := l.createSegment(s.number+1, l.appender.nextEntry, l.appender.nextEvent)
	if err != nil {
		return errors.Join(fmt.Errorf("begin a segment: %w", err), s.file.Truncate(s.size))
	}
	words := newFilterWords(int64(len(s.ids)))
	for i := range s.ids {
		filterAdd(words, &s.ids[i].hash)
	}
	s.filter.Store(&filter{words})
	l.mu.Lock()
	s.trailer, s.sealed = t, true
	ids := s.ids
	s.blocks, s.postings, s.attempts, s.ids = nil, nil, nil, nil
	l.segments = append(slices.Clone(l.segments), next)
	l.mu.Unlock()
	l.sealCount.Add(1)
	l.idMoves.Add(1)
	l.evictFilters()
	if next.number%filterGroup == 0 {
		select {
		case l.groupSealed <- struct{}{}:
		default: // it was told and did not look yet
		}
	}
	l.forgetIDs(s, ids)
	return nil
}

// footer makes the sections and the trailer of a segment that is to be sealed.
func (s *segment) footer() ([]byte, trailer) {
	t := s.trailer
	var raw []byte
	put := func(which int, part []byte) {
		t.sections[which] = section{offset: s.size + int64(len(raw)), length: int64(len(part)), sum: codec.Sum(part)}
		raw = append(raw, part...)
	}
	put(sectionTable, appendTable(nil, s.blocks))
	put(sectionIDs, appendIDs(nil, s.ids))
	put(sectionPostings, s.postings.append(nil))
	put(sectionAttempts, appendAttempted(nil, s.attempts))
	t.attemptsLow, t.attemptsHigh = ^uint64(0), 0
	for _, sp := range s.attempts {
		for _, r := range sp.ranges {
			t.attemptsLow, t.attemptsHigh = min(t.attemptsLow, r.from), max(t.attemptsHigh, r.to)
		}
	}
	from := len(raw)
	raw = appendValues(raw, s.usage)
	t.values = uint32(len(raw) - from)
	return t.append(raw), t
}

// createSegment makes the file of a new segment, synced with its name.
func (l *Log) createSegment(number, firstEntry, firstEvent uint64) (*segment, error) {
	s := &segment{number: number, path: l.path(number, suffix), key: l.key, fault: l.opts.Fault, made: l.opts.Now(), size: headerSize}
	s.firstEntry, s.endEntry, s.firstEvent, s.endEvent = firstEntry, firstEntry, firstEvent, firstEvent
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s.file = f
	if err = l.opts.Fault.Before(PlaceHeader); err == nil {
		_, err = f.Write(s.appendHeader(nil))
		err = l.opts.Fault.After(PlaceHeader, errors.Join(err, f.Sync()))
	}
	if err == nil {
		if err = l.opts.Fault.Before(PlaceName); err == nil {
			err = l.opts.Fault.After(PlaceName, syncDir(l.opts.Dir))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(s.path))
	}
	return s, nil
}
