package entry

import (
	"fmt"
	"testing"
)

// TestAFrameOfManyLaneSetsHasEachEventsOwn: as many sets as events, fewer, and a draft that is used again.
func TestAFrameOfManyLaneSetsHasEachEventsOwn(t *testing.T) {
	var d Draft
	for round, sets := range []int{1, fewSets - 1, fewSets, fewSets + 1, 3 * maxSets, 2, fewSets + 2} {
		events := make([]Event, 2*sets)
		d.Reset()
		for i := range events {
			events[i] = Event{ID: fmt.Appendf(nil, "evt_%d", i), Type: []byte("a"), Body: []byte("{}"), Lanes: NewLaneSet(LaneID(i%sets*(round+1)), 1<<20)}
			d.Add("platform", &events[i], Hash{})
		}
		for _, n := range d.Counts(nil) {
			if n != 2 {
				t.Fatalf("of %d sets one has %d events, want 2", sets, n)
			}
		}
		_, f := d.Seal(nil, 1, 1, 1)
		parsed, err := ParseFrame(Header{Kind: KindFrame, Number: 1, At: 1}, f.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(parsed.Sets) != sets {
			t.Errorf("a frame of %d sets has %d", sets, len(parsed.Sets))
		}
		n := 0
		for r := parsed.Reader(); ; n++ {
			ev, ok, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if ev.Lanes != events[n].Lanes {
				t.Fatalf("of %d sets event %d has another", sets, n)
			}
		}
		if n != len(events) {
			t.Errorf("a frame of %d events has %d", len(events), n)
		}
	}
}

// BenchmarkDraft adds as many events as a full frame has, each in one of some lane sets.
func BenchmarkDraft(b *testing.B) {
	const n = 4000
	for _, sets := range []int{1, 8, 100, n} {
		events := make([]Event, n)
		for i := range events {
			events[i] = Event{Lanes: NewLaneSet(LaneID(i * 7919 % sets))}
		}
		b.Run(fmt.Sprint(sets), func(b *testing.B) {
			var d Draft
			for b.Loop() {
				d.Reset()
				for i := range events {
					d.Add("platform", &events[i], Hash{})
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}
