package delivery

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/match"
)

// customer is a receiver of one account, which notes what comes.
func customer(t *testing.T) (*ledger, string) {
	got := &ledger{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.enter(r.Header.Get("webhook-id")) }))
	t.Cleanup(server.Close)
	return got, server.URL
}

func account(ids ...string) match.Rule {
	c := match.Condition{Path: "data.accountId"}
	for _, id := range ids {
		c.Values = append(c.Values, match.Text(id))
	}
	return match.Rule{c}
}

// acceptOf stores an event of an account.
func (d *harness) acceptOf(account, id string) queue.LaneSet {
	d.t.Helper()
	body := fmt.Appendf(nil, `{"id":%q,"type":"lead.created","data":{"accountId":%q}}`, id, account)
	ev := queue.Event{ID: []byte(id), Type: []byte("lead.created"), Body: body, Lanes: d.dispatcher.Route([]byte("lead.created"), body), Words: d.dispatcher.Words(body)}
	if err := d.Append("platform", []queue.Event{ev}, make([]queue.Receipt, 1)); err != nil {
		d.t.Fatal(err)
	}
	return ev.Lanes
}

func (d *harness) pause(names ...string) {
	d.t.Helper()
	for _, name := range names {
		if err := d.dispatcher.Lane(name).Pause("by the operator"); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *harness) resume(names ...string) {
	d.t.Helper()
	for _, name := range names {
		if err := d.dispatcher.Lane(name).Resume(); err != nil {
			d.t.Fatal(err)
		}
	}
}

func TestAnEventGoesToItsAccountAndToEverybody(t *testing.T) {
	_, url := customer(t)
	a, both, off, all := subscriber("a", url), subscriber("both", url), subscriber("off", url), subscriber("all", url)
	a.Match, both.Match, off.Match = account("acct_a"), account("acct_a", "acct_b"), account("acct_a")
	off.Enabled, both.Events, all.Events = false, []string{"lead.*"}, []string{"email.*"}
	d := openHarness(t, a, both, off, all)
	goes := func(typ, who string, want ...string) {
		t.Helper()
		set := d.dispatcher.Route([]byte(typ), []byte(`{"type":"x","data":{"accountId":"`+who+`"}}`))
		var got []string
		for _, l := range d.dispatcher.table.Load().lanes {
			if set.Has(l.queueLane.ID()) {
				got = append(got, l.name)
			}
		}
		if !slices.Equal(got, want) || set.Len() != len(want) {
			t.Errorf("%s of %s goes to %v, want %v", typ, who, got, want)
		}
	}
	goes("lead.created", "acct_a", "a", "both")
	goes("lead.created", "acct_b", "both")
	goes("lead.created", "acct_c")
	goes("email.sent", "acct_a", "a", "all")
	goes("email.sent", "acct_b", "all")
}

// TestASwapOfTwoEndpointsSendsNothingToAnotherAccount: what waits is judged again, also by a relay that was started again, and a
// replay is. What is still the endpoint's own is delivered.
func TestASwapOfTwoEndpointsSendsNothingToAnotherAccount(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restarts), func(t *testing.T) {
			ofA, urlA := customer(t)
			ofB, urlB := customer(t)
			box, urlBox := newLetterbox(t)
			one, two, dead := subscriber("one", urlA), subscriber("two", urlB), subscriber("dead", urlBox)
			one.Match, two.Match, dead.Events = account("acct_a"), account("acct_b"), nil
			one.Delivery.OnFailed = "dead" // which is the customer's, too
			d := openHarness(t, one, two, dead)
			d.pause("one", "two")
			d.acceptOf("acct_a", "evt_a")
			d.acceptOf("acct_b", "evt_b")
			one.URL, two.URL = config.NewURL(urlB), config.NewURL(urlA)
			one.Match, two.Match = account("acct_b"), account("acct_a", "acct_b")
			changes := []config.Change{{Section: "endpoint", Name: "one", Change: config.Changed, Keys: []string{"url", "match"}},
				{Section: "endpoint", Name: "two", Change: config.Changed, Keys: []string{"url", "match"}}}
			d.dispatcher.ExplainChanges(changes, []config.Endpoint{one, two, dead})
			if want := "1 pending held until it is resumed; 1 pending are not this account's: they will not be sent, and become failed (unmatched)"; changes[0].Means != want {
				t.Errorf("the plan says %q, want %q", changes[0].Means, want)
			}
			if want := "1 pending held until it is resumed"; changes[1].Means != want {
				t.Errorf("the plan says %q, want %q", changes[1].Means, want)
			}
			if restarts {
				d.restart(one, two, dead)
			} else {
				d.apply(one, two, dead)
			}
			d.resume("one", "two")
			d.until("one", "settled", settled)
			d.until("two", "settled", settled)
			failed := func(want string) {
				t.Helper()
				_, deliveries, _, err := d.Story([]byte("evt_a"))
				if err != nil || len(deliveries) != 1 || deliveries[0].Failure == nil {
					t.Fatalf("%+v, %v", deliveries, err)
				}
				if f := deliveries[0].Failure; f.Class != ClassUnmatched || f.Reason != want || f.Attempts != 0 || strings.Contains(f.Reason, "acct") {
					t.Errorf("%+v", f)
				}
			}
			failed("data.accountId is not what the endpoint's match asks for")
			if _, err := d.dispatcher.Lane("one").queueLane.StartReplay(queue.ReplaySpec{Failed: true}, -1); err != nil {
				t.Fatal(err)
			}
			d.until("one", "done with its replay", func(s Status) bool { return len(s.Replays) == 0 && s.Failed == 1 })
			failed("data.accountId is not what the endpoint's match asks for")
			// The control: it is delivered once it is the endpoint's own again.
			d.acceptOf("acct_b", "evt_c")
			d.until("two", "settled", func(s Status) bool { return settled(s) && s.Delivered == 2 })
			d.until("one", "settled", func(s Status) bool { return settled(s) && s.Delivered == 1 })
			if a, b := ofA.arrived(), ofB.arrived(); !slices.Equal(a, []string{"evt_b", "evt_c"}) || !slices.Equal(b, []string{"evt_c"}) {
				t.Errorf("the first receiver got %v, the second %v", a, b)
			}
			d.until("one", "done with its dead letters", func(Status) bool {
				_, deliveries, _, err := d.Story([]byte("evt_a"))
				return err == nil && len(deliveries) > 0 && deliveries[0].Failure != nil && !deliveries[0].Failure.Owed
			})
			if s := d.status("dead"); s.Pending+s.Retrying+s.Failed+s.Delivered > 0 || len(box.arrived()) > 0 {
				t.Errorf("the endpoint of on_failed got %v: %+v", box.arrived(), s)
			}
		})
	}
}

