package format1

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"
	"realtorbot-relay/queue/codec"
)

// The kinds of keys, by their first letter. doc.go has the whole layout.
const (
	kindMeta      = 'm'
	kindBlock     = 'e'
	kindID        = 'i'
	kindLane      = 'l'
	kindRetry     = 'r'
	kindFailed    = 'f'
	kindAttempt   = 't'
	kindSucceeded = 'a'
	kindRetained  = 'k'
	kindIDs       = 'd'
	kindDigest    = 's'
	kindReplay    = 'p'
	kindScratch   = '~'
)

var kinds = map[byte]string{
	kindMeta: "positions", kindBlock: "events", kindID: "ids", kindLane: "lanes", kindRetry: "retries", kindFailed: "failed deliveries",
	kindAttempt: "attempts", kindSucceeded: "attempts", kindRetained: "events", kindIDs: "ids", kindDigest: "digests", kindReplay: "replays", kindScratch: "nothing",
}

func isKind(letter byte) bool { _, is := kinds[letter]; return is || letter == '!' }

// kindWords says what a key belongs to.
func kindWords(key []byte) string {
	if len(key) > 0 && kinds[key[0]] != "" {
		return kinds[key[0]]
	}
	return "keys of Badger's own"
}

var (
	keyApplied    = []byte{kindMeta, 'a'}
	keyWatermarks = []byte{kindMeta, 'm'}
)

func laneKey(lane uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kindLane}, lane) }

// maxLane is more than any lane's number: numbers begin with 0.
const maxLane = 1 << 24

func parseLaneKey(key []byte) (lane uint32, ok bool) {
	if len(key) != 5 {
		return 0, false
	}
	lane = binary.BigEndian.Uint32(key[1:])
	return lane, lane < maxLane
}

// parsePieceKey reads the key of a piece of a block, or of a retained event.
func parsePieceKey(key []byte) (last uint64, piece uint16, ok bool) {
	if len(key) != 11 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint16(key[9:]), true
}

// parseDeliveryKey reads the key of a retry, a failed delivery or a replay; number is the event's, or the replay's.
func parseDeliveryKey(key []byte) (lane uint32, number uint64, ok bool) {
	if len(key) != 13 {
		return 0, 0, false
	}
	lane, number = binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint64(key[5:])
	return lane, number, lane < maxLane
}

func parseAttemptKey(key []byte) (seq uint64, lane uint32, ok bool) {
	if len(key) != 23 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint32(key[9:]), true
}

func parseSucceededKey(key []byte) (lane uint32, ok bool) {
	if len(key) != 21 {
		return 0, false
	}
	return binary.BigEndian.Uint32(key[1:]), true
}

