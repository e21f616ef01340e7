package queue

import "fmt"

// call is a write that somebody waits for.
type call struct {
	fn    func() error
	clean bool // it deletes, which is allowed as long as anything is
	done  chan error
}

// update has the keeper do something and waits until it is done.
func (q *Queue) update(fn func() error) error { return q.call(&call{fn: fn}) }

func (q *Queue) call(c *call) error {
	c.done = make(chan error, 1)
	select {
	case q.keeper.calls <- c:
		return <-c.done
	case <-q.closing:
		return ErrClosed
	case <-q.failed:
		return fmt.Errorf("%w: %w", ErrFailed, q.Err())
	}
}

// serve answers a call.
func (k *keeper) serve(q *Queue, c *call) {
	if save, clean := q.disk.tend(q); !save && !(c.clean && clean) {
		c.done <- q.disk.lackOf(q.opts, nil)
		return
	}
	c.done <- c.fn()
}

// serveWaiting answers the calls that wait, for who has much to do.
func (k *keeper) serveWaiting(q *Queue) {
	for {
		select {
		case c := <-k.calls:
			k.serve(q, c)
		default:
			return
		}
	}
}
