package queue

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// A log that never rests must be deleted from its old end all the same.
func TestRetentionPassesWhileEventsKeepComing(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	for i := range 300 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
		b.saveAll()
		clock.Add(30 * time.Second.Milliseconds())
		b.tidy()
		if n := len(b.writer.retain.watermarks); n > maxWatermarks+2 {
			t.Fatalf("%d marks", n)
		}
	}
	if n := b.Stats().Events; n < 120 || n > 140 {
		t.Errorf("%d events are kept, want those of an hour, 120, and those of a segment", n)
	}
}

func TestWhatALaneNeedsIsNotDeleted(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, slow, late := b.lane("crm"), b.lane("slow"), (*Lane)(nil)
	for i := range 8 {
		if i == 4 {
			late = b.lane("late")
		}
		set := NewLaneSet(crm.ID(), slow.ID())
		if late != nil {
			set = NewLaneSet(crm.ID(), slow.ID(), late.ID())
		}
		b.append(set, fmt.Sprint("evt_", i))
		b.saveAll() // a block each
	}
	for i := range 8 {
		d := mustTake(t, crm, fmt.Sprint("evt_", i))
		switch i {
		case 1:
			crm.Retry(d, broken(1), b.opts.Now().Add(100*time.Hour))
		case 2:
			crm.Failed(d, broken(1), "answered 500")
		default:
			crm.Delivered(d, ok(1))
		}
	}
	for i := range 3 {
		slow.Delivered(mustTake(t, slow, fmt.Sprint("evt_", i)), ok(1))
	}
	held := mustTake(t, slow, "evt_3") // under way for hours
	slow.Delivered(mustTake(t, slow, "evt_4"), ok(1))
	b.saveAll()
	for range 3 {
		b.tidy()
		clock.Add(2 * time.Hour.Milliseconds())
	}
	if n := b.Stats().Events; n != 8 {
		t.Errorf("%d events are kept, want 8: what waits holds its segment", n)
	}
	slow.Delivered(held, ok(1))
	b.reopen()
	crm, slow, late = b.lane("crm"), b.lane("slow"), b.lane("late")
	for i := 5; i < 8; i++ {
		slow.Delivered(mustTake(t, slow, fmt.Sprint("evt_", i)), ok(1))
	}
	for i := 4; i < 8; i++ {
		late.Delivered(mustTake(t, late, fmt.Sprint("evt_", i)), ok(1))
	}
	d, in := crm.TakeDue(b.opts.Now().Add(200 * time.Hour))
	if !in || string(d.Event.Body) != string(body("evt_1")) {
		t.Fatalf("the retry is %+v", d)
	}
	crm.Delivered(d, ok(2))
	if _, stories, found, err := b.Story([]byte("evt_2")); err != nil || !found || stories[0].State != Failed {
		t.Errorf("evt_2: %+v, %v, %v", stories, found, err)
	}
	for range 4 {
		b.tidy()
		clock.Add(2 * time.Hour.Milliseconds())
	}
	if n := b.Stats().Events; n != 1 {
		t.Errorf("%d events are kept, want the failed one", n)
	}
	clock.Add(1000 * time.Hour.Milliseconds())
	for range 2 {
		b.tidy()
		b.saveAll()
	}
	if s := crm.Stats(); b.Stats().Events != 0 || s.Failed != 0 {
		t.Errorf("in the end %d events are kept, %d failed", b.Stats().Events, s.Failed)
	}
	if n := b.Stats().Damaged; n != 0 {
		t.Errorf("%d things were damaged: %q", n, b.said)
	}
}

