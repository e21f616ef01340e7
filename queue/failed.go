package queue

import (
	"fmt"

	"realtorbot-relay/queue/entry"
)

// forgetFailed deletes the records of failed deliveries that are still so and still fit, with the lane's record in the next
// save, and says how many. One of which a replay has an attempt under way stays.
func (l *Lane) forgetFailed(seqs []uint64, fits func(*Failure) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range seqs {
		records, err := l.kept(seq, entry.Failed)
		if err != nil || records[0] == nil {
			continue
		}
		if _, flies := l.replaying[seq]; flies {
			l.oldestFailed = min(l.oldestFailed, seq) // the janitor looks again
			continue
		}
		if f, err := parseFailure(seq, records[0]); err != nil || !fits(&f) {
			l.oldestFailed = min(l.oldestFailed, seq) // it failed again since, which disk does not know yet
			continue
		}
		l.failed--
		l.change(entry.Failed, seq, nil)
		n++
	}
	if n > 0 {
		l.changed()
	}
	return n
}

// GiveUpFailed deletes the failed deliveries that a replay of spec would take up, for good, and says how many these were.
// Those that fail meanwhile stay, and so do those of which a replay has an attempt under way. If we die in between, the
// rest is still there.
func (l *Lane) GiveUpFailed(spec ReplaySpec) (count int64, err error) {
	if err = l.q.settled(); err != nil {
		return 0, err
	}
	spec.Failed = true
	l.mu.Lock()
	r := l.draftReplay(spec)
	r.bare = len(spec.Types) == 0
	l.mu.Unlock()
	for r.read < r.to && err == nil {
		var seqs []uint64
		var b batch
		b, err = l.readReplay(r)
		r.read = b.read
		for i := range b.ahead {
			seqs = append(seqs, b.ahead[i].Seq)
		}
		if count += int64(l.forgetFailed(seqs, r.wants)); err == nil && (l.isFull() || r.read >= r.to) {
			err = l.q.keeper.drain(l.q)
		}
	}
	if err != nil {
		return count, fmt.Errorf("give up failed deliveries of lane %q: %w", l.name, err)
	}
	return count, nil
}
