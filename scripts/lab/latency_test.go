package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreCloseToTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var exact []time.Duration
	for range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(3*time.Millisecond)).Truncate(time.Microsecond)
		h.record(d)
		exact = append(exact, d)
	}
	slices.Sort(exact)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := exact[max(int(q*10_000+0.999999), 1)-1]
		got := h.quantile(q)
		if got < want || got > want+want/64+time.Microsecond {
			t.Errorf("quantile %v: got %v, truly %v", q, got, want)
		}
	}
}

func TestQuantileOfFewValues(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of none: %v", got)
	}
	h.record(-time.Second)
	if got := h.quantile(1); got != 0 {
		t.Errorf("of a negative one: %v", got)
	}
	h.reset()
	h.record(100 * time.Microsecond)
	h.record(100 * time.Microsecond)
	h.record(120 * time.Microsecond)
	if got := h.quantiles(); got != (quantiles{Count: 3, P50us: 100, P99us: 120, MaxUs: 120}) {
		t.Errorf("of three: %+v", got)
	}
}

func TestEveryDurationFallsIntoItsBucket(t *testing.T) {
	for _, us := range []int64{0, 1, 127, 128, 129, 130, 255, 256, 257, 1000, 1 << 20, 1<<20 - 1, 123456789} {
		d := time.Duration(us) * time.Microsecond
		i := bucketOf(d)
		if d > bucketTop(i) || i > 0 && d <= bucketTop(i-1) {
			t.Errorf("%v: bucket %d reaches from %v to %v", d, i, bucketTop(i-1), bucketTop(i))
		}
	}
	if i := bucketOf(1 << 62); i != bucketCount-1 {
		t.Errorf("longest: bucket %d of %d", i, bucketCount)
	}
}
