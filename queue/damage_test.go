package queue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// harmBlock flips a bit in the first block of entries that which says.
func (b *bench) harmBlock(dir string, which func(*log.Info) bool) {
	b.t.Helper()
	found := false
	err := b.log.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		if found || !which(info) {
			return nil
		}
		found = true
		path := filepath.Join(dir, logName, fmt.Sprintf("%010d.seg", p.Segment))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		one := make([]byte, 1)
		at := p.Offset + 100
		if _, err = f.ReadAt(one, at); err == nil {
			one[0] ^= 1
			_, err = f.WriteAt(one, at)
		}
		return err
	})
	if err != nil || !found {
		b.t.Fatalf("no block to harm: %v", err)
	}
}

// Every reader that passes over what can't be read reports it with its numbers and counts it: replays of all kinds,
// followers, and retention, which can't carry it.
func TestWhoeverPassesOverDamageTellsIt(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	for i := range 9 { // a block of events each, and one of what the lane did
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		b.saveAll()
		if i%3 == 1 {
			crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
		} else {
			crm.Delivered(mustTake(t, crm, id), ok(1))
		}
		b.saveAll()
	}
	if err := b.update(func() error { return b.log.Seal() }); err != nil {
		t.Fatal(err)
	}
	events := func(info *log.Info) bool { return info.Events > 0 && info.FirstEvent <= 5 && info.EndEvent() > 5 }
	history := func(info *log.Info) bool { return info.Events == 0 && info.FirstEvent == 6 }
	take := func(after *bench) {
		l := after.lane("crm")
		for d, _ := l.TakeReplay(after.opts.Now()); d != nil; d, _ = l.TakeReplay(after.opts.Now()) {
			l.Delivered(d, ok(1))
		}
	}
	for _, test := range []struct {
		name, want string
		which      func(*log.Info) bool
		do         func(*testing.T, *bench)
	}{
		{"a replay of all", "events 5 to 5 can't be read", events, func(t *testing.T, after *bench) {
			if _, err := after.lane("crm").StartReplay(ReplaySpec{}, -1); err != nil {
				t.Fatal(err)
			}
			take(after)
		}},
		{"a replay of what failed", "events 5 to 5 can't be read", events, func(t *testing.T, after *bench) {
			if _, err := after.lane("crm").StartReplay(ReplaySpec{Failed: true}, -1); err != nil {
				t.Fatal(err)
			}
			take(after)
		}},
		{"a replay of some", "events 5 to 5 can't be read", events, func(t *testing.T, after *bench) {
			if _, err := after.lane("crm").StartReplay(ReplaySpec{Seqs: []uint64{4, 5, 6}}, 3); err != nil {
				t.Fatal(err)
			}
			take(after)
		}},
		{"a follower", "events 5 to 5 can't be read", events, func(t *testing.T, after *bench) { follow(t, after.Follow(1)) }},
		{"retention, of an event", "events 5 to 5 can't be read", events, func(t *testing.T, after *bench) {
			after.tidy()
			clock.Add(2 * time.Hour.Milliseconds())
			after.tidy()
		}},
		{"retention, of attempts", "attempts of failed or retrying deliveries in segment 1", history, func(t *testing.T, after *bench) {
			after.tidy()
			clock.Add(2 * time.Hour.Milliseconds())
			after.tidy()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := b.crash(func(dir string) { b.harmBlock(dir, test.which) })
			after.mu.Lock()
			before, lines := after.Stats().Damaged, len(after.said)
			after.mu.Unlock()
			test.do(t, after)
			after.mu.Lock()
			said := strings.Join(after.said[lines:], "\n")
			after.mu.Unlock()
			if !strings.Contains(said, test.want) || after.Stats().Damaged <= before {
				t.Errorf("%d things are counted, %d before; said %q, want %q", after.Stats().Damaged, before, said, test.want)
			}
			if err := after.Err(); err != nil {
				t.Errorf("the queue failed: %v", err)
			}
		})
	}
}

// A store that is replaced is closed and opened, which may take long: looking at the queue does not wait for it.
func TestStatsDoNotWaitForTheStore(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append("", "a")
	b.saveAll()
	b.index.mu.Lock()
	defer b.index.mu.Unlock()
	told := make(chan Stats, 1)
	go func() { told <- b.Stats() }()
	select {
	case s := <-told:
		if s.StoreBytes == 0 {
			t.Error("the store has no bytes")
		}
	case <-time.After(20 * time.Second):
		t.Error("Stats waits for the store")
	}
}

