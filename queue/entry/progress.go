package entry

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
)

// RecordKind is the kind of record that a change is about. The numbers are on disk and never change.
type RecordKind byte

// Beside its own record a lane has records of three kinds.
const (
	Retry  RecordKind = 1 // of a delivery that is attempted again
	Failed RecordKind = 2 // of a failed delivery
	Replay RecordKind = 3 // of a replay, by its number
)

// Change sets or deletes one record of a lane.
type Change struct {
	Kind   RecordKind
	Seq    uint64 // the event's number, or the replay's
	Record []byte // nil: the record is deleted
}

// Attempt is the record of one POST of one delivery.
type Attempt struct {
	Number    int           // 1 for the first
	At        time.Time     // when it began, to the millisecond
	Took      time.Duration // to the microsecond, like the four below
	DNS       time.Duration
	Connect   time.Duration
	TLS       time.Duration
	FirstByte time.Duration
	Status    int    // 0 when there was no answer
	Class     string // of the failure, empty when the attempt went well
	Error     string
	Excerpt   []byte // of the answer
	Replay    uint64 // number of the replay that made it; 0 for none
}

// WentWell reports whether the endpoint accepted the event.
func (a *Attempt) WentWell() bool { return a.Class == "" }

// EventAttempt is an attempt and the event that it delivered.
type EventAttempt struct {
	Seq uint64
	Attempt
}

// Progress is what a lane did since its last progress. Behind the header of the entry:
//
//	lane; its record; number of changes, changes; number of attempts, attempts; named values
type Progress struct {
	Lane     LaneID
	Record   []byte // of the lane, as it is now; nil when there are attempts alone
	Changes  []Change
	Attempts []EventAttempt
}

// Append appends the progress as an entry.
func (p *Progress) Append(dst []byte, number uint64, at int64) []byte {
	from := len(dst)
	dst = Begin(dst)
	dst = binary.AppendUvarint(dst, uint64(p.Lane))
	dst = codec.AppendText(dst, p.Record)
	dst = binary.AppendUvarint(dst, uint64(len(p.Changes)))
	for i := range p.Changes {
		c := &p.Changes[i]
		deletes := byte(0)
		if c.Record == nil {
			deletes = 1
		}
		dst = append(dst, byte(c.Kind), deletes)
		dst = binary.AppendUvarint(dst, c.Seq)
		if deletes == 0 {
			dst = codec.AppendText(dst, c.Record)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Attempts)))
	last := uint64(0)
	for i := range p.Attempts {
		a := &p.Attempts[i]
		dst = binary.AppendVarint(dst, int64(a.Seq-last))
		last = a.Seq
		dst = appendAttempt(dst, &a.Attempt)
	}
	dst = append(dst, noValues)
	Finish(dst[from:], Header{KindProgress, number, at})
	return dst
}

// ParseProgress takes apart an entry that Next returned. Records and excerpts are slices of raw.
func ParseProgress(h Header, raw []byte) (*Progress, error) {
	d := codec.Decoder{Buf: raw[HeaderSize:]}
	p := progressHead(&d)
	n := d.Count()
	p.Attempts = slices.Grow(p.Attempts, min(n, len(d.Buf)/attemptSize))
	eachAttempt(&d, n, func(m EventAttempt) error {
		p.Attempts = append(p.Attempts, m)
		return nil
	})
	if h.Kind != KindProgress || !end(&d) {
		return nil, progressDamaged(h)
	}
	return p, nil
}

// EachAttempt calls fn with each attempt of an entry that Next returned, of whatever kind, and keeps none of them. An error
// of fn ends it. In a damaged entry fn gets those before the damage.
func EachAttempt(h Header, raw []byte, fn func(LaneID, EventAttempt) error) error {
	if h.Kind != KindProgress {
		return nil
	}
	d := codec.Decoder{Buf: raw[HeaderSize:]}
	lane := progressHead(&d).Lane
	err := eachAttempt(&d, d.Count(), func(m EventAttempt) error { return fn(lane, m) })
	if err == nil && !end(&d) {
		err = progressDamaged(h)
	}
	return err
}

