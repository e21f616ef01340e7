package queue

import "sync/atomic"

// Histogram counts values by size. Add costs two atomic additions and a short search. All methods are safe for concurrent
// use. NewHistogram makes one.
type Histogram struct {
	bounds []int64
	counts []atomic.Int64 // one for each bound, and one for values beyond the last
	sum    atomic.Int64
}

// NewHistogram makes a histogram with buckets up to and including each of the bounds, which ascend.
func NewHistogram(bounds ...int64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1)}
}

// Add counts a value.
func (h *Histogram) Add(value int64) {
	at := 0
	for at < len(h.bounds) && value > h.bounds[at] {
		at++
	}
	h.counts[at].Add(1)
	h.sum.Add(value)
}

// Buckets is a snapshot of a histogram. Counts has the number of values in each bucket of Bounds, and last the number beyond
// them. While values are added, Sum may include one more or less than Counts.
type Buckets struct {
	Bounds []int64
	Counts []int64
	Sum    int64
}

// Buckets returns what was counted so far.
func (h *Histogram) Buckets() Buckets {
	b := Buckets{Bounds: h.bounds, Counts: make([]int64, len(h.counts)), Sum: h.sum.Load()}
	for i := range h.counts {
		b.Counts[i] = h.counts[i].Load()
	}
	return b
}
