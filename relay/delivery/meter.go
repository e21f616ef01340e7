package delivery

import (
	"slices"
	"time"
)

// meter counts over the last minute and keeps a sample of the latest durations. It is its owner's to lock.
type meter struct {
	buckets [60]uint32 // by second
	second  int64      // of the latest bucket
	sample  [1024]uint32
	count   int // of durations ever
}

// add counts one at now, with a duration.
func (m *meter) add(now time.Time, d time.Duration) {
	m.tick(now)
	m.sample[m.count%len(m.sample)] = uint32(min(d/time.Microsecond, 1<<32-1))
	m.count++
}

// tick counts one at now.
func (m *meter) tick(now time.Time) {
	m.advance(now)
	m.buckets[m.second%60]++
}

func (m *meter) advance(now time.Time) {
	second := now.Unix()
	if second-m.second >= 60 || second < m.second {
		m.buckets, m.second = [60]uint32{}, second
	}
	for m.second < second {
		m.second++
		m.buckets[m.second%60] = 0
	}
}

// perSecond is the average over the last minute.
func (m *meter) perSecond(now time.Time) float64 {
	m.advance(now)
	sum := 0.0
	for _, n := range m.buckets {
		sum += float64(n)
	}
	return sum / 60
}

// Quantiles are durations in milliseconds, of the latest thousand.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

func (m *meter) quantiles() *Quantiles {
	n := min(m.count, len(m.sample))
	if n == 0 {
		return nil
	}
	sorted := slices.Clone(m.sample[:n])
	slices.Sort(sorted)
	at := func(q float64) float64 { return float64(sorted[min(int(q*float64(n)), n-1)]) / 1000 }
	return &Quantiles{at(0.5), at(0.9), at(0.99)}
}
