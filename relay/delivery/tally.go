package delivery

import (
	"sync/atomic"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// tally counts what happened to an endpoint's deliveries since the start, for /metrics. All of it is atomic.
type tally struct {
	results [resultCount]atomic.Int64
	resent  atomic.Int64     // attempts whose POST was made twice
	failed  atomic.Int64     // deliveries that failed
	attempt *queue.Histogram // nanoseconds that attempts took
	latency *queue.Histogram // nanoseconds from accepted to delivered
	age     *queue.Histogram // nanoseconds from accepted to the first attempt
	skew    client.Skew
}

// The result of an attempt, as a label of metrics: delivered, uncharged, or its class.
const (
	resultDelivered = "delivered"
	resultUncharged = "uncharged" // this machine seemed to be offline
)

// results is the closed set, in the order of tally.results.
var results = newResults()

const resultCount = 12

func newResults() (list [resultCount]string) {
	names := []string{resultDelivered, resultUncharged}
	for _, c := range client.Classes() {
		names = append(names, string(c))
	}
	if copy(list[:], names) != len(names) {
		panic("resultCount is not the number of results")
	}
	return list
}

// Results returns the results that attempts can have, as labels of metrics: a closed set.
func Results() []string { return results[:] }

// The bounds of the histograms, in nanoseconds: an attempt is bounded by its timeout, ages by max_age.
var (
	attemptBounds = seconds(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
	ageBounds     = seconds(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30, 300, 3600, 21600, 86400)
)

func seconds(list ...float64) (nanos []int64) {
	for _, s := range list {
		nanos = append(nanos, int64(s*1e9))
	}
	return nanos
}

func newTally() *tally {
	return &tally{
		attempt: queue.NewHistogram(attemptBounds...),
		latency: queue.NewHistogram(ageBounds...),
		age:     queue.NewHistogram(ageBounds...),
	}
}

// attempted counts an attempt. With offline this machine had no network, so that the outcome is none of the endpoint's.
func (t *tally) attempted(o *client.Outcome, offline bool) {
	result := resultDelivered
	switch {
	case offline:
		result = resultUncharged
	case o.Class != client.ClassNone:
		result = string(o.Class)
	}
	for i := range results {
		if results[i] == result {
			t.results[i].Add(1)
			break
		}
	}
	if o.Resent {
		t.resent.Add(1)
	}
	t.attempt.Add(int64(o.Took))
}

// firstAttempt counts how long a delivery had waited when its first attempt began.
func (t *tally) firstAttempt(age time.Duration) { t.age.Add(int64(max(age, 0))) }

// Tally is a snapshot of an endpoint's counters since the start. The buckets are in nanoseconds.
type Tally struct {
	Results map[string]int64 // attempts, by "delivered", "uncharged" or the class of their failure
	Resent  int64            // attempts whose POST was made twice, because a kept-alive connection turned out to be broken
	Failed  int64            // deliveries that failed
	Attempt queue.Buckets    // how long attempts took
	Latency queue.Buckets    // from accepted to delivered
	Age     queue.Buckets    // from accepted to the first attempt
}

// Tally returns the counters of a configured endpoint; found is false for others. It takes no lock.
func (d *Dispatcher) Tally(name string) (t Tally, found bool) {
	l := d.Lane(name)
	if l == nil {
		return t, false
	}
	t = Tally{Results: map[string]int64{}, Resent: l.tally.resent.Load(), Failed: l.tally.failed.Load(),
		Attempt: l.tally.attempt.Buckets(), Latency: l.tally.latency.Buckets(), Age: l.tally.age.Buckets()}
	for i, result := range results {
		t.Results[result] = l.tally.results[i].Load()
	}
	return t, true
}
