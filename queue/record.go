package queue

import (
	"encoding/binary"
	"fmt"
	"time"

	"realtorbot-relay/queue/codec"
)

// Failure is the record of a failed delivery.
type Failure struct {
	Seq      uint64
	At       time.Time // when it became failed
	Attempts int
	Status   int
	Class    string
	Reason   string
	Owed     bool // a letter is to be made of it (letters.go)
}

// recordVersion is the first byte of every record, so that a later form can be told from this one.
const recordVersion = 1

func version(d *codec.Decoder) {
	if d.Byte() != recordVersion {
		d.Fail()
	}
}

// appendRetry appends the record of a retry, with times in queue time; its event is in the key. The number of the replay
// that it is part of comes last, if there is one.
func appendRetry(dst []byte, r *retry) []byte {
	dst = append(dst, recordVersion)
	due := r.due.UnixMilli()
	dst = binary.AppendVarint(dst, due)
	dst = binary.AppendVarint(dst, due-r.queued)
	dst = binary.AppendUvarint(dst, uint64(r.attempts))
	return appendReplay(dst, r.replay)
}

func appendReplay(dst []byte, number uint64) []byte {
	if number == 0 {
		return dst
	}
	return binary.AppendUvarint(dst, number)
}

// replayOf reads what appendReplay appended, at the end of a record.
func replayOf(d *codec.Decoder) uint64 {
	if len(d.Buf) == 0 {
		return 0
	}
	return d.Uvarint()
}

func parseRetry(seq uint64, record []byte) (*retry, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	due := d.Varint()
	r := &retry{seq: seq, due: time.UnixMilli(due), queued: due - d.Varint(), attempts: int(d.Uvarint()), replay: replayOf(&d)}
	if !d.OK() {
		return nil, fmt.Errorf("read retry of event %d: %w", seq, codec.ErrDamaged)
	}
	return r, nil
}

// maxReason bounds the reason of a failed delivery, in bytes: one transaction has many of them.
const maxReason = 256

func appendFailure(dst []byte, f *Failure) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendVarint(dst, f.At.UnixMilli())
	dst = binary.AppendUvarint(dst, uint64(f.Attempts))
	dst = binary.AppendUvarint(dst, uint64(f.Status))
	dst = codec.AppendText(dst, f.Class)
	dst = codec.AppendText(dst, f.Reason[:min(len(f.Reason), maxReason)])
	if f.Owed {
		dst = append(dst, 1)
	}
	return dst
}

func parseFailure(seq uint64, record []byte) (Failure, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	f := Failure{Seq: seq, At: time.UnixMilli(d.Varint()), Attempts: int(d.Uvarint()), Status: int(d.Uvarint())}
	f.Class, f.Reason = string(d.Text()), string(d.Text())
	if len(d.Buf) > 0 {
		f.Owed = d.Byte() == 1
	}
	if !d.OK() {
		return f, fmt.Errorf("read failed delivery of event %d: %w", seq, codec.ErrDamaged)
	}
	return f, nil
}

// laneRecord is what a lane saves. Cursor, the settled events above it and the counters are the state of one moment.
type laneRecord struct {
	name        string
	cursor      uint64   // no delivery below it is pending
	settled     []uint64 // events at or above the cursor whose delivery is not pending any more, ascending
	passed      int64    // deliveries that are not pending any more, ever
	delivered   int64
	retrying    int64
	failed      int64
	paused      string // why, empty while it is not
	born        uint64 // the end of the log when the lane was made; 0 when that is not known
	replayed    int64  // deliveries that had gone well and were attempted again on purpose, ever
	health      Health // in queue time
	matched     int64  // deliveries that it was given, ever, of events below counted
	counted     uint64
	excerpts    int64  // queue time at which its budget of excerpts has come back; 0: it never took any. Older records lack this field, or those behind it
	unserved    int64  // since when it serves no endpoint, queue time; 0 while it serves one
	discardedTo uint64 // see Lane
}

func (r *laneRecord) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = codec.AppendText(dst, r.name)
	dst = binary.AppendUvarint(dst, r.cursor)
	for _, n := range [...]int64{r.passed, r.delivered, r.retrying, r.failed} {
		dst = binary.AppendVarint(dst, n)
	}
	dst = codec.AppendText(dst, r.paused)
	dst = binary.AppendUvarint(dst, uint64(len(r.settled)))
	last := r.cursor
	for _, seq := range r.settled {
		dst = binary.AppendUvarint(dst, seq-last)
		last = seq
	}
	dst = binary.AppendUvarint(dst, r.born)
	dst = binary.AppendVarint(dst, r.replayed)
	dst = r.health.append(dst)
	dst = binary.AppendVarint(dst, r.matched)
	dst = binary.AppendUvarint(dst, r.counted)
	dst = binary.AppendVarint(dst, r.excerpts)
	dst = binary.AppendVarint(dst, r.unserved)
	return binary.AppendUvarint(dst, r.discardedTo)
}

func parseLane(record []byte) (laneRecord, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	r := laneRecord{name: string(d.Text()), cursor: d.Uvarint()}
	for _, n := range [...]*int64{&r.passed, &r.delivered, &r.retrying, &r.failed} {
		*n = d.Varint()
	}
	r.paused = string(d.Text())
	last := r.cursor
	for n := d.Count(); n > 0 && d.OK(); n-- {
		last += d.Uvarint()
		r.settled = append(r.settled, last)
	}
	r.born, r.replayed = d.Uvarint(), d.Varint()
	r.health = healthOf(&d)
	r.matched, r.counted = d.Varint(), d.Uvarint()
	if len(d.Buf) > 0 {
		r.excerpts = d.Varint()
	}
	if len(d.Buf) > 0 {
		r.unserved = d.Varint()
	}
	if len(d.Buf) > 0 {
		r.discardedTo = d.Uvarint()
	}
	if !d.OK() {
		return r, fmt.Errorf("read lane %q: %w", r.name, codec.ErrDamaged)
	}
	return r, nil
}
