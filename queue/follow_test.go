package queue

import (
	"fmt"
	"testing"
	"time"
)

// follow reads until there is nothing, and returns the ids and how many events were missed.
func follow(t *testing.T, f *Follower) (ids []string, missed uint64) {
	t.Helper()
	for {
		ev, gap, ok, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ids, missed
		}
		if string(ev.Body) != string(body(string(ev.ID))) {
			t.Fatalf("event %s has body %s", ev.ID, ev.Body)
		}
		ids, missed = append(ids, string(ev.ID)), missed+gap
	}
}

// From memory, from disk and after a restart a follower sees what was accepted, in order, and takes nothing from a lane.
func TestAFollowerSeesEveryEventOnce(t *testing.T) {
	b := openBench(t, func(o *Options) { o.tailBytes = 1 }) // the store is read as soon as it has them
	lane := b.lane("crm")
	set := NewLaneSet(lane.id)
	f := b.Follow(b.End())
	var want, got []string
	for i := range 300 {
		ids := []string{fmt.Sprintf("evt_%d_a", i), fmt.Sprintf("evt_%d_b", i)}
		b.append(set, ids...)
		want = append(want, ids...)
		if i%7 == 0 {
			more, missed := follow(t, f)
			if got = append(got, more...); missed != 0 {
				t.Fatalf("%d events missed", missed)
			}
		}
	}
	more, _ := follow(t, f)
	if got = append(got, more...); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("followed %d events, want %d in order", len(got), len(want))
	}
	if s := lane.Stats(); s.Pending != int64(len(want)) {
		t.Errorf("the lane has %d pending deliveries, want all %d", s.Pending, len(want))
	}
	b.reopen()
	if again, _ := follow(t, b.Follow(0)); fmt.Sprint(again) != fmt.Sprint(want) {
		t.Errorf("after a restart %d events are followed, want %d", len(again), len(want))
	}
}

func TestAFollowerBeginsInTheMiddle(t *testing.T) {
	b := openBench(t, nil)
	set := NewLaneSet(b.lane("crm").id)
	b.append(set, "evt_1", "evt_2")
	b.append(set, "evt_3")
	if ids, missed := follow(t, b.Follow(b.End()-1)); len(ids) != 1 || ids[0] != "evt_3" || missed != 0 {
		t.Fatalf("followed %v, %d missed, want evt_3 alone", ids, missed)
	}
	if ids, _ := follow(t, b.Follow(b.End()+100)); len(ids) != 0 {
		t.Errorf("followed %v from beyond the end", ids)
	}
}

// A follower that stays behind until retention has passed is told how much it has missed.
func TestAFollowerTellsWhatWasDeleted(t *testing.T) {
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	follower := b.Follow(b.End())
	for i := range 150 { // an event every 30 seconds, kept for an hour
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
		b.saveAll()
		clock.Add(30 * time.Second.Milliseconds())
		b.tidy()
	}
	ids, missed := follow(t, follower)
	if missed < 20 || missed+uint64(len(ids)) != 150 {
		t.Errorf("%d events followed and %d missed, want 150 in all and some of them missed", len(ids), missed)
	}
}
