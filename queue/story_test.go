package queue

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// A story that has the outcome of an attempt has the attempt, also while it is being settled.
func TestAStoryHasTheAttemptsThatLedToItsState(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	const rounds = 60
	for i := range rounds {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Retry(mustTake(t, crm, id), broken(1), time.Now())
		b.saveAll()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * 300 * time.Microsecond)
			d, in := takeDue(crm, time.Now().Add(time.Second))
			if !in {
				t.Errorf("%s is not due", id)
				return
			}
			crm.Delivered(d, ok(2))
		})
		for told := false; !told; {
			_, stories, found, err := b.Story([]byte(id))
			if err != nil || !found || len(stories) != 1 {
				t.Fatalf("story of %s: %v, found %v, %v", id, stories, found, err)
			}
			told = stories[0].State == Delivered
			if told && len(stories[0].Attempts) != 2 {
				t.Errorf("%s is delivered by %d attempts, want 2", id, len(stories[0].Attempts))
			}
		}
		wg.Wait()
	}
}

// Both events of an id are in a segment that is not sealed yet, then in a sealed one.
func TestAnIDThatIsUsedAgainHidesNoFailedDelivery(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.DedupWindow, o.Retention = time.Minute, 100*time.Hour })
	crm := b.lane("crm")
	first := b.append(NewLaneSet(crm.ID()), "a")[0].Seq
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	clock.Add(2 * time.Minute.Milliseconds())
	again := b.append(NewLaneSet(crm.ID()), "a")[0]
	if again.Duplicate || again.Seq == first {
		t.Fatalf("after its window the id is answered %+v", again)
	}
	crm.Delivered(mustTake(t, crm, "a"), ok(1))
	look := func(when string) {
		t.Helper()
		var seqs []uint64
		err := b.eachOf([]byte("a"), func(ev *Stored) (bool, error) {
			seqs = append(seqs, ev.Seq)
			return true, nil
		})
		if err != nil || fmt.Sprint(seqs) != fmt.Sprint([]uint64{again.Seq, first}) {
			t.Errorf("%s: the id has the events %v, %v, want %v", when, seqs, err, []uint64{again.Seq, first})
		}
		stories, err := b.Stories([]byte("a"), 5)
		if err != nil || len(stories) != 2 {
			t.Fatalf("%s: the id has the stories %+v, %v", when, stories, err)
		}
		for i, want := range []string{Delivered, Failed} {
			if d := stories[i].Deliveries; stories[i].Seq != seqs[i] || len(d) != 1 || d[0].State != want || len(d[0].Attempts) != 1 {
				t.Errorf("%s: story %d is %+v, want one %s delivery of event %d with its attempt", when, i, stories[i], want, seqs[i])
			}
		}
		standings, err := b.Standings(b.lane("crm"), []string{"a"})
		if err != nil || standings[0] != (Standing{first, Failed}) {
			t.Errorf("%s: a replay by the id means %+v, %v, want the failed one, %d", when, standings, err, first)
		}
	}
	look("at once")
	b.saveAll()
	look("saved")
	b.reopen()
	look("opened again")
	if err := b.update(func() error { return b.log.Seal() }); err != nil {
		t.Fatal(err)
	}
	look("sealed")
	if len(b.log.Segments()) < 2 {
		t.Error("no segment was sealed")
	}
}
