package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// tester makes entries and remembers what a log must have.
type tester struct {
	t      *testing.T
	o      Options
	l      *Log
	now    int64
	number uint64
	seq    uint64
	events map[uint64]entry.Stored
	told   map[uint64]int
}

func newTester(t *testing.T) *tester {
	x := &tester{t: t, now: 1_000_000, number: 1, seq: 1, events: map[uint64]entry.Stored{}, told: map[uint64]int{}}
	x.o = Options{
		Dir: t.TempDir(), SegmentSize: 64 << 10, BlockSize: 2 << 10, FilterBytes: 1 << 20,
		Now: func() int64 { return x.now }, Notice: func(line string) { t.Log(line) },
	}
	x.open(NoStart)
	t.Cleanup(func() { _ = x.l.Close() })
	return x
}

func (x *tester) open(start Start) Found {
	x.t.Helper()
	l, found, err := Open(x.o, start)
	if err != nil {
		x.t.Fatal(err)
	}
	x.l = l
	return found
}

func (x *tester) reopen(start Start) Found {
	x.t.Helper()
	if err := x.l.Close(); err != nil {
		x.t.Fatal(err)
	}
	return x.open(start)
}

var testSources = []string{"platform", "crm", "a source with a longer name"}

// frame adds one frame of n events.
func (x *tester) frame(n int, kind string, lanes ...entry.LaneID) []byte {
	var d entry.Draft
	set := entry.NewLaneSet(lanes...)
	list := make([]entry.Event, n)
	for i := range list {
		id := fmt.Sprintf("evt_%d", x.seq+uint64(i))
		list[i] = entry.Event{ID: []byte(id), Type: []byte(kind), Body: fmt.Appendf(nil, `{"id":%q,"n":%d}`, id, rand.Int64()), Lanes: set}
		source := testSources[rand.IntN(len(testSources))]
		d.Add(source, &list[i], x.l.Key().Hash(list[i].ID))
		x.events[x.seq+uint64(i)] = entry.Stored{Seq: x.seq + uint64(i), At: x.now, Source: source, ID: list[i].ID, Type: list[i].Type, Body: list[i].Body, Lanes: set}
	}
	raw, f := d.Seal(nil, x.number, x.seq, x.now)
	x.l.Accept(f)
	x.l.Add(entry.Header{Kind: entry.KindFrame, Number: x.number, At: x.now}, f.Raw, f, nil)
	x.number++
	x.seq += uint64(n)
	x.now++
	return raw
}

func (x *tester) progress(lane entry.LaneID, seqs ...uint64) {
	p := entry.Progress{Lane: lane, Record: []byte("record")}
	for _, seq := range seqs {
		p.Attempts = append(p.Attempts, entry.EventAttempt{Seq: seq, Attempt: entry.Attempt{Number: 1, Status: 200}})
		x.told[seq]++
	}
	raw := p.Append(nil, x.number, x.now)
	x.l.Add(entry.Header{Kind: entry.KindProgress, Number: x.number, At: x.now}, raw, nil, &p)
	x.number++
}

func (x *tester) save() {
	x.t.Helper()
	if _, err := x.l.Save(); err != nil {
		x.t.Fatal(err)
	}
	if x.l.Full(0) {
		if err := x.l.Seal(); err != nil {
			x.t.Fatal(err)
		}
	}
}

