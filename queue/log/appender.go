package log

import (
	"fmt"
	"slices"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
)

// appender gathers entries until they are saved. One goroutine uses it.
type appender struct {
	entries   []byte // entries of the block at hand
	blockInfo Info
	frames    []*entry.Frame // of it
	attempted []uint64       // events of whose attempts it tells

	unwritten []byte // blocks that are not written
	blocks    []Info // of buf
	ids       []idPlace
	words     []posting
	attempts  []attemptedEvents
	lastWords lastWords
	usage     usage // of the frames in blocks
	nextEvent uint64
	nextEntry uint64 // the number behind the last entry that was added
}

type posting struct {
	word  uint64
	block uint32
}

// Saved is a block that came to disk.
type Saved struct {
	Place
	Info
}

func (l *Log) open() *segment { return l.segments[len(l.segments)-1] }

// Add takes in the next entry: raw is all of it, with f or p, what it holds. Nothing is copied but raw. It is on disk when
// Save returns.
func (l *Log) Add(h entry.Header, raw []byte, f *entry.Frame, p *entry.Progress) {
	w := &l.appender
	if len(w.entries) > 0 && len(w.entries)+len(raw) > l.opts.BlockSize {
		l.endBlock()
	}
	if len(w.entries) == 0 {
		w.blockInfo = Info{Kind: Entries, FirstEntry: h.Number, FirstEvent: w.nextEvent, FirstAt: h.At}
	}
	w.entries = append(w.entries, raw...)
	w.blockInfo.Entries++
	w.blockInfo.LastAt = h.At
	w.nextEntry = h.Number + 1
	if f != nil {
		if w.blockInfo.Events == 0 {
			w.blockInfo.FirstEvent = f.First
		}
		w.blockInfo.Events = uint32(f.End() - w.blockInfo.FirstEvent)
		w.nextEvent = f.End()
		w.frames = append(w.frames, f)
	}
	if p != nil {
		for i := range p.Attempts {
			w.attempted = append(w.attempted, p.Attempts[i].Seq)
		}
	}
	if len(w.entries) >= l.opts.BlockSize {
		l.endBlock()
	}
}

// endBlock ends the block at hand.
func (l *Log) endBlock() {
	w := &l.appender
	if len(w.entries) == 0 {
		return
	}
	s := l.open()
	at := uint32(len(s.blocks) + len(w.blocks))
	for _, f := range w.frames {
		w.blockInfo.Bodies += l.indexFrame(s, f, at)
	}
	if len(w.attempted) > 0 {
		w.attempts = append(w.attempts, attemptedEvents{at, rangesOf(w.attempted)})
	}
	l.appendBlock(w.blockInfo, w.entries)
	clear(w.frames)
	w.entries, w.frames, w.attempted = w.entries[:0], w.frames[:0], w.attempted[:0]
}

// indexFrame gathers what the footer will say of a frame and returns how many bytes its bodies have.
func (l *Log) indexFrame(s *segment, f *entry.Frame, block uint32) (bodies uint32) {
	w := &l.appender
	f.EachUsage(w.usage.add)
	for _, src := range f.Sources {
		w.words = append(w.words, posting{SourceWord(&l.key, src), block})
	}
	x := &w.lastWords
	if !x.fresh || x.at != block {
		x.fresh, x.at, x.name, x.set = true, block, "", ""
	}
	n := 0
	for r := f.Reader(); ; n++ {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			return bodies // made by Seal, or verified by who read it
		}
		bodies += uint32(len(ev.Body))
		id := idPlace{place: uint32(ev.Seq - s.firstEvent)}
		if f.IDs != nil {
			id.hash = f.IDs[n]
		} else {
			id.hash = l.key.EventHash(ev.ID, ev.Letter)
		}
		w.ids = append(w.ids, id)
		if x.name != string(ev.Type) {
			x.name = string(ev.Type)
			typeWords(&l.key, x.name, func(word uint64) { w.words = append(w.words, posting{word, block}) })
		}
		if x.set != ev.Lanes {
			x.set = ev.Lanes
			ev.Lanes.Each(func(id entry.LaneID) { w.words = append(w.words, posting{LaneWord(&l.key, id), block}) })
		}
	}
}