// The store has places of a segment that does not exist: what comes behind is counted and handed out all the same.
func TestALaneGoesOnBehindASegmentThatIsGone(t *testing.T) {
	t.Parallel()
	b, _ := openStill(t, nil)
	crm := b.lane("crm")
	b.saveAll()
	for i := range 9 { // three segments of three events
		b.append(NewLaneSet(crm.ID()), fmt.Sprint("evt_", i))
		b.saveAll()
		if i%3 == 2 {
			if err := b.update(func() error { return b.log.Seal() }); err != nil {
				t.Fatal(err)
			}
		}
	}
	after := b.crash(func(dir string) {
		if err := os.Remove(filepath.Join(dir, logName, "0000000002.seg")); err != nil {
			t.Fatal(err)
		}
	})
	l := after.lane("crm")
	for _, i := range []int{0, 1, 2, 6, 7, 8} {
		l.Delivered(mustTake(t, l, fmt.Sprint("evt_", i)), ok(1))
	}
	mustBeEmpty(t, l)
	after.mu.Lock()
	defer after.mu.Unlock()
	if said := strings.Join(after.said, "\n"); !strings.Contains(said, "events 4 to 6 can't be read") || l.Stats().Pending != 0 {
		t.Errorf("%d are pending, and said was %q", l.Stats().Pending, said)
	}
}

// A carried event is no entry: an older store, brought up to date by the entries, would not find it.
func TestAnOlderStoreIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := newScenario(t, 1)
	p.must(p.open())
	crm := p.mustLane("crm")
	p.mustAppend(30, "evt")
	p.work(crm, 25)
	p.mustSave()
	p.must(p.Close())
	older := filepath.Join(t.TempDir(), "store")
	dir := filepath.Join(p.opts.Dir, storeName)
	p.must(copyTree(older, dir))
	p.must(p.open())
	crm = p.mustLane("crm")
	p.finish(crm)
	p.mustSave()
	p.retire()
	p.advance(scenarioRetention + time.Second)
	p.tidy() // carries and strips
	p.must(p.Close())
	p.must(errors.Join(os.RemoveAll(dir), copyTree(dir, older)))
	p.must(p.open())
	defer p.Close()
	if p.damaged.Load() == 0 || !strings.Contains(fmt.Sprint(p.said), "an older store") {
		t.Errorf("an older store is not noticed: %q", p.said)
	}
	p.look("with an older store")
}

// A store that can't be written and can't be made again is made when that is possible. Until then the log goes on alone, and
// what waits for the store in memory is bounded.
func TestAStoreThatCanNotBeMadeAgainIsMadeLater(t *testing.T) {
	t.Parallel()
	p := newScenario(t, 1)
	p.begin()
	p.harm = &writeFault{store.AtCommit, true, "from then on", unix.EIO}
	p.arm(true)
	var err error
	for n := 0; err == nil; n++ {
		if err = p.append(4, "big"); n == 100 {
			t.Fatalf("%d events of 100 KB were accepted that the store does not have", 4*n)
		}
		_ = p.save()
	}
	if !errors.Is(err, ErrDiskLow) && !errors.Is(err, ErrOverloaded) || p.Err() != nil {
		t.Fatalf("an event that nothing can be saved of is answered %v; the queue says %v", err, p.Err())
	}
	p.arm(false)
	p.mustSave()
	if told := fmt.Sprint(p.said); strings.Count(told, "can't be made again yet") != 1 || !strings.Contains(told, "It was made again") {
		t.Errorf("nobody is told: %s", told)
	}
	p.look("when the store was made again")
	p.repeat("when the store was made again")
	p.must(p.Close())
}

// Between the old store and the new one there is none: what fails there is tried again.
func TestANewStoreTakesTheOldOnesPlaceAlsoInTheSecondTry(t *testing.T) {
	t.Parallel()
	for _, place := range []string{store.AtSetAside, store.AtInstallNew, store.AtGuard, store.AtGuardRemove} {
		for _, made := range []bool{false, true} {
			p := newScenario(t, 1)
			p.begin()
			p.harm = &writeFault{place, made, "for a while", unix.EIO}
			p.arm(true)
			p.must(p.update(func() error { return p.keep(p.writer.remake(p.Queue, "a test says so")) }))
			p.arm(false)
			if p.fired == 0 || p.Err() != nil || strings.Count(fmt.Sprint(p.said), "a test says so") != 1 {
				t.Errorf("%v: %d times; the queue says %v, and %q", p.harm, p.fired, p.Err(), p.said)
			}
			p.mustSave()
			p.look("with the new store")
			p.must(p.Close())
		}
	}
}