// What a store lost in a merge that nobody has compared yet, retention must not take for something that nobody needs.
func TestNoEventGoesOnTheWordOfAStoreThatLostRecords(t *testing.T) {
	t.Parallel()
	for _, kind := range []store.Kind{store.Failed, store.Retry} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b, clock := openStill(t, nil)
			crm := b.lane("crm")
			for i := range 20 {
				id := fmt.Sprint("evt_", i)
				b.append(NewLaneSet(crm.ID()), id)
				d := mustTake(t, crm, id)
				switch i {
				case 1:
					crm.Retry(d, broken(1), b.opts.Now().Add(900*time.Hour))
				case 2:
					crm.Failed(d, broken(1), "answered 500")
				default:
					crm.Delivered(d, ok(1))
				}
				b.saveAll()
			}
			if err := b.update(func() error {
				// The segment may go as soon as it is old enough: it is sealed, and a snapshot that was right follows.
				if err := errors.Join(b.log.Seal(), b.writer.writeWholeSnapshot(b.Queue)); err != nil {
					return err
				}
				if err := drop(b.index.store, kind); err != nil {
					return err
				}
				merge(t, &b.opts)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for range 6 {
				clock.Add(2 * time.Hour.Milliseconds())
				if err := b.update(func() error { return b.writer.tidy(b.Queue) }); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				clock.Add(2 * time.Hour.Milliseconds())
				b.tidy()
			}
			for _, id := range []string{"evt_1", "evt_2"} {
				if _, _, found, err := b.Story([]byte(id)); err != nil || !found {
					t.Errorf("%s is gone: %v", id, err)
				}
			}
			if s := crm.Stats(); s.Failed != 1 || s.Retrying != 1 || b.Stats().Events != 2 {
				t.Errorf("%d failed, %d retrying, %d kept", s.Failed, s.Retrying, b.Stats().Events)
			}
		})
	}
}

// Retention of much takes minutes. Who makes a lane meanwhile, as a reload does, does not wait for its end.
func TestRetentionLetsOthersHaveTheWriter(t *testing.T) {
	t.Parallel()
	const segments = 40
	var gone, goneThen atomic.Int64
	var served atomic.Bool
	b, clock := openStill(t, func(o *Options) {
		o.fault = func(place string, made bool) error {
			if place == log.PlaceDelete && !made {
				gone.Add(1)
				for n := 0; n < 100 && !served.Load(); n++ { // the call may come late: it is given time
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		}
	})
	crm := b.lane("crm")
	for i := range segments {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
		b.saveAll()
		if err := b.update(b.log.Seal); err != nil {
			t.Fatal(err)
		}
	}
	b.tidy()
	clock.Add(3 * time.Hour.Milliseconds())
	var calling sync.WaitGroup
	err := b.update(func() error {
		calling.Go(func() {
			if _, err := b.Lane("late"); err != nil {
				t.Error(err)
			}
			goneThen.Store(gone.Load())
			served.Store(true)
		})
		return b.writer.retain.run(b.Queue)
	})
	calling.Wait()
	if n := goneThen.Load(); err != nil || gone.Load() < segments/2 || n >= gone.Load() {
		t.Errorf("a lane was made when %d of %d segments had gone, %v", n, gone.Load(), err)
	}
}

// A large event that failed is kept when its block goes, and does not fail the queue.
func TestALargeEventIsKeptWhenItsBlockIsDeleted(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	for size := 100 << 10; size < 5<<20; size *= 3 {
		big := make([]byte, size)
		_, _ = rand.New(rand.NewSource(int64(size))).Read(big)
		id := []byte(fmt.Sprint("big_", size))
		event := Event{ID: id, Type: []byte("test"), Body: big, Lanes: NewLaneSet(crm.ID())}
		if err := b.Append("platform", []Event{event}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
		d, _ := crm.Take()
		crm.Failed(d, broken(1), "answered 500")
	}
	b.saveAll()
	for range 3 {
		b.tidy()
		clock.Add(2 * time.Hour.Milliseconds())
	}
	if _, frames, _, _ := b.block(1); len(frames) > 0 {
		t.Fatal("the blocks are still there")
	}
	b.reopen()
	for size := 100 << 10; size < 5<<20; size *= 3 {
		big := make([]byte, size)
		_, _ = rand.New(rand.NewSource(int64(size))).Read(big)
		ev, _, found, err := b.Story([]byte(fmt.Sprint("big_", size)))
		if !found || err != nil || string(ev.Body) != string(big) {
			t.Errorf("the event of %d bytes came back with %d, %v, %v", size, len(ev.Body), found, err)
		}
	}
}

// The ids of one large batch are many: listing them must not ask more of a transaction than it takes.
func TestManyLongIDsOutliveTheirBlock(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.DedupWindow = 10 * time.Hour })
	r := rand.New(rand.NewSource(1))
	events := make([]Event, 8000)
	for i := range events {
		id := make([]byte, 128)
		for at := range id {
			id[at] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.Intn(64)]
		}
		events[i] = Event{ID: id, Type: []byte("test"), Body: []byte("{}")}
	}
	receipts := make([]Receipt, len(events))
	if err := b.Append("platform", events, receipts); err != nil {
		t.Fatal(err)
	}
	b.saveAll()
	for range 3 {
		b.tidy()
		clock.Add(2 * time.Hour.Milliseconds())
	}
	if n := b.Stats().Events; n != 0 {
		t.Fatalf("%d events are kept", n)
	}
	known := func() (n int) {
		for i := range events {
			h := b.log.Key().Hash(events[i].ID)
			if _, in, err := b.known(&h, b.now()); err == nil && in {
				n++
			}
		}
		return n
	}
	if n := known(); n != len(events) {
		t.Errorf("%d ids are known within the window, want all", n)
	}
	clock.Add(10 * time.Hour.Milliseconds())
	b.tidy()
	for i := range events {
		h := b.log.Key().Hash(events[i].ID)
		if seqs, err := b.log.LookupAll(&h); len(seqs) > 0 || err != nil {
			t.Fatalf("id %d is still there after the window: %v", i, err)
		}
	}
}

