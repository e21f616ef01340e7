package queue

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// shelf is a queue of many events in all states, and what a search of it must find.
type shelf struct {
	*bench
	crm, mail *Lane
	all       []FoundEvent // oldest first
}

var shelfTypes = []string{"lead.created", "lead.scored", "leadership", "bot.created", "rare.one", "test"}

func openShelf(t *testing.T, count int) *shelf {
	t.Helper()
	b, clock := openStill(t, nil)
	s := &shelf{bench: b, crm: b.lane("crm"), mail: b.lane("mail")}
	random := rand.New(rand.NewSource(int64(count)))
	at := int64(0) // queue time, which never goes back
	for i := 0; i < count; {
		var events []Event
		for range min(1+random.Intn(40), count-i) {
			id, kind := fmt.Sprint("evt_", i), shelfTypes[random.Intn(4)]
			if i%500 == 7 {
				kind = "rare.one"
			}
			to := [][]LaneID{{s.crm.ID()}, {s.crm.ID(), s.mail.ID()}, {s.mail.ID()}, nil}[random.Intn(4)]
			events = append(events, Event{ID: []byte(id), Type: []byte(kind), Body: body(id), Lanes: NewLaneSet(to...)})
			i++
		}
		receipts := make([]Receipt, len(events))
		if err := b.Append("platform", events, receipts); err != nil {
			t.Fatal(err)
		}
		at = max(at, clock.Load())
		for n, ev := range events {
			found := FoundEvent{
				Seq: receipts[n].Seq, At: at, Source: "platform", ID: string(ev.ID), Type: string(ev.Type), Bytes: len(ev.Body),
				Deliveries: []FoundDelivery{},
			}
			for _, l := range []*Lane{s.crm, s.mail} {
				if !ev.Lanes.Has(l.ID()) {
					continue
				}
				state := Pending
				if i < count*9/10 || l == s.crm && i < count*19/20 {
					state = s.settleOne(l, random)
				}
				found.Deliveries = append(found.Deliveries, FoundDelivery{l.Name(), state})
			}
			s.all = append(s.all, found)
		}
		if random.Intn(10) == 0 {
			b.saveAll()
		}
		clock.Add(int64(random.Intn(5000)) - 500) // now and then it jumps back
	}
	return s
}

func (s *shelf) settleOne(l *Lane, random *rand.Rand) string {
	d, _ := l.Take()
	for d == nil {
		s.saveAll()
		d, _ = l.Take()
	}
	switch random.Intn(8) {
	case 0:
		l.Retry(d, broken(1), s.opts.Now().Add(time.Hour))
		return Retrying
	case 1:
		l.Failed(d, broken(1), "answered 500")
		return Failed
	default:
		l.Delivered(d, ok(1))
		return Delivered
	}
}

// want is what the query must find, by looking at everything.
func (s *shelf) want(q Query) (list []FoundEvent) {
	sv := criteria{q.Types, q.Lane, s.stampOrZero(q.Since), s.stampOrZero(q.Until)}
	for _, ev := range slices.Backward(s.all) {
		var to []LaneID
		fits := q.State == ""
		for _, d := range ev.Deliveries {
			l := s.crm
			if d.Lane == "mail" {
				l = s.mail
			}
			to = append(to, l.ID())
			fits = fits || d.State == q.State && (q.Lane == nil || q.Lane == l)
		}
		if fits && sv.match(&Stored{At: ev.At, Lanes: NewLaneSet(to...), Type: []byte(ev.Type)}) {
			list = append(list, ev)
		}
	}
	return list
}

// findAll turns all pages.
func (s *shelf) findAll(q Query) (list []FoundEvent) {
	s.t.Helper()
	for {
		page, err := s.Search(q)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(page.Events) > q.Limit {
			s.t.Fatalf("%d events on a page of %d", len(page.Events), q.Limit)
		}
		for _, ev := range page.Events {
			if (ev.Failure != nil) != (q.State == Failed && q.Lane != nil) {
				s.t.Fatalf("%s comes with the failure %+v", ev.ID, ev.Failure)
			}
			ev.Failure = nil
			list = append(list, ev)
		}
		if page.Next == 0 {
			return list
		}
		if q.Below != 0 && page.Next >= q.Below {
			s.t.Fatalf("the page below %d is followed by the one below %d", q.Below, page.Next)
		}
		q.Below = page.Next
	}
}

func (s *shelf) check(when string) {
	s.t.Helper()
	from, to := s.all[len(s.all)/3].At, s.all[len(s.all)/2].At
	for _, types := range [][]string{nil, {"lead.created"}, {"lead.*"}, {"rare.one", "bot.*"}, {"never.was"}, {"*"}} {
		for _, state := range []string{"", Pending, Retrying, Delivered, Failed} {
			for _, l := range []*Lane{nil, s.crm, s.mail} {
				for _, span := range [][2]int64{{0, 0}, {from, to}, {to, 0}, {0, from}} {
					q := Query{Types: types, State: state, Lane: l, Limit: 100}
					if span[0] != 0 {
						q.Since = time.UnixMilli(span[0])
					}
					if span[1] != 0 {
						q.Until = time.UnixMilli(span[1])
					}
					if got, want := s.findAll(q), s.want(q); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
						name := "any"
						if l != nil {
							name = l.Name()
						}
						s.t.Fatalf("%s: types %v, %s, for %s, in %v: found %d, want %d", when, types, state, name, span, len(got), len(want))
					}
				}
			}
		}
	}
}

