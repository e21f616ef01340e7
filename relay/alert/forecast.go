package alert

import (
	"sync"
	"time"
)

// forecast tells when the disk will be low if it goes on filling as in the last hours. Safe for concurrent use.
type forecast struct {
	mu      sync.Mutex
	samples [forecastSamples]int64 // free bytes, one a minute
	count   int                    // of samples ever
	at      time.Time              // of the latest
}

const (
	forecastEvery   = time.Minute
	forecastSamples = 6 * 60
	// forecastLeast samples are needed: what a few minutes show is the journal's own growth.
	forecastLeast = 10
)

// note takes a sample if one is due.
func (f *forecast) note(now time.Time, free int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count > 0 && now.Sub(f.at) < forecastEvery {
		return
	}
	f.samples[f.count%forecastSamples] = free
	f.count++
	f.at = now
}

// until is the time until so many bytes are left, by the line that fits the samples best. known is false when there are
// too few of them or the disk is not filling.
func (f *forecast) until(left int64) (in time.Duration, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(f.count, forecastSamples)
	if n < forecastLeast {
		return 0, false
	}
	var sumX, sumY, sumXX, sumXY float64
	first, latest := f.count-n, 0.0
	for i := range n {
		x, y := float64(i), float64(f.samples[(first+i)%forecastSamples])
		sumX, sumY, sumXX, sumXY, latest = sumX+x, sumY+y, sumXX+x*x, sumXY+x*y, y
	}
	perSample := (float64(n)*sumXY - sumX*sumY) / (float64(n)*sumXX - sumX*sumX)
	minutes := (latest - float64(left)) / -perSample
	if perSample >= 0 || minutes > maxForecast.Minutes() {
		return 0, false
	}
	return max(time.Duration(minutes*float64(forecastEvery)), 0), true
}

// maxForecast is how far a few hours let anybody see.
const maxForecast = 90 * 24 * time.Hour

// UntilLow is the time until the disk has less free space than the queue needs, if it goes on filling as in the last six
// hours at most. known is false when it is not filling, or the alerter has been watching for less than ten minutes.
func (d *Alerter) UntilLow() (in time.Duration, known bool) {
	return d.forecast.until(d.Queue.Stats().MinFree)
}
