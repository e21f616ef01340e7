package queue

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// mustTellStories holds what stories say of deliveries to a lane against the states that they have.
func (b *bench) mustTellStories(when, lane string, want map[string]string) {
	b.t.Helper()
	for id, state := range want {
		_, stories, found, err := b.Story([]byte(id))
		at := slices.IndexFunc(stories, func(s DeliveryStory) bool { return s.Lane == lane })
		if err != nil || !found || at < 0 {
			b.t.Fatalf("%s: story of %s: %+v, found %v, %v", when, id, stories, found, err)
		}
		if got := stories[at].State; got != state {
			b.t.Errorf("%s: the story of %s says %s, want %s", when, id, got, state)
		}
	}
}

// mustTell is mustTellStories, and holds what searches find against the states, too.
func (b *bench) mustTell(when, lane string, want map[string]string) {
	b.t.Helper()
	b.mustTellStories(when, lane, want)
	for _, state := range []string{Delivered, Failed, Discarded} {
		found, err := b.Search(Query{Lane: b.lane(lane), State: state, Limit: 100})
		if err != nil {
			b.t.Fatal(err)
		}
		var got, wanted []string
		for _, ev := range found.Events {
			got = append(got, ev.ID)
			at := slices.IndexFunc(ev.Deliveries, func(d FoundDelivery) bool { return d.Lane == lane })
			if at < 0 || ev.Deliveries[at].State != state {
				b.t.Errorf("%s: a search for %s finds %+v", when, state, ev)
			}
		}
		for id, s := range want {
			if s == state {
				wanted = append(wanted, id)
			}
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			b.t.Errorf("%s: a search for %s finds %v, want %v", when, state, got, wanted)
		}
	}
}

// Deliveries that failed and were deleted from the failed ones are discarded, until a replay delivers them; what was delivered
// beside them stays delivered, also when its event is carried for another lane.
func TestWhatWasDiscardedIsNotToldAsDelivered(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.Retention, o.FailedRetention = 100*time.Hour, time.Hour })
	crm, mail := b.lane("crm"), b.lane("mail")
	b.append(NewLaneSet(crm.ID(), mail.ID()), "good", "failed", "discarded", "replayed", "untried", "old", "last")
	for _, id := range []string{"good", "failed", "discarded", "replayed", "untried", "old", "last"} {
		switch d := mustTake(t, crm, id); id {
		case "good":
			crm.Delivered(d, ok(1))
		case "last":
			crm.Retry(d, broken(1), time.UnixMilli(clock.Load()))
		case "untried":
			crm.GiveUp(d, classExpired, "it is older than max_age")
		default:
			crm.Failed(d, broken(1), "answered 500")
		}
		mail.Delivered(mustTake(t, mail, id), ok(1))
	}
	d, in := takeDue(crm, time.UnixMilli(clock.Load()+1))
	if !in {
		t.Fatal("nothing is due")
	}
	crm.Delivered(d, ok(2))
	want := map[string]string{
		"good": Delivered, "failed": Failed, "discarded": Failed, "replayed": Failed, "untried": Failed, "old": Failed, "last": Delivered,
	}
	all := map[string]string{}
	for id := range want {
		all[id] = Delivered
	}
	b.mustTell("before", "crm", want)

	for _, id := range []string{"discarded", "replayed", "untried"} {
		standing, err := b.Standings(crm, []string{id})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := crm.DiscardFailed(ReplaySpec{Seqs: []uint64{standing[0].Seq}}); n != 1 || err != nil {
			t.Fatalf("%s: %d discarded, %v", id, n, err)
		}
		want[id] = Discarded
		b.mustTell("discarded "+id, "crm", want)
	}
	b.mustTell("to another", "mail", all)

	standing, err := b.Standings(crm, []string{"replayed"})
	if err != nil {
		t.Fatal(err)
	}
	b.startReplay(crm, ReplaySpec{Seqs: []uint64{standing[0].Seq}})
	b.replayAll(crm, func(d *Delivery) { crm.Delivered(d, ok(1)) })
	want["replayed"] = Delivered
	b.mustTell("replayed", "crm", want)

	clock.Add(2 * time.Hour.Milliseconds())
	b.tidy()
	want["failed"], want["old"] = Discarded, Discarded
	b.mustTell("after failed_retention", "crm", want)
	b.reopen()
	b.mustTell("opened again", "crm", want)
	b.mustTell("opened again", "mail", all)
	if err := errors.Join(b.Close(), os.RemoveAll(filepath.Join(b.opts.Dir, storeName))); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.mustTell("without its store", "crm", want)
	b.mustTell("without its store", "mail", all)
}

// An event that one lane holds outlives its segment. What another lane did with it is told as before.
func TestACarriedEventTellsWhatWasDeliveredAndDiscarded(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, mail := b.lane("crm"), b.lane("mail")
	b.append(NewLaneSet(crm.ID(), mail.ID()), "good", "bad")
	crm.Delivered(mustTake(t, crm, "good"), ok(1))
	crm.Failed(mustTake(t, crm, "bad"), broken(1), "answered 500")
	for _, id := range []string{"good", "bad"} {
		mail.Failed(mustTake(t, mail, id), broken(1), "answered 500")
	}
	if n, err := crm.DiscardFailed(ReplaySpec{}); n != 1 || err != nil {
		t.Fatalf("%d discarded, %v", n, err)
	}
	want := map[string]string{"good": Delivered, "bad": Discarded}
	b.mustTell("kept", "crm", want)
	b.outlive(clock, 2)
	b.mustTellStories("carried", "mail", map[string]string{"good": Failed, "bad": Failed})
	b.mustTellStories("carried", "crm", want)
	b.saveAll()
	b.reopen()
	b.mustTellStories("carried, and opened again", "crm", want)
}