func progressDamaged(h Header) error {
	return fmt.Errorf("read progress in entry %d: %w", h.Number, codec.ErrDamaged)
}

// progressHead reads all but the attempts.
func progressHead(d *codec.Decoder) *Progress {
	p := &Progress{Lane: LaneID(d.Uvarint())}
	if p.Record = d.Text(); len(p.Record) == 0 {
		p.Record = nil
	}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		c := Change{Kind: RecordKind(d.Byte())}
		deletes := d.Byte() == 1
		if c.Seq = d.Uvarint(); !deletes {
			c.Record = d.Text()
		}
		if c.Kind < Retry || c.Kind > Replay {
			d.Fail()
		}
		p.Changes = append(p.Changes, c)
	}
	return p
}

// eachAttempt reads n attempts.
func eachAttempt(d *codec.Decoder, n int, fn func(EventAttempt) error) error {
	for last := uint64(0); n > 0; n-- {
		last += uint64(d.Varint())
		m := EventAttempt{last, attempt(d)}
		if !d.OK() {
			return nil // the end says that it is damaged
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// attemptSize is what an attempt takes at least.
const attemptSize = 13

func appendDuration(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(max(d, 0)/time.Microsecond))
}

func appendAttempt(dst []byte, a *Attempt) []byte {
	dst = binary.AppendUvarint(dst, uint64(a.Number))
	dst = binary.AppendVarint(dst, a.At.UnixMilli())
	for _, t := range [...]time.Duration{a.Took, a.DNS, a.Connect, a.TLS, a.FirstByte} {
		dst = appendDuration(dst, t)
	}
	dst = binary.AppendUvarint(dst, uint64(a.Status))
	dst = codec.AppendText(dst, a.Class)
	dst = codec.AppendText(dst, a.Error)
	dst = codec.AppendText(dst, a.Excerpt)
	return binary.AppendUvarint(dst, a.Replay)
}

func attempt(d *codec.Decoder) Attempt {
	a := Attempt{Number: int(d.Uvarint()), At: time.UnixMilli(d.Varint())}
	for _, t := range [...]*time.Duration{&a.Took, &a.DNS, &a.Connect, &a.TLS, &a.FirstByte} {
		*t = time.Duration(d.Uvarint()) * time.Microsecond
	}
	a.Status = int(d.Uvarint())
	a.Class, a.Error = string(d.Text()), string(d.Text())
	if text := d.Text(); len(text) > 0 {
		a.Excerpt = append([]byte(nil), text...)
	}
	a.Replay = d.Uvarint()
	return a
}

// Lane is the entry by which a lane's name gets its number, or by which a lane is deleted with everything that it holds.
type Lane struct {
	ID     LaneID
	Name   string
	Record []byte // of the new lane
}

// Append appends the entry of a lane that is made or, with discard, deleted.
func (l *Lane) Append(dst []byte, discard bool, number uint64, at int64) []byte {
	from := len(dst)
	dst = Begin(dst)
	dst = binary.AppendUvarint(dst, uint64(l.ID))
	dst = codec.AppendText(dst, l.Name)
	dst = codec.AppendText(dst, l.Record)
	dst = append(dst, noValues)
	kind := KindLane
	if discard {
		kind = KindDiscard
	}
	Finish(dst[from:], Header{kind, number, at})
	return dst
}

// ParseLane takes apart an entry of KindLane or KindDiscard that Next returned.
func ParseLane(h Header, raw []byte) (*Lane, error) {
	d := codec.Decoder{Buf: raw[HeaderSize:]}
	l := &Lane{ID: LaneID(d.Uvarint()), Name: string(d.Text()), Record: d.Text()}
	if h.Kind != KindLane && h.Kind != KindDiscard || !end(&d) {
		return nil, fmt.Errorf("read lane in entry %d: %w", h.Number, codec.ErrDamaged)
	}
	return l, nil
}
