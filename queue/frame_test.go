package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"testing"
)

// sealed makes a frame of n events whose bodies have size bytes, behind room free ones.
func sealed(first uint64, n, size, room int) (buf []byte, f *frame) {
	var d draft
	for i := range n {
		id := fmt.Sprintf("evt_%d", first+uint64(i))
		ev := Event{Type: []byte("lead.created"), Body: make([]byte, size), Lanes: NewLaneSet(LaneID(i%3), 20)}
		for at := range ev.Body {
			ev.Body[at] = byte(at + i)
		}
		ev.ID = []byte(id)
		d.add([]string{"platform", "edge"}[i%2], &ev, id)
	}
	return d.seal(first, 1700000000123, room)
}

func TestAFrameGivesBackWhatWasPutIn(t *testing.T) {
	buf, _ := sealed(41, 5, 300, 7)
	behind := []byte("behind")
	f, rest, err := parseFrame(append(buf[7:], behind...))
	if err != nil || string(rest) != "behind" {
		t.Fatalf("%v, %q lies behind", err, rest)
	}
	if f.first != 41 || f.end() != 46 || f.at != 1700000000123 {
		t.Errorf("frame is %d to %d of %d", f.first, f.end(), f.at)
	}
	for i := range 5 {
		ev, err := f.find(41 + uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if string(ev.ID) != fmt.Sprintf("evt_%d", 41+i) || ev.Source != []string{"platform", "edge"}[i%2] || len(ev.Body) != 300 ||
			ev.Body[1] != byte(1+i) || ev.Lanes != NewLaneSet(LaneID(i%3), 20) {
			t.Errorf("event %d is %+v", 41+i, ev)
		}
	}
	if _, err := f.find(46); !errors.Is(err, errDamaged) {
		t.Errorf("an event that is not in the frame: %v", err)
	}
}

func TestAFlippedBitIsFound(t *testing.T) {
	buf, _ := sealed(1, 2, 20, 0)
	for bit := range len(buf) * 8 {
		raw := append([]byte(nil), buf...)
		raw[bit/8] ^= 1 << (bit % 8)
		if _, _, err := parseFrame(raw); !errors.Is(err, errDamaged) {
			t.Fatalf("with bit %d flipped the frame was read: %v", bit, err)
		}
	}
}

func TestALaneSetHasItsLanes(t *testing.T) {
	set := NewLaneSet(0, 7, 8, 300)
	var all []LaneID
	set.each(func(id LaneID) { all = append(all, id) })
	if fmt.Sprint(all) != "[0 7 8 300]" || set.Len() != 4 || set.Has(1) || !set.Has(300) || set.Has(1<<20) {
		t.Errorf("set has %v", all)
	}
	if NewLaneSet(8, 300, 0, 7) != set {
		t.Error("the same lanes in another order are another set")
	}
}

// allocated is how many bytes fn asked for.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzFrame(f *testing.F) {
	buf, _ := sealed(1, 3, 10, 0)
	f.Add(buf, true)
	f.Add(buf[:frameHeader], false)
	huge := append([]byte(nil), buf...)
	binary.LittleEndian.PutUint32(huge[28:], 1<<32-1)
	f.Add(huge, true)
	binary.LittleEndian.PutUint64(huge[12:], 1<<64-2)
	binary.LittleEndian.PutUint32(huge[28:], 3)
	f.Add(huge, true)
	f.Add(append(append([]byte(nil), buf[:frameHeader]...), 0xff, 0xff, 0xff, 0xff, 0x0f), true)
	f.Fuzz(func(t *testing.T, raw []byte, mend bool) {
		if mend && len(raw) >= frameHeader {
			// Let it pass the checks at the door, so that what is inside is tried.
			binary.LittleEndian.PutUint32(raw, frameMagic)
			binary.LittleEndian.PutUint32(raw[4:], uint32(len(raw)))
			binary.LittleEndian.PutUint32(raw[8:], crc32.Checksum(raw[12:], castagnoli))
		}
		if used := allocated(func() { walk(t, raw) }); used > 1<<20+100*uint64(len(raw)) {
			t.Errorf("%d bytes made it allocate %d", len(raw), used)
		}
	})
}

func walk(t *testing.T, raw []byte) {
	f, rest, err := parseFrame(raw)
	if err != nil {
		if !errors.Is(err, errDamaged) {
			t.Errorf("error is not %v: %v", errDamaged, err)
		}
		return
	}
	if len(f.raw)+len(rest) != len(raw) {
		t.Errorf("%d bytes became %d and %d", len(raw), len(f.raw), len(rest))
	}
	events := 0
	for r := f.reader(); ; events++ {
		ev, ok, err := r.next()
		if err != nil || !ok {
			break
		}
		ev.Lanes.each(func(LaneID) {})
		if ev.Lanes.Len() < 0 || ev.Seq != f.first+uint64(events) {
			t.Errorf("event %d of the frame has number %d", events, ev.Seq)
		}
	}
	if events > f.count || events > len(raw) {
		t.Errorf("%d events in a frame of %d, in %d bytes", events, f.count, len(raw))
	}
}
