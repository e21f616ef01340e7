package queue

import (
	"slices"
	"sync"
)

// lost remembers which events were found to be lost since the start, so that each is told and counted once, however many
// lanes, replays and readers come upon it. Its zero value is empty, and it is safe for concurrent use.
type lost struct {
	mu     sync.Mutex
	ranges []span // ascending, apart from each other
}

// span is the events from one up to below another.
type span struct{ from, to uint64 }

// add notes the events from one up to below another, and returns how many of these were not known to be lost.
func (l *lost) add(from, to uint64) (fresh int64) {
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
