package format1

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"github.com/klauspost/compress/s2"
	"realtorbot-relay/queue/codec"
)

// frameOf is a frame of events for lane 1, each with its number as its body.
func frameOf(first, count uint64) []byte {
	raw := make([]byte, frameHeader)
	raw = codec.AppendText(append(raw, 1), "platform")
	raw = codec.AppendText(append(raw, 1), "\x02")
	for seq := first; seq < first+count; seq++ {
		raw = append(raw, 0, 0)
		for _, text := range []string{fmt.Sprint("evt_", seq), "x", fmt.Sprint(seq)} {
			raw = codec.AppendText(raw, text)
		}
	}
	binary.LittleEndian.PutUint32(raw, frameMagic)
	binary.LittleEndian.PutUint32(raw[4:], uint32(len(raw)))
	binary.LittleEndian.PutUint64(raw[12:], first)
	binary.LittleEndian.PutUint64(raw[20:], 1000)
	binary.LittleEndian.PutUint32(raw[28:], uint32(count))
	binary.LittleEndian.PutUint32(raw[8:], codec.Sum(raw[12:]))
	return raw
}

// pieceKey is the key of a piece of a block.
func pieceKey(kind byte, last uint64, piece uint16) string {
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64([]byte{kind}, last), piece))
}

// blockOf is a block of frames in one piece.
func blockOf(frames ...[]byte) []byte {
	var raw []byte
	for _, f := range frames {
		raw = append(raw, f...)
	}
	packed := s2.Encode(nil, raw)
	return append(binary.AppendUvarint([]byte{blockVersion}, uint64(len(packed))), packed...)
}

func TestNoEventComesTwice(t *testing.T) {
	r, said := opened(t, storeOf(t, map[string][]byte{
		"ma":                   []byte("\x01\x0a\x12\x00\x03\x00"), // event 10 is the next, 9 events are kept
		"l\x00\x00\x00\x01":    []byte(laneCRM),
		pieceKey('e', 3, 0):    blockOf(frameOf(1, 2), frameOf(3, 1)),
		pieceKey('e', 5, 0):    blockOf(frameOf(2, 4)), // begins in the middle of the one before
		pieceKey('e', 6, 0):    blockOf(frameOf(2, 3), frameOf(5, 2)),
		pieceKey('e', 9, 0):    blockOf(frameOf(7, 3)),
		pieceKey('k', 4, 0):    blockOf(frameOf(4, 1)),       // its block is there
		pieceKey('e', 12, 0):   blockOf(frameOf(10, 3))[:20], // a save that was cut short
		pieceKey('e', 12, 1):   nil,
		pieceKey('k', 1000, 0): blockOf(frameOf(1000, 1)),
	}))
	c, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var frames, kept []uint64
	for _, f := range c.Frames {
		if f.First != f.Events[0].Seq {
			t.Errorf("a frame begins with %d, its events with %d", f.First, f.Events[0].Seq)
		}
		for _, ev := range f.Events {
			frames = append(frames, ev.Seq)
			if ev.ID != fmt.Sprint("evt_", ev.Seq) {
				t.Errorf("event %d is %q", ev.Seq, ev.ID)
			}
		}
	}
	for _, ev := range c.Kept {
		kept = append(kept, ev.Seq)
	}
	if !reflect.DeepEqual(frames, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}) || !reflect.DeepEqual(kept, []uint64{1000}) {
		t.Errorf("events %d, and %d kept", frames, kept)
	}
	if l := c.Lanes[0]; l.Matched-l.Passed != 5 { // 5 to 9
		t.Errorf("%+v", l)
	}
	if len(*said) > 0 {
		t.Errorf("told %q", *said)
	}
}

func TestABlockWithoutAPieceIsToldAndThoseBehindItAreRead(t *testing.T) {
	whole := blockOf(frameOf(4, 3))
	for name, pieces := range map[string]map[string][]byte{
		"the first": {pieceKey('e', 6, 1): whole[10:]},
		"the last":  {pieceKey('e', 6, 0): whole[:10]},
		"another":   {pieceKey('e', 6, 0): whole[:10], pieceKey('e', 6, 2): whole[20:]},
	} {
		pieces["ma"], pieces["l\x00\x00\x00\x01"] = []byte("\x01\x0a\x12\x00\x03\x00"), []byte(laneCRM)
		pieces[pieceKey('e', 3, 0)], pieces[pieceKey('e', 9, 0)] = blockOf(frameOf(1, 3)), blockOf(frameOf(7, 3))
		r, said := opened(t, storeOf(t, pieces))
		c, err := readAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"store: the block up to event 6 can't be read: a piece of it is missing: damaged", "log: events 4 to 6 are missing (3)"}
		if s, err := r.State(); err != nil || eventsIn(c) != 6 || s.Missing != 3 || s.Damaged != 2 || !reflect.DeepEqual(*said, want) {
			t.Errorf("%s is missing: %d events, %+v, told %q", name, eventsIn(c), s, *said)
		}
	}
}

// After damage, ids of deleted events are read from their second place as well.
func TestIDsOfDeletedEventsAreFoundInTheirSecondPlaceAfterDamage(t *testing.T) {
	list := codec.AppendText(binary.AppendVarint(binary.AppendUvarint(nil, 7), 1234), "evt_7")
	writes := map[string][]byte{"ma": []byte(position), "ievt_8": {8, 1}, "d\x00\x00\x00\x00\x00\x00\x00\x07": s2.Encode(nil, list)}
	want := []contentID{{"evt_8", 8, 1000}}
	for _, damaged := range []bool{false, true} {
		if damaged {
			writes["l\x00\x00\x00\x01"] = []byte("\x01")
			want = append(want, contentID{"evt_7", 7, 1234})
		}
		r, said := opened(t, storeOf(t, writes))
		if c, err := readAll(r); err != nil || !reflect.DeepEqual(c.IDs, want) {
			t.Errorf("ids %v, want %v, %v, told %q", c.IDs, want, err, *said)
		}
	}
}
