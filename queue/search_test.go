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
	sv := criteria{q.Types, q.Lane, "", nil, s.stampOrZero(q.Since), s.stampOrZero(q.Until)}
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

// account is the events of which the body says this, and the words that lead to them.
func account(q *Queue, id string) (words Words, query Query) {
	value := []byte(`"` + id + `"`)
	return q.Words(nil, "data.account", value), Query{
		Members: []Member{{Name: "data.account", Values: [][]byte{value}}},
		Fits:    func(ev *Stored) bool { return strings.Contains(string(ev.Body), `"account":"`+id+`"`) },
	}
}

// What a member's value leads to is found on one page, however much lies above it; what has no words is found all the same, page by page.
func TestAMembersEventsAreFoundAmongManyOthers(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.slotSize = 4 << 20 })
	crm := b.lane("crm")
	put := func(id, who, padding string, words bool) {
		ev := Event{ID: []byte(id), Type: []byte("x"), Body: []byte(`{"account":"` + who + `","x":"` + padding + `"}`), Lanes: NewLaneSet(crm.ID())}
		if words {
			ev.Words, _ = account(b.Queue, who)
		}
		if err := b.Append("platform", []Event{ev}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
	}
	put("evt_old", "acct_7", "", true)
	put("evt_unread", "acct_8", "", false)
	for i := range 24 {
		put(fmt.Sprint("evt_", i), fmt.Sprint("acct_other_", i), strings.Repeat("x", 1<<20), true)
	}
	put("evt_new", "acct_7", "", true)
	for _, when := range []string{"in memory", "started again"} {
		_, query := account(b.Queue, "acct_7")
		page, err := b.Search(query)
		if err != nil || page.Next != 0 || len(page.Events) != 2 || page.Events[0].ID != "evt_new" || page.Events[1].ID != "evt_old" {
			t.Errorf("%s: found %+v, %v; want both on one page", when, page, err)
		}
		_, query = account(b.Queue, "acct_8")
		if page, err = b.Search(query); err != nil || page.Next != 0 || len(page.Events) != 1 {
			t.Errorf("%s: found %+v, %v; want what has no words, too", when, page, err)
		}
		query.Members = nil
		if page, err = b.Search(query); err != nil || page.Next == 0 {
			t.Errorf("%s: without an index one page has found %+v, %v", when, page, err)
		}
		b.reopen()
	}
}

// The events of a source are found on one page among many others, with other filters or without.
func TestASourcesEventsAreFound(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.slotSize = 4 << 20 })
	crm := b.lane("crm")
	put := func(source, id, padding string) {
		ev := Event{ID: []byte(id), Type: []byte("lead.created"), Body: []byte(`{"x":"` + padding + `"}`), Lanes: NewLaneSet(crm.ID())}
		if err := b.Append(source, []Event{ev}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
	}
	put("edge", "evt_old", "")
	for i := range 24 {
		put("platform", fmt.Sprint("evt_", i), strings.Repeat("x", 1<<20))
	}
	put("edge", "evt_new", "")
	for range 26 {
		crm.Failed(b.take(crm), broken(1), "answered 500")
	}
	for _, when := range []string{"in memory", "started again"} {
		for _, query := range []Query{{}, {Types: []string{"lead.*"}}, {Lane: crm}, {State: Failed}, {State: Failed, Lane: crm}} {
			query.Source = "edge"
			page, err := b.Search(query)
			if err != nil || page.Next != 0 || len(page.Events) != 2 || page.Events[0].ID != "evt_new" || page.Events[1].ID != "evt_old" {
				t.Errorf("%s: %+v finds %+v, %v; want both on one page", when, query, page, err)
			}
		}
		if page, err := b.Search(Query{Source: "nobody"}); err != nil || page.Next != 0 || len(page.Events) != 0 {
			t.Errorf("%s: of nobody there is %+v, %v", when, page, err)
		}
		b.reopen()
		crm = b.lane("crm")
	}
}

// Whatever events were asked for, whoever began or ceased to ask within a block, no event is overlooked: while it is in memory, in the
// open segment, in sealed ones, and when all of this is read again.
func TestNoEventOfAMemberIsOverlooked(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.segmentSize, o.tailBytes = 64<<10, 4<<10 })
	crm := b.lane("crm")
	random := rand.New(rand.NewSource(1))
	of := map[string][]string{}
	asked, n := true, 0
	fill := func(count int) {
		for range count {
			var events []Event
			for range 1 + random.Intn(5) {
				if random.Intn(40) == 0 {
					asked = !asked
				}
				who := fmt.Sprint("acct_", random.Intn(30))
				ev := Event{ID: fmt.Append(nil, "evt_", n), Type: []byte("x"), Lanes: NewLaneSet(crm.ID()),
					Body: []byte(`{"account":"` + who + `","x":"` + strings.Repeat("x", random.Intn(200)) + `"}`)}
				if random.Intn(20) == 0 {
					ev.Body, who = []byte(`{"x":1}`), ""
				}
				switch {
				case !asked:
				case who == "":
					ev.Words = b.Words(nil, "data.account", nil)
				default:
					ev.Words, _ = account(b.Queue, who)
				}
				of[who] = append([]string{string(ev.ID)}, of[who]...)
				events = append(events, ev)
				n++
			}
			if err := b.Append("platform", events, make([]Receipt, len(events))); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(when string) {
		t.Helper()
		for i := range 31 {
			who := fmt.Sprint("acct_", i) // of the last there is none
			_, query := account(b.Queue, who)
			var found []string
			for {
				page, err := b.Search(query)
				if err != nil {
					t.Fatal(err)
				}
				for _, ev := range page.Events {
					found = append(found, ev.ID)
				}
				if query.Below = page.Next; query.Below == 0 {
					break
				}
			}
			if !slices.Equal(found, of[who]) {
				t.Errorf("%s: of %s %d events are found, and there are %d", when, who, len(found), len(of[who]))
			}
		}
	}
	fill(600)
	check("at once")
	b.saveAll()
	check("saved")
	b.reopen()
	check("started again")
	fill(100)
	check("with more")
	c := b.crash(nil)
	b.Queue = c.Queue
	check("after a crash")
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
