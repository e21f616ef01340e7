package queue

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// lostEvents remembers which events were found to be lost since the start, so that each is reported and counted once,
// however many lanes, replays and readers find it. The zero value is empty. It is safe for concurrent use.
type lostEvents struct {
	mu     sync.Mutex
	ranges []span // ascending, disjoint
}

// span is the events from one up to below another.
type span struct{ from, to uint64 }

// add notes the events from one up to below another, and returns how many of them were not known to be lost.
func (l *lostEvents) add(from, to uint64) (fresh int64) {
	if from >= to {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	whole := span{from, to}
	fresh = int64(to - from)
	first := slices.IndexFunc(l.ranges, func(r span) bool { return r.to >= from })
	if first < 0 {
		first = len(l.ranges)
	}
	last := first
	for ; last < len(l.ranges) && l.ranges[last].from <= to; last++ {
		r := l.ranges[last]
		if both := int64(min(r.to, to)) - int64(max(r.from, from)); both > 0 {
			fresh -= both
		}
		whole.from, whole.to = min(whole.from, r.from), max(whole.to, r.to)
	}
	l.ranges = slices.Replace(l.ranges, first, last, whole)
	return fresh
}

// missing reports events that a lane needs and that are not in the log any more.
func (q *Queue) missing(lane string, from, to uint64) {
	if n := q.lost.add(from, to); n > 0 {
		q.damaged.Add(n)
		q.opts.Notice(fmt.Sprintf("endpoint %q: events %d to %d are missing from the log and are passed over", lane, from, to-1))
	}
}

// unreadable reports events that can't be read any more, once, however many readers find them.
func (q *Queue) unreadable(from, to uint64, err error) {
	if n := q.lost.add(from, to); n > 0 {
		q.damaged.Add(n)
		q.opts.Notice(fmt.Sprintf("events %d to %d can't be read and are passed over: %v", from, to-1, err))
	}
}

// reportCarriedLost reports carried events that can't be read any more, once, however many readers find them.
func (q *Queue) reportCarriedLost(seqs []uint64, err error) {
	n := int64(0)
	for _, seq := range seqs {
		n += q.lost.add(seq, seq+1)
	}
	if n == 0 {
		return
	}
	q.damaged.Add(n)
	if err == nil {
		err = errNotInLog
	}
	q.opts.Notice(fmt.Sprintf("events %s can't be read and are passed over: %v", ranges(seqs), err))
}

// maxRanges bounds the ranges in one line.
const maxRanges = 50

// ranges writes ascending numbers for people.
func ranges(seqs []uint64) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(seqs); n++ {
		j := i
		for j+1 < len(seqs) && seqs[j+1] == seqs[j]+1 {
			j++
		}
		if n == maxRanges {
			fmt.Fprintf(&b, " and %d more", len(seqs)-i)
			break
		}
		if n > 0 {
			b.WriteString(", ")
		}
		if fmt.Fprint(&b, seqs[i]); j > i {
			fmt.Fprintf(&b, " to %d", seqs[j])
		}
		i = j + 1
	}
	return b.String()
}