// A new store that never comes into place leaves none in use. Whoever tries again, as a stop may, finds that out, and nothing worse.
func TestANewStoreThatDoesNotTakeTheOldOnesPlaceIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newScenario(t, 1)
	p.begin()
	p.harm = &writeFault{store.AtInstallNew, false, "from then on", unix.EIO}
	var errs [2]error
	p.must(p.update(func() error {
		p.arm(true)
		for i := range errs {
			errs[i] = p.writer.remake(p.Queue, "a test says so")
		}
		p.arm(false)
		return p.writer.remake(p.Queue, "a test says so")
	}))
	if errs[0] == nil || errs[1] == nil {
		t.Errorf("it took its place: %v", errs)
	}
	p.mustSave()
	p.look("with the new store")
	p.must(p.Close())
}

// A new store may not open at once, and the next start finds nothing wrong: the damage is reported before.
func TestAStoreThatWasMadeAgainIsToldThoughItDoesNotOpen(t *testing.T) {
	t.Parallel()
	p := newScenario(t, 1)
	p.must(p.open())
	p.mustLane("crm")
	p.mustAppend(30, "evt")
	p.mustSave()
	p.must(p.Close())
	p.must(os.RemoveAll(filepath.Join(p.opts.Dir, storeName)))
	p.harm = &writeFault{store.AtGuard, false, "once", unix.EIO} // a store that is being made has none
	p.arm(true)
	if err := p.open(); !errors.Is(err, unix.EIO) || p.fired != 1 {
		t.Fatalf("open says %v, %d faults", err, p.fired)
	}
	p.must(p.open())
	defer p.Close()
	if told := strings.Count(fmt.Sprint(p.said), "it is missing. It was made again"); told != 1 {
		t.Errorf("the store was made again and that was told %d times: %q", told, p.said)
	}
	p.look("with a store that was made again")
}

// Ids whose events are deleted are nowhere else: how many are lost is reported and counted.
func TestIDsThatAreLostAreCounted(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.DedupWindow = 10 * time.Hour })
	crm := b.lane("crm")
	for i := range 5 {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Delivered(mustTake(t, crm, id), ok(1))
	}
	b.saveAll()
	if err := b.update(func() error { return b.log.Seal() }); err != nil {
		t.Fatal(err)
	}
	b.tidy()
	clock.Add(2 * time.Hour.Milliseconds())
	b.tidy()
	after := b.crash(func(dir string) {
		path := filepath.Join(dir, logName, "0000000001.seg")
		raw := mustRead(t, path)
		if bytes.Contains(raw, []byte("evt_")) {
			t.Fatal("the segment was not stripped")
		}
		raw[len(raw)/2] ^= 1 // it is a header, one page of ids, and a trailer
		mustPut(t, path, raw)
	})
	if got := after.append(NewLaneSet(crm.ID()), "evt_3"); got[0].Duplicate {
		t.Fatal("the id is known all the same: this shows nothing")
	}
	after.mu.Lock()
	defer after.mu.Unlock()
	if said := strings.Join(after.said, "\n"); !strings.Contains(said, "5 ids are lost") || after.Stats().Damaged != 5 {
		t.Errorf("%d are counted, want 5; said %q", after.Stats().Damaged, said)
	}
}

// The reader of the relay's log may stop: no reader of the store waits for it.
func TestWhoIsToldOfAStoreThatWasMadeAgainHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	var b *bench
	told := false
	b = openBench(t, func(o *Options) {
		say := o.Notice
		o.Notice = func(line string) {
			say(line)
			if !strings.Contains(line, "made again from the log") {
				return
			}
			told = true
			read := make(chan error, 1)
			go func() {
				_, err := b.index.get(store.PlaceKey(0))
				read <- err
			}()
			select {
			case err := <-read:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Error("while that is told nobody can read")
			}
		}
	})
	b.append(NewLaneSet(b.lane("crm").ID()), "a")
	b.saveAll()
	if err := b.update(func() error { return b.writer.remake(b.Queue, "a test says so") }); err != nil || !told {
		t.Fatal(told, err)
	}
}
