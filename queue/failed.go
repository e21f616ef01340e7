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

// soundStore is a store that had everything that its sums have, as of so many merges.
type soundStore struct {
	store  *store.Store
	merges uint64
}

// requireFailures makes sure that the store has every failed delivery that its sums have, so that who looks for all of them
// overlooks none. When it lost one and nobody noticed yet, requireFailures has the store made again from the log and waits
// for that, up to a limit. It reads all records of failed deliveries. Whoever has looked then asks stillSound: Badger may
// lose records while they are read. The caller holds no lock.
func (q *Queue) requireFailures(limit time.Duration) (soundStore, error) {
	for began := uptime(); ; {
		s := q.index.current()
		sound := soundStore{s, s.Merges()}
		list, err := s.Check(store.Failed)
		switch {
		case err == nil && len(list) == 0:
			return sound, nil
		case err == nil:
			q.writer.suspectStore()
		case !errors.Is(err, store.ErrClosed): // the store was replaced
			return soundStore{}, err
		}
		if since(began) >= limit {
			return soundStore{}, errNotRemade
		}
		select {
		case <-q.closing:
			return soundStore{}, ErrClosed
		case <-q.failed:
			return soundStore{}, fmt.Errorf("%w: %w", ErrFailed, q.Err())
		case <-time.After(remadePoll):
		}
	}
}

// stillSound reports whether the store that requireFailures found sound lost no failed delivery until now. When it is another
// one by now, it is sound, and what was read before may lack some. It reads the records only when Badger has merged tables.
// limit is as for requireFailures.
func (q *Queue) stillSound(was soundStore, limit time.Duration) (still bool, now soundStore, err error) {
	if s := q.index.current(); s == was.store && s.Merges() == was.merges {
		return true, was, nil
	}
	now, err = q.requireFailures(limit)
	return err == nil && now.store == was.store, now, err
}

// deleteFailed deletes the records of those failed deliveries that are still failed and that fits accepts; the next save has
// the deletions. It returns how many these are, also with the error of a record that can't be read. A delivery that a replay
// has in flight stays.
func (l *Lane) deleteFailed(seqs []uint64, fits func(*Failure) bool) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if n > 0 {
			l.changed()
		}
	}()
	for _, seq := range seqs {
		records, err := l.recordsOf(seq, entry.Failed)
		if err != nil {
			return n, err
		}
		if records[0] == nil {
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
	return n, nil
}

// DiscardFailed deletes, for good, the failed deliveries that a replay of spec would take up, and returns how many these
// are. It makes sure that the store has them all (requireFailures). Deliveries that fail meanwhile stay, and so do those
// that a replay has in flight. It reads and writes disk, a batch at a time, without holding a lock over it; when it returns
// nil the deletions are durable. If we die before that, the rest still exists.
func (l *Lane) DiscardFailed(spec ReplaySpec) (count int64, err error) {
	var sound soundStore
	if err = l.q.saveProgress(); err == nil {
		sound, err = l.q.requireFailures(remadeWithin)
	}
	spec.Failed = true
	l.mu.Lock()
	r := l.draftReplay(spec)
	r.withoutEvents = len(spec.Types) == 0
	l.mu.Unlock()
	for still := false; err == nil && !still; {
		r.rewind()
		var n int64
		if n, err = l.discardAll(r); err == nil {
			still, sound, err = l.q.stillSound(sound, remadeWithin)
		}
		count += n
	}
	if err != nil {
		return count, fmt.Errorf("discard failed deliveries of lane %q: %w", l.name, err)
	}
	return count, nil
}

// discardAll deletes the failed deliveries that a replay which nobody else knows would take up, as far as the store has them.
func (l *Lane) discardAll(r *replay) (count int64, err error) {
	for r.read < r.end && err == nil {
		var seqs []uint64
		var b replayBatch
		b, err = l.readReplay(r)
		r.read = b.read
		for i := range b.ahead {
			seqs = append(seqs, b.ahead[i].Seq)
		}
		n, failed := l.deleteFailed(seqs, r.matches)
		count += int64(n)
		if err = errors.Join(err, failed); err == nil && (l.isFull() || r.read >= r.end) {
			err = l.q.writer.awaitSave(l.q)
		}
	}
	return count, err
}
