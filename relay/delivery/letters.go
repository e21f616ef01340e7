package delivery

import (
	"errors"
	"slices"
	"sync"
	"time"

	"realtorbot-relay/queue"
)

// letters brings what ended as failed to the endpoint that on_failed names. The queue keeps which letters are owed; here is who
// is to be asked for them.
type letters struct {
	mu    sync.Mutex
	owing map[*Lane]time.Time // lanes that may owe some, and before when they are not asked: zero for at once
	come  chan struct{}       // holds one token when there are any
	stop  chan struct{}
	done  chan struct{} // closed when nobody posts them any more
}

const (
	// lettersAgain is the pause after letters could not be written, lettersSoon when the failures are not on disk yet.
	lettersAgain = time.Second
	lettersSoon  = 100 * time.Millisecond
)

func newLetters() *letters {
	return &letters{owing: map[*Lane]time.Time{}, come: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// owes notes that a lane owes letters. It never blocks for long: the queue calls it under its lane's lock.
func (o *letters) owes(l *Lane) {
	o.mu.Lock()
	if _, rests := o.owing[l]; !rests {
		o.owing[l] = time.Time{}
	}
	o.mu.Unlock()
	select {
	case o.come <- struct{}{}:
	default:
	}
}

// rest has a lane that still owes letters asked again after a pause.
func (o *letters) rest(l *Lane, pause time.Duration) {
	o.mu.Lock()
	o.owing[l] = time.Now().Add(pause)
	o.mu.Unlock()
}

// take returns the lanes that may owe letters and do not rest.
func (o *letters) take() (list []*Lane) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for l, until := range o.owing {
		if !until.After(now) {
			list = append(list, l)
			delete(o.owing, l)
		}
	}
	return list
}

// pause is how long the lanes that may owe letters all rest; false when there are none.
func (o *letters) pause() (least time.Duration, some bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, until := range o.owing {
		if wait := max(until.Sub(now), 0); !some || wait < least {
			least, some = wait, true
		}
	}
	return least, some
}

// expectLetters has lanes owe letters or not, as they are configured now.
func (p *Post) expectLetters() {
	configured := map[*Lane]bool{}
	plan := p.plan.Load()
	for i, l := range plan.lanes {
		configured[l] = true
		l.kept.OweLetters(plan.endpoints[i].Delivery.OnFailed != "", func() { p.letters.owes(l) })
	}
	for _, l := range p.lanes {
		if !configured[l] {
			l.kept.OweLetters(false, nil)
		}
	}
}

// postLetters is the goroutine that makes letters, until the Post stops. It waits for the disk.
func (p *Post) postLetters() {
	defer close(p.letters.done)
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	failing := map[*Lane]bool{}
	for {
		select {
		case <-p.letters.come:
		case <-again.C:
		case <-p.letters.stop:
			return
		}
		p.postOwed(failing)
		if pause, some := p.letters.pause(); some {
			again.Reset(pause)
		}
	}
}

// postOwed makes a few of the letters of each lane that owes some. Who owes more is asked again behind the others, and after a
// pause when it could not be: no lane waits for another for longer than a few letters take. failing are the lanes whose letters
// can't be written.
func (p *Post) postOwed(failing map[*Lane]bool) {
	for _, l := range p.letters.take() {
		if p.letters.isStopping() {
			return
		}
		var more bool
		var err error
		if to := p.onFailed(l); to != nil {
			more, err = l.kept.PostLetters(to.kept)
		}
		failed := len(failing) > 0
		switch {
		case errors.Is(err, queue.ErrUnsaved):
			p.letters.rest(l, lettersSoon)
			continue
		case err != nil && p.letters.isStopping():
			return
		case err != nil:
			if !failed {
				p.log.Error().Err(err).Msg("what failed can't be written for the endpoint of on_failed; it is tried again until that goes well, and nothing is lost")
			}
			failing[l] = true
			p.letters.rest(l, lettersAgain)
			continue
		case more:
			p.letters.owes(l)
		}
		delete(failing, l)
		if failed && len(failing) == 0 {
			p.log.Info().Msg("what failed is written for the endpoint of on_failed again")
		}
	}
}

// onFailed is the lane that is given what fails in another, as it is configured now; nil for none. The plan says so before the
// lane is asked for letters, while its course may be the one from before.
func (p *Post) onFailed(l *Lane) *Lane {
	plan := p.plan.Load()
	at := slices.Index(plan.lanes, l)
	if at < 0 || plan.endpoints[at].Delivery.OnFailed == "" {
		return nil
	}
	return p.Lane(plan.endpoints[at].Delivery.OnFailed)
}

func (o *letters) isStopping() bool {
	select {
	case <-o.stop:
		return true
	default:
		return false
	}
}
