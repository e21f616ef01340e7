package queue

import (
	"errors"
	"fmt"
)

// call is a write by the writer that somebody waits for.
type call struct {
	fn    func() error
	clean bool // it deletes, which is allowed while anything is
	done  chan error
}

// update has the writer's goroutine run fn and waits for it.
func (q *Queue) update(fn func() error) error { return q.call(&call{fn: fn}) }

func (q *Queue) call(c *call) error {
	c.done = make(chan error, 1)
	select {
	case q.writer.calls <- c:
		return <-c.done
	case <-q.closing:
		return ErrClosed
	case <-q.failed:
		return fmt.Errorf("%w: %w", ErrFailed, q.Err())
	}
}

// serveCall answers one call.
func (w *writer) serveCall(q *Queue, c *call) {
	if save, clean := q.disk.adjustBallast(q); !save && !(c.clean && clean) {
		c.done <- q.disk.shortageOf(q.opts, nil)
		return
	}
	c.done <- c.fn()
}

// serveWaitingCalls answers the calls that wait, during long work.
func (w *writer) serveWaitingCalls(q *Queue) {
	for {
		select {
		case c := <-w.calls:
			w.serveCall(q, c)
		default:
			return
		}
	}
}

// enqueue takes over the entries of a commit, to be moved into the log.
func (w *writer) enqueue(list []durableEntry) {
	w.mu.Lock()
	w.backlog = append(w.backlog, list...)
	w.mu.Unlock()
	if w.backlogBytes.Add(list[len(list)-1].size) >= saveBytes {
		wakeUp(w.saveNow)
	} else {
		wakeUp(w.saveSoon)
	}
}

// awaitBacklog blocks while too much waits for the log. When it returns nil, the journal has a free slot as a rule; records
// that leave much of their slots empty can fill it all the same, and then commit waits.
func (w *writer) awaitBacklog(q *Queue) error {
	if w.backlogBytes.Load() < q.opts.maxUnsaved() {
		return nil
	}
	return w.awaitRound(q, true, func(uint64) bool { return w.backlogBytes.Load() < q.opts.maxUnsaved() })
}

// awaitJournalSpace blocks until some of what the journal has is in the log. It does not wait for disk space.
func (w *writer) awaitJournalSpace(q *Queue) error {
	had := q.logged.Load()
	err := w.awaitRound(q, true, func(uint64) bool { return q.logged.Load() > had || w.saveRefused.Load() })
	if err == nil && q.logged.Load() == had {
		return ErrDiskLow
	}
	return err
}

// awaitSave blocks until everything that was done before the call is in journal, log and store. When the disk is full it
// returns ErrDiskLow at once.
func (w *writer) awaitSave(q *Queue) error {
	w.mu.Lock()
	from := w.round
	w.mu.Unlock()
	// The save under way may have begun before the caller's changes: wait for the one behind it.
	err := w.awaitRound(q, false, func(round uint64) bool { return round >= from+2 || w.saveRefused.Load() })
	if err == nil && w.saveRefused.Load() {
		return ErrDiskLow
	}
	return err
}

// awaitRound blocks until enough says so after some save. It returns an error when the queue has failed or closes. space:
// the committer waits for room in the journal, perhaps while the writer waits for the committer.
func (w *writer) awaitRound(q *Queue, space bool, enough func(round uint64) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !enough(w.round) {
		if err := q.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrFailed, err)
		}
		if q.over() {
			return ErrClosed
		}
		if !w.saveRefused.Load() { // else the writer looks for space by itself
			wakeUp(w.saveNow)
			if space {
				wakeUp(w.spaceWanted)
			}
		}
		w.saved.Wait()
	}
	return nil
}

func (w *writer) broadcast(saved bool) {
	w.mu.Lock()
	if saved {
		w.round++
	}
	w.saved.Broadcast()
	w.mu.Unlock()
}

func wakeUp(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// saveProgress saves what the lanes did, for callers that read the store. On a full disk it returns nil all the same: what
// is on disk is then a little behind.
func (q *Queue) saveProgress() error {
	if err := q.writer.awaitSave(q); err != nil && !errors.Is(err, ErrDiskLow) {
		return err
	}
	return nil
}
