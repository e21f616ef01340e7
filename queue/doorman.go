package queue

import (
	"fmt"
	"time"
)

// doorman is the goroutine that answers for the committer when that does not come: requests that wait longer than
// Options.AppendTimeout, since a write takes that long or the store does not keep up, and those that still wait when the
// committer has left. Thus a request itself waits for nothing but its answer, with no clock of its own.
//
// A request that the committer has taken is not the doorman's: its buffers are in use and its answer depends on the disk
// alone.
func (q *Queue) doorman() {
	tick := time.NewTicker(q.opts.AppendTimeout / 10)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if busy := q.busy.Load(); busy != 0 && uptime()-busy > int64(q.opts.AppendTimeout) {
				q.turnAway(ErrOverloaded)
			}
		case <-q.committed:
			q.turnAllAway()
			return
		}
	}
}

// turnAllAway answers until nobody is inside. Who comes now finds the queue closed and does not ask.
func (q *Queue) turnAllAway() {
	err := ErrClosed
	if cause := q.Err(); cause != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	for q.inside.Load() > 0 {
		q.turnAway(err)
		time.Sleep(time.Millisecond)
	}
}

// turnAway answers all who wait now.
func (q *Queue) turnAway(err error) {
	for {
		select {
		case r := <-q.requests:
			r.done <- err
		default:
			return
		}
	}
}
