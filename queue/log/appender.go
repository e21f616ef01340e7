package log

import (
	"bytes"
	"fmt"
	"slices"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
)

// appender gathers entries until they are saved. The writer uses it alone.
type appender struct {
	entries   []byte         // of the block that is being filled
	blockInfo Info           // of that block
	frames    []*entry.Frame // of that block
	attempted []uint64       // events of whose deliveries that block has attempts

	unwritten []byte // blocks that are not written
	blocks    []Info // in unwritten
	ids       []idPlace
	words     []posting
	attempts  []attemptedEvents
	lastWords lastWords
	asked     map[uint64]uint32 // how many events of the block that is indexed were asked for each member
	usage     usage             // of the frames in blocks
	nextEvent uint64
	nextEntry uint64 // the number behind the last entry that was added
}

type posting struct {
	word  uint64
	block uint32
}

// Saved is a block that was saved.
type Saved struct {
	Place
	Info
}

func (l *Log) open() *segment { return l.segments[len(l.segments)-1] }

// Add takes the next entry: raw is all of it, f or p what it holds. It copies raw and keeps f. It reads and writes memory;
// the entry is durable when Save returns nil.
func (l *Log) Add(h entry.Header, raw []byte, f *entry.Frame, p *entry.Progress) {
	a := &l.appender
	if len(a.entries) > 0 && len(a.entries)+len(raw) > l.opts.BlockSize {
		l.endBlock()
	}
	if len(a.entries) == 0 {
		a.blockInfo = Info{Kind: Entries, FirstEntry: h.Number, FirstEvent: a.nextEvent, FirstAt: h.At}
	}
	a.entries = append(a.entries, raw...)
	a.blockInfo.Entries++
	a.blockInfo.LastAt = h.At
	a.nextEntry = h.Number + 1
	if f != nil {
		if a.blockInfo.Events == 0 {
			a.blockInfo.FirstEvent = f.First
		}
		a.blockInfo.Events = uint32(f.End() - a.blockInfo.FirstEvent)
		a.nextEvent = f.End()
		a.frames = append(a.frames, f)
	}
	if p != nil {
		for i := range p.Attempts {
			a.attempted = append(a.attempted, p.Attempts[i].Seq)
		}
	}
	if len(a.entries) >= l.opts.BlockSize {
		l.endBlock()
	}
}

// endBlock ends the block that is being filled.
func (l *Log) endBlock() {
	a := &l.appender
	if len(a.entries) == 0 {
		return
	}
	s := l.open()
	at := uint32(len(s.blocks) + len(a.blocks))
	for _, f := range a.frames {
		a.blockInfo.Bodies += l.indexFrame(s, f, at)
	}
	a.indexAsked(at, a.blockInfo.Events)
	if len(a.attempted) > 0 {
		a.attempts = append(a.attempts, attemptedEvents{at, rangesOf(a.attempted)})
	}
	l.appendBlock(a.blockInfo, a.entries)
	clear(a.frames)
	a.entries, a.frames, a.attempted = a.entries[:0], a.frames[:0], a.attempted[:0]
}

// indexFrame gathers what the footer will say of a frame, and returns how many bytes its bodies have.
func (l *Log) indexFrame(s *segment, f *entry.Frame, block uint32) (bodies uint32) {
	a := &l.appender
	f.EachUsage(a.usage.add)
	for _, src := range f.Sources {
		a.words = append(a.words, posting{SourceWord(&l.key, src), block})
	}
	last := &a.lastWords
	if last.segment != s.number || last.at != block {
		*last = lastWords{segment: s.number, at: block, words: last.words[:0]}
		clear(a.asked)
	}
	n := 0
	for r := f.Reader(); ; n++ {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			return bodies // its bytes were made by Seal, or verified when they were read
		}
		bodies += uint32(len(ev.Body))
		id := idPlace{place: uint32(ev.Seq - s.firstEvent)}
		if f.IDs != nil {
			id.hash = f.IDs[n]
		} else {
			id.hash = l.key.EventHash(ev.ID, ev.Letter)
		}
		a.ids = append(a.ids, id)
		if last.name != string(ev.Type) {
			last.name = string(ev.Type)
			typeWords(&l.key, last.name, func(word uint64) { a.words = append(a.words, posting{word, block}) })
		}
		if last.set != ev.Lanes {
			last.set = ev.Lanes
			ev.Lanes.Each(func(id entry.LaneID) { a.words = append(a.words, posting{LaneWord(&l.key, id), block}) })
		}
		isNew := !bytes.Equal(last.words, ev.Words)
		ev.Words.Each(func(name, value uint64) {
			if a.asked == nil {
				a.asked = map[uint64]uint32{}
			}
			a.asked[name]++
			if isNew && value != 0 {
				a.words = append(a.words, posting{value, block})
			}
		})
		if isNew {
			last.words = append(last.words[:0], ev.Words...)
		}
	}
}