// check reads everything back.
func (x *tester) check() {
	x.t.Helper()
	got := map[uint64]bool{}
	next := uint64(0)
	err := x.l.Blocks(Entries, 0, func(p Place, info *Info) error {
		if next != 0 && info.FirstEntry != next {
			return fmt.Errorf("block begins with entry %d, not %d", info.FirstEntry, next)
		}
		next = info.EndEntry()
		b, err := x.l.Read(p)
		if err != nil {
			return err
		}
		frames, err := b.Frames()
		if err != nil {
			return err
		}
		for _, f := range frames {
			for r := f.Reader(); ; {
				ev, ok, err := r.Next()
				if err != nil || !ok {
					break
				}
				if want := x.events[ev.Seq]; string(want.Body) != string(ev.Body) || want.At != ev.At || want.Lanes != ev.Lanes {
					return fmt.Errorf("event %d is %q, want %q", ev.Seq, ev.Body, want.Body)
				}
				got[ev.Seq] = true
			}
		}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	if len(got) != len(x.events) {
		x.t.Fatalf("%d events are there, %d were added", len(got), len(x.events))
	}
	for seq, ev := range x.events {
		h := x.l.Key().Hash(ev.ID)
		found, ok, err := x.l.Lookup(&h, 0)
		if err != nil || !ok || found != seq {
			x.t.Fatalf("id of event %d: %d, %v, %v", seq, found, ok, err)
		}
		if at, ok, err := x.l.At(seq); err != nil || !ok || at != ev.At {
			x.t.Fatalf("event %d was accepted at %d, want %d (%v, %v)", seq, at, ev.At, ok, err)
		}
	}
	unknown := x.l.Key().Hash([]byte("nobody"))
	if _, ok, err := x.l.Lookup(&unknown, 0); ok || err != nil {
		x.t.Fatalf("an unknown id is found: %v", err)
	}
	for seq, n := range x.told {
		places, err := x.l.AttemptBlocks(seq)
		if err != nil {
			x.t.Fatal(err)
		}
		count := 0
		for _, p := range places {
			b, err := x.l.Read(p)
			if err != nil {
				x.t.Fatal(err)
			}
			err = b.Unpack(func(h entry.Header, raw []byte) error {
				if h.Kind != entry.KindProgress {
					return nil
				}
				p, err := entry.ParseProgress(h, raw)
				for i := range p.Attempts {
					if p.Attempts[i].Seq == seq {
						count++
					}
				}
				return err
			})
			if err != nil {
				x.t.Fatal(err)
			}
		}
		if count != n {
			x.t.Fatalf("%d attempts of event %d are told, want %d", count, seq, n)
		}
	}
	x.checkShares(0)
	x.find("lead.created", 3)
	x.find("lead.*", 2)
	x.find("bot.created", 1)
}

// find walks up and down with a finder and compares what it passes by.
func (x *tester) find(pattern string, lane entry.LaneID) {
	x.t.Helper()
	fits := func(ev *entry.Stored) bool {
		name := string(ev.Type)
		return ev.Lanes.Has(lane) && (name == pattern || pattern[len(pattern)-1] == '*' && len(name) > len(pattern)-1 && name[:len(pattern)-1] == pattern[:len(pattern)-1])
	}
	key := x.l.Key()
	words := TypeWords(key, []string{pattern})
	_, end := x.l.End()
	var up, down, want []uint64
	for seq := range x.events {
		if ev := x.events[seq]; fits(&ev) {
			want = append(want, seq)
		}
	}
	slices.Sort(want)
	f := x.l.NewFinder(words, []uint64{LaneWord(key, lane)}, nil, 0, 0)
	for seq := uint64(1); ; {
		from, to, err := f.From(seq)
		if err != nil {
			x.t.Fatal(err)
		}
		if to == 0 {
			break
		}
		for n := from; n < to; n++ {
			if ev := x.events[n]; fits(&ev) {
				up = append(up, n)
			}
		}
		seq = to
	}
	f = x.l.NewFinder(words, []uint64{LaneWord(key, lane)}, nil, 0, 0)
	for seq := end; ; {
		from, to, ok, err := f.Before(seq)
		if err != nil {
			x.t.Fatal(err)
		}
		if !ok {
			break
		}
		for n := to; n > from; n-- {
			if ev := x.events[n-1]; fits(&ev) {
				down = append(down, n-1)
			}
		}
		seq = from
	}
	slices.Reverse(down)
	if !slices.Equal(up, want) || !slices.Equal(down, want) {
		x.t.Fatalf("%s of lane %d: upwards %d, downwards %d events are found, want %d", pattern, lane, len(up), len(down), len(want))
	}
}

func (x *tester) fill(rounds int) {
	types := []string{"lead.created", "lead.scored", "bot.created", "conversation.message"}
	for range rounds {
		lanes := []entry.LaneID{entry.LaneID(rand.IntN(5)), entry.LaneID(rand.IntN(5))}
		x.frame(1+rand.IntN(20), types[rand.IntN(len(types))], lanes...)
		if rand.IntN(3) == 0 && x.seq > 10 {
			x.progress(lanes[0], x.seq-1, x.seq-uint64(1+rand.IntN(9)))
		}
		if rand.IntN(5) == 0 {
			x.save()
		}
	}
	x.save()
}

func TestWhatWasSavedIsFoundAgain(t *testing.T) {
	x := newTester(t)
	x.fill(1000)
	if n := len(x.l.Segments()); n < 3 {
		t.Fatalf("only %d segments", n)
	}
	x.check()
	if found := x.reopen(NoStart); len(found.Gaps) > 0 || len(found.Damage) > 0 || found.NextEntry != x.number || found.NextEvent != x.seq {
		t.Fatalf("%+v", found)
	}
	x.check()
	x.fill(200)
	x.l.LoadFilters(nil)
	x.check()
}

func TestWhatSomebodyElseHasIsCutOffAndAddedAgain(t *testing.T) {
	for _, back := range []uint64{0, 1, 7, 150, 700} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			x := newTester(t)
			type kept struct {
				h   entry.Header
				raw []byte
			}
			x.fill(600)
			x.l.Local(Snapshot, []byte("carried"), nil)
			x.save()
			x.fill(20)
			var journal []kept
			first := x.number - back
			err := x.l.Blocks(Entries, first, func(p Place, _ *Info) error {
				b, err := x.l.Read(p)
				if err != nil {
					return err
				}
				return b.Unpack(func(h entry.Header, raw []byte) error {
					if h.Number >= first {
						journal = append(journal, kept{h, raw})
					}
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			found := x.reopen(Start{first, 1})
			if found.NextEntry < first || len(found.Gaps) > 0 || len(found.Damage) > 0 {
				t.Fatalf("%+v", found)
			}
			for _, k := range journal {
				if k.h.Number < found.NextEntry {
					continue
				}
				var f *entry.Frame
				var p *entry.Progress
				if k.h.Kind == entry.KindFrame {
					if f, err = entry.ParseFrame(k.h, k.raw); err != nil {
						t.Fatal(err)
					}
					x.l.Accept(f)
				} else if p, err = entry.ParseProgress(k.h, k.raw); err != nil {
					t.Fatal(err)
				}
				x.l.Add(k.h, k.raw, f, p)
			}
			x.save()
			x.check()
			carried := 0
			if err := x.l.Blocks(Snapshot, 0, func(p Place, info *Info) error {
				b, err := x.l.Read(p)
				if err == nil && string(b.Raw) == "carried" {
					carried++
				}
				return err
			}); err != nil || carried != 1 {
				t.Fatalf("carried records: %d, %v", carried, err)
			}
			x.reopen(NoStart)
			x.check()
		})
	}
}

func TestAFooterIsMadeAgain(t *testing.T) {
	x := newTester(t)
	x.fill(1000)
	for _, s := range x.l.Segments()[:2] {
		path := x.l.path(s.Number, suffix)
		if err := os.Truncate(path, s.Bytes-10); err != nil {
			t.Fatal(err)
		}
	}
	if found := x.reopen(NoStart); len(found.Damage) != 2 || len(found.Gaps) > 0 {
		t.Fatalf("%+v", found)
	}
	x.check()
	x.reopen(NoStart)
	x.check()
}

// A file with the name of a segment and the header of another is not that segment: counted as one, a copy would hide that
// the segment is missing.
func TestACopyOfAnotherSegmentIsNotTakenForOne(t *testing.T) {
	for _, over := range []int{0, 1} {
		x := newTester(t)
		x.fill(1000)
		list := x.l.Segments()
		gone, other := list[over], list[2]
		raw, err := os.ReadFile(x.l.path(other.Number, suffix))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(x.l.path(gone.Number, suffix), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		found := x.reopen(NoStart)
		if len(found.Damage) != 1 || !strings.Contains(found.Damage[0], "has the header of segment 3") {
			t.Errorf("over segment %d: it tells of %q", gone.Number, found.Damage)
		}
		if now := x.l.Segments(); len(now) != len(list)-1 {
			t.Errorf("over segment %d: there are %d segments, want %d", gone.Number, len(now), len(list)-1)
		}
		if over > 0 && (len(found.Gaps) != 1 || found.Gaps[0].FromEvent != gone.FirstEvent || found.Gaps[0].ToEvent != gone.EndEvent) {
			t.Errorf("over segment %d: the gaps are %+v, want events %d to %d", gone.Number, found.Gaps, gone.FirstEvent, gone.EndEvent-1)
		}
		if found := x.reopen(NoStart); len(found.Damage) != 0 {
			t.Errorf("over segment %d: the next start tells of %q", gone.Number, found.Damage)
		}
	}
}

// The blocks of a file whose parts are in the wrong order, or of which the first half is there twice, are put in order, and
// none is lost.
func TestBlocksThatLieInAnotherOrderArePutInOrder(t *testing.T) {
	for _, tt := range []struct {
		which int
		twice bool
	}{{1, false}, {1, true}, {-1, false}, {-1, true}} {
		which := tt.which
		x := newTester(t)
		x.fill(1000)
		for range 5 {
			x.frame(10, "lead.created", 1)
			if _, err := x.l.Save(); err != nil {
				t.Fatal(err)
			}
		}
		s := x.l.segments[(which+len(x.l.segments))%len(x.l.segments)]
		end := s.size
		if s.sealed {
			end = s.sections[sectionTable].offset
		}
		infos, _, err := s.walk(end, nil)
		if err != nil || len(infos) < 3 {
			t.Fatalf("%d blocks, %v", len(infos), err)
		}
		raw, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		half := infos[len(infos)/2].Offset
		swapped := slices.Concat(raw[:headerSize], raw[half:end], raw[headerSize:half])
		if tt.twice {
			swapped = slices.Concat(raw[:end], raw[headerSize:half])
			swapped[headerSize+blockHeader+1] ^= 1 // of one block only the second can be read
		}
		if err := os.WriteFile(s.path, swapped, 0o600); err != nil {
			t.Fatal(err)
		}
		found := x.reopen(NoStart)
		if len(found.Damage) == 0 || !strings.Contains(found.Damage[0], "are not in order") || len(found.Gaps) != 0 {
			t.Errorf("segment %d: it tells of %q and %+v", which, found.Damage, found.Gaps)
		}
		if kept, err := os.ReadFile(s.path + suffixAside); err != nil || !bytes.Equal(kept, swapped) {
			t.Errorf("segment %d: the file as it was is not kept: %v", which, err)
		}
		x.check()
		if found := x.reopen(NoStart); len(found.Damage) != 0 {
			t.Errorf("segment %d: the next start tells of %q", which, found.Damage)
		}
		x.check()
	}
}

// The key of postings and ids is in every header: whichever header can't be read, everything is found as before.
func TestTheHeaderOfOneSegmentCostsNothing(t *testing.T) {
	for _, at := range []int{0, 1, -1} {
		x := newTester(t)
		x.fill(1000)
		x.frame(3, "lead.created", 1) // a segment that has nothing yet was being begun
		if _, err := x.l.Save(); err != nil {
			t.Fatal(err)
		}
		list := x.l.Segments()
		path := x.l.path(list[(at+len(list))%len(list)].Number, suffix)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[45] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := x.reopen(NoStart); len(found.Damage) != 1 {
			t.Errorf("header %d: it tells of %q", at, found.Damage)
		}
		x.check()
	}
}

func TestOneFlippedBitCostsNoMoreThanItsBlock(t *testing.T) {
	x := newTester(t)
	x.fill(800)
	segments := x.l.Segments()
	sealed := segments[1]
	for _, at := range []int64{3, 40, headerSize + 5, headerSize + 60, headerSize + 300, sealed.Bytes / 2, sealed.Bytes - 5, sealed.Bytes - 100, sealed.Bytes - trailerSize - 300, sealed.Bytes * 3 / 4} {
		path := x.l.path(sealed.Number, suffix)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := slices.Clone(raw)
		broken[at] ^= 4
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		x.reopen(NoStart)
		lost := 0
		for seq, ev := range x.events {
			p, _, ok, err := x.l.Find(seq)
			if err != nil || !ok {
				lost++
				continue
			}
			b, err := x.l.Read(p)
			if err != nil || b.FirstEvent > seq {
				lost++
				continue
			}
			h := x.l.Key().Hash(ev.ID)
			if found, ok, err := x.l.Lookup(&h, 0); err != nil || !ok || found != seq {
				t.Errorf("byte %d: id of event %d: %d, %v, %v", at, seq, found, ok, err)
				break
			}
		}
		if lost > 60 {
			t.Errorf("byte %d: %d events are lost", at, lost)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x.reopen(NoStart)
	x.check()
}

func TestAStrippedSegmentKnowsItsIDs(t *testing.T) {
	x := newTester(t)
	x.fill(800)
	first := x.l.Segments()[0]
	if err := x.l.Strip(first.Number); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for seq, ev := range x.events {
			h := x.l.Key().Hash(ev.ID)
			if found, ok, err := x.l.Lookup(&h, 0); err != nil || !ok || found != seq {
				t.Fatalf("round %d: id of event %d: %d, %v, %v", round, seq, found, ok, err)
			}
		}
		if p, info, ok, err := x.l.Find(1); err != nil || !ok || info.FirstEvent != first.EndEvent {
			t.Fatalf("%v %+v %v %v", p, info, ok, err)
		}
		x.reopen(NoStart)
		x.l.LoadFilters(nil)
	}
	if s := x.l.Segments()[0]; !s.Stripped || s.Bytes > first.Bytes/2 {
		t.Fatalf("%+v", s)
	}
	if err := x.l.Remove(); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		var err error
		if more, err = x.l.Shorten(); err != nil {
			t.Fatal(err)
		}
	}
	h := x.l.Key().Hash(x.events[1].ID)
	if _, ok, err := x.l.Lookup(&h, 0); ok || err != nil {
		t.Fatalf("the id of a removed segment is known: %v", err)
	}
	if gone, _ := filepath.Glob(filepath.Join(x.o.Dir, "*"+suffixGone)); len(gone) > 0 {
		t.Fatal(gone)
	}
}

func TestABlockThatMovedIsNotTakenForAnother(t *testing.T) {
	x := newTester(t)
	x.fill(100)
	var places []Place
	_ = x.l.Blocks(Entries, 0, func(p Place, _ *Info) error { places = append(places, p); return nil })
	p := places[0]
	p.Sum++
	if _, err := x.l.Read(p); err == nil || Gone(err) {
		t.Fatal(err)
	} else if !errors.Is(err, codec.ErrDamaged) {
		t.Fatal(err)
	}
}

func TestASegmentOfManySmallEventsIsFullByItsIDs(t *testing.T) {
	x := newTester(t)
	x.o.SegmentSize = 1 << 40
	x.reopen(NoStart)
	for x.seq <= maxIDs {
		if x.l.Full(0) {
			t.Fatalf("full with %d ids", x.seq-1)
		}
		x.frame(4096, "lead.created", 1)
		if _, err := x.l.Save(); err != nil {
			t.Fatal(err)
		}
	}
	if !x.l.Full(0) {
		t.Fatalf("not full with %d ids", x.seq-1)
	}
}

// A search for a word that few segments have reads the postings of the others, and nothing else.
func TestASearchReadsOneThingOfASegmentThatHasNothingForIt(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	reads := 0
	x.o.Fault = func(place string, made bool) error {
		if place == PlaceRead && !made {
			reads++
		}
		return nil
	}
	x.reopen(NoStart)
	for len(x.l.Segments()) < 20 {
		kind := "common.type"
		if len(x.l.Segments()) == 5 {
			kind = "rare.type"
		}
		x.frame(20, kind, 1)
		x.save()
	}
	x.reopen(NoStart) // no table is in memory
	reads = 0
	f := x.l.NewFinder(TypeWords(x.l.Key(), []string{"rare.type"}), nil, nil, 0, 0)
	found := 0
	for from, _, ok, err := f.Before(x.seq); ok || err != nil; from, _, ok, err = f.Before(from) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if want := 19 + 2; reads > want || found == 0 {
		t.Errorf("%d reads for %d blocks in one of 19 segments, want %d at most", reads, found, want)
	}
}

// More segments than are looked through at a time: with all filters, with those of the newest only, and with none.
func TestAnIDIsFoundInAnyOfManySegments(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.o.SegmentSize = 8 << 10
	x.reopen(NoStart)
	ends := map[uint64]int64{} // by segment, when the last of its events was accepted
	for segments := len(x.l.Segments()); segments < 150; {
		x.frame(40, "lead.created", 1)
		x.save()
		if now := len(x.l.Segments()); now > segments {
			ends[x.l.Segments()[segments-1].Number] = x.now - 1
			segments = now
		}
	}
	look := func(when string) {
		t.Helper()
		list := x.l.Segments()
		for _, oldest := range []int{0, 85, 86} {
			for i, s := range list[:149] {
				if i%5 != 0 && i-oldest != -1 && i != oldest {
					continue
				}
				ev := x.events[s.FirstEvent+uint64(i)%(s.EndEvent-s.FirstEvent)]
				h := x.l.Key().Hash(ev.ID)
				found, ok, err := x.l.Lookup(&h, ends[list[oldest].Number])
				if err != nil || ok != (i >= oldest) || ok && found != ev.Seq {
					t.Fatalf("%s: the id of event %d in segment %d, asked for those since segment %d: %d, %v, %v", when, ev.Seq, i, oldest, found, ok, err)
				}
			}
		}
	}
	look("sealed")
	x.reopen(NoStart)
	look("without filters")
	x.l.LoadFilters(nil)
	look("with filters")
	x.o.FilterBytes = x.l.list()[100].filter.Load().bytes() * 9
	x.reopen(NoStart)
	x.l.LoadFilters(nil)
	if x.l.list()[20].filter.Load() != nil || x.l.list()[140].filter.Load() == nil {
		t.Fatal("there is memory for the filters of all or of none")
	}
	look("with the newest filters")

	// The newest of those that had an id is found, also when they are in different lots of segments.
	for _, at := range []uint64{2, x.seq / 3, x.seq - 500} {
		h := x.l.Key().Hash(x.events[at].ID)
		x.seq, x.events[x.seq] = x.seq+1, x.events[at]
		var d entry.Draft
		ev := entry.Event{ID: x.events[at].ID, Type: []byte("lead.created"), Body: []byte("{}"), Lanes: entry.NewLaneSet(1)}
		d.Add("crm", &ev, h)
		raw, f := d.Seal(nil, x.number, x.seq-1, x.now)
		x.l.Accept(f)
		x.l.Add(entry.Header{Kind: entry.KindFrame, Number: x.number, At: x.now}, raw, f, nil)
		x.number++
		for again := x.seq - 1; len(x.l.Segments()) < 155 || at == 2 && len(x.l.Segments()) < 216; {
			if found, ok, err := x.l.Lookup(&h, 0); err != nil || !ok || found != again {
				t.Fatalf("the id of event %d, used again by %d: %d, %v, %v", at, again, found, ok, err)
			}
			x.frame(40, "lead.created", 1)
			x.save()
		}
	}
}
