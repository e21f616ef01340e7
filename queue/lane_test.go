package queue

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Behind a delivery that is slow, what was settled stays settled, over any number of restarts.
func TestWhatIsSettledBehindASlowOneStaysSo(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	set := NewLaneSet(crm.ID())
	b.append(set, ids(0, 6)...)
	mustTake(t, crm, "evt_0")
	crm.Delivered(mustTake(t, crm, "evt_1"), ok(1))
	crm.Delivered(mustTake(t, crm, "evt_2"), ok(1))
	for _, id := range []string{"evt_3", "evt_4"} {
		b.reopen()
		crm = b.lane("crm")
		mustTake(t, crm, "evt_0")
		crm.Delivered(mustTake(t, crm, id), ok(1))
	}
	b.reopen()
	crm = b.lane("crm")
	crm.Delivered(mustTake(t, crm, "evt_0"), ok(1))
	crm.Delivered(mustTake(t, crm, "evt_5"), ok(1))
	mustBeEmpty(t, crm)
	if m, p := crm.assignedCount(), crm.passed.Load(); m != 6 || p != 6 {
		t.Errorf("the lane was given %d and settled %d, want 6", m, p)
	}
	b.append(set, "evt_6")
	b.append(set, "evt_7")
	mustTake(t, crm, "evt_6")
	mustTake(t, crm, "evt_7")
}

// A record of a lane that is saved while events arrive counts all of a frame or nothing of it: what it missed would not be
// counted at the next start either, and a lane that seems to have nothing pending is not read any more.
func TestWhatALaneIsGivenByAFrameIsCountedAtOnce(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	var events []Event
	for i := range 64 { // each with a lane set of its own
		other := b.lane(fmt.Sprint("other-", i))
		events = append(events, Event{Type: []byte("test"), Lanes: NewLaneSet(crm.ID(), other.ID())})
	}
	done := make(chan error)
	go func() {
		var err error
		for n := 0; n < 200 && err == nil; n++ {
			for i := range events {
				id := fmt.Sprint("evt_", n, "_", i)
				events[i].ID, events[i].Body = []byte(id), body(id)
			}
			err = b.Append("platform", events, make([]Receipt, len(events)))
		}
		done <- err
	}()
	for {
		crm.mu.Lock()
		r := crm.record()
		crm.mu.Unlock()
		if int64(r.counted) != r.matched+1 { // all events are for it
			t.Errorf("of the events below %d it counted %d", r.counted, r.matched)
			break
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
	<-done
}

// Whoever looks at the lane must not hide its next event from a sender, who would not be woken again.
func TestLookingAtALaneHidesNothingFromItsSenders(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	ready := make(chan struct{}, 1)
	crm.OnReady(func() { wakeUp(ready) })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					crm.Stats()
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	for i := range 200 {
		b.append(NewLaneSet(crm.ID()), fmt.Sprint("evt_", i))
		<-ready
		crm.Delivered(mustTake(t, crm, fmt.Sprint("evt_", i)), ok(1))
	}
}

func TestALaneThatIsGivenUpTakesItsRetriesOutOfMemory(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a", "b")
	crm.Retry(mustTake(t, crm, "a"), broken(1), time.Now())
	crm.Retry(mustTake(t, crm, "b"), broken(1), time.Now())
	under, _ := crm.TakeDue(time.Now().Add(time.Second))
	if err := b.Discard(crm); err != nil {
		t.Fatal(err)
	}
	crm.Delivered(under, ok(2)) // was under way
	if n := b.retriesInMemory.Load(); n != 0 {
		t.Errorf("%d retries are in memory, want none", n)
	}
}

// Senders of all lanes, the committer and the writer at once: each event is handed out once, and the counts agree.
func TestManySendersGetEachEventOnce(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.tailBytes, o.saveEvery = 8<<10, time.Millisecond })
	const total = 3000
	var lanes [3]*Lane
	var taken [3]sync.Map
	for i := range lanes {
		lanes[i] = b.lane(fmt.Sprint("lane_", i))
	}
	var wg sync.WaitGroup
	for n, l := range lanes {
		for sender := range 3 {
			wg.Go(func() {
				for round := sender; ; round++ {
					d, in := l.TakeDue(time.Now())
					if !in {
						if d, _ = l.Take(); d == nil {
							if s := l.Stats(); s.Delivered+s.Failed == total {
								return
							}
							time.Sleep(50 * time.Microsecond)
							continue
						}
						if _, again := taken[n].LoadOrStore(string(d.Event.ID), true); again && round%5 != 0 && d.flight == nil {
							t.Errorf("%s was handed out again", d.Event.ID)
						}
					}
					switch {
					case round%11 == 0:
						l.Failed(d, broken(d.Attempts+1), "answered 500")
					case round%7 == 0 && d.Attempts < 3:
						l.Retry(d, broken(d.Attempts+1), time.Now())
					case round%5 == 0:
						if d.retry == nil {
							taken[n].Delete(string(d.Event.ID))
						}
						l.Release(d, time.Now())
					default:
						l.Delivered(d, ok(d.Attempts+1))
					}
				}
			})
		}
	}
	for i := 0; i < total; i += 30 {
		b.append(NewLaneSet(0, 1, 2), ids(i, i+30)...)
	}
	wg.Wait()
	b.reopen()
	for _, l := range b.Lanes() {
		if s := l.Stats(); s.Pending != 0 || s.Retrying != 0 || s.Delivered+s.Failed != total {
			t.Errorf("%s has %+v", l.Name(), s)
		}
	}
}
