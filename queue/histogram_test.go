package queue

import (
	"slices"
	"testing"
)

func TestHistogramCountsUpToAndIncludingItsBounds(t *testing.T) {
	h := NewHistogram(1, 10, 100)
	for _, value := range []int64{0, 1, 2, 10, 11, 100, 101, 5000} {
		h.Add(value)
	}
	b := h.Buckets()
	if !slices.Equal(b.Counts, []int64{2, 2, 2, 2}) || b.Sum != 5225 || len(b.Bounds) != 3 {
		t.Errorf("got %+v", b)
	}
	if n := testing.AllocsPerRun(100, func() { h.Add(50) }); n > 0 {
		t.Errorf("%v allocations for one value", n)
	}
}

func TestCommitsAreCountedBySizeAndTime(t *testing.T) {
	b := openBench(t, nil)
	b.append("", "evt_1", "evt_2")
	b.append("", "evt_3")
	s := b.Stats()
	for name, b := range map[string]Buckets{"sizes": s.CommitEvents, "times": s.CommitTimes} {
		commits := int64(0)
		for _, n := range b.Counts {
			commits += n
		}
		if commits != s.Commits || commits == 0 {
			t.Errorf("%s: %d commits are counted of %d", name, commits, s.Commits)
		}
	}
	if s.Commits != 2 || s.CommitEvents.Sum != 3 || s.CommitTimes.Sum <= 0 {
		t.Errorf("sums %d and %d", s.CommitEvents.Sum, s.CommitTimes.Sum)
	}
}
