package delivery

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/relay/config"
)

// disk stands before every read or write of a place. While it is stuck none ends.
type disk struct {
	place   string
	mu      sync.Mutex
	free    chan struct{} // closed when reads go on; nil while it is not stuck
	waiting atomic.Int64
	waited  atomic.Int64 // ever
}

func (d *disk) fault(place string, made bool) error {
	d.mu.Lock()
	free := d.free
	d.mu.Unlock()
	if place != d.place || made || free == nil {
		return nil
	}
	d.waiting.Add(1)
	d.waited.Add(1)
	<-free
	d.waiting.Add(-1)
	return nil
}

func (d *disk) stick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free == nil {
		d.free = make(chan struct{})
	}
}

func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free != nil {
		close(d.free)
		d.free = nil
	}
}

// within fails the test when what should wait for no disk does.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s waits for the disk", what)
	}
}

// openStuck has a lane whose sender asks a disk that does not answer: for the next event, for that of a retry, for that of a
// replay, for a probe, for one with a retry that is not due, for the last retry of all, or for what is too old. The first of five events may be settled: the queue reads it when it is opened.
// Nobody does the housekeeping.
func openStuck(t *testing.T, ep config.Endpoint, reads string) (*harness, *disk) {
	s := &disk{place: log.PlaceRead}
	d := openHarness(t, ep)
	t.Cleanup(s.release) // before the queue is closed
	lane := d.dispatcher.Lane("crm")
	if err := lane.Pause("until the disk is stuck"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", numbered(5)[0])
	d.fill()
	d.accept("lead.created", numbered(5)[1:]...)
	a := &queue.Attempt{Number: 1, At: d.now(), Status: 500, Class: "status"}
	switch reads {
	case "retry":
		for range 5 {
			lane.queueLane.Retry(d.take(lane), a, d.now())
		}
	case "early", "last":
		queueLane := 1 // of the five
		if reads == "last" {
			queueLane = 4
		}
		for range queueLane {
			lane.queueLane.Delivered(d.take(lane), &queue.Attempt{Number: 1, At: d.now(), Status: 200})
		}
		due := d.now()
		if reads == "early" {
			due = due.Add(ep.Delivery.MaxAge)
		}
		for range 5 - queueLane {
			lane.queueLane.Retry(d.take(lane), a, due)
		}
	case "replay":
		for range 5 {
			lane.queueLane.Failed(d.take(lane), a, "answered 500")
		}
		d.replay("crm", queue.ReplaySpec{Failed: true})
	}
	d.stop(context.Background()) // what it has in memory
	d.fault = s.fault
	d.open(ep)
	d.endHousekeeping()
	d.fill()
	lane = d.dispatcher.Lane("crm")
	if reads == "probe" {
		lane.queueLane.Delivered(d.take(lane), &queue.Attempt{Number: 1, At: d.now(), Status: 200}) // that one could be had without the disk
	}
	s.stick()
	switch reads {
	case "expiry":
		d.leap.Add(int64(ep.Delivery.MaxAge + time.Hour))
		lane.requestExpiry()
	case "probe", "early":
		breakIt(d, lane, ep)
		d.skip(2 * probeEvery)
		lane.mu.Lock()
		lane.gate.pauseReason = "" // a resume would forget that it is down
		lane.mu.Unlock()
		lane.noWake.Store(false)
		lane.wakeSender()
	default:
		resume(d, lane, ep)
	}
	for end := time.Now().Add(patience); s.waiting.Load() == 0; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is read")
		}
	}
	d.until("crm", "waiting for the disk alone", func(s Status) bool { return s.InFlight == 0 })
	if st := d.status("crm"); (reads == "probe" || reads == "early") != (st.State == StateDown) {
		t.Fatalf("the disk is asked by %+v", st)
	}
	return d, s
}

// endHousekeeping ends the housekeeping, which is for the test to do.
func (d *harness) endHousekeeping() {
	close(d.dispatcher.stop)
	d.dispatcher.housekeeper.Wait()
	d.dispatcher.stop = make(chan struct{})
}

// take takes what a lane that is paused is to attempt next.
func (d *harness) take(l *Lane) *queue.Delivery {
	d.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		if one, _ := l.queueLane.Take(); one != nil {
			return one
		}
	}
	d.t.Fatal("nothing can be taken")
	return nil
}

// fill has the queue's memory hold other events than those before.
func (d *harness) fill() {
	d.t.Helper()
	for i := range 6 {
		event := queue.Event{ID: fmt.Appendf(nil, "filler_%d", d.filled+i), Type: []byte("test"), Body: make([]byte, 1<<20)}
		if err := d.Append("platform", []queue.Event{event}, make([]queue.Receipt, 1)); err != nil {
			d.t.Fatal(err)
		}
	}
	d.filled += 6
	if err := d.dispatcher.Lane("crm").Pause("until the disk is stuck"); err != nil { // which saves all
		d.t.Fatal(err)
	}
}

var allReads = []string{"next", "retry", "replay", "expiry"}

