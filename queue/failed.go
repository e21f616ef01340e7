package queue

import (
	"errors"
	"fmt"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

const (
	// remadeWithin is how long an operator's command waits for a store that is made again.
	remadeWithin = 10 * time.Second
	remadePoll   = 20 * time.Millisecond
)

// requireFailures makes sure that the store has every failed delivery that its sums have, so that who looks for all of them
// overlooks none. When it lost one and nobody noticed yet, requireFailures has the store made again from the log and waits
// for that, at most remadeWithin. It reads all records of failed deliveries. The caller holds no lock.
func (q *Queue) requireFailures() error {
	began := uptime()
	for since(began) < remadeWithin {
		list, err := q.index.current().Check(store.Failed)
		switch {
		case err == nil && len(list) == 0:
			return nil
		case err == nil:
			q.writer.suspectStore()
		case !errors.Is(err, store.ErrClosed): // the store was replaced
			return err
		}
		select {
		case <-q.closing:
			return ErrClosed
		case <-q.failed:
			return fmt.Errorf("%w: %w", ErrFailed, q.Err())
		case <-time.After(remadePoll):
		}
	}
	return errNotRemade
}

// deleteFailed deletes the records of those failed deliveries that are still failed and that fits accepts; the next save has
// the deletions. It returns how many these are. A delivery that a replay has in flight stays.
func (l *Lane) deleteFailed(seqs []uint64, fits func(*Failure) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range seqs {
		records, err := l.recordsOf(seq, entry.Failed)
		if err != nil || records[0] == nil {
			continue
		}
		if _, flies := l.replaying[seq]; flies {
			l.oldestFailed = min(l.oldestFailed, seq) // retention looks again
			continue
		}
		if f, err := parseFailure(seq, records[0]); err != nil || !fits(&f) {
			l.oldestFailed = min(l.oldestFailed, seq) // it has failed anew since, which is not on disk yet
			continue
		}
		l.failed--
		l.discardedTo = max(l.discardedTo, seq+1)
		l.change(entry.Failed, seq, nil)
		n++
	}
	if n > 0 {
		l.changed()
	}
	return n
}

// DiscardFailed deletes, for good, the failed deliveries that a replay of spec would take up, and returns how many these
// are. It first makes sure that the store has them all (requireFailures). Deliveries that fail meanwhile stay, and so do those
// that a replay has in flight. It reads and writes disk, a batch at a time, without holding a lock over it; when it returns
// nil the deletions are durable. If we die before that, the rest still exists.
func (l *Lane) DiscardFailed(spec ReplaySpec) (count int64, err error) {
	if err = l.q.saveProgress(); err == nil {
		err = l.q.requireFailures()
	}
	if err != nil {
		return 0, fmt.Errorf("discard failed deliveries of lane %q: %w", l.name, err)
	}
	spec.Failed = true
	l.mu.Lock()
	r := l.draftReplay(spec)
	r.withoutEvents = len(spec.Types) == 0
	l.mu.Unlock()
	for r.read < r.end && err == nil {
		var seqs []uint64
		var b replayBatch
		b, err = l.readReplay(r)
		r.read = b.read
		for i := range b.ahead {
			seqs = append(seqs, b.ahead[i].Seq)
		}
		if count += int64(l.deleteFailed(seqs, r.matches)); err == nil && (l.isFull() || r.read >= r.end) {
			err = l.q.writer.awaitSave(l.q)
		}
	}
	if err != nil {
		return count, fmt.Errorf("discard failed deliveries of lane %q: %w", l.name, err)
	}
	return count, nil
}
