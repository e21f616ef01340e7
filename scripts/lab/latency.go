package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// Values below linearBuckets have a bucket each; above, every doubling has halfBuckets of them, so that a quantile is
	// at most 1/64 too high.
	linearBuckets = 128
	halfBuckets   = linearBuckets / 2
	doublings     = 30 // up to 2^37 µs, longer than any run
	bucketCount   = linearBuckets + doublings*halfBuckets
)

// histogram counts durations in microseconds. The zero value is ready; all methods are safe for concurrent use and
// allocate nothing.
type histogram struct {
	counts [bucketCount]atomic.Uint64
}

// record counts d; a negative d (the answer was read after the event had arrived) counts as zero.
func (h *histogram) record(d time.Duration) {
	h.counts[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < linearBuckets {
		return int(us)
	}
	shift := bits.Len64(us) - bits.Len64(linearBuckets-1)
	return min(linearBuckets+(shift-1)*halfBuckets+int(us>>shift)-halfBuckets, bucketCount-1)
}

// bucketTop is the largest duration that bucketOf maps to bucket i.
func bucketTop(i int) time.Duration {
	if i < linearBuckets {
		return time.Duration(i) * time.Microsecond
	}
	shift := (i-linearBuckets)/halfBuckets + 1
	base := uint64((i-linearBuckets)%halfBuckets + halfBuckets)
	return time.Duration((base+1)<<shift-1) * time.Microsecond
}

func (h *histogram) count() uint64 {
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns the smallest recorded duration, up to the bucket's width, that a share q of all does not exceed; zero
// without any.
func (h *histogram) quantile(q float64) time.Duration {
	n := h.count()
	if n == 0 {
		return 0
	}
	rank := max(uint64(q*float64(n)+0.999999), 1)
	var seen uint64
	for i := range h.counts {
		seen += h.counts[i].Load()
		if seen >= rank {
			return bucketTop(i)
		}
	}
	return bucketTop(bucketCount - 1)
}

func (h *histogram) reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

// quantiles are what the runs print of a histogram.
type quantiles struct {
	Count uint64 `json:"count"`
	P50us int64  `json:"p50_us"`
	P99us int64  `json:"p99_us"`
	MaxUs int64  `json:"max_us"`
}

func (h *histogram) quantiles() quantiles {
	return quantiles{
		Count: h.count(),
		P50us: h.quantile(0.5).Microseconds(),
		P99us: h.quantile(0.99).Microseconds(),
		MaxUs: h.quantile(1).Microseconds(),
	}
}
