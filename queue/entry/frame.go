package entry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"realtorbot-relay/queue/codec"
)

// Frame is the events of one commit: consecutive sequence numbers, accepted at one moment. Its bytes are made once and are
// the same in journal, memory and segment. Behind the header of the entry:
//
//	sequence number of the first event, 8 bytes; number of events, 4
//	number of sources, sources; number of lane sets, lane sets
//	events: source index, lane set index, flags, id, type, body, of a letter who failed and why, number of keyed hashes, hashes (see Words)
//	named values
type Frame struct {
	Number   uint64 // of the entry
	First    uint64 // sequence number of the first event
	Count    int
	At       int64  // queue time, Unix milliseconds
	Raw      []byte // the whole entry; shared, never written to
	Sources  []string
	Sets     []LaneSet
	IDs      []Hash  // of the events, in order; nil in a frame that was read from disk
	usage    []Usage // of the sources, in order; nil in a frame that was read from disk
	eventsAt int     // where in Raw the first event begins
}

// Usage is how much the events of a source are. Letters do not count: the relay wrote them.
type Usage struct {
	Events int64
	Bytes  int64 // of their bodies
}

// Plus is the sum of both.
func (k Usage) Plus(other Usage) Usage { return Usage{k.Events + other.Events, k.Bytes + other.Bytes} }

// Minus is k without other.
func (k Usage) Minus(other Usage) Usage { return Usage{k.Events - other.Events, k.Bytes - other.Bytes} }

// usageOf is what one event counts for its source.
func usageOf(letter, body []byte) Usage {
	if letter != nil {
		return Usage{}
	}
	return Usage{1, int64(len(body))}
}

const frameHead = HeaderSize + 12

// End is the sequence number behind the frame's last event.
func (f *Frame) End() uint64 { return f.First + uint64(f.Count) }

// Event is what a draft takes. Its slices belong to the caller.
type Event struct {
	ID    []byte
	Type  []byte
	Body  []byte
	Lanes LaneSet // that it goes to
	// Letter says of which failed delivery the event is a copy, in the form of Letter.Append; nil: of none.
	Letter []byte
	// Words are by which of its members it is found.
	Words Words
}

// Draft gathers the events of the next frame. It is reused; the frame that Seal returns has bytes of its own. One goroutine
// uses it.
type Draft struct {
	sources []string
	usage   []Usage // of the sources
	sets    []LaneSet
	setAt   map[LaneSet]int // where in sets each is, once these are many
	events  []draftEvent
	bytes   int
}

// fewSets is up to how many lane sets are looked through. Of more, one is found by its hash.
const fewSets = 8

// maxSets is of how many lane sets the map is used again for the next frame.
const maxSets = 1024

type draftEvent struct {
	source, set int
	ev          *Event
	id          Hash
}

// Reset empties the draft.
func (d *Draft) Reset() {
	d.sources, d.sets, d.usage = d.sources[:0], d.sets[:0], d.usage[:0]
	clear(d.events)
	d.events, d.bytes = d.events[:0], 0
	if len(d.setAt) > maxSets {
		d.setAt = nil // clearing it takes as long as it is large
	}
	clear(d.setAt)
}

// Add takes an event, whose slices must not change until Seal.
func (d *Draft) Add(source string, ev *Event, id Hash) {
	at := index(&d.sources, source)
	if at == len(d.usage) {
		d.usage = append(d.usage, Usage{})
	}
	d.usage[at] = d.usage[at].Plus(usageOf(ev.Letter, ev.Body))
	d.events = append(d.events, draftEvent{at, d.setOf(ev.Lanes), ev, id})
	d.bytes += len(ev.ID) + len(ev.Type) + len(ev.Body) + len(ev.Letter) + len(ev.Words)
}

// setOf is where in sets a lane set is, which it adds when it is new. A frame of events that each are another account's has as many sets
// as events.
func (d *Draft) setOf(set LaneSet) int {
	if len(d.sets) < fewSets {
		return index(&d.sets, set)
	}
	if len(d.setAt) == 0 {
		if d.setAt == nil {
			d.setAt = map[LaneSet]int{}
		}
		for i, s := range d.sets {
			d.setAt[s] = i
		}
	}
	at, ok := d.setAt[set]
	if !ok {
		at = len(d.sets)
		d.setAt[set], d.sets = at, append(d.sets, set)
	}
	return at
}

