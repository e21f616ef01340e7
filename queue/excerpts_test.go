package queue

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

const wholeExcerpt = 16 << 10

func saying(n int, what byte) *Attempt {
	a := broken(n)
	a.Excerpt = bytes.Repeat([]byte{what}, wholeExcerpt)
	return a
}

// excerptsOf are the lengths of the excerpts that are kept of an event's attempts.
func (b *bench) excerptsOf(id string) (lengths []int) {
	b.t.Helper()
	_, stories, found, err := b.Story([]byte(id))
	if err != nil || !found || len(stories) != 1 {
		b.t.Fatalf("story of %s: %v, found %v, %v", id, stories, found, err)
	}
	for _, a := range stories[0].Attempts {
		lengths = append(lengths, len(a.Excerpt))
	}
	return lengths
}

func (b *bench) mustKeep(when, id string, want ...int) {
	b.t.Helper()
	if got := b.excerptsOf(id); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("%s, of the excerpts of %s are kept %v bytes, want %v", when, id, got, want)
	}
}

func TestOfOlderAttemptsTheBeginningOfTheirAnswersIsKept(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a", "b")
	again := func(lane *Lane) *Delivery {
		d, in := takeDue(lane, time.Now().Add(time.Hour))
		if !in {
			t.Fatal("nothing is due")
		}
		return d
	}
	crm.Retry(mustTake(t, crm, "a"), saying(1, 'x'), time.Now())
	b.mustKeep("after the first attempt", "a", wholeExcerpt)
	crm.Retry(again(crm), saying(2, 'y'), time.Now())
	b.mustKeep("after the second", "a", shortExcerpt, wholeExcerpt)
	b.reopen()
	crm = b.lane("crm")
	b.mustKeep("after a restart", "a", shortExcerpt, shortExcerpt)
	crm.Failed(again(crm), saying(3, 'z'), "answered 500")
	b.mustKeep("at the end", "a", shortExcerpt, shortExcerpt, wholeExcerpt)

	// A probe that is not charged, of a delivery that then expires and one that goes well.
	d := mustTake(t, crm, "b")
	for i := range 3 {
		probe := saying(1, 'x')
		probe.At = probe.At.Add(time.Duration(i) * time.Second)
		crm.Note(d, probe)
	}
	crm.GiveUp(d, classExpired, "expired")
	b.reopen()
	b.mustKeep("at the end", "a", shortExcerpt, shortExcerpt, wholeExcerpt)
	b.mustKeep("of probes", "b", shortExcerpt, shortExcerpt, shortExcerpt)
	if n := b.excerpts.inMemory.Load(); n != 0 {
		t.Errorf("%d bytes of excerpts are in memory when nothing goes on", n)
	}
}

func TestWhatIsInMemoryOfExcerptsIsBounded(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	const most = newestBytes / wholeExcerpt
	list := ids(0, most+5)
	b.append(NewLaneSet(crm.ID()), list...)
	for _, id := range list {
		crm.Retry(mustTake(t, crm, id), saying(1, 'x'), time.Now().Add(time.Hour))
	}
	if n := b.excerpts.inMemory.Load(); n != newestBytes {
		t.Errorf("%d bytes are in memory, want %d", n, newestBytes)
	}
	b.mustKeep("with room", list[0], wholeExcerpt)
	b.mustKeep("without", list[most], shortExcerpt)
	if err := b.Discard(crm); err != nil {
		t.Fatal(err)
	}
	if n := b.excerpts.inMemory.Load(); n != 0 {
		t.Errorf("%d bytes are in memory of a lane that is gone", n)
	}
}

// One endpoint's answers take their share of the disk and no more, also across restarts; the others have theirs.
func TestWholeExcerptsAreKeptWithinABudget(t *testing.T) {
	t.Parallel()
	const share = 8 // of them at once for a lane, four times as many for all
	b, clock := openStill(t, func(o *Options) {
		o.ExcerptBytes, o.Retention, o.FailedRetention = 2*laneFraction*share*wholeExcerpt, 100*time.Hour, 100*time.Hour
	})
	n := 0
	fail := func(name string, attempts int) (whole int) {
		t.Helper()
		l := b.lane(name)
		for range attempts {
			n++
			id := fmt.Sprint("evt_", n)
			b.append(NewLaneSet(l.ID()), id)
			l.Failed(mustTake(t, l, id), saying(1, 'x'), "answered 500")
			switch of := b.excerptsOf(id); of[0] {
			case wholeExcerpt:
				whole++
			case shortExcerpt:
			default:
				t.Fatalf("%v bytes are kept", of)
			}
		}
		return whole
	}
	if got := fail("sick", 3*share); got != share {
		t.Errorf("of one endpoint's answers %d are kept whole, want %d", got, share)
	}
	b.reopen()
	if got := fail("sick", share); got != 0 {
		t.Errorf("after a restart %d more", got)
	}
	for i := range laneFraction {
		want := share
		if i == laneFraction-1 {
			want = 0
		}
		if got := fail(fmt.Sprint("neighbour", i), 2*share); got != want {
			t.Errorf("of neighbour %d's answers %d are kept whole, want %d", i, got, want)
		}
	}
	clock.Add((100 * time.Hour).Milliseconds() / share)
	if got := fail("sick", share); got != 1 {
		t.Errorf("of one endpoint %d are kept whole once one has come back, want 1", got)
	}
}

func TestExcerptsGoBeforeEventsAreRefused(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(1 << 40)
	b := openBench(t, func(o *Options) {
		o.MinFree, o.Free = 256<<20, func() (int64, error) { return free.Load(), nil }
	})
	crm := b.lane("crm")
	fail := func(id string) {
		t.Helper()
		b.append(NewLaneSet(crm.ID()), id)
		crm.Failed(mustTake(t, crm, id), saying(1, 'x'), "answered 500")
	}
	fail("a")
	b.mustKeep("with room", "a", wholeExcerpt)
	free.Store(400 << 20)
	await(t, "the writer to look", func() bool {
		b.saveAll()
		return b.disk.nearlyFull.Load()
	})
	fail("b")
	b.mustKeep("with little", "b", 0)
	free.Store(1 << 40)
	await(t, "the writer to look again", func() bool {
		b.saveAll()
		return !b.disk.nearlyFull.Load()
	})
	fail("c")
	b.mustKeep("with room again", "c", wholeExcerpt)
}