func TestSearchFindsWhatLookingAtEverythingFinds(t *testing.T) {
	t.Parallel()
	s := openShelf(t, 800) // eight pages
	s.check("some of it in memory")
	s.reopen()
	s.crm, s.mail = s.lane("crm"), s.lane("mail")
	s.check("opened again")
}

func TestSearchFindsWhatIsKeptOfDeletedBlocks(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	s := &shelf{bench: b, crm: b.lane("crm"), mail: b.lane("mail")}
	for i := range 40 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(s.crm.ID()), id)
		d := mustTake(t, s.crm, id)
		if i%10 == 3 {
			s.crm.Failed(d, broken(1), "answered 500")
			s.all = append(s.all, FoundEvent{
				Seq: d.Event.Seq, At: d.Event.At, Source: "platform", ID: id, Type: "lead.created", Bytes: len(body(id)),
				Deliveries: []FoundDelivery{{"crm", Failed}},
			})
		} else {
			s.crm.Delivered(d, ok(1))
		}
	}
	b.saveAll()
	for range 3 {
		b.tidy()
		clock.Add(2 * time.Hour.Milliseconds())
	}
	b.tidy()
	if n := b.Stats().Events; n != 4 {
		t.Fatalf("%d events are kept, want 4", n)
	}
	for _, state := range []string{"", Failed} {
		q := Query{State: state, Types: []string{"lead.*"}, Limit: 3}
		if got, want := s.findAll(q), s.want(q); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: found %+v, want %+v", state, got, want)
		}
	}
}

// The work for one page is bounded; what is left comes with the next.
func TestASearchInVainEndsAndGoesOn(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.slotSize = 4 << 20 })
	crm := b.lane("crm")
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for i := range 20 {
		err := b.Append("platform", []Event{{ID: fmt.Append(nil, "evt_", i), Type: []byte("x"), Body: large, Lanes: NewLaneSet(crm.ID())}}, make([]Receipt, 1))
		if err != nil {
			t.Fatal(err)
		}
	}
	pages := 0
	for q := (Query{State: Retrying}); ; pages++ {
		page, err := b.Search(q)
		if err != nil || len(page.Events) > 0 {
			t.Fatalf("found %+v, %v", page, err)
		}
		if q.Below = page.Next; q.Below == 0 {
			break
		}
	}
	if pages != 0 {
		t.Errorf("%d more pages of what is not there at all", pages)
	}
	for q := (Query{Since: time.Now().Add(time.Hour)}); ; pages++ {
		page, err := b.Search(q)
		if err != nil || len(page.Events) > 0 {
			t.Fatalf("found %+v, %v", page, err)
		}
		if q.Below = page.Next; q.Below == 0 {
			break
		}
	}
	if pages != 0 {
		t.Errorf("%d more pages of a time that no event has", pages)
	}
	for q := (Query{State: Delivered, Types: []string{"x"}}); ; pages++ {
		page, err := b.Search(q)
		if err != nil || len(page.Events) > 0 {
			t.Fatalf("found %+v, %v", page, err)
		}
		if q.Below = page.Next; q.Below == 0 {
			break
		}
	}
	if pages < 1 {
		t.Errorf("20 MiB were read for one page")
	}
}

// A page costs what it finds, and not a look at every lane that there is.
func TestASearchAmongManyLanesLooksAtThoseOfItsEvents(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	names := make([]string, searchSteps+10)
	for i := range names {
		names[i] = fmt.Sprint("crm-", i)
	}
	if err := b.MakeLanes(names); err != nil {
		t.Fatal(err)
	}
	first, last := b.lane(names[0]), b.lane(names[len(names)-1])
	b.append(NewLaneSet(first.ID(), last.ID()), "evt_1", "evt_2", "evt_3")
	for range 3 {
		first.Failed(b.take(first), broken(1), "answered 500")
	}
	for _, state := range []string{"", Failed, Pending} {
		page, err := b.Search(Query{State: state})
		if err != nil || len(page.Events) != 3 || page.Next != 0 {
			t.Fatalf("%q: found %+v, %v; want all three on one page", state, page, err)
		}
		want := []FoundDelivery{{first.Name(), Failed}, {last.Name(), Pending}}
		if got := page.Events[0].Deliveries; !slices.Equal(got, want) {
			t.Errorf("%q: the deliveries are %v, want %v", state, got, want)
		}
	}
	_, deliveries, _, err := b.Story([]byte("evt_2"))
	if err != nil || len(deliveries) != 2 || deliveries[0].Lane != first.Name() || deliveries[1].Lane != last.Name() {
		t.Errorf("the story has %+v, %v", deliveries, err)
	}
}

// BenchmarkSearchAmongLanes compares few lanes with many: a page of events for one of them each.
func BenchmarkSearchAmongLanes(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q, crm := openSpeed(b, 0)
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprint("crm-", i)
			}
			if err := q.MakeLanes(names); err != nil {
				b.Fatal(err)
			}
			mustFill(b, q, crm, 0, 1000)
			for b.Loop() {
				if page, err := q.Search(Query{}); err != nil || len(page.Events) != 100 {
					b.Fatal(len(page.Events), err)
				}
			}
		})
	}
}
