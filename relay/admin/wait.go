package admin

import (
	"sync/atomic"
	"time"

	"realtorbot-relay/queue"
)

const (
	// storyWait is the longest that a story is waited for, and maxWaiting how many wait at a time.
	storyWait  = 30 * time.Second
	maxWaiting = 32
	// storyLook and storyPause are how soon, and how seldom, it is looked again.
	storyLook  = 10 * time.Millisecond
	storyPause = 250 * time.Millisecond
)

// waiters counts the requests that wait. The zero value is ready.
type waiters struct{ taken atomic.Int32 }

// begin takes a place. It returns false when all are taken. Who gets one calls end.
func (w *waiters) begin() bool {
	if w.taken.Add(1) <= maxWaiting {
		return true
	}
	w.end()
	return false
}

func (w *waiters) end() { w.taken.Add(-1) }

// stories looks up the events of an id, newest first. While something of the newest is under way it looks again, until that
// is settled, wait is over or stopped is closed. Nothing wakes it: the way of a delivery must not know of those who look on.
// So what is settled soon is told soon, and what takes long costs four looks a second.
func (a *Admin) stories(stopped <-chan struct{}, id []byte, wait time.Duration) ([]queue.EventStory, error) {
	began := time.Now()
	for {
		list, err := a.Queue.Stories(id, 1+mostEarlier)
		waited := time.Since(began)
		if err != nil || len(list) == 0 || list[0].IsSettled() || waited >= wait {
			return list, err
		}
		timer := time.NewTimer(min(max(waited/4, storyLook), storyPause, wait-waited))
		select {
		case <-timer.C:
		case <-stopped:
			timer.Stop()
			return list, nil
		}
	}
}