// Ids outlive their events, and there may be more of them than of anything else: their space must come back, too.
func TestTheSpaceOfForgottenIDsComesBack(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.DedupWindow = 10 * time.Hour })
	r := rand.New(rand.NewSource(1))
	const batches, each = 60, 1000
	for range batches {
		events := make([]Event, each)
		for i := range events {
			events[i] = Event{ID: fmt.Appendf(nil, "%0100x", r.Uint64()), Type: []byte("test"), Body: []byte("{}")}
		}
		if err := b.Append("platform", events, make([]Receipt, each)); err != nil {
			t.Fatal(err)
		}
	}
	b.saveAll()
	size := func() (n int64) {
		b.tidy()
		b.tidy()
		_, _, n = b.log.Totals()
		return n
	}
	size() // notes that nobody needs the events
	clock.Add(2 * time.Hour.Milliseconds())
	held := size()
	if n := b.Stats().Events; n != 0 {
		t.Fatalf("%d events are kept", n)
	}
	clock.Add(10 * time.Hour.Milliseconds())
	if left := size(); left > held/4 || held == 0 {
		t.Errorf("the log had %d bytes when it knew the ids and has %d now", held, left)
	}
}

// What was settled after the last save is not on disk: retention must not take its event for done.
func TestRetentionLeavesWhatIsNotSaved(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.saveEvery = time.Hour })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a")
	b.saveAll()
	crm.Retry(mustTake(t, crm, "a"), broken(1), b.opts.Now())
	if err := b.update(func() error {
		b.writer.retain.noteWatermark(b.Queue, b.opts.Now())
		clock.Add(2 * time.Hour.Milliseconds())
		_, err := b.writer.retain.step(b.Queue)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d, in := crm.TakeDue(b.opts.Now())
	if !in || string(d.Event.ID) != "a" {
		t.Errorf("the retry is %+v, said %q", d, b.said)
	}
}

// The log begins where retention says. A first segment that retention did not delete is missing, whatever the store says.
func TestAFirstSegmentThatIsGoneIsToldWithItsEvents(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, held := b.lane("crm"), b.lane("held")
	for i := range 6 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID(), held.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
		if i < 2 {
			held.Delivered(mustTake(t, held, id), ok(1))
		}
		b.saveAll()
		if err := b.update(func() error { return b.log.Seal() }); err != nil {
			t.Fatal(err)
		}
	}
	b.tidy()
	clock.Add(2 * time.Hour.Milliseconds())
	b.tidy()
	if low := b.log.FirstKeptEvent(); low < 2 {
		t.Fatalf("the log begins with event %d: nothing was deleted", low)
	}
	if after := b.crash(nil); after.Stats().Damaged != 0 {
		t.Errorf("what retention deleted is taken for damage: %q", after.said)
	}
	first := b.log.Segments()[0]
	after := b.crash(func(dir string) {
		if err := os.Remove(filepath.Join(dir, logName, fmt.Sprintf("%010d.seg", first.Number))); err != nil {
			t.Fatal(err)
		}
	})
	lost := int64(first.EndEvent - first.FirstEvent)
	want := fmt.Sprintf("events %d to %d can't be read", first.FirstEvent, first.EndEvent-1)
	if n := after.Stats().Damaged; n < lost || lost == 0 || !strings.Contains(strings.Join(after.said, "\n"), want) {
		t.Errorf("%d events are gone, %d are counted, told %q", lost, n, after.said)
	}
}