// indexAsked adds the members that all events of a block were asked for.
func (a *appender) indexAsked(block, events uint32) {
	for name, n := range a.asked {
		if n == events {
			a.words = append(a.words, posting{name, block})
		}
	}
}

func (l *Log) appendBlock(info Info, raw []byte) {
	a := &l.appender
	info.Offset = l.open().size + int64(len(a.unwritten))
	a.unwritten = info.seal(a.unwritten, raw)
	a.blocks = append(a.blocks, info)
}

// Carry takes a block of frames of one event each, from segments that will be deleted. It follows the last entry that was
// added, and is durable when Save returns nil.
func (l *Log) Carry(raw []byte, frames []*entry.Frame, bodies int) {
	l.endBlock()
	l.acceptCarried(l.open(), frames)
	l.idMoves.Add(1)
	l.appendBlock(Info{Kind: Carried, FirstEntry: l.appender.nextEntry, FirstEvent: l.appender.nextEvent, Events: uint32(len(frames)), Bodies: uint32(bodies), FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// acceptCarried makes the ids of carried events known.
func (l *Log) acceptCarried(s *segment, frames []*entry.Frame) {
	l.idsMu.Lock()
	defer l.idsMu.Unlock()
	for _, f := range frames {
		f.EachUsage(l.appender.usage.add)
		f.EachUsage(l.usage.add)
		for n, h := range l.hashes(f) {
			seq := f.First + uint64(n)
			l.carried[h] = append(l.carried[h], seq)
			l.appender.ids = append(l.appender.ids, idPlace{h, uint32(seq - s.firstEvent)})
		}
	}
}

// Local takes a block of other local records. It follows the last entry that was added, and is durable when Save returns
// nil. attempted are the events of whose deliveries a CarriedAttempts block has attempts.
func (l *Log) Local(kind Kind, raw []byte, attempted []uint64) {
	l.endBlock()
	a := &l.appender
	if len(attempted) > 0 {
		a.attempts = append(a.attempts, attemptedEvents{uint32(len(l.open().blocks) + len(a.blocks)), rangesOf(slices.Clone(attempted))})
	}
	l.appendBlock(Info{Kind: kind, FirstEntry: a.nextEntry, FirstEvent: a.nextEvent, FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// Save writes and syncs what was added, and returns its blocks. It holds no lock meanwhile. When the disk is full, the next
// Save does it again. After any other error nobody knows what the disk has, and every later Save fails.
func (l *Log) Save() (saved []Saved, err error) {
	if l.broken != nil {
		return nil, l.broken
	}
	l.endBlock()
	a := &l.appender
	if len(a.unwritten) == 0 {
		return nil, nil
	}
	s := l.open()
	if err = l.opts.Fault.Before(PlaceBlocks); err == nil {
		_, err = s.file.WriteAt(a.unwritten, s.size)
		err = l.opts.Fault.After(PlaceBlocks, err)
	}
	if err == nil {
		if err = l.opts.Fault.Before(PlaceSync); err == nil {
			err = l.opts.Fault.After(PlaceSync, fdatasync(s.file))
		}
	}
	if err != nil {
		err = fmt.Errorf("write segment %d: %w", s.number, err)
		if !fault.UsedUp(err) { // else the next save writes it again
			l.broken = err
		}
		return nil, err
	}
	for i := range a.blocks {
		saved = append(saved, Saved{Place{s.number, a.blocks[i].Offset, a.blocks[i].Sum}, a.blocks[i]})
	}
	l.written.Add(int64(len(a.unwritten)))
	l.publish(s)
	return saved, nil
}

// publish shows what was saved to readers.
func (l *Log) publish(s *segment) {
	a := &l.appender
	l.mu.Lock()
	s.size += int64(len(a.unwritten))
	for i := range a.blocks {
		s.count(&a.blocks[i])
	}
	s.blocks = append(s.blocks, a.blocks...)
	if s.postings == nil {
		s.postings = postings{}
	}
	for _, p := range a.words {
		s.postings.add(p.word, p.block)
	}
	s.attempts = append(s.attempts, a.attempts...)
	l.mu.Unlock()
	for source, k := range a.usage {
		s.usage.add(source, k)
	}
	clear(a.usage)
	s.ids = append(s.ids, a.ids...)
	a.unwritten, a.blocks, a.words, a.attempts, a.ids = a.unwritten[:0], a.blocks[:0], a.words[:0], nil, a.ids[:0]
	if cap(a.unwritten) > 4<<20 {
		a.unwritten = nil
	}
	l.entries.Store(a.nextEntry)
	l.events.Store(a.nextEvent)
}
