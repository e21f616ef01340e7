package delivery

import (
	"errors"
	"sync"
	"time"

	"realtorbot-relay/queue"
)

// deadLetters sends deliveries that failed on to the endpoint that on_failed names. A dead letter is a copy of the event, which the
// lane owes until it is written into the other lane. The queue knows which are owed; deadLetters knows which lanes to ask.
type deadLetters struct {
	mu    sync.Mutex
	owing map[*Lane]time.Time // lanes that may owe some, and from when on to ask them: zero for at once
	ready chan struct{}       // holds one token when a lane may owe some
	stop  chan struct{}
	done  chan struct{} // closed when the goroutine that writes them has ended
}

const (
	// deadLetterRetry is the pause after dead letters could not be written, deadLetterUnsaved while the failures are not on disk
	// yet.
	deadLetterRetry   = time.Second
	deadLetterUnsaved = 100 * time.Millisecond
)

func newDeadLetters() *deadLetters {
	return &deadLetters{owing: map[*Lane]time.Time{}, ready: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// owes notes that a lane may owe dead letters. It waits for no disk: the queue calls it under its lane's lock.
func (s *deadLetters) owes(l *Lane) {
	s.mu.Lock()
	if _, known := s.owing[l]; !known {
		s.owing[l] = time.Time{}
	}
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// postpone has a lane that still owes some asked again after a pause.
func (s *deadLetters) postpone(l *Lane, pause time.Duration) {
	s.mu.Lock()
	s.owing[l] = time.Now().Add(pause)
	s.mu.Unlock()
}

// take returns the lanes to ask now, and removes them.
func (s *deadLetters) take() (list []*Lane) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, until := range s.owing {
		if !until.After(now) {
			list = append(list, l)
			delete(s.owing, l)
		}
	}
	return list
}

// pause returns how long until the next lane is to be asked; false when none is.
func (s *deadLetters) pause() (least time.Duration, some bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, until := range s.owing {
		if wait := max(until.Sub(now), 0); !some || wait < least {
			least, some = wait, true
		}
	}
	return least, some
}

// configureDeadLetters has lanes owe dead letters or not, as they are configured now.
func (d *Dispatcher) configureDeadLetters() {
	configured := map[*Lane]bool{}
	table := d.table.Load()
	for i, l := range table.lanes {
		configured[l] = true
		l.queueLane.OweLetters(table.endpoints[i].Delivery.OnFailed != "", func() { d.deadLetters.owes(l) })
	}
	for _, l := range d.lanes {
		if !configured[l] {
			l.queueLane.OweLetters(false, nil)
		}
	}
}

// writeDeadLetters is the goroutine that writes dead letters, until the Dispatcher stops. It waits for the disk.
func (d *Dispatcher) writeDeadLetters() {
	defer close(d.deadLetters.done)
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	failing := map[*Lane]bool{}
	for {
		select {
		case <-d.deadLetters.ready:
		case <-again.C:
		case <-d.deadLetters.stop:
			return
		}
		d.writeOwed(failing)
		if pause, some := d.deadLetters.pause(); some {
			again.Reset(pause)
		}
	}
}

// writeOwed writes a few of the dead letters of each lane that owes some. A lane that owes more is asked again after the others, and
// after a pause when writing failed: no lane waits for another longer than a few dead letters take. failing are the lanes whose dead
// letters can't be written.
func (d *Dispatcher) writeOwed(failing map[*Lane]bool) {
	for _, l := range d.deadLetters.take() {
		if d.deadLetters.isStopping() {
			return
		}
		var more bool
		var err error
		if to, own := d.onFailedLane(l); to != nil {
			more, err = l.queueLane.PostLetters(to.queueLane, own)
		}
		failed := len(failing) > 0
		switch {
		case errors.Is(err, queue.ErrUnsaved):
			d.deadLetters.postpone(l, deadLetterUnsaved)
			continue
		case err != nil && d.deadLetters.isStopping():
			return
		case err != nil:
			if !failed {
				d.log.Error().Err(err).Msg("failed deliveries can't be written for the endpoint of on_failed; the relay tries again until that succeeds, and nothing is lost")
			}
			failing[l] = true
			d.deadLetters.postpone(l, deadLetterRetry)
			continue
		case more:
			d.deadLetters.owes(l)
		}
		delete(failing, l)
		if failed && len(failing) == 0 {
			d.log.Info().Msg("failed deliveries are written for the endpoint of on_failed again")
		}
	}
}

// onFailedLane returns the lane that gets what fails in l, as it is configured now, and of which events; nil for none. An event that is
// not the endpoint's own is another customer's, and is not handed on. It asks the routing table, because that is replaced before l is
// asked for dead letters, while l's generation may still be the previous one.
func (d *Dispatcher) onFailedLane(l *Lane) (to *Lane, own func(*queue.Stored) bool) {
	table := d.table.Load()
	at, ok := table.places[l.name]
	if !ok || table.lanes[at] != l || table.endpoints[at].Delivery.OnFailed == "" {
		return nil, nil
	}
	return table.laneOf(table.endpoints[at].Delivery.OnFailed), OwnEvents(table.endpoints[at].Match)
}

func (s *deadLetters) isStopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}
