package queue

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"
)

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
	Class     string // what kind of failure, empty when it went well
	Error     string
	Excerpt   []byte // of the answer
	Replay    uint64 // the number of the replay that made it; 0 for none. See ReplayID
}

// Failure is the record of a delivery that was given up.
type Failure struct {
	Seq      uint64
	At       time.Time // when it was given up
	Attempts int
	Status   int
	Class    string
	Reason   string
}

// recordVersion opens every record, so that a later form can be told from this one.
const recordVersion = 1

// maxWellExcerpt is how much of an answer is kept of an attempt that went well: nobody reads more of a success.
const maxWellExcerpt = 256

func appendDuration(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(max(d, 0)/time.Microsecond))
}

func (d *decoder) duration() time.Duration { return time.Duration(d.uvarint()) * time.Microsecond }

func (d *decoder) version() {
	if d.byte() != recordVersion {
		d.fail()
	}
}

func appendAttempt(dst []byte, a *Attempt, excerpt int) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, uint64(a.Number))
	dst = binary.AppendVarint(dst, a.At.UnixMilli())
	for _, t := range [...]time.Duration{a.Took, a.DNS, a.Connect, a.TLS, a.FirstByte} {
		dst = appendDuration(dst, t)
	}
	dst = binary.AppendUvarint(dst, uint64(a.Status))
	dst = appendText(dst, a.Class)
	dst = appendText(dst, a.Error)
	return appendText(dst, a.Excerpt[:min(len(a.Excerpt), excerpt)])
}

func (d *decoder) attempt() Attempt {
	d.version()
	a := Attempt{Number: int(d.uvarint()), At: time.UnixMilli(d.varint())}
	for _, t := range [...]*time.Duration{&a.Took, &a.DNS, &a.Connect, &a.TLS, &a.FirstByte} {
		*t = d.duration()
	}
	a.Status = int(d.uvarint())
	a.Class, a.Error = string(d.text()), string(d.text())
	a.Excerpt = append([]byte(nil), d.text()...)
	return a
}

// A well record is a list of (event, attempt): the first attempts of one lane that went well since the last save.
func appendWell(dst []byte, seq uint64, a *Attempt) []byte {
	dst = binary.AppendUvarint(dst, seq)
	return appendAttempt(dst, a, maxWellExcerpt)
}

// maxUnpacked is more than any block is: the largest body, grown by its canonical form, and what stood before it.
const maxUnpacked = 256 << 20

// unpack decompresses, and does not believe a length that can't be.
func unpack(packed []byte) ([]byte, error) {
	if n, err := s2.DecodedLen(packed); err != nil || n > maxUnpacked {
		return nil, fmt.Errorf("length of compressed data: %w", errDamaged)
	}
	return s2.Decode(nil, packed)
}

// packWells compresses a well record for the store.
func packWells(record []byte) []byte {
	return s2.Encode(nil, record)
}

// findWell looks for the attempt of one event in a packed well record.
func findWell(packed []byte, seq uint64) (Attempt, bool, error) {
	record, err := unpack(packed)
	if err != nil {
		return Attempt{}, false, fmt.Errorf("read attempts: %w: %w", err, errDamaged)
	}
	d := decoder{buf: record}
	for len(d.buf) > 0 && d.ok() {
		s, a := d.uvarint(), d.attempt()
		if s == seq && d.ok() {
			return a, true, nil
		}
	}
	if !d.ok() {
		return Attempt{}, false, fmt.Errorf("read attempts: %w", errDamaged)
	}
	return Attempt{}, false, nil
}

// appendRetry appends the record of a delivery that is attempted again; its event is in the key. The replay that it is
// part of comes last, and only if there is one.
func appendRetry(dst []byte, r *retry) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendVarint(dst, r.due.UnixMilli())
	dst = binary.AppendUvarint(dst, uint64(r.attempts))
	return appendReplay(dst, r.replay)
}

func appendReplay(dst []byte, number uint64) []byte {
	if number == 0 {
		return dst
	}
	return binary.AppendUvarint(dst, number)
}

// replay reads what appendReplay appended, which ends its record.
func (d *decoder) replay() uint64 {
	if len(d.buf) == 0 {
		return 0
	}
	return d.uvarint()
}

func parseRetry(seq uint64, record []byte) (*retry, error) {
	d := decoder{buf: record}
	d.version()
	r := &retry{seq: seq, due: time.UnixMilli(d.varint()), attempts: int(d.uvarint()), replay: d.replay()}
	if !d.ok() {
		return nil, fmt.Errorf("read retry of event %d: %w", seq, errDamaged)
	}
	return r, nil
}

// maxReason bounds the reason of a failed delivery in bytes: a save has many of them in one transaction.
const maxReason = 256

func appendFailure(dst []byte, f *Failure) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendVarint(dst, f.At.UnixMilli())
	dst = binary.AppendUvarint(dst, uint64(f.Attempts))
	dst = binary.AppendUvarint(dst, uint64(f.Status))
	dst = appendText(dst, f.Class)
	return appendText(dst, f.Reason[:min(len(f.Reason), maxReason)])
}

func parseFailure(seq uint64, record []byte) (Failure, error) {
	d := decoder{buf: record}
	d.version()
	f := Failure{Seq: seq, At: time.UnixMilli(d.varint()), Attempts: int(d.uvarint()), Status: int(d.uvarint())}
	f.Class, f.Reason = string(d.text()), string(d.text())
	if !d.ok() {
		return f, fmt.Errorf("read failed delivery of event %d: %w", seq, errDamaged)
	}
	return f, nil
}

