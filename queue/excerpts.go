package queue

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/entry"
)

// Whole excerpts of all answers would fill the disk. The log keeps the first bytes of each, and the whole of the attempt
// that ended a delivery, within a budget. While a delivery goes on, its newest whole excerpt is in memory.
const (
	shortExcerpt = 256
	newestBytes  = 4 << 20 // of whole excerpts in memory, over all lanes
	// One lane may take a laneFraction-th of the budget.
	laneFraction = 4
)

// excerpts is the budget of all lanes: Options.ExcerptBytes. What is taken comes back over the time for which a record may
// be kept. Half of the budget may be taken at once, and half comes back in that time; so no more than the budget is kept at
// any time, but for what a lagging lane retains. It is saved as a time, at which everything has come back, in the records of
// the lanes.
type excerpts struct {
	mu    sync.Mutex
	until int64 // queue time at which everything that was taken has come back

	inMemory atomic.Int64 // bytes
}

// newest is the whole excerpt of the latest attempt of a delivery that goes on.
type newest struct {
	number  int
	at      time.Time
	excerpt []byte
}

// excerptPeriod is how long it takes until all of a budget has come back, in milliseconds.
func (o *Options) excerptPeriod() int64 {
	return max(o.Retention, o.FailedRetention, time.Second).Milliseconds()
}

// spendExcerptBudget takes bytes from the budgets of the lane and of all lanes, if both have them. The caller holds mu.
func (l *Lane) spendExcerptBudget(bytes int) bool {
	q := l.q
	now, period, half := q.now(), q.opts.excerptPeriod(), max(q.opts.ExcerptBytes/2, 1)
	cost := (int64(bytes)*period + half - 1) / half
	own := max(l.excerptsUntil, now) + cost*laneFraction
	q.excerpts.mu.Lock()
	defer q.excerpts.mu.Unlock()
	all := max(q.excerpts.until, now) + cost
	if own-now > period || all-now > period {
		return false
	}
	l.excerptsUntil, q.excerpts.until = own, all
	return true
}

// loadExcerpts makes the budget of all lanes from those of the lanes, before anybody else knows the queue.
func (q *Queue) loadExcerpts(lanes []*Lane) {
	now, taken := q.now(), int64(0)
	for _, l := range lanes {
		if l != nil {
			taken += max(l.excerptsUntil-now, 0) / laneFraction
		}
	}
	q.excerpts.until = now + min(taken, q.opts.excerptPeriod())
}

// aftermath says what follows an attempt.
type aftermath uint8

const (
	retryFollows   aftermath = iota // another attempt of the same delivery
	deliveryEnds                    // nothing: the delivery is settled
	firstSucceeded                  // nothing: the first attempt went well, and nobody reads more of its answer
)

// note adds an attempt to what is saved next. The caller holds mu.
func (l *Lane) note(d *Delivery, a *Attempt, then aftermath) {
	m := entry.EventAttempt{Seq: d.Event.Seq, Attempt: *a}
	m.Replay = d.Replay
	excerpt := a.Excerpt
	switch {
	case l.q.disk.nearlyFull.Load():
		excerpt = nil
	case len(excerpt) > shortExcerpt && !(then == deliveryEnds && l.spendExcerptBudget(len(excerpt))):
		excerpt = excerpt[:shortExcerpt]
	}
	m.Excerpt = slices.Clone(excerpt)
	l.forgetNewest(m.Seq)
	if then == retryFollows && len(excerpt) < len(a.Excerpt) {
		l.rememberNewest(m.Seq, &m.Attempt, a.Excerpt)
	}
	l.attempts = append(l.attempts, m)
	l.attemptBytes += 64 + len(m.Excerpt) + len(m.Error)
}

func (l *Lane) rememberNewest(seq uint64, a *Attempt, excerpt []byte) {
	if l.discarded || l.q.excerpts.inMemory.Add(int64(len(excerpt))) > newestBytes {
		l.q.excerpts.inMemory.Add(-int64(len(excerpt)))
		return
	}
	if l.newest == nil {
		l.newest = map[uint64]newest{}
	}
	l.newest[seq] = newest{a.Number, a.At, slices.Clone(excerpt)}
}

func (l *Lane) forgetNewest(seq uint64) {
	if n, ok := l.newest[seq]; ok {
		l.q.excerpts.inMemory.Add(-int64(len(n.excerpt)))
		delete(l.newest, seq)
	}
}

// forgetAllNewest is for a lane that is discarded. The caller holds mu.
func (l *Lane) forgetAllNewest() {
	for seq := range l.newest {
		l.forgetNewest(seq)
	}
	l.newest = nil
}

// completeNewest puts the whole excerpt in the place of its first bytes. attempts are those of one event, in order.
func (l *Lane) completeNewest(seq uint64, attempts []Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.newest[seq]
	if !ok || len(attempts) == 0 {
		return
	}
	// The log has milliseconds.
	if last := &attempts[len(attempts)-1]; last.Number == n.number && last.At.UnixMilli() == n.at.UnixMilli() {
		last.Excerpt = slices.Clone(n.excerpt)
	}
}
