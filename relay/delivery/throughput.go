package delivery

import (
	"math"
	"time"
)

// throughput measures how many events an endpoint takes, over two periods of at least throughputPeriod. It belongs to its gate.
type throughput struct {
	previousSince     time.Time // when the previous period began
	currentSince      time.Time // when the current one did
	previous, current int
}

// throughputPeriod is the least length of a period.
const throughputPeriod = 10 * time.Second

// add counts an event that the endpoint took.
func (t *throughput) add(now time.Time) {
	switch {
	case now.Sub(t.currentSince) > 2*throughputPeriod:
		*t = throughput{previousSince: now, currentSince: now}
	case now.Sub(t.currentSince) > throughputPeriod:
		t.previousSince, t.currentSince, t.previous, t.current = t.currentSince, now, t.current, 0
	}
	t.current++
}

// perSecond is how many events it took a second lately; 0 when that is not known, because nothing was sent.
func (t *throughput) perSecond(now time.Time) float64 {
	if t.current == 0 || now.Sub(t.currentSince) > 2*throughputPeriod {
		return 0
	}
	return float64(t.previous+t.current) / math.Max(now.Sub(t.previousSince).Seconds(), 1)
}
