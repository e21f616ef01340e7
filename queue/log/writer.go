package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/fault"
)

// writer gathers entries until they are saved. One goroutine uses it.
type writer struct {
	raw   []byte // entries of the block at hand
	info  Info
	block []*entry.Frame // of it
	told  []uint64       // events of whose attempts it tells

	buf     []byte // blocks that are not written
	blocks  []Info // of buf
	ids     []placedID
	words   []posted
	spoken  []spoken
	index   indexer
	shares  shares // of the frames in blocks
	nextSeq uint64
	next    uint64 // the number behind the last entry that was added
}

type posted struct {
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
	w := &l.w
	if len(w.raw) > 0 && len(w.raw)+len(raw) > l.opts.BlockSize {
		l.cutBlock()
	}
	if len(w.raw) == 0 {
		w.info = Info{Kind: Entries, FirstEntry: h.Number, FirstEvent: w.nextSeq, FirstAt: h.At}
	}
	w.raw = append(w.raw, raw...)
	w.info.Entries++
	w.info.LastAt = h.At
	w.next = h.Number + 1
	if f != nil {
		if w.info.Events == 0 {
			w.info.FirstEvent = f.First
		}
		w.info.Events = uint32(f.End() - w.info.FirstEvent)
		w.nextSeq = f.End()
		w.block = append(w.block, f)
	}
	if p != nil {
		for i := range p.Attempts {
			w.told = append(w.told, p.Attempts[i].Seq)
		}
	}
	if len(w.raw) >= l.opts.BlockSize {
		l.cutBlock()
	}
}

// cutBlock ends the block at hand.
func (l *Log) cutBlock() {
	w := &l.w
	if len(w.raw) == 0 {
		return
	}
	s := l.open()
	at := uint32(len(s.blocks) + len(w.blocks))
	for _, f := range w.block {
		w.info.Bodies += l.absorb(s, f, at)
	}
	if len(w.told) > 0 {
		w.spoken = append(w.spoken, spoken{at, rangesOf(w.told)})
	}
	l.putBlock(w.info, w.raw)
	clear(w.block)
	w.raw, w.block, w.told = w.raw[:0], w.block[:0], w.told[:0]
}

// absorb gathers what the footer will say of a frame and returns how many bytes its bodies have.
func (l *Log) absorb(s *segment, f *entry.Frame, block uint32) (bodies uint32) {
	w := &l.w
	f.Kept(w.shares.add)
	for _, src := range f.Sources {
		w.words = append(w.words, posted{SourceWord(&l.key, src), block})
	}
	x := &w.index
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
		id := placedID{place: uint32(ev.Seq - s.firstEvent)}
		if f.IDs != nil {
			id.hash = f.IDs[n]
		} else {
			id.hash = l.key.EventHash(ev.ID, ev.Letter)
		}
		w.ids = append(w.ids, id)
		if x.name != string(ev.Type) {
			x.name = string(ev.Type)
			typeWords(&l.key, x.name, func(word uint64) { w.words = append(w.words, posted{word, block}) })
		}
		if x.set != ev.Lanes {
			x.set = ev.Lanes
			ev.Lanes.Each(func(id entry.LaneID) { w.words = append(w.words, posted{LaneWord(&l.key, id), block}) })
		}
	}
}

func (l *Log) putBlock(info Info, raw []byte) {
	w := &l.w
	info.Offset = l.open().size + int64(len(w.buf))
	w.buf = info.seal(w.buf, raw)
	w.blocks = append(w.blocks, info)
}

