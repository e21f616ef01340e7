package queue

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
)

// stuckReads makes a queue of which every read of a segment waits, as on a disk that does not answer, while stuck says so.
// Its memory holds no frame that is saved.
type stuckReads struct {
	*bench
	stuck   atomic.Bool
	waiting atomic.Int64
	free    chan struct{}
}

func openStuckReads(t *testing.T) *stuckReads {
	s := &stuckReads{free: make(chan struct{})}
	s.bench = openBench(t, func(o *Options) {
		o.tailBytes = 1
		o.fault = func(place string, made bool) error {
			if place == log.PlaceRead && !made && s.stuck.Load() {
				s.waiting.Add(1)
				<-s.free
			}
			return nil
		}
	})
	return s
}

// release lets all reads go on, from now on.
func (s *stuckReads) release() {
	s.stuck.Store(false)
	close(s.free)
}

// While a sender waits for the disk nobody else does: not those who append, save, settle, pause or look.
func TestNobodyWaitsForTheReadOfAnother(t *testing.T) {
	reads := map[string]func(s *stuckReads, l *Lane) any{
		"the next event":       func(s *stuckReads, l *Lane) any { d, _ := l.Take(); return d },
		"the event of a retry": func(s *stuckReads, l *Lane) any { d, _ := l.TakeDue(time.Now().Add(time.Hour)); return d },
		"a replay":             func(s *stuckReads, l *Lane) any { d, _ := l.TakeReplay(time.Now()); return d },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			s := openStuckReads(t)
			crm := s.lane("crm")
			set := NewLaneSet(crm.ID())
			for i := range 3 {
				s.append(set, fmt.Sprint("evt_", i))
			}
			first, retried, given := s.take(crm), s.take(crm), s.take(crm)
			crm.Retry(retried, broken(1), time.Now().Add(time.Minute))
			crm.Failed(given, broken(1), "answered 500")
			for i := range 3 {
				s.append(set, fmt.Sprint("more_", i))
			}
			s.saveAll()
			s.startReplay(crm, ReplaySpec{Failed: true})
			s.saveAll()
			s.stuck.Store(true)
			got := make(chan any, 1)
			go func() { got <- read(s, crm) }()
			await(t, "the read", func() bool { return s.waiting.Load() > 0 })

			crm.Delivered(first, ok(1))
			if err := crm.Pause("by the test"); err != nil {
				t.Error(err)
			}
			s.append(set, "later")
			if now := crm.Stats(); now.Pending != 4 || now.Delivered != 1 || now.Oldest.IsZero() {
				t.Errorf("it shows %+v", now)
			}
			_ = crm.Outlook()
			s.saveAll()
			select {
			case <-got:
				t.Fatal("the read did not wait: this shows nothing")
			default:
			}
			s.release()
			if d := (<-got).(*Delivery); d == nil || len(d.Event.Body) == 0 {
				t.Errorf("it got %+v", d)
			}
		})
	}
}

// What is asked of a delivery while its state changes is what it was at one moment, though the store is read in between.
func TestTheStateOfADeliveryIsThatOfOneMoment(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "evt_1")
	d := b.take(crm)
	seq := d.Event.Seq
	crm.Retry(d, broken(1), time.Now())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			d, ok := crm.TakeDue(time.Now().Add(time.Hour))
			if !ok {
				awaitSave(crm)
				continue
			}
			crm.Retry(d, broken(d.Attempts+1), time.Now())
			wakeUp(b.writer.saveNow)
		}
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		if state, err := crm.state(seq); err != nil || state.state != Retrying {
			t.Fatalf("it is %s, %v", state.state, err)
		}
	}
}

// What is lost is counted and told once, whoever comes upon it.
func TestEventsThatAreLostAreCountedOnce(t *testing.T) {
	var l lostEvents
	for _, c := range []struct {
		from, to uint64
		fresh    int64
	}{{10, 20, 10}, {10, 20, 0}, {15, 25, 5}, {30, 40, 10}, {5, 6, 1}, {0, 50, 24}, {7, 7, 0}, {49, 51, 1}} {
		if n := l.add(c.from, c.to); n != c.fresh {
			t.Errorf("%d to %d: %d new, want %d", c.from, c.to, n, c.fresh)
		}
	}
	if len(l.ranges) != 1 || l.ranges[0] != (span{0, 51}) {
		t.Errorf("%v", l.ranges)
	}
}