// explain is what the plan says of a change of one endpoint's keys.
func (d *harness) explain(ep config.Endpoint, keys ...string) string {
	changes := []config.Change{{Section: "endpoint", Name: ep.Name, Change: config.Changed, Keys: keys}}
	d.dispatcher.ExplainChanges(changes, []config.Endpoint{ep})
	return changes[0].Means
}

// TestThePlanJudgesWhatIsHeldWhateverChanges: what an earlier change of match left to an endpoint that is paused is told by each plan.
func TestThePlanJudgesWhatIsHeldWhateverChanges(t *testing.T) {
	_, url := customer(t)
	one := subscriber("one", url)
	one.Match = account("acct_a")
	d := openHarness(t, one)
	d.pause("one")
	d.acceptOf("acct_a", "evt_a")
	one.Match = account("acct_b")
	d.apply(one)
	d.acceptOf("acct_b", "evt_b")
	for _, key := range []string{"url", "enabled", "secret", "match"} {
		want := "2 pending held until it is resumed; 1 pending are not this account's: they will not be sent, and become failed (unmatched)"
		if got := d.explain(one, key); got != want {
			t.Errorf("of a change of %s the plan says %q, want %q", key, got, want)
		}
	}
}

// TestAPlanThatIsBoundedSaysWhatWasLookedAt: it looks at a bounded number of events, counts those, and says that there are others.
func TestAPlanThatIsBoundedSaysWhatWasLookedAt(t *testing.T) {
	_, url := customer(t)
	one := subscriber("one", url)
	one.Match = account("acct_a", "acct_b")
	d := openHarness(t, one)
	d.pause("one")
	accept := func(account string, from, n int) {
		events := make([]queue.Event, n)
		for i := range events {
			id := fmt.Sprintf("evt_%d", from+i)
			body := fmt.Appendf(nil, `{"id":%q,"type":"lead.created","data":{"accountId":%q}}`, id, account)
			events[i] = queue.Event{ID: []byte(id), Type: []byte("lead.created"), Body: body, Lanes: d.dispatcher.Route([]byte("lead.created"), body)}
		}
		if err := d.Append("platform", events, make([]queue.Receipt, n)); err != nil {
			t.Fatal(err)
		}
	}
	accept("acct_a", 0, 20_000)
	looked := func(rule match.Rule, key, form string) {
		t.Helper()
		changed := one
		changed.Match = rule
		var seen int
		if n, err := fmt.Sscanf(d.explain(changed, key), form, &seen); n != 1 || err != nil || seen < 1000 || seen >= 20_000 {
			t.Errorf("the plan says %q, want %q of some thousands", d.explain(changed, key), form)
		}
	}
	looked(account("acct_a"), "match", "20000 pending held until it is resumed; the newest, %d pending, were looked at, and all are this account's: what is not among the others will not be sent, and becomes failed (unmatched)")
	accept("acct_b", 20_000, 3)
	looked(account("acct_a"), "url", "20003 pending held until it is resumed; the newest, %d pending, were looked at, and 3 pending are not this account's: these, and what is not among the others, will not be sent, and becomes failed (unmatched)")
	looked(account("acct_b"), "match", "20003 pending held until it is resumed; the newest, %d pending, were looked at, and 1000 pending are not this account's: these, and what is not among the others, will not be sent, and becomes failed (unmatched)")
}

