package log

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// checkShares compares what the log says it has of each source with the events from a number on and, beside them, those that
// were carried.
func (x *tester) checkShares(from uint64, carried ...uint64) {
	x.t.Helper()
	want := usage{}
	for seq, ev := range x.events {
		if seq >= from {
			want.add(ev.Source, entry.Usage{Events: 1, Bytes: int64(len(ev.Body))})
		}
	}
	for _, seq := range carried {
		want.add(x.events[seq].Source, entry.Usage{Events: 1, Bytes: int64(len(x.events[seq].Body))})
	}
	for _, source := range append([]string{"nobody"}, testSources...) {
		if got := x.l.Usage(source); got != want[source] {
			x.t.Fatalf("source %q: %+v is kept, want %+v", source, got, want[source])
		}
	}
}

// footer replaces the named values of a sealed segment, none when values is nil.
func (x *tester) footer(s *segment, values []byte) {
	x.t.Helper()
	raw, err := os.ReadFile(s.path)
	if err != nil {
		x.t.Fatal(err)
	}
	t := s.trailer
	t.values = uint32(len(values))
	raw = t.append(append(raw[:t.valuesAt()], values...))
	if err := os.WriteFile(s.path, raw, 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// The numbers of a source's events and bytes change with events, segments and starts; they always agree with the events that
// are there.
func TestWhatIsKeptOfASourceIsWhatItsEventsAre(t *testing.T) {
	x := newTester(t)
	x.fill(1200)
	x.checkShares(0)
	x.frame(7, "lead.created", 1) // only accepted: not saved
	x.checkShares(0)
	x.save()
	x.reopen(NoStart)
	x.checkShares(0)
	segments := x.l.Segments()
	if len(segments) < 5 {
		t.Fatalf("%d segments are too few", len(segments))
	}

	// Carried into the open segment: there twice, until the segment goes or is stripped.
	var raw []byte
	var frames []*entry.Frame
	carried := []uint64{2, 3, 5}
	for _, seq := range carried {
		ev := x.events[seq]
		var d entry.Draft
		d.Add(ev.Source, &entry.Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: ev.Lanes}, entry.Hash{})
		var f *entry.Frame
		raw, f = d.Seal(raw, x.number-1, seq, ev.At)
		frames = append(frames, f)
	}
	x.l.Carry(raw, frames, len(raw))
	x.save()
	x.checkShares(0, carried...)
	if err := x.l.Strip(segments[0].Number); err != nil {
		t.Fatal(err)
	}
	x.checkShares(segments[0].EndEvent, carried...)
	x.reopen(NoStart)
	x.checkShares(segments[0].EndEvent, carried...)
	for range 2 {
		if err := x.l.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	x.checkShares(segments[1].EndEvent, carried...)
	x.fill(100)
	x.checkShares(segments[1].EndEvent, carried...)
	x.reopen(NoStart)
	x.checkShares(segments[1].EndEvent, carried...)
}

// A footer without the numbers of sources, or with numbers that can't be read, costs a count of its blocks; named values
// that nobody knows yet cost nothing.
func TestNamedValuesOfAFooterThatAreUnknownOrMissingCostNothing(t *testing.T) {
	x := newTester(t)
	x.fill(400)
	sum := func(raw []byte) []byte { return binary.LittleEndian.AppendUint32(raw, codec.Sum(raw)) }
	sources := slices.Clone(appendValues(nil, x.l.segments[0].usage))
	text := sources[1 : len(sources)-4] // without count and sum
	strange := func(name string) []byte { return codec.AppendText(codec.AppendText(nil, name), "whatever that is") }
	flipped := slices.Clone(sources)
	flipped[len(flipped)/2] ^= 4
	cut := x.l.Segments()[1].Bytes - 10
	for name, values := range map[string][]byte{
		"as it is": sources, "none": nil, "flipped": flipped, "short": sources[:3],
		"only another": sum(append([]byte{1}, strange("trace")...)),
		"others":       sum(slices.Concat([]byte{3}, strange("trace"), text, strange("zone"))),
	} {
		s := x.l.segments[0]
		x.footer(s, values)
		if found := x.reopen(NoStart); len(found.Damage)+len(found.Gaps) > 0 {
			t.Fatalf("%s: %+v", name, found)
		}
		t.Log(name)
		x.check()
	}
	if err := os.Truncate(x.l.segments[1].path, cut); err != nil {
		t.Fatal(err)
	}
	x.reopen(NoStart)
	x.check()
	if x.l.segments[1].values == 0 {
		t.Error("a footer that was made again does not tell the sources")
	}
}

// A block that is packed or sealed in an unknown way is no damage, which would be passed over.
func TestABlockThatIsWrittenInAnUnknownWayStopsTheReader(t *testing.T) {
	for _, at := range []int{5, 6, 7} {
		x := newTester(t)
		x.fill(3)
		s := x.l.open()
		raw, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		head := raw[headerSize:][:blockHeader]
		head[at] |= 2
		binary.LittleEndian.PutUint32(head[72:], codec.Sum(head[:72]))
		if err := os.WriteFile(s.path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = x.l.Close()
		if l, _, err := Open(x.o, NoStart); !errors.Is(err, errUnknownForm) || errors.Is(err, codec.ErrDamaged) {
			t.Errorf("byte %d: %v", at, err)
			_ = l.Close()
		}
		if now, err := os.ReadFile(s.path); err != nil || string(now) != string(raw) {
			t.Errorf("byte %d: the file was changed, or can't be read: %v", at, err)
		}
	}
}