// Len is the number of events in the draft.
func (d *Draft) Len() int { return len(d.events) }

// Bytes is the length of all ids, types, bodies, letters and words in the draft.
func (d *Draft) Bytes() int { return d.bytes }

// Accepted is the number of events in the draft without letters.
func (d *Draft) Accepted() (n int64) {
	for _, k := range d.usage {
		n += k.Events
	}
	return n
}

// Counts appends to dst how many events each lane set of the sealed frame has, in the order of Frame.Sets.
func (d *Draft) Counts(dst []int64) []int64 {
	from := len(dst)
	for range d.sets {
		dst = append(dst, 0)
	}
	for i := range d.events {
		dst[from+d.events[i].set]++
	}
	return dst
}

// index finds v in a short list, and adds it when it is new.
func index[T comparable](list *[]T, v T) int {
	for i := len(*list) - 1; i >= 0; i-- {
		if (*list)[i] == v {
			return i
		}
	}
	*list = append(*list, v)
	return len(*list) - 1
}

// Size is an upper bound of what Seal appends, in bytes.
func (d *Draft) Size() int {
	size := frameHead + d.bytes + len(d.events)*(7*binary.MaxVarintLen32+1) + 3*binary.MaxVarintLen32
	for _, s := range d.sources {
		size += len(s) + binary.MaxVarintLen32
	}
	for _, s := range d.sets {
		size += len(s) + binary.MaxVarintLen32
	}
	return size
}

// Seal appends the draft to dst as a frame. The returned frame shares no memory with dst.
func (d *Draft) Seal(dst []byte, number, first uint64, at int64) ([]byte, *Frame) {
	from := len(dst)
	f := &Frame{Number: number, First: first, Count: len(d.events), At: at, IDs: make([]Hash, len(d.events)), usage: slices.Clone(d.usage)}
	dst = Begin(dst)
	dst = binary.LittleEndian.AppendUint64(dst, first)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(d.events)))
	dst = binary.AppendUvarint(dst, uint64(len(d.sources)))
	for _, s := range d.sources {
		dst = codec.AppendText(dst, s)
		f.Sources = append(f.Sources, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.sets)))
	for _, s := range d.sets {
		dst = codec.AppendText(dst, string(s))
		f.Sets = append(f.Sets, s)
	}
	f.eventsAt = len(dst) - from
	letters := false
	for i := range d.events {
		e := &d.events[i]
		f.IDs[i] = e.id
		dst = binary.AppendUvarint(dst, uint64(e.source))
		dst = binary.AppendUvarint(dst, uint64(e.set))
		flags := byte(0)
		if e.ev.Letter != nil {
			flags, letters = flagLetter, true
		}
		dst = append(dst, flags)
		dst = codec.AppendText(dst, e.ev.ID)
		dst = codec.AppendText(dst, e.ev.Type)
		dst = codec.AppendText(dst, e.ev.Body)
		if e.ev.Letter != nil {
			dst = codec.AppendText(dst, e.ev.Letter)
		}
		dst = binary.AppendUvarint(dst, e.ev.Words.count())
		dst = append(dst, e.ev.Words...)
	}
	dst = append(dst, noValues)
	Finish(dst[from:], Header{KindFrame, number, at})
	if letters {
		dst[from+1] = versionLetters
	}
	f.Raw = slices.Clone(dst[from:])
	return dst, f
}

