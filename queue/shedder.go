package queue

import (
	"fmt"
	"time"
)

// shedder is the goroutine that answers requests which the committer does not take: those that wait longer than
// Options.AppendTimeout, because a write takes that long or the log does not keep up, and those that still wait when the
// committer has returned. So a request waits for its answer alone and needs no timer.
//
// A request that the committer has taken is never the shedder's: its buffers are in use, and its answer depends on the disk
// alone.
func (q *Queue) shedder() {
	tick := time.NewTicker(q.opts.AppendTimeout / 10)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if busy := q.busy.Load(); busy != 0 && uptime()-busy > int64(q.opts.AppendTimeout) {
				q.reject(ErrOverloaded)
			}
		case <-q.committed:
			q.rejectAll()
			return
		}
	}
}

// rejectAll answers requests until no call of Append is left. A call that comes now finds the queue closed and sends none.
func (q *Queue) rejectAll() {
	err := ErrClosed
	if cause := q.Err(); cause != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	for q.appending.Load() > 0 {
		q.reject(err)
		time.Sleep(time.Millisecond)
	}
}

// reject answers all requests that wait now.
func (q *Queue) reject(err error) {
	for {
		select {
		case r := <-q.requests:
			r.done <- err
		default:
			return
		}
	}
}
