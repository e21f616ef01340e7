package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"realtorbot-relay/queue/store"
)

// A snapshot of much takes many turns. Whatever changes between two of them, it is as of its beginning.
func TestASnapshotIsWrittenWhileTheQueueGoesOn(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.snapshots, o.slotSize, o.saveEvery = time.Nanosecond, 4<<20, time.Hour })
	crm, mail := b.lane("crm"), b.lane("mail")
	both := NewLaneSet(crm.ID(), mail.ID())
	const many = 16_000
	for i := 0; i < many; i += 500 {
		ids := make([]string, 500)
		for j := range ids {
			ids[j] = fmt.Sprintf("evt_%d", i+j)
		}
		b.append(both, ids...)
		for _, id := range ids {
			awaitSave(crm)
			crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
		}
		b.saveAll()
	}
	at, segment, turns := uint64(0), uint64(0), 0
	err := b.update(func() error {
		b.writer.beginSnapshot(b.Queue)
		at, segment = b.storeAt(), b.log.OpenNumber()
		return b.log.Seal() // it goes on in another one
	})
	if err != nil {
		t.Fatal(err)
	}
	goesOn := func() (is bool) {
		if err := b.update(func() error { is = b.writer.snapshotting != nil; return nil }); err != nil {
			t.Fatal(err)
		}
		return is
	}
	var cut *bench
	failed := int64(0) // when it was cut
	for ; goesOn(); turns++ {
		if turns == 1 {
			failed = crm.Stats().Failed
			cut = b.crash(func(dir string) { mustRemove(t, filepath.Join(dir, "store")) })
		}
		// A lane comes, a delivery fails, one is retried, another of those is delivered.
		b.lane(fmt.Sprint("lane_", turns))
		if d, due := crm.TakeDue(time.Now()); due {
			crm.Delivered(d, ok(2))
		}
		ids := []string{fmt.Sprint("evt_f_", turns), fmt.Sprint("evt_r_", turns)}
		b.append(NewLaneSet(crm.ID()), ids...)
		crm.Failed(mustTake(t, crm, ids[0]), broken(1), "answered 500")
		crm.Retry(mustTake(t, crm, ids[1]), broken(1), time.Now())
		if err := b.update(func() error { return b.writer.save(b.Queue, true) }); err != nil {
			t.Fatal(err)
		}
	}
	if turns < 2 {
		t.Fatalf("the snapshot was written in %d turns", turns)
	}
	if s := b.writer.lastSnapshot.segment; s != segment {
		t.Errorf("the log is kept from segment %d on, and the snapshot is as of %d", s, segment)
	}
	snap, err := b.newestSnapshot()
	if err != nil || !snap.whole || snap.at != at || len(snap.pieces) < 2 {
		t.Errorf("the snapshot as of entry %d is %+v, %v", at, snap, err)
	}
	c := &checker{q: b.Queue, events: map[uint64]Stored{}, carried: map[uint64]bool{}, lanes: map[LaneID]*laneRecord{},
		retries: map[LaneID]map[uint64]bool{}, failures: map[LaneID]map[uint64]bool{}, replays: map[LaneID]bool{}}
	if err := b.update(c.walk); err != nil {
		t.Fatal(err)
	}
	c.checkStore()
	for _, what := range c.complaints {
		t.Error(what)
	}
	if s := cut.lane("crm").Stats(); s.Failed != failed || cut.lane("mail").Stats().Pending != many {
		t.Errorf("from before it was whole the store is made again with %d failed deliveries of %d", s.Failed, failed)
	}
	after := b.crash(func(dir string) { mustRemove(t, filepath.Join(dir, "store")) })
	if has, want := after.lane("crm").Stats(), crm.Stats(); has.Failed != want.Failed || has.Retrying != want.Retrying {
		t.Errorf("made again from it the lane has %d failed and %d retrying deliveries, and had %d and %d", has.Failed, has.Retrying, want.Failed, want.Retrying)
	}
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// What is missing in the store when its snapshot is written ends it: a snapshot that lacks something is none.
func TestASnapshotOfAStoreThatLacksSomethingIsNone(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Hour })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a", "b")
	for _, id := range []string{"a", "b"} {
		crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
	}
	b.saveAll()
	var made snapshotState
	under := true
	err := b.update(func() error {
		if err := drop(b.index.store, store.Failed); err != nil {
			return err
		}
		err := b.writer.writeWholeSnapshot(b.Queue)
		made, under = b.writer.lastSnapshot, b.writer.snapshotting != nil
		return err
	})
	if err != nil || under || made != (snapshotState{writtenAt: made.writtenAt}) {
		t.Errorf("it is %+v, %v, and under way: %v", made, err, under)
	}
}