// Carry takes in a block of frames of one event each, of segments that are to go. It follows the last entry that was added.
func (l *Log) Carry(raw []byte, frames []*entry.Frame, bodies int) {
	l.cutBlock()
	l.acceptCarried(l.open(), frames)
	l.moves.Add(1)
	l.putBlock(Info{Kind: Carried, FirstEntry: l.w.next, FirstEvent: l.w.nextSeq, Events: uint32(len(frames)), Bodies: uint32(bodies), FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// acceptCarried makes the ids of carried events known to who looks them up.
func (l *Log) acceptCarried(s *segment, frames []*entry.Frame) {
	l.young.Lock()
	defer l.young.Unlock()
	for _, f := range frames {
		f.Kept(l.w.shares.add)
		f.Kept(l.kept.add)
		for n, h := range l.hashes(f) {
			seq := f.First + uint64(n)
			l.carried[h] = append(l.carried[h], seq)
			l.w.ids = append(l.w.ids, placedID{h, uint32(seq - s.firstEvent)})
		}
	}
}

// Local takes in a block of other local records. It follows the last entry that was added. told are the events of whose
// attempts a Told block tells.
func (l *Log) Local(kind Kind, raw []byte, told []uint64) {
	l.cutBlock()
	w := &l.w
	if len(told) > 0 {
		w.spoken = append(w.spoken, spoken{uint32(len(l.open().blocks) + len(w.blocks)), rangesOf(slices.Clone(told))})
	}
	l.putBlock(Info{Kind: kind, FirstEntry: w.next, FirstEvent: w.nextSeq, FirstAt: l.opts.Now(), LastAt: l.opts.Now()}, raw)
}

// Save writes and syncs what was added, and returns its blocks. When the disk is full the next save does it again. After any
// other error nobody knows what the disk has, and all later saves fail too.
func (l *Log) Save() (saved []Saved, err error) {
	if l.broken != nil {
		return nil, l.broken
	}
	l.cutBlock()
	w := &l.w
	if len(w.buf) == 0 {
		return nil, nil
	}
	s := l.open()
	if err = l.opts.Fault.Before(PlaceBlocks); err == nil {
		_, err = s.file.WriteAt(w.buf, s.size)
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
	l.written.Add(int64(len(w.buf)))
	l.publish(s)
	return saved, nil
}

// publish shows what was saved to the readers.
func (l *Log) publish(s *segment) {
	w := &l.w
	l.mu.Lock()
	s.size += int64(len(w.buf))
	for i := range w.blocks {
		s.take(&w.blocks[i])
	}
	s.blocks = append(s.blocks, w.blocks...)
	if s.postings == nil {
		s.postings = postings{}
	}
	for _, p := range w.words {
		s.postings.add(p.word, p.block)
	}
	s.spoken = append(s.spoken, w.spoken...)
	l.mu.Unlock()
	for source, k := range w.shares {
		s.shares.add(source, k)
	}
	clear(w.shares)
	s.sealing = append(s.sealing, w.ids...)
	w.buf, w.blocks, w.words, w.spoken, w.ids = w.buf[:0], w.blocks[:0], w.words[:0], nil, w.ids[:0]
	if cap(w.buf) > 4<<20 {
		w.buf = nil
	}
	l.entries.Store(w.next)
	l.events.Store(w.nextSeq)
}

// maxIDs is how many ids a segment gets, about. Those of the open one are in memory, some 90 bytes each until it is sealed,
// and a start reads all of it: small events that pack well would fill 64 MiB with a million of them.
const maxIDs = 256 << 10

// Full reports whether the open segment is to be sealed: it is as large as one is to be, has as many ids or, when it has
// events, was begun before oldest, a queue time.
func (l *Log) Full(oldest int64) bool {
	s := l.open()
	return s.size >= l.opts.SegmentSize || len(s.sealing) >= maxIDs || s.made < oldest && len(s.blocks) > 0
}

// Seal writes the footer of the open segment and begins the next one. All that was added must be saved. When the disk is
// full the segment stays open and goes on: the error is told, and it can be tried again.
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
		// What is left of it is cut off: a later trailer must stand at the end.
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
	next, err := l.begin(s.number+1, l.w.next, l.w.nextSeq)
	if err != nil {
		return errors.Join(fmt.Errorf("begin a segment: %w", err), s.file.Truncate(s.size))
	}
	words := newFilterWords(int64(len(s.sealing)))
	for i := range s.sealing {
		filterAdd(words, &s.sealing[i].hash)
	}
	s.filter.words.Store(&words)
	l.mu.Lock()
	s.trailer, s.sealed = t, true
	ids := s.sealing
	s.blocks, s.postings, s.spoken, s.sealing = nil, nil, nil, nil
	l.segments = append(slices.Clone(l.segments), next)
	l.mu.Unlock()
	l.seals.Add(1)
	l.moves.Add(1)
	l.thin()
	l.forget(s, ids)
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
	put(sectionIDs, appendIDs(nil, s.sealing))
	put(sectionPostings, s.postings.append(nil))
	put(sectionSpoken, appendSpoken(nil, s.spoken))
	t.spokenLow, t.spokenHigh = ^uint64(0), 0
	for _, sp := range s.spoken {
		for _, r := range sp.ranges {
			t.spokenLow, t.spokenHigh = min(t.spokenLow, r.from), max(t.spokenHigh, r.to)
		}
	}
	from := len(raw)
	raw = appendValues(raw, s.shares)
	t.values = uint32(len(raw) - from)
	return t.append(raw), t
}

// begin makes the file of a new segment.
func (l *Log) begin(number, firstEntry, firstEvent uint64) (*segment, error) {
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

// Unpack calls fn with each entry of a block of Entries or Told, in order, until it returns an error.
func (b *Block) Unpack(fn func(h entry.Header, raw []byte) error) error {
	for rest := b.Raw; len(rest) > 0; {
		h, raw, more, err := entry.Next(rest)
		if err != nil {
			return err
		}
		if err := fn(h, raw); err != nil {
			return err
		}
		rest = more
	}
	return nil
}

// Frames returns the frames of a block.
func (b *Block) Frames() (frames []*entry.Frame, err error) {
	err = b.Unpack(func(h entry.Header, raw []byte) error {
		if h.Kind != entry.KindFrame {
			return nil
		}
		f, err := entry.ParseFrame(h, raw)
		if err == nil {
			frames = append(frames, f)
		}
		return err
	})
	return frames, err
}

// le is how all numbers are written.
var le = binary.LittleEndian