// Attempt is the record of one POST of one delivery.
type Attempt struct {
	Number    int           // 1 for the first
	At        time.Time     // when it began, to the millisecond, by the wall clock
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

// Failure is the record of a failed delivery.
type Failure struct {
	Seq      uint64
	At       time.Time // when it became failed, queue time
	Attempts int
	Status   int
	Class    string
	Reason   string
}

// Lane is what is known of an endpoint's lane. A lane whose record is lost has its retries and failed deliveries, and a name
// that this package made.
type Lane struct {
	ID        uint32
	Name      string
	Cursor    uint64   // no delivery below it is pending
	Settled   []uint64 // events at or above the cursor whose delivery is not pending any more, ascending
	Passed    int64    // deliveries that are not pending any more, ever
	Delivered int64
	Retrying  int64 // counted, like Failed
	Failed    int64
	Replayed  int64  // deliveries that had gone well and were attempted again on purpose, ever
	Matched   int64  // deliveries that it was given, ever, of all events that Frames returns; less Passed they are its pending ones
	Paused    string // why, empty while it was not
	Born      uint64 // the end of the log when the lane was made; 0 when that is not known
	Health    Health // of the endpoint
	Lost      bool   // its record can't be found
}

// Watermark says that at a moment of queue time, Unix milliseconds, no lane needed the events below Next any more.
type Watermark struct {
	At   int64
	Next uint64
}

const recordVersion = 1

func version(d *codec.Decoder) {
	if d.Byte() != recordVersion {
		d.Fail()
	}
}

func duration(d *codec.Decoder) time.Duration { return time.Duration(d.Uvarint()) * time.Microsecond }

func parseAttempt(d *codec.Decoder) Attempt {
	version(d)
	a := Attempt{Number: int(d.Uvarint()), At: time.UnixMilli(d.Varint())}
	for _, t := range [...]*time.Duration{&a.Took, &a.DNS, &a.Connect, &a.TLS, &a.FirstByte} {
		*t = duration(d)
	}
	a.Status = int(d.Uvarint())
	a.Class, a.Error = string(d.Text()), string(d.Text())
	a.Excerpt = append([]byte(nil), d.Text()...)
	return a
}

// replayBehind reads the number of a replay at the end of a record, if there is one.
func replayBehind(d *codec.Decoder) uint64 {
	if len(d.Buf) == 0 {
		return 0
	}
	return d.Uvarint()
}

type retry struct {
	due      int64 // queue time, Unix milliseconds
	attempts int
	replay   uint64
}

func parseRetry(record []byte) (retry, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	r := retry{due: d.Varint(), attempts: int(d.Uvarint()), replay: replayBehind(&d)}
	return r, fits(&d)
}

func parseFailure(seq uint64, record []byte) (Failure, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	f := Failure{Seq: seq, At: time.UnixMilli(d.Varint()), Attempts: int(d.Uvarint()), Status: int(d.Uvarint())}
	f.Class, f.Reason = string(d.Text()), string(d.Text())
	return f, fits(&d)
}

func parseLane(id uint32, record []byte) (Lane, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	l := Lane{ID: id, Name: string(d.Text()), Cursor: d.Uvarint()}
	for _, n := range [...]*int64{&l.Passed, &l.Delivered, &l.Retrying, &l.Failed} {
		*n = d.Varint()
	}
	l.Paused = string(d.Text())
	l.Settled = d.Seqs(l.Cursor)
	if d.OK() && len(d.Buf) > 0 { // records of older versions end here
		l.Born, l.Replayed = d.Uvarint(), d.Varint()
	}
	if d.OK() && len(d.Buf) > 0 { // records of less old versions end here
		l.Health = parseHealth(&d)
	}
	return l, fits(&d)
}

// applied is up to where the store had the journal's frames, and how many deliveries each lane had been given by then.
type applied struct {
	next    uint64 // the first event that only the journal has
	events  int64  // in the store
	bytes   int64  // of their bodies
	lanes   uint32 // the next lane's number
	matched map[uint32]int64
}

func parseApplied(record []byte) (applied, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	a := applied{next: d.Uvarint(), events: d.Varint(), bytes: d.Varint(), lanes: uint32(d.Uvarint()), matched: map[uint32]int64{}}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		id := uint32(d.Uvarint())
		a.matched[id] = d.Varint()
	}
	return a, fits(&d)
}

func parseWatermarks(record []byte) (watermarks []Watermark, err error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	for n := d.Count(); n > 0 && d.OK(); n-- {
		watermarks = append(watermarks, Watermark{d.Varint(), d.Uvarint()})
	}
	return watermarks, fits(&d)
}

func parseIDRecord(record []byte) (seq uint64, at int64, err error) {
	d := codec.Decoder{Buf: record}
	seq, at = d.Uvarint(), int64(d.Uvarint())*1000
	return seq, at, fits(&d)
}

// fits returns an error unless everything that was read of a record did fit.
func fits(d *codec.Decoder) error {
	if d.OK() {
		return nil
	}
	return codec.ErrDamaged
}

// maxUnpacked is more than the length of any block: the largest body, grown by its canonical form, and what stood before it.
const maxUnpacked = 256 << 20

// unpack decompresses into dst, when that has room. It does not believe a length that can't be.
func unpack(dst, packed []byte) ([]byte, error) {
	if n, err := s2.DecodedLen(packed); err != nil || n > maxUnpacked {
		return nil, fmt.Errorf("length of compressed data: %w", codec.ErrDamaged)
	}
	raw, err := s2.Decode(dst[:cap(dst)], packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, codec.ErrDamaged)
	}
	return raw, nil
}