// Retention looks at the failed deliveries of a lane when the oldest is too old, and not at each of its runs.
func TestRetentionLooksAtFailedDeliveriesWhenOneCanBeTooOld(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.Retention, o.FailedRetention = 100*time.Hour, time.Hour })
	crm := b.lane("crm")
	first := clock.Load()
	fail := func(id string) {
		t.Helper()
		b.append(NewLaneSet(crm.ID()), id)
		crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
		b.saveAll()
	}
	// due is when retention looks again. It knows the lane only once it has looked.
	due := func() (at time.Duration, looked bool) {
		t.Helper()
		b.tidy()
		err := b.update(func() error {
			var known failures
			if known, looked = b.writer.retain.failures[crm.ID()]; looked {
				at = time.Duration(known.due-first) * time.Millisecond
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return at, looked
	}
	mustBe := func(when string, want time.Duration, failed int64) {
		t.Helper()
		if at, looked := due(); !looked || at.Round(time.Second) != want {
			t.Errorf("%s: retention looks again after %v, want %v", when, at, want)
		}
		if n := crm.Stats().Failed; n != failed {
			t.Errorf("%s: %d deliveries are failed, want %d", when, n, failed)
		}
	}
	fail("one")
	mustBe("one has failed", time.Hour, 1)
	clock.Add(30 * time.Minute.Milliseconds())
	fail("two")
	mustBe("another has failed later", time.Hour, 2)
	clock.Add(31 * time.Minute.Milliseconds())
	mustBe("the first is too old", 90*time.Minute, 1)

	// What a replay has in flight stays, and is looked at again at once.
	clock.Add(30 * time.Minute.Milliseconds())
	b.startReplay(crm, ReplaySpec{Failed: true})
	d, _ := crm.TakeReplay(time.UnixMilli(clock.Load()))
	if d == nil {
		t.Fatal("the replay has nothing to attempt")
	}
	if at, _ := due(); at > time.Duration(clock.Load()-first)*time.Millisecond || crm.Stats().Failed != 1 {
		t.Errorf("a delivery that is too old is in flight: retention looks again after %v, and %d are failed", at, crm.Stats().Failed)
	}
	crm.Failed(d, broken(1), "answered 500 again")
	b.saveAll()
	mustBe("it failed again", time.Duration(clock.Load()-first)*time.Millisecond+time.Hour, 1)
	b.reopen()
	crm = b.lane("crm")
	clock.Add(59 * time.Minute.Milliseconds())
	mustBe("after a restart", 91*time.Minute+time.Hour, 1)
	clock.Add(2 * time.Minute.Milliseconds())
	b.tidy()
	if n := crm.Stats().Failed; n != 0 {
		t.Errorf("%d deliveries are failed, want none", n)
	}
}

// What is in memory still is found no more once retention has deleted it: not by its id, by no search, by no replay.
func TestWhatRetentionDeletedIsNotFoundInMemory(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.tailBytes = 4 << 20 })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "old", "held")
	crm.Delivered(mustTake(t, crm, "old"), ok(1))
	crm.Failed(mustTake(t, crm, "held"), broken(1), "answered 500")
	b.mustTell("kept", "crm", map[string]string{"old": Delivered, "held": Failed})
	b.rest(clock)
	b.mustTell("after retention", "crm", map[string]string{"held": Failed})
	if _, _, found, err := b.Story([]byte("old")); found || err != nil {
		t.Errorf("the story of a deleted event: found %v, %v", found, err)
	}
	if n, _, err := crm.CountReplay(ReplaySpec{Since: time.UnixMilli(1)}, time.Minute); n != 1 || err != nil {
		t.Errorf("a replay of all would make %d deliveries, %v; want the one that is kept", n, err)
	}
	b.append(NewLaneSet(crm.ID()), "new")
	crm.Delivered(mustTake(t, crm, "new"), ok(1))
	b.mustTell("and then", "crm", map[string]string{"held": Failed, "new": Delivered})
}

// A segment may have a single block. The one in the next segment has the same number there: it is found all the same by who looks
// for its lane or its type.
func TestTheFirstBlockOfEachSegmentIsFound(t *testing.T) {
	t.Parallel()
	b, _ := openStill(t, nil)
	crm := b.lane("crm")
	var want []string
	for i := range 4 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		want = append(want, id)
		b.saveAll()
		if err := b.update(b.log.Seal); err != nil {
			t.Fatal(err)
		}
	}
	found, err := b.Search(Query{Lane: crm, Limit: 100})
	if len(found.Events) != len(want) || err != nil {
		t.Errorf("a search finds %+v, %v; want %d events", found.Events, err, len(want))
	}
	b.reopen()
	if got := b.drainAll(b.lane("crm")); !slices.Equal(got, want) {
		t.Errorf("%q were delivered, want %q", got, want)
	}
}