// ParseFrame takes apart an entry that Next returned. The frame keeps raw.
func ParseFrame(h Header, raw []byte) (*Frame, error) {
	if h.Kind != KindFrame || len(raw) < frameHead {
		return nil, fmt.Errorf("read frame: entry %d is none: %w", h.Number, codec.ErrDamaged)
	}
	f := &Frame{Number: h.Number, At: h.At, Raw: raw}
	f.First = binary.LittleEndian.Uint64(raw[HeaderSize:])
	f.Count = int(binary.LittleEndian.Uint32(raw[HeaderSize+8:]))
	d := codec.Decoder{Buf: raw[frameHead:]}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		f.Sources = append(f.Sources, string(d.Text()))
	}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		f.Sets = append(f.Sets, LaneSet(d.Text()))
	}
	f.eventsAt = len(raw) - len(d.Buf)
	if !d.OK() || f.Count < 1 || f.Count > len(d.Buf) {
		return nil, fmt.Errorf("read frame %d: tables: %w", f.First, codec.ErrDamaged)
	}
	return f, nil
}

// EachUsage calls fn with each source of the frame and how much its events are. For a frame that was read from disk it
// parses all events; what does not parse does not count.
func (f *Frame) EachUsage(fn func(source string, k Usage)) {
	usage := f.usage
	if usage == nil {
		usage = make([]Usage, len(f.Sources))
		for r := f.Reader(); ; {
			at, ev, ok, err := r.next()
			if err != nil || !ok {
				break
			}
			usage[at] = usage[at].Plus(usageOf(ev.Letter, ev.Body))
		}
	}
	for i, k := range usage {
		if k.Events > 0 {
			fn(f.Sources[i], k)
		}
	}
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
	Letter []byte // nil, or of which failed delivery the event is a copy: see Letter
	Words  Words
}

// Event is the event as a draft takes it.
func (s *Stored) Event() *Event {
	return &Event{ID: s.ID, Type: s.Type, Body: s.Body, Lanes: s.Lanes, Letter: s.Letter, Words: s.Words}
}

// Reader walks the events of a frame. The zero value has none.
type Reader struct {
	frame *Frame
	rest  []byte
	seq   uint64
}

// Reader returns a reader at the first event.
func (f *Frame) Reader() Reader { return Reader{frame: f, rest: f.Raw[f.eventsAt:], seq: f.First} }

// Frame is the frame that is walked, nil for none.
func (r *Reader) Frame() *Frame { return r.frame }

// Seq is the sequence number of the next event.
func (r *Reader) Seq() uint64 { return r.seq }

// Next returns the next event. A frame whose checksum holds and whose content does not parse was written wrong: it ends with
// an error.
func (r *Reader) Next() (Stored, bool, error) {
	_, ev, ok, err := r.next()
	return ev, ok, err
}

// next also returns the index of the event's source.
func (r *Reader) next() (at uint64, ev Stored, ok bool, err error) {
	if r.frame == nil || r.seq == r.frame.End() {
		return 0, Stored{}, false, nil
	}
	d := codec.Decoder{Buf: r.rest}
	source, set := d.Uvarint(), d.Uvarint()
	flags := d.Byte()
	ev = Stored{Seq: r.seq, At: r.frame.At, ID: d.Text(), Type: d.Text(), Body: d.Text()}
	if flags&flagLetter != 0 {
		ev.Letter = d.Text()
	}
	words := d.Buf
	for n := d.Count(); n > 0 && d.OK(); n-- {
		if ev.Words == nil {
			words = d.Buf
		}
		d.Uvarint()
		ev.Words = Words(words[:len(words)-len(d.Buf)])
	}
	if !d.OK() || source >= uint64(len(r.frame.Sources)) || set >= uint64(len(r.frame.Sets)) {
		return 0, Stored{}, false, fmt.Errorf("read event %d: %w", r.seq, codec.ErrDamaged)
	}
	ev.Source, ev.Lanes = r.frame.Sources[source], r.frame.Sets[set]
	r.rest = d.Buf
	r.seq++
	return source, ev, true, nil
}

// Find returns the event with the given sequence number.
func (f *Frame) Find(seq uint64) (Stored, error) {
	for r := f.Reader(); ; {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			return Stored{}, errors.Join(err, fmt.Errorf("find event %d in frame %d: %w", seq, f.First, codec.ErrDamaged))
		}
		if ev.Seq == seq {
			return ev, nil
		}
	}
}
