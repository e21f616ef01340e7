package queue

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/entry"
)

// Whole excerpts of what endpoints answer would fill the disk of all. The log keeps the beginning of each, and all of it only of the
// attempt that ended a delivery, within a budget. All of the newest attempt's of a delivery that goes on is kept in memory.
const (
	shortExcerpt = 256
	newestBytes  = 4 << 20 // of the excerpts in memory, over all lanes
	// laneShare of the budget may be one lane's.
	laneShare = 4
)

// excerpts is the budget of all lanes, of Options.ExcerptBytes. What is taken comes back over as long as a record may be kept.
// Half of it may be taken at once and half comes back in that time, so that what is kept at a time is no more, but for
// what a lane that lags holds back. It is written down as a time, that at which all has come back, and outlives a restart as part
// of the lanes' records.
type excerpts struct {
	mu    sync.Mutex
	until int64 // queue time at which all that was taken has come back

	inMemory atomic.Int64
}

// newest is the excerpt of the attempt that was made last of a delivery that goes on.
type newest struct {
	number  int
	at      time.Time
	excerpt []byte
}

// period is how long it takes until a budget has come back, in milliseconds.
func (o *Options) excerptPeriod() int64 {
	return max(o.Retention, o.FailedRetention, time.Second).Milliseconds()
}

// keepWhole takes the bytes of an excerpt from the budgets of the lane and of all, when both have them. The caller holds mu.
func (l *Lane) keepWhole(bytes int) bool {
	q := l.q
	now, period, half := q.now(), q.opts.excerptPeriod(), max(q.opts.ExcerptBytes/2, 1)
	cost := (int64(bytes)*period + half - 1) / half
	own := max(l.excerptsUntil, now) + cost*laneShare
	q.excerpts.mu.Lock()
	defer q.excerpts.mu.Unlock()
	all := max(q.excerpts.until, now) + cost
	if own-now > period || all-now > period {
		return false
	}
	l.excerptsUntil, q.excerpts.until = own, all
	return true
}

// restoreExcerpts makes the budget of all from those of the lanes. Nobody else knows the queue yet.
func (q *Queue) restoreExcerpts(lanes []*Lane) {
	now, taken := q.now(), int64(0)
	for _, l := range lanes {
		if l != nil {
			taken += max(l.excerptsUntil-now, 0) / laneShare
		}
	}
	q.excerpts.until = now + min(taken, q.opts.excerptPeriod())
}

// behind says what comes behind an attempt.
type behind uint8

const (
	another  behind = iota // attempt of the same delivery
	nothing                // since the delivery is at its end
	wentWell               // nothing, since the first attempt went well: nobody reads more of that
)

// note remembers an attempt. The caller holds mu.
func (l *Lane) note(d *Delivery, a *Attempt, then behind) {
	m := entry.Made{Seq: d.Event.Seq, Attempt: *a}
	m.Replay = d.Replay
	kept := a.Excerpt
	switch {
	case l.q.disk.tight.Load():
		kept = nil
	case len(kept) > shortExcerpt && !(then == nothing && l.keepWhole(len(kept))):
		kept = kept[:shortExcerpt]
	}
	m.Excerpt = slices.Clone(kept)
	l.forgetNewest(m.Seq)
	if then == another && len(kept) < len(a.Excerpt) {
		l.rememberNewest(m.Seq, &m.Attempt, a.Excerpt)
	}
	l.made = append(l.made, m)
	l.madeBytes += 64 + len(m.Excerpt) + len(m.Error)
}

func (l *Lane) rememberNewest(seq uint64, a *Attempt, excerpt []byte) {
	if l.gone || l.q.excerpts.inMemory.Add(int64(len(excerpt))) > newestBytes {
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

// forgetAllNewest is for a lane that is given up. The caller holds mu.
func (l *Lane) forgetAllNewest() {
	for seq := range l.newest {
		l.forgetNewest(seq)
	}
	l.newest = nil
}

// completeNewest puts the whole excerpt where the log has its beginning. attempts are those of an event, in order.
func (l *Lane) completeNewest(seq uint64, attempts []Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.newest[seq]
	if !ok || len(attempts) == 0 {
		return
	}
	// The log keeps milliseconds.
	if last := &attempts[len(attempts)-1]; last.Number == n.number && last.At.UnixMilli() == n.at.UnixMilli() {
		last.Excerpt = slices.Clone(n.excerpt)
	}
}
