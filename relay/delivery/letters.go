package delivery

import (
	"errors"
	"sync"
	"time"

	"realtorbot-relay/queue"
)

// letters brings what ended as failed to the endpoint that on_failed names. The queue keeps which letters are owed; here is who
// is to be asked for them.
type letters struct {
	mu    sync.Mutex
	owing map[*Lane]struct{} // lanes that may owe some
	come  chan struct{}      // holds one token when there are any
	stop  chan struct{}
	done  chan struct{} // closed when nobody posts them any more
}

const (
	// lettersAgain is the pause after letters could not be written, lettersSoon when the failures are not on disk yet.
	lettersAgain = time.Second
	lettersSoon  = 100 * time.Millisecond
)

func newLetters() *letters {
	return &letters{owing: map[*Lane]struct{}{}, come: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// owes notes that a lane owes letters. It never blocks for long: the queue calls it under its lane's lock.
func (o *letters) owes(l *Lane) {
	o.mu.Lock()
	o.owing[l] = struct{}{}
	o.mu.Unlock()
	select {
	case o.come <- struct{}{}:
	default:
	}
}

// take returns the lanes that may owe letters.
func (o *letters) take() (list []*Lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for l := range o.owing {
		list = append(list, l)
	}
	clear(o.owing)
	return list
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
	failing := false
	for {
		select {
		case <-p.letters.come:
		case <-again.C:
		case <-p.letters.stop:
			return
		}
		err := p.postOwed()
		switch {
		case errors.Is(err, queue.ErrUnsaved):
			again.Reset(lettersSoon)
			continue
		case err != nil && p.letters.isStopping():
			return
		case err != nil:
			if !failing {
				p.log.Error().Err(err).Msg("what failed can't be written for the endpoint of on_failed; it is tried again until that goes well, and nothing is lost")
			}
			again.Reset(lettersAgain)
		case failing:
			p.log.Info().Msg("what failed is written for the endpoint of on_failed again")
		}
		failing = err != nil
	}
}

// postOwed makes the letters that are owed, a few of each lane in turn. After an error those of that lane are still owed, and it
// is asked again.
func (p *Post) postOwed() (failed error) {
	lanes := p.letters.take()
	for len(lanes) > 0 {
		left := lanes[:0]
		for _, l := range lanes {
			if p.letters.isStopping() {
				return failed
			}
			to := p.onFailed(l)
			if to == nil {
				continue
			}
			more, err := l.kept.PostLetters(to.kept)
			if err != nil {
				if failed == nil || errors.Is(failed, queue.ErrUnsaved) {
					failed = err
				}
				p.letters.mu.Lock()
				p.letters.owing[l] = struct{}{}
				p.letters.mu.Unlock()
			} else if more {
				left = append(left, l)
			}
		}
		lanes = left
	}
	return failed
}

// onFailed is the lane that is given what fails in another, as it is configured now; nil for none.
func (p *Post) onFailed(l *Lane) *Lane {
	ep := l.endpoint()
	if ep == nil || ep.Delivery.OnFailed == "" {
		return nil
	}
	return p.Lane(ep.Delivery.OnFailed)
}

func (o *letters) isStopping() bool {
	select {
	case <-o.stop:
		return true
	default:
		return false
	}
}

// appendFailed adds the headers that say whose delivery failed and why, in printable ASCII.
func appendFailed(dst []byte, letter *queue.Letter) []byte {
	dst = appendHeader(dst, "\r\nX-RealtorBot-Failed-Endpoint: ", letter.Lane)
	dst = appendHeader(dst, "\r\nX-RealtorBot-Failed-Class: ", letter.Class)
	dst = append(dst, "\r\nX-RealtorBot-Failed-Reason: "...)
	for _, r := range letter.Reason {
		if r < ' ' || r > '~' {
			r = '?'
		}
		dst = append(dst, byte(r))
	}
	return dst
}
