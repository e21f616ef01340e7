package format1

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"realtorbot-relay/queue/codec"
)

// Frame is what one commit stored: events with consecutive numbers, accepted at one moment.
type Frame struct {
	First  uint64
	At     int64 // queue time, Unix milliseconds
	Events []Event
}

// End is the number behind the frame's last event.
func (f *Frame) End() uint64 { return f.First + uint64(len(f.Events)) }

// Event is one event of the log.
type Event struct {
	Seq    uint64
	At     int64 // queue time when it was accepted, Unix milliseconds
	Source string
	Lanes  []uint32 // that it is for, ascending; shared by the events of a frame
	ID     []byte
	Type   []byte
	Body   []byte
}

// A frame's bytes are little-endian, texts carry their length as a uvarint:
//
//	0   magic, 4 bytes            12  number of the first event, 8 bytes
//	4   length of the frame, 4    20  when it was accepted, Unix milliseconds, 8
//	8   CRC-32C of all behind, 4  28  number of events, 4
//	32  number of sources, sources; number of lane sets, lane sets;
//	    events: source index, lane set index, id, type, body
const (
	frameHeader = 32
	frameMagic  = 0x31464252 // "RBF1"
)

// frameParser parses frames into memory that it reuses. Texts are slices of what is parsed.
type frameParser struct {
	frame   Frame
	sources []string
	names   map[string]string // sources, each once
	sets    [][]uint32
	lanes   map[string][]uint32 // sets, each once
}

// parseHead checks the frame at the start of raw. It returns the frame's bytes, what lies behind, and which events it has.
func parseHead(raw []byte) (frame, rest []byte, first uint64, count int, err error) {
	if len(raw) < frameHeader || binary.LittleEndian.Uint32(raw) != frameMagic {
		return nil, nil, 0, 0, fmt.Errorf("no frame begins here: %w", codec.ErrDamaged)
	}
	size := binary.LittleEndian.Uint32(raw[4:])
	if size < frameHeader || uint64(size) > uint64(len(raw)) {
		return nil, nil, 0, 0, fmt.Errorf("a frame's length is %d of %d bytes: %w", size, len(raw), codec.ErrDamaged)
	}
	frame, rest = raw[:size:size], raw[size:]
	if codec.Sum(frame[12:]) != binary.LittleEndian.Uint32(frame[8:]) {
		return nil, nil, 0, 0, fmt.Errorf("a frame's checksum is wrong: %w", codec.ErrDamaged)
	}
	first, count = binary.LittleEndian.Uint64(frame[12:]), int(binary.LittleEndian.Uint32(frame[28:]))
	if count < 1 || count > len(frame) || first+uint64(count) < first {
		return nil, nil, 0, 0, fmt.Errorf("a frame of %d events: %w", count, codec.ErrDamaged)
	}
	return frame, rest, first, count, nil
}

// parse reads the frame at the start of raw, and returns it and what lies behind. The frame is valid until the next call.
func (p *frameParser) parse(raw []byte) (*Frame, []byte, error) {
	raw, rest, first, count, err := parseHead(raw)
	if err != nil {
		return nil, nil, err
	}
	if p.names == nil || len(p.names)+len(p.lanes) > 4096 { // clients may make them up
		p.names, p.lanes = map[string]string{}, map[string][]uint32{}
	}
	d := codec.Decoder{Buf: raw[frameHeader:]}
	p.sources, p.sets = p.sources[:0], p.sets[:0]
	for n := d.Count(); n > 0 && d.OK(); n-- {
		text := d.Text()
		name, is := p.names[string(text)]
		if !is {
			name = string(text)
			p.names[name] = name
		}
		p.sources = append(p.sources, name)
	}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		text := d.Text()
		lanes, is := p.lanes[string(text)]
		if !is {
			lanes = lanesOf(text)
			p.lanes[string(text)] = lanes
		}
		p.sets = append(p.sets, lanes)
	}
	p.frame = Frame{First: first, At: int64(binary.LittleEndian.Uint64(raw[20:])), Events: p.frame.Events[:0]}
	for n := range count {
		source, set := d.Uvarint(), d.Uvarint()
		ev := Event{Seq: first + uint64(n), At: p.frame.At, ID: d.Text(), Type: d.Text(), Body: d.Text()}
		if !d.OK() || source >= uint64(len(p.sources)) || set >= uint64(len(p.sets)) {
			return nil, nil, fmt.Errorf("event %d of a frame was written wrong: %w", ev.Seq, codec.ErrDamaged)
		}
		ev.Source, ev.Lanes = p.sources[source], p.sets[set]
		p.frame.Events = append(p.frame.Events, ev)
	}
	return &p.frame, rest, nil
}

// lanesOf lists the lanes of a set: a bit each, from a byte's lowest bit on.
func lanesOf(set []byte) (lanes []uint32) {
	for i, b := range set {
		for ; b != 0; b &= b - 1 {
			lanes = append(lanes, uint32(i*8+bits.TrailingZeros8(b)))
		}
	}
	return lanes
}
