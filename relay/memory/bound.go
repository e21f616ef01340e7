package memory

import (
	"cmp"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// pace is how far the heap may grow beyond what lives, in percent of it: what costs the least time.
	pace = 200
	// leastCeiling and mostCeiling bound the memory that the process takes as long as little lives; between them it is a
	// quarter of what it may use.
	leastCeiling, mostCeiling = 48 << 20, 96 << 20
	// followEvery is how often the ceiling follows what lives. Until it does, a collector without room runs all the time: with a second,
	// attacks that came at once held up all others for as long, now and then.
	followEvery = 100 * time.Millisecond
	// assumed is what the process may use where that can't be told.
	assumed = 512 << 20
)

// Part is so many hundredths, in bytes, of what this process may use.
func Part(percent int64) int64 {
	return int64(min(cmp.Or(Available(), assumed), math.MaxInt64)/100) * percent
}

// Bound keeps the memory of the Go runtime small. What the relay holds is bounded by its design, so what grows is garbage: it
// may grow to three times what lives, but as a rule not beyond a ceiling of at most 96 MiB, which is lower on a machine or in
// a control group with little memory. When more lives than fits below it at an ordinary pace, the ceiling rises, until the
// process takes three quarters of what it may use: a collector that has no room runs all the time. GOGC and GOMEMLIMIT in
// the environment win. The caller calls what it returns, once, when it wants the ceiling to follow no more: that waits for the
// goroutine which does so.
func Bound() (leave func()) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(pace)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	c := newCeiling(cmp.Or(Available(), assumed))
	over := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		look := time.NewTicker(followEvery)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				c.follow()
			case <-over:
				return
			}
		}
	})
	return func() {
		close(over)
		following.Wait()
	}
}

// ceiling is the runtime's limit of memory, which follows what lives.
type ceiling struct {
	least, most, now int64 // bytes
	cycles           int64 // collections when it was looked last
	samples          []metrics.Sample
}

// The order of the samples.
const (
	sampleCycles = iota
	sampleLive
	sampleObjects
	sampleUnused
	sampleFree
	sampleReleased
	sampleTotal
)

// newCeiling sets the limit for a process that may use so many bytes.
func newCeiling(available uint64) *ceiling {
	least := min(max(int64(available/4), leastCeiling), mostCeiling)
	c := &ceiling{least: least, most: max(int64(available/4*3), least), now: least}
	for _, name := range []string{
		"/gc/cycles/total:gc-cycles", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes",
		"/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/total:bytes",
	} {
		c.samples = append(c.samples, metrics.Sample{Name: name})
	}
	debug.SetMemoryLimit(least)
	return c
}

// follow moves the limit to where what lived after the last collection has room. Setting it stops the process for a moment,
// so it is only done when it makes a difference.
func (c *ceiling) follow() {
	metrics.Read(c.samples)
	of := func(i int) int64 { return int64(c.samples[i].Value.Uint64()) }
	cycles := of(sampleCycles)
	if cycles == c.cycles {
		return
	}
	c.cycles = cycles
	beside := of(sampleTotal) - of(sampleReleased) - of(sampleObjects) - of(sampleUnused) - of(sampleFree) // stacks and the runtime's own
	to := c.over(of(sampleLive), beside)
	if to-c.now > c.now/16 || c.now-to > c.now/4 || to == c.least && c.now > to {
		c.now = to
		debug.SetMemoryLimit(to)
	}
}

// over is the limit when so many bytes live on the heap and so many are used beside it: room for half as much garbage
// as lives. With room for as much as lives, the relay took 208-232 MiB under the attacks of scripts/assault, which allows 200.
func (c *ceiling) over(live, beside int64) int64 {
	return min(max(c.least, live+live/2+beside+beside/4), c.most)
}

// Idle gives memory back to the system while the relay has nothing to do: after a busy time the heap may be several times what
// is in use, and the runtime leaves it so as long as nothing is allocated. One goroutine uses it.
type Idle struct {
	saves    uint64
	returned bool
}

// Check is called every few seconds with how often the queue has saved. It gives memory back once for each time in which nothing
// was saved since the last call: no event came, and no delivery was settled. That takes milliseconds of processor time.
func (i *Idle) Check(saves uint64) {
	if i.begins(saves) {
		debug.FreeOSMemory()
	}
}

// begins reports whether an idle time has begun.
func (i *Idle) begins(saves uint64) bool {
	if saves != i.saves {
		i.saves, i.returned = saves, false
		return false
	}
	first := !i.returned
	i.returned = true
	return first
}
