package log

import (
	"fmt"
	"sync"
	"testing"
)

// While segments are sealed, stripped and asked, those of a group come to share a filter, and no id is missed.
func TestSealedSegmentsShareFilters(t *testing.T) {
	x := newTester(t)
	stop := make(chan struct{})
	var keeper sync.WaitGroup
	keeper.Go(func() { x.l.KeepFilters(stop) })
	for len(x.l.Segments()) < 5*filterGroup {
		x.frame(40, "lead.created", 1)
		x.save()
		if n := len(x.l.Segments()); n%filterGroup == 3 && !x.l.list()[n-3].stripped {
			if err := x.l.Strip(x.l.list()[n-3].number); err != nil {
				t.Fatal(err)
			}
		}
		h := x.l.Key().Hash(x.events[x.seq/2].ID)
		if found, ok, err := x.l.Lookup(&h, 0); err != nil || !ok || found != x.seq/2 {
			t.Fatalf("the id of event %d: %d, %v, %v", x.seq/2, found, ok, err)
		}
	}
	close(stop)
	keeper.Wait()
	x.l.LoadFilters(nil) // what was complete when it was told to stop
	filters := map[*filter]int{}
	list := x.l.list()
	open := list[len(list)-1].number / filterGroup
	for _, s := range list[:len(list)-1] {
		f := s.filter.Load()
		if filters[f]++; f == nil || s.number/filterGroup == open && filters[f] > 1 {
			t.Errorf("the filter of segment %d: %p", s.number, f)
		}
	}
	if most := int(open) + 1 + filterGroup; len(filters) > most {
		t.Errorf("%d segments have %d filters, expected %d at most", len(list)-1, len(filters), most)
	}
	for seq, ev := range x.events {
		h := x.l.Key().Hash(ev.ID)
		if found, ok, err := x.l.Lookup(&h, 0); err != nil || !ok || found != seq {
			t.Fatalf("the id of event %d: %d, %v, %v", seq, found, ok, err)
		}
	}
}

// With 50 million ids there are 190 full segments, and each whose filter passes a new id costs a read.
func TestANewIDSeldomSeemsToBeInASegment(t *testing.T) {
	t.Parallel()
	l := &Log{}
	words := newFilterWords(maxIDs)
	for i := range maxIDs {
		h := l.key.Hash(fmt.Appendf(nil, "evt_%d", i))
		filterAdd(words, &h)
	}
	f := filter{words}
	const looks = 200_000
	wrong := 0
	for i := range looks {
		if h := l.key.Hash(fmt.Appendf(nil, "new_%d", i)); f.mayHave(&h) {
			wrong++
		}
	}
	if reads := 190 * float64(wrong) / looks; reads > 0.1 {
		t.Errorf("%d of %d ids seem to be there: %.2f reads for a new one among 190 segments", wrong, looks, reads)
	}
}
