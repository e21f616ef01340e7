package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Retention carries an event whose delivery fails while it runs, also when the record comes into the store after it read all
// records.
func TestWhatFailsWhileSegmentsGoIsStillCarried(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, other := b.lane("crm"), b.lane("other")
	for i := range 6 {
		b.append(NewLaneSet(crm.ID(), other.ID()), fmt.Sprint("evt_", i))
	}
	var taken []*Delivery
	for i := range 6 {
		taken = append(taken, mustTake(t, crm, fmt.Sprint("evt_", i)))
	}
	crm.Failed(taken[1], broken(1), "answered 500")
	b.saveAll()
	var n neededEvents
	within := func(from, to uint64, want ...uint64) {
		t.Helper()
		if err := b.update(func() error {
			got, err := n.within(b.Queue, from, to, 7)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("events %d to %d: %v are needed (%v), want %v", from, to-1, got, err, want)
			}
			if lanes, err := b.needed(from, to); err != nil || !slices.Equal(lanes, want) {
				t.Errorf("events %d to %d: asked lane by lane %v are needed (%v), want %v", from, to-1, lanes, err, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	within(1, 4, 2)
	within(4, 7)
	crm.Failed(taken[3], broken(1), "answered 500")
	within(4, 7, 4) // not in the store yet
	crm.Retry(taken[4], broken(1), b.opts.Now().Add(time.Hour))
	b.saveAll()
	within(4, 7, 4, 5)
	within(1, 7, 2, 4, 5)
	clock.Add(2 * time.Hour.Milliseconds())
	d, due := crm.TakeDue(b.opts.Now())
	if !due {
		t.Fatal("the retry is not due")
	}
	crm.Delivered(d, ok(2))
	b.saveAll()
	within(1, 7, 2, 4)
	if err := b.Discard(crm); err != nil {
		t.Fatal(err)
	}
	within(1, 7)
}

// However short its steps are, retention looks at the failed deliveries of all lanes.
func TestFailedDeliveriesOfManyLanesExpireInShortTurns(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	var lanes []*Lane
	for i := range 5 {
		lanes = append(lanes, b.lane(fmt.Sprint("lane-", i)))
	}
	for i, l := range slices.Backward(lanes) {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(l.ID()), id)
		l.Failed(mustTake(t, l, id), broken(1), "answered 500")
		if i == 4 { // that of the last lane alone is old
			clock.Add(1001 * time.Hour.Milliseconds())
		}
	}
	b.saveAll()
	if err := b.update(func() error {
		for turn, more := 0, true; more; turn++ {
			if turn > 20 {
				return fmt.Errorf("after %d turns there are still some to be looked at", turn)
			}
			var err error
			if more, err = b.writer.retain.expireFailures(b.Queue, b.opts.Now(), func() bool { return true }); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, l := range lanes {
		if n := l.Stats().Failed; n != int64(1-i/4) {
			t.Errorf("lane %q has %d failed deliveries", l.Name(), n)
		}
	}
}

// A relay that was off for a week deletes at its start what had been settled for the time of retention by then.
func TestTimeInWhichNobodyLookedIsNoReasonToKeepMore(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	for i := range 8 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
	}
	b.saveAll()
	if err := b.update(func() error {
		r := &retainer{watermarks: []watermark{{clock.Load(), 2}, {clock.Load() + 10_000, 6}}} // closer than marks stay
		week := time.UnixMilli(clock.Load()).Add(7 * 24 * time.Hour)
		if done := r.noteWatermark(b.Queue, week); done != 6 {
			t.Errorf("what nobody needed a week ago ends at event %d, want 6", done)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