// TestWhatIsNotItsOwnTakesTurnsWithTheRest: of an endpoint that comes back, first attempts have precedence by turns, and what is given
// up without an attempt ends no turn. However much of it waits, what is due is asked for next.
func TestWhatIsNotItsOwnTakesTurnsWithTheRest(t *testing.T) {
	_, url := customer(t)
	one := subscriber("one", url)
	one.Match, one.Delivery.Retry = account("acct_a", "acct_b"), []time.Duration{time.Hour, time.Hour}
	d := openHarness(t, one)
	d.pause("one")
	lane := d.dispatcher.Lane("one")
	retried := func(who, id string) {
		d.acceptOf(who, id)
		taken, _ := lane.queueLane.Take()
		if taken == nil {
			t.Fatal("there is nothing to take")
		}
		lane.queueLane.Retry(taken, &queue.Attempt{Number: 1, At: d.now(), Status: 500}, d.now().Add(-time.Second))
	}
	retried("acct_b", "evt_due")
	for i := range 5 {
		d.acceptOf("acct_a", fmt.Sprint("evt_first_", i))
	}
	one.Match = account("acct_b")
	d.apply(one)
	ask := func(newFirst bool) (id string, left int64) {
		q := &query{now: d.now(), permit: permit{retries: true, firsts: true, newFirst: newFirst}, generation: lane.generation.Load(), outlook: lane.queueLane.Outlook()}
		lane.askQueue(q)
		if q.d == nil {
			return "nothing", lane.queueLane.Outlook().Waiting
		}
		lane.queueLane.Delivered(q.d, &queue.Attempt{Number: 2, At: d.now(), Status: 200})
		return string(q.d.Event.ID), lane.queueLane.Outlook().Waiting
	}
	if id, left := ask(true); id != "evt_due" || left != 4 {
		t.Errorf("it takes %s, and %d first attempts are left; want the retry after one that is not its own", id, left)
	}
	// And the other way round: retries that are not its own hold up no first attempt.
	one.Match = account("acct_a", "acct_b")
	d.apply(one)
	for lane.queueLane.Outlook().Waiting > 0 {
		taken, _ := lane.queueLane.Take()
		lane.queueLane.Delivered(taken, &queue.Attempt{Number: 1, At: d.now(), Status: 200})
	}
	for i := range 5 {
		retried("acct_a", fmt.Sprint("evt_retry_", i))
	}
	d.acceptOf("acct_b", "evt_first")
	one.Match = account("acct_b")
	d.apply(one)
	if id, _ := ask(false); id != "evt_first" || lane.queueLane.Outlook().Retrying != 4 {
		t.Errorf("it takes %s, and %d retries are left; want the first attempt after one that is not its own", id, lane.queueLane.Outlook().Retrying)
	}
}

// BenchmarkRoute compares few accounts with many: routing an event of one of them.
func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		lanes, endpoints := make([]*Lane, n), make([]*config.Endpoint, n)
		q, err := queue.Open(queue.Options{Dir: b.TempDir(), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		lane, err := q.Lane("crm")
		if err != nil {
			b.Fatal(err)
		}
		for i := range lanes {
			ep := subscriber("crm", "http://127.0.0.1:1/")
			ep.Match = account(fmt.Sprint("acct_", i))
			lanes[i], endpoints[i] = &Lane{queueLane: lane}, &ep
		}
		table := newRoutingTable(q, lanes, endpoints)
		bodies := make([][]byte, n)
		for i := range bodies {
			bodies[i] = fmt.Appendf(nil, `{"id":"evt_1","type":"lead.created","data":{"accountId":"acct_%d"}}`, i)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f match.Found
			var words queue.Words
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Members().Read(bodies[i*7919%n], &f)
				words = table.Words(words[:0], &f)
				if table.Route([]byte("lead.created"), &f).Len() != 1 {
					b.Fatal("not one endpoint")
				}
			}
		})
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply compares few endpoints with many: a reload that changes one.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q, err := queue.Open(queue.Options{Dir: b.TempDir(), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			endpoints, names := make([]config.Endpoint, n), make([]string, n)
			for i := range endpoints {
				names[i] = fmt.Sprint("crm-", i)
				endpoints[i] = subscriber(names[i], "http://127.0.0.1:1/")
				endpoints[i].Match = account(fmt.Sprint("acct_", i))
			}
			if err := q.MakeLanes(names); err != nil {
				b.Fatal(err)
			}
			d, err := NewDispatcher(q, endpoints, 0, "0", zerolog.Nop(), client.Machine{})
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				changed := slices.Clone(endpoints)
				changed[n-1].Delivery.Concurrency = 1 + i%2
				if err := d.Apply(changed); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			d.Stop(b.Context())
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
