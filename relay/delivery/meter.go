package delivery

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// meter counts over the last minute and over the last hour, and knows how long things took over the last minutes. Its zero value is
// ready; its owner locks it. It takes memory for what happened lately, and none once that is long ago: a relay has thousands of
// meters.
type meter struct {
	seconds ring[uint32]
	minutes ring[uint32]
	took    ring[spread]
}

// The times that a meter covers. A quantile is of five full minutes and of the one that has begun.
var (
	lastMinute  = span{time.Second, 60}
	lastHour    = span{time.Minute, 60}
	lastMinutes = span{time.Minute, 6}
)

// add counts one at now, with a duration.
func (m *meter) add(now time.Time, d time.Duration) {
	m.tick(now)
	m.time(now, d)
}

// tick counts one at now.
func (m *meter) tick(now time.Time) {
	*m.seconds.at(lastMinute, now)++
	*m.minutes.at(lastHour, now)++
}

// time notes a duration at now, and counts nothing.
func (m *meter) time(now time.Time, d time.Duration) { m.took.at(lastMinutes, now).add(d) }

// perSecond is the average over the last minute.
func (m *meter) perSecond(now time.Time) float64 {
	return float64(total(m.seconds.all(lastMinute, now))) / lastMinute.length().Seconds()
}

// inHour is how many were counted in the last hour.
func (m *meter) inHour(now time.Time) int64 { return total(m.minutes.all(lastHour, now)) }

func total(counts []uint32) (sum int64) {
	for _, n := range counts {
		sum += int64(n)
	}
	return sum
}

// Quantiles are durations in milliseconds, of the last five minutes, within 3 %.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// quantiles returns nil when nothing was added in the last minutes.
func (m *meter) quantiles(now time.Time) *Quantiles {
	var counts [sizes]int64
	n := int64(0)
	for _, s := range m.took.all(lastMinutes, now) {
		for _, b := range s {
			counts[b.size] += int64(b.count)
			n += int64(b.count)
		}
	}
	if n == 0 {
		return nil
	}
	at := func(q float64) float64 {
		before := min(int64(q*float64(n)), n-1) // how many are smaller or as large
		for size, count := range counts {
			if before -= count; before < 0 {
				return millisOf(size)
			}
		}
		return millisOf(sizes - 1)
	}
	return &Quantiles{at(0.5), at(0.9), at(0.99)}
}

// span is a time up to now, in periods of equal length.
type span struct {
	period  time.Duration
	periods int
}

func (s span) length() time.Duration { return s.period * time.Duration(s.periods) }

// ring has a value for each of the latest periods of a span. It counts periods by the times that it is given: where these have a
// monotonic reading, no jump of the wall clock matters. A ring is always used with the same span.
type ring[T any] struct {
	values []T       // nil when nothing happened lately
	start  time.Time // of period 0
	last   int64     // the latest period
}

// at returns the value of the period that now is in, also when that is a little before the latest period.
func (r *ring[T]) at(s span, now time.Time) *T {
	r.advance(s, now)
	if r.values == nil {
		// The first period is a whole span before now, so that a time that comes a little late has a period, too.
		r.values, r.start, r.last = make([]T, s.periods), now.Add(-s.length()), int64(s.periods)
	}
	return &r.values[r.period(s, now)%int64(s.periods)]
}

// all returns the values of the span that ends now, in no order.
func (r *ring[T]) all(s span, now time.Time) []T {
	r.advance(s, now)
	return r.values
}

func (r *ring[T]) period(s span, now time.Time) int64 { return int64(now.Sub(r.start) / s.period) }

// advance forgets what is too old by now. When the clock went back by more than the span, the ring begins anew.
func (r *ring[T]) advance(s span, now time.Time) {
	if r.values == nil {
		return
	}
	period := r.period(s, now)
	if now.Before(r.start) || max(period-r.last, r.last-period) >= int64(s.periods) {
		r.values = nil
		return
	}
	for r.last < period {
		r.last++
		var none T
		r.values[r.last%int64(s.periods)] = none
	}
}

// spread counts durations by size, in the order of sizes. Each size that occurs takes 8 bytes, and those of one receiver are few.
type spread []sized

type sized struct {
	size  uint16
	count uint32
}

func (s *spread) add(d time.Duration) {
	size := sizeOf(d)
	i, found := slices.BinarySearchFunc(*s, size, func(one sized, size uint16) int { return cmp.Compare(one.size, size) })
	if !found {
		*s = slices.Insert(*s, i, sized{size: size})
	}
	(*s)[i].count++
}

// Sizes are microseconds, each below 16 µs a size of its own and then 16 in each doubling, up to twelve days and more.
const (
	sizes   = 16 * (longest - 3)
	longest = 40 // bits of the microseconds of the largest size
)

func sizeOf(d time.Duration) uint16 {
	micros := min(uint64(max(d, 0)/time.Microsecond), 1<<longest-1)
	shift := max(bits.Len64(micros)-5, 0)
	return uint16(16*shift) + uint16(micros>>shift)
}

// millisOf is the middle of a size, in milliseconds.
func millisOf(size int) float64 {
	shift := max(size/16-1, 0)
	low := uint64(size-16*shift) << shift
	return float64(low+(1<<shift-1)/2) / 1000
}