// laneRecord is what a lane saves. Cursor, the settled events above it and the counters are one moment's state.
type laneRecord struct {
	name      string
	cursor    uint64   // no delivery below it is pending
	settled   []uint64 // events at or above the cursor whose delivery is not pending any more, ascending
	passed    int64    // deliveries that are not pending any more, ever
	delivered int64
	retrying  int64
	failed    int64
	paused    string // why, empty when not
	// What follows is missing in the records of older versions.
	born     uint64 // the end of the log when the lane was made; 0 when that is not known
	replayed int64  // deliveries that had gone well and were attempted again on purpose, ever
	health   Health // in queue time
}

func (r *laneRecord) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = appendText(dst, r.name)
	dst = binary.AppendUvarint(dst, r.cursor)
	for _, n := range [...]int64{r.passed, r.delivered, r.retrying, r.failed} {
		dst = binary.AppendVarint(dst, n)
	}
	dst = appendText(dst, r.paused)
	dst = binary.AppendUvarint(dst, uint64(len(r.settled)))
	last := r.cursor
	for _, seq := range r.settled {
		dst = binary.AppendUvarint(dst, seq-last)
		last = seq
	}
	dst = binary.AppendUvarint(dst, r.born)
	dst = binary.AppendVarint(dst, r.replayed)
	return r.health.append(dst)
}

func parseLane(record []byte) (laneRecord, error) {
	d := decoder{buf: record}
	d.version()
	r := laneRecord{name: string(d.text()), cursor: d.uvarint()}
	for _, n := range [...]*int64{&r.passed, &r.delivered, &r.retrying, &r.failed} {
		*n = d.varint()
	}
	r.paused = string(d.text())
	last := r.cursor
	for n := d.count(); n > 0 && d.ok(); n-- {
		last += d.uvarint()
		r.settled = append(r.settled, last)
	}
	if d.ok() && len(d.buf) > 0 {
		r.born, r.replayed = d.uvarint(), d.varint()
	}
	if d.ok() && len(d.buf) > 0 {
		r.health = d.health()
	}
	if !d.ok() {
		return r, fmt.Errorf("read lane %q: %w", r.name, errDamaged)
	}
	return r, nil
}

// applied says up to where the store has taken over from the journal, and how many deliveries each lane had been given
// by then.
type applied struct {
	next    uint64 // first event that only the journal has
	events  int64  // events kept in the store
	bytes   int64  // of their bodies
	nextID  LaneID
	matched map[LaneID]int64
}

func (a *applied) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, a.next)
	dst = binary.AppendVarint(dst, a.events)
	dst = binary.AppendVarint(dst, a.bytes)
	dst = binary.AppendUvarint(dst, uint64(a.nextID))
	dst = binary.AppendUvarint(dst, uint64(len(a.matched)))
	for id, n := range a.matched {
		dst = binary.AppendUvarint(dst, uint64(id))
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

func parseApplied(record []byte) (applied, error) {
	d := decoder{buf: record}
	d.version()
	a := applied{next: d.uvarint(), events: d.varint(), bytes: d.varint(), nextID: LaneID(d.uvarint()), matched: map[LaneID]int64{}}
	for n := d.count(); n > 0 && d.ok(); n-- {
		id := LaneID(d.uvarint())
		a.matched[id] = d.varint()
	}
	if !d.ok() {
		return a, fmt.Errorf("read the position of the store: %w", errDamaged)
	}
	return a, nil
}

// mark remembers that at a moment no lane needed the events below next any more; retention counts from it.
type mark struct {
	at   int64 // Unix milliseconds
	next uint64
}

func appendMarks(dst []byte, marks []mark) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, uint64(len(marks)))
	for _, m := range marks {
		dst = binary.AppendVarint(dst, m.at)
		dst = binary.AppendUvarint(dst, m.next)
	}
	return dst
}

func parseMarks(record []byte) ([]mark, error) {
	d := decoder{buf: record}
	d.version()
	var marks []mark
	for n := d.count(); n > 0 && d.ok(); n-- {
		marks = append(marks, mark{d.varint(), d.uvarint()})
	}
	if !d.ok() {
		return nil, fmt.Errorf("read retention marks: %w", errDamaged)
	}
	return marks, nil
}

func appendIDRecord(dst []byte, seq uint64, at int64) []byte {
	dst = binary.AppendUvarint(dst, seq)
	return binary.AppendUvarint(dst, uint64(max(at, 0)/1000))
}

// parseIDRecord returns where an id's event is and when it was accepted, Unix milliseconds.
func parseIDRecord(record []byte) (seq uint64, at int64, err error) {
	d := decoder{buf: record}
	seq, at = d.uvarint(), int64(d.uvarint())*1000
	if !d.ok() {
		return 0, 0, fmt.Errorf("read id: %w", errDamaged)
	}
	return seq, at, nil
}

// idList gathers the ids of a deleted block, ascending.
type idList struct{ record []byte }

type listedID struct {
	seq uint64
	at  int64 // when it was accepted, Unix milliseconds
	id  []byte
}

func (l *idList) add(seq uint64, at int64, id []byte) {
	l.record = binary.AppendUvarint(l.record, seq)
	l.record = binary.AppendVarint(l.record, at)
	l.record = appendText(l.record, id)
}

func (l *idList) pack() []byte { return s2.Encode(nil, l.record) }

// parseIDs returns at least one id, or an error.
func parseIDs(packed []byte) ([]listedID, error) {
	record, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("read ids: %w: %w", err, errDamaged)
	}
	d := decoder{buf: record}
	var list []listedID
	for len(d.buf) > 0 && d.ok() {
		list = append(list, listedID{d.uvarint(), d.varint(), d.text()})
	}
	if !d.ok() || len(list) == 0 {
		return nil, fmt.Errorf("read ids: %w", errDamaged)
	}
	return list, nil
}