// A disk that does not answer holds up what is attempted, and nobody else. What the lane was told meanwhile is so when the
// disk answers: after a pause nothing goes out.
func TestNobodyWaitsForALaneThatAsksTheDisk(t *testing.T) {
	for _, reads := range allReads {
		t.Run(reads, func(t *testing.T) {
			url, got := quickReceiver(t, well)
			ep := subscriber("crm", url)
			d, s := openStuck(t, ep, reads)
			lane := d.dispatcher.Lane("crm")
			within(t, "a look", func() { d.dispatcher.Statuses() })
			within(t, "the housekeeping", func() {
				d.dispatcher.checkLanes([]*Lane{lane})
				lane.reportLasting(d.now())
				lane.requestExpiry()
			})
			within(t, "a pause", func() {
				if err := lane.Pause("by the test"); err != nil {
					t.Error(err)
				}
			})
			within(t, "a resume", func() {
				if err := lane.Resume(); err != nil {
					t.Error(err)
				}
			})
			within(t, "a reload", func() {
				other := ep
				other.Delivery.Concurrency++
				d.apply(other)
			})
			within(t, "a reload without it", func() { d.apply() })
			within(t, "a reload with it", func() { d.apply(ep) })
			within(t, "a pause", func() {
				if err := lane.Pause("by the test"); err != nil {
					t.Error(err)
				}
			})
			if lane.overdue(time.Now().Add(time.Minute)) < askLimit {
				t.Error("that the disk does not answer does not show")
			}
			if s.waiting.Load() == 0 {
				t.Fatal("no read waits: this shows nothing")
			}
			before, sent := d.status("crm"), len(got.arrived())
			s.release()
			d.rest(lane)
			if overdue := lane.overdue(time.Now().Add(time.Minute)); overdue != 0 {
				t.Errorf("it is still overdue, for %v", overdue)
			}
			after := d.status("crm")
			if reads == "expiry" {
				if after.Failed != 5 {
					t.Errorf("%d became failed, want 5", after.Failed)
				}
				return
			}
			if n := len(got.arrived()) - sent; n > 0 || after.Attempts != before.Attempts || after.Failed != before.Failed || after.Retrying != before.Retrying {
				t.Errorf("%d attempts after the pause: %+v, before %+v", n, after, before)
			}
			if err := lane.Resume(); err != nil {
				t.Fatal(err)
			}
			d.until("crm", "settled", func(s Status) bool { return settled(s) && s.Delivered == 5 && s.Failed == 0 })
			if n := len(got.arrived()); n != 5 {
				t.Errorf("%d arrived, want 5", n)
			}
		})
	}
}

// rest waits until nobody asks the queue and all senders are idle.
func (d *harness) rest(l *Lane) {
	d.t.Helper()
	d.comeTo(l, func() bool {
		return l.askingSince.IsZero() && !l.expireNext && l.idle == l.senders && (len(l.wake) == 0 || l.senders == 0)
	})
}

// comeTo waits until a lane is as wanted, which is asked under its lock.
func (d *harness) comeTo(l *Lane, wanted func() bool) {
	d.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		l.mu.Lock()
		there := wanted()
		l.mu.Unlock()
		if there {
			return
		}
	}
	d.t.Fatal("it does not come to what it should")
}

// What was too old while the lane was held is not given up when that ended before the disk answered.
func TestWhatIsResumedWhileTheDiskIsAskedDoesNotExpire(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d, s := openStuck(t, subscriber("crm", url), "expiry")
	if err := d.dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	s.release()
	d.until("crm", "settled", func(s Status) bool { return settled(s) && s.Delivered == 4 && s.Failed == 1 })
}

// A relay that stops, or an endpoint that is given up, waits for attempts and not for a disk.
func TestAStopDoesNotWaitForTheDisk(t *testing.T) {
	for _, reads := range allReads {
		t.Run(reads, func(t *testing.T) {
			url, _ := quickReceiver(t, well)
			ep := subscriber("crm", url)
			d, s := openStuck(t, ep, reads)
			within(t, "giving up", func() {
				d.apply()
				if _, found, err := d.dispatcher.Discard("crm"); err != nil || !found {
					t.Errorf("given up: %v, %v", found, err)
				}
				d.apply(ep)
			})
			d.accept("lead.created", "evt_after")
			d.until("crm", "served", func(s Status) bool { return s.Delivered == 1 })
			s.release()

			d, s = openStuck(t, ep, reads)
			dispatcher := d.dispatcher
			within(t, "a stop", func() {
				over, cancel := context.WithCancel(context.Background())
				cancel()
				dispatcher.Stop(over)
			})
			s.release()
			d.dispatcher = nil
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			d.fault = nil
			d.open(ep)
			queueLane := d.status("crm")
			if queueLane.Pending+queueLane.Retrying+queueLane.Failed+queueLane.Delivered != 5 {
				t.Errorf("after a restart it has %+v", queueLane)
			}
		})
	}
}
