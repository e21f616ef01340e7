package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// A frame is what one commit stored: events with consecutive sequence numbers, accepted at one moment. Its bytes are
// made once and are the same in the journal, in memory and, gathered into blocks, in the store; their checksum is
// verified whenever they are read back. Integers are little-endian, strings carry their length as a uvarint.
//
//	0   magic, 4 bytes            12  sequence number of the first event, 8 bytes
//	4   length of the frame, 4    20  when it was accepted, Unix milliseconds, 8
//	8   CRC-32C of all behind, 4  28  number of events, 4
//	32  number of sources, sources; number of lane sets, lane sets;
//	    events: source index, lane set index, id, type, body
type frame struct {
	first   uint64
	count   int
	at      int64 // Unix milliseconds
	raw     []byte
	sources []string
	sets    []LaneSet
	events  int // where in raw the first event begins
}

const (
	frameHeader = 32
	frameMagic  = 0x31464252 // "RBF1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged marks bytes that are not what was written.
var errDamaged = errors.New("damaged")

// end is the sequence number behind the frame's last event.
func (f *frame) end() uint64 { return f.first + uint64(f.count) }

// LaneID numbers a lane for good: it is never given to another.
type LaneID uint32

// LaneSet is an immutable set of lanes: the endpoints that one event goes to.
type LaneSet string

// NewLaneSet makes the set of the given lanes.
func NewLaneSet(ids ...LaneID) LaneSet {
	var set []byte
	for _, id := range ids {
		for int(id/8) >= len(set) {
			set = append(set, 0)
		}
		set[id/8] |= 1 << (id % 8)
	}
	return LaneSet(set)
}

// Has reports whether the lane is in the set.
func (s LaneSet) Has(id LaneID) bool {
	return int(id/8) < len(s) && s[id/8]&(1<<(id%8)) != 0
}

// Len is the number of lanes in the set.
func (s LaneSet) Len() int {
	n := 0
	for i := 0; i < len(s); i++ {
		n += bits.OnesCount8(s[i])
	}
	return n
}

// each calls fn with every lane of the set, in order.
func (s LaneSet) each(fn func(LaneID)) {
	for i := 0; i < len(s); i++ {
		for b := s[i]; b != 0; b &= b - 1 {
			fn(LaneID(i*8 + bits.TrailingZeros8(b)))
		}
	}
}

// draft gathers the events of the frame that is being made. It is reused; seal returns fresh bytes.
type draft struct {
	sources []string
	sets    []LaneSet
	events  []draftEvent
	bytes   int
}

type draftEvent struct {
	source, set int
	ev          *Event
	id          string // the event's, as a string of its own
}

func (d *draft) reset() {
	d.sources, d.sets = d.sources[:0], d.sets[:0]
	clear(d.events)
	d.events, d.bytes = d.events[:0], 0
}

func (d *draft) add(source string, ev *Event, id string) {
	d.events = append(d.events, draftEvent{index(&d.sources, source), index(&d.sets, ev.Lanes), ev, id})
	d.bytes += len(ev.ID) + len(ev.Type) + len(ev.Body)
}

// index finds v in a short list, adding it when it is new. A frame sees few sources and few different lane sets.
func index[T comparable](list *[]T, v T) int {
	for i := len(*list) - 1; i >= 0; i-- {
		if (*list)[i] == v {
			return i
		}
	}
	*list = append(*list, v)
	return len(*list) - 1
}

// seal encodes the draft as a frame behind room reserved bytes, in one buffer of its own.
func (d *draft) seal(first uint64, at int64, room int) (buf []byte, f *frame) {
	size := room + frameHeader + d.bytes + len(d.events)*5*binary.MaxVarintLen32 + 2*binary.MaxVarintLen32
	for _, s := range d.sources {
		size += len(s) + binary.MaxVarintLen32
	}
	for _, s := range d.sets {
		size += len(s) + binary.MaxVarintLen32
	}
	buf = make([]byte, room+frameHeader, size)
	f = &frame{first: first, count: len(d.events), at: at}
	buf = binary.AppendUvarint(buf, uint64(len(d.sources)))
	for _, s := range d.sources {
		buf = appendText(buf, s)
		f.sources = append(f.sources, s)
	}
	buf = binary.AppendUvarint(buf, uint64(len(d.sets)))
	for _, s := range d.sets {
		buf = appendText(buf, string(s))
		f.sets = append(f.sets, s)
	}
	f.events = len(buf) - room
	for i := range d.events {
		e := &d.events[i]
		buf = binary.AppendUvarint(buf, uint64(e.source))
		buf = binary.AppendUvarint(buf, uint64(e.set))
		buf = appendText(buf, e.ev.ID)
		buf = appendText(buf, e.ev.Type)
		buf = appendText(buf, e.ev.Body)
	}
	f.raw = buf[room:]
	binary.LittleEndian.PutUint32(f.raw, frameMagic)
	binary.LittleEndian.PutUint32(f.raw[4:], uint32(len(f.raw)))
	binary.LittleEndian.PutUint64(f.raw[12:], first)
	binary.LittleEndian.PutUint64(f.raw[20:], uint64(at))
	binary.LittleEndian.PutUint32(f.raw[28:], uint32(len(d.events)))
	binary.LittleEndian.PutUint32(f.raw[8:], crc32.Checksum(f.raw[12:], castagnoli))
	return buf, f
}

// parseFrame reads the frame at the start of raw, checks its sum and its inner lengths, and returns what lies behind it.
// The frame keeps the bytes.
func parseFrame(raw []byte) (*frame, []byte, error) {
	if len(raw) < frameHeader || binary.LittleEndian.Uint32(raw) != frameMagic {
		return nil, nil, fmt.Errorf("read frame: no frame begins here: %w", errDamaged)
	}
	size := binary.LittleEndian.Uint32(raw[4:])
	if size < frameHeader || uint64(size) > uint64(len(raw)) {
		return nil, nil, fmt.Errorf("read frame: length %d of %d bytes: %w", size, len(raw), errDamaged)
	}
	f := &frame{raw: raw[:size:size]}
	if crc32.Checksum(f.raw[12:], castagnoli) != binary.LittleEndian.Uint32(raw[8:]) {
		return nil, nil, fmt.Errorf("read frame: checksum: %w", errDamaged)
	}
	f.first = binary.LittleEndian.Uint64(raw[12:])
	f.at = int64(binary.LittleEndian.Uint64(raw[20:]))
	f.count = int(binary.LittleEndian.Uint32(raw[28:]))
	d := decoder{buf: f.raw[frameHeader:]}
	for n := d.count(); n > 0 && d.ok(); n-- {
		f.sources = append(f.sources, string(d.text()))
	}
	for n := d.count(); n > 0 && d.ok(); n-- {
		f.sets = append(f.sets, LaneSet(d.text()))
	}
	f.events = len(f.raw) - len(d.buf)
	if !d.ok() || f.count < 1 || f.count > len(d.buf) {
		return nil, nil, fmt.Errorf("read frame: tables: %w", errDamaged)
	}
	return f, raw[size:], nil
}

// Stored is one event of the log. Its byte slices are shared and must not be written to.
type Stored struct {
	Seq    uint64
	At     int64 // when it was accepted, Unix milliseconds
	Source string
	Lanes  LaneSet
	ID     []byte
	Type   []byte
	Body   []byte
}

// frameReader walks the events of a frame.
type frameReader struct {
	f    *frame
	rest []byte
	seq  uint64
}

func (f *frame) reader() frameReader {
	return frameReader{f: f, rest: f.raw[f.events:], seq: f.first}
}

// next returns the event at hand and steps behind it. A frame whose checksum holds but whose inside does not parse was
// written wrong: it ends there with an error.
func (r *frameReader) next() (Stored, bool, error) {
	if r.f == nil || r.seq == r.f.end() {
		return Stored{}, false, nil
	}
	d := decoder{buf: r.rest}
	source, set := d.uvarint(), d.uvarint()
	ev := Stored{Seq: r.seq, At: r.f.at, ID: d.text(), Type: d.text(), Body: d.text()}
	if !d.ok() || source >= uint64(len(r.f.sources)) || set >= uint64(len(r.f.sets)) {
		return Stored{}, false, fmt.Errorf("read event %d: %w", r.seq, errDamaged)
	}
	ev.Source, ev.Lanes = r.f.sources[source], r.f.sets[set]
	r.rest = d.buf
	r.seq++
	return ev, true, nil
}

// find returns the event with the given sequence number.
func (f *frame) find(seq uint64) (Stored, error) {
	for r := f.reader(); ; {
		ev, ok, err := r.next()
		if err != nil || !ok {
			return Stored{}, errors.Join(err, fmt.Errorf("find event %d in frame %d: %w", seq, f.first, errDamaged))
		}
		if ev.Seq == seq {
			return ev, nil
		}
	}
}