func (l *Log) appendBlock(info Info, raw []byte) {
	w := &l.appender
	info.Offset = l.open().size + int64(len(w.unwritten))
	w.unwritten = info.seal(w.unwritten, raw)
	w.blocks = append(w.blocks, info)
}

// Carry takes in a block of frames of one event each, of segments that are to go. It follows the last entry that was added.
func (l *Log) Carry(raw []byte, frames []*entry.Frame, bodies int) {
	l.endBlock()
	l.acceptCarried(l.open(), frames)
	l.moves.Add(1)
	l.appendBlock(Info{Kind: Carried, FirstEntry: l.appender.nextEntry, FirstEvent: l.appender.nextEvent, Events: uint32(len(frames)), Bodies: uint32(bodies), FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// acceptCarried makes the ids of carried events known to who looks them up.
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

// Local takes in a block of other local records. It follows the last entry that was added. told are the events of whose
// attempts a Told block tells.
func (l *Log) Local(kind Kind, raw []byte, told []uint64) {
	l.endBlock()
	w := &l.appender
	if len(told) > 0 {
		w.attempts = append(w.attempts, attemptedEvents{uint32(len(l.open().blocks) + len(w.blocks)), rangesOf(slices.Clone(told))})
	}
	l.appendBlock(Info{Kind: kind, FirstEntry: w.nextEntry, FirstEvent: w.nextEvent, FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// Save writes and syncs what was added, and returns its blocks. When the disk is full the next save does it again. After any
// other error nobody knows what the disk has, and all later saves fail too.
func (l *Log) Save() (saved []Saved, err error) {
	if l.broken != nil {
		return nil, l.broken
	}
	l.endBlock()
	w := &l.appender
	if len(w.unwritten) == 0 {
		return nil, nil
	}
	s := l.open()
	if err = l.opts.Fault.Before(PlaceBlocks); err == nil {
		_, err = s.file.WriteAt(w.unwritten, s.size)
		err = l.opts.Fault.After(PlaceBlocks, err)
	}
	if err == nil {
		if err = l.opts.Fault.Before(PlaceSync); err == nil {
			err = l.opts.Fault.After(PlaceSync, fdatasync(s.file))
		}
	}
	if err != nil {
		err = fmt.Errorf("write segment %d: %w", s.number, err)
		if !fault.UsedUp(err) { // else it is written anew by the next save
			l.broken = err
		}
		return nil, err
	}
	for i := range w.blocks {
		saved = append(saved, Saved{Place{s.number, w.blocks[i].Offset, w.blocks[i].Sum}, w.blocks[i]})
	}
	l.written.Add(int64(len(w.unwritten)))
	l.publish(s)
	return saved, nil
}

// publish shows what was saved to the readers.
func (l *Log) publish(s *segment) {
	w := &l.appender
	l.mu.Lock()
	s.size += int64(len(w.unwritten))
	for i := range w.blocks {
		s.count(&w.blocks[i])
	}
	s.blocks = append(s.blocks, w.blocks...)
	if s.postings == nil {
		s.postings = postings{}
	}
	for _, p := range w.words {
		s.postings.add(p.word, p.block)
	}
	s.attempts = append(s.attempts, w.attempts...)
	l.mu.Unlock()
	for source, k := range w.usage {
		s.usage.add(source, k)
	}
	clear(w.usage)
	s.ids = append(s.ids, w.ids...)
	w.unwritten, w.blocks, w.words, w.attempts, w.ids = w.unwritten[:0], w.blocks[:0], w.words[:0], nil, w.ids[:0]
	if cap(w.unwritten) > 4<<20 {
		w.unwritten = nil
	}
	l.entries.Store(w.nextEntry)
	l.events.Store(w.nextEvent)
}
