package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// walk reads the headers of the blocks up to end, and returns where the last block ends. It goes on behind what it can't
// read, and calls damaged with that.
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

// nextBlock looks for the next header, from a place on; -1 when there is none.
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

// loadOpen reads the blocks of a segment without a footer, so that it can go on or be sealed. A block at the end that can't
// be read is left from a crash and is cut off; one before that is damage.
func (l *Log) loadOpen(s *segment, found *Found) error {
	infos, end, err := s.walk(s.size, func(from, to int64) {
		found.Damage = append(found.Damage, fmt.Sprintf("segment %d: bytes %d to %d can't be read", s.number, from, to-1))
	})
	if err != nil {
		return err
	}
	l.appender.nextEntry, l.appender.nextEvent = s.firstEntry, s.firstEvent
	s.trailer = trailer{firstEntry: s.firstEntry, endEntry: s.firstEntry, firstEvent: s.firstEvent, endEvent: s.firstEvent}
	for i := range infos {
		b, err := s.block(infos[i].Offset, &infos[i].Sum)
		if err == nil {
			err = l.indexBlock(s, b, uint32(len(s.blocks)+len(l.appender.blocks)))
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
	l.appender.unwritten = l.appender.unwritten[:0]
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

// indexBlock gathers what the footer will say of a block that was read.
func (l *Log) indexBlock(s *segment, b *Block, at uint32) error {
	a := &l.appender
	if b.Kind == Entries || b.Kind == CarriedAttempts {
		var frames []*entry.Frame
		var attempted []uint64
		err := b.Unpack(func(h entry.Header, raw []byte) error {
			if h.Kind == entry.KindFrame {
				f, err := entry.ParseFrame(h, raw)
				frames = append(frames, f)
				return err
			}
			return entry.EachAttempt(h, raw, func(_ entry.LaneID, m entry.EventAttempt) error {
				attempted = append(attempted, m.Seq)
				return nil
			})
		})
		if err != nil {
			return err
		}
		for _, f := range frames {
			l.indexFrame(s, f, at)
			l.Accept(f)
		}
		a.indexAsked(at, b.Events)
		if len(attempted) > 0 {
			a.attempts = append(a.attempts, attemptedEvents{at, rangesOf(attempted)})
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
		a.nextEntry, a.nextEvent = b.EndEntry(), max(a.nextEvent, b.EndEvent())
	}
	a.blocks = append(a.blocks, b.Info)
	return nil
}
