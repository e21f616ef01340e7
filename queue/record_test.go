package queue

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
)

func TestRecordsGiveBackWhatWasPutIn(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	attempt := Attempt{
		Number: 3, At: at, Took: 7 * time.Millisecond, DNS: time.Microsecond, Connect: 2 * time.Microsecond, TLS: 3 * time.Microsecond,
		FirstByte: 4 * time.Microsecond, Status: 503, Class: "status", Error: "answered 503", Excerpt: []byte("busy"),
	}
	d := decoder{buf: appendAttempt(nil, &attempt, 100)}
	if got := d.attempt(); !reflect.DeepEqual(got, attempt) || !d.ok() {
		t.Errorf("attempt is %+v, want %+v", got, attempt)
	}
	wells := appendWell(appendWell(nil, 9, &Attempt{Number: 1, At: at}), 7, &attempt)
	if got, found, err := findWell(packWells(wells), 7); !found || err != nil || !reflect.DeepEqual(got, attempt) {
		t.Errorf("the attempt that went well is %+v, %v, %v", got, found, err)
	}
	if _, found, err := findWell(packWells(wells), 8); found || err != nil {
		t.Errorf("an attempt that never was: %v, %v", found, err)
	}
	for _, number := range []uint64{0, 1700000000124} {
		again := retry{seq: 6, due: at, attempts: 4, replay: number}
		if got, err := parseRetry(6, appendRetry(nil, &again)); err != nil || *got != again {
			t.Errorf("retry is %+v, %v", got, err)
		}
	}
	failure := Failure{Seq: 5, At: at, Attempts: 5, Status: 500, Class: "status", Reason: "answered 500"}
	if got, err := parseFailure(5, appendFailure(nil, &failure)); got != failure || err != nil {
		t.Errorf("failure is %+v, %v", got, err)
	}
	lane := laneRecord{name: "crm", cursor: 100, settled: []uint64{100, 103, 1 << 40}, passed: 7, delivered: 5, retrying: 1, failed: 1, paused: "gone", born: 90, replayed: 3,
		health: everyHealth(at)}
	if got, err := parseLane(lane.append(nil)); !reflect.DeepEqual(got, lane) || err != nil {
		t.Errorf("lane is %+v, %v", got, err)
	}
	pos := applied{next: 9, events: 8, bytes: -7, nextID: 3, matched: map[LaneID]int64{0: 5, 2: 1}}
	if got, err := parseApplied(pos.append(nil)); !reflect.DeepEqual(got, pos) || err != nil {
		t.Errorf("position is %+v, %v", got, err)
	}
	marks := []mark{{1, 2}, {-3, 1 << 60}}
	if got, err := parseMarks(appendMarks(nil, marks)); !reflect.DeepEqual(got, marks) || err != nil {
		t.Errorf("marks are %v, %v", got, err)
	}
	if seq, ms, err := parseIDRecord(appendIDRecord(nil, 77, 1700000000999)); seq != 77 || ms != 1700000000000 || err != nil {
		t.Errorf("id is %d, %d, %v", seq, ms, err)
	}
	var known idList
	known.add(4, -1, []byte("evt_4"))
	known.add(6, 1700000000123, []byte("evt_6"))
	if got, err := parseIDs(known.pack()); err != nil || !reflect.DeepEqual(got, []listedID{{4, -1, []byte("evt_4")}, {6, 1700000000123, []byte("evt_6")}}) {
		t.Errorf("ids are %+v, %v", got, err)
	}
}

func TestKeysSortByWhatTheyCount(t *testing.T) {
	last, piece, in := uint64(0), uint16(0), false
	if key := blockKey(1<<40+1, 3); string(key) <= string(blockKey(1<<40, 9)) {
		t.Error("a later block has a smaller key")
	}
	if last, piece, in = parsePieceKey(blockKey(258, 7)); last != 258 || piece != 7 || !in {
		t.Errorf("block key: %d, %d, %v", last, piece, in)
	}
	if lane, seq, in := parseDeliveryKey(deliveryKey(kindFailed, 300, 1<<33)); lane != 300 || seq != 1<<33 || !in {
		t.Errorf("delivery key: %d, %d, %v", lane, seq, in)
	}
	if lane, last, in := parseWellKey(wellKey(9, 258, 1<<60)); lane != 9 || last != 258 || !in {
		t.Errorf("well key: %d, %d, %v", lane, last, in)
	}
	if seq, lane, in := parseAttemptKey(attemptKey(70000, 256, 1700000000123, 2)); lane != 256 || seq != 70000 || !in {
		t.Errorf("attempt key: %d, %d, %v", lane, seq, in)
	}
}

func FuzzRecords(f *testing.F) {
	a := Attempt{Number: 1, Status: 200, Excerpt: []byte("fine")}
	lane := laneRecord{name: "crm", cursor: 1, settled: []uint64{2, 3}}
	pos := applied{next: 2, matched: map[LaneID]int64{0: 1}}
	for _, seed := range [][]byte{
		appendAttempt(nil, &a, 10), appendWell(nil, 3, &a), appendRetry(nil, &retry{due: time.UnixMilli(5), attempts: 1}), appendFailure(nil, &Failure{Reason: "no"}),
		(&replay{state: ReplayRunning, to: 9, next: 3, spec: ReplaySpec{Seqs: []uint64{3, 4}, Types: []string{"lead.*"}}}).append(nil),
		lane.append(nil), (&laneRecord{health: everyHealth(time.UnixMilli(5))}).append(nil), pos.append(nil), (&digest{first: 1, ends: []uint64{2, 9}, types: []digestType{{"x", 3}}, lanes: []digestLane{{0, 1}}}).append(nil), appendMarks(nil, []mark{{1, 2}}), appendIDRecord(nil, 1, 2000),
		binary.AppendUvarint([]byte{recordVersion}, 1<<63), {recordVersion}, {},
		{0xff, 0xff, 0xff, 0x07}, // S2: 16 MiB follow
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		packed := s2.Encode(nil, record)
		var errs []error
		tell := func(err error) {
			if err != nil {
				errs = append(errs, err)
			}
		}
		used := allocated(func() {
			d := decoder{buf: record}
			d.attempt()
			_, _, err := findWell(packed, 3)
			tell(err)
			_, err = parseIDs(packed)
			tell(err)
			_, err = parseRetry(1, record)
			tell(err)
			_, err = parseFailure(1, record)
			tell(err)
			_, err = parseLane(record)
			tell(err)
			_, err = parseApplied(record)
			tell(err)
			_, err = parseDigest(1, record)
			tell(err)
			_, err = parseReplay(1, record)
			tell(err)
			_, err = parseMarks(record)
			tell(err)
			_, _, err = parseIDRecord(record)
			tell(err)
			for _, parse := range []func([]byte){
				func(b []byte) { parsePieceKey(b) }, func(b []byte) { parseDeliveryKey(b) }, func(b []byte) { parseAttemptKey(b) }, func(b []byte) { parseWellKey(b) },
				func(b []byte) { parseDigestKey(b) },
			} {
				parse(record)
			}
		})
		for _, err := range errs {
			if !errors.Is(err, errDamaged) {
				t.Errorf("error is not %v: %v", errDamaged, err)
			}
		}
		if used > 1<<20+400*uint64(len(record)) {
			t.Errorf("%d bytes made it allocate %d", len(record), used)
		}
		if r, err := parseLane(record); err == nil {
			if again, err := parseLane(r.append(nil)); err != nil || !reflect.DeepEqual(again, r) {
				t.Errorf("lane %+v became %+v, %v", r, again, err)
			}
		}
	})
}
