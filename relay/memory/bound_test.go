package memory

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheCeilingRisesWithWhatLivesUpToThreeQuarters(t *testing.T) {
	const mib = 1 << 20
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for name, c := range map[string]struct {
		available          uint64
		live, beside, want int64
	}{
		"little lives":              {8192 * mib, 20 * mib, 8 * mib, 96 * mib},
		"little lives, 256 MiB":     {256 * mib, 20 * mib, 8 * mib, 64 * mib},
		"little lives, 64 MiB":      {64 * mib, 5 * mib, 4 * mib, 48 * mib},
		"much lives":                {8192 * mib, 200 * mib, 40 * mib, 350 * mib},
		"much lives, 256 MiB":       {256 * mib, 60 * mib, 20 * mib, 115 * mib},
		"more than fits, 256 MiB":   {256 * mib, 200 * mib, 40 * mib, 192 * mib},
		"more than fits in 48 MiB":  {48 * mib, 200 * mib, 40 * mib, 48 * mib},
		"a machine without an end":  {math.MaxInt64, 1000 * mib, 0, 1500 * mib},
		"what is beside is counted": {8192 * mib, 0, 400 * mib, 500 * mib},
	} {
		if got := newCeiling(c.available).over(c.live, c.beside); got != c.want {
			t.Errorf("%s: the ceiling is %d MiB, want %d", name, got/mib, c.want/mib)
		}
	}
}

var kept, thrown []byte

// What lives does not fit below the ceiling of a small machine. A ceiling that stays is the control: the collector runs all
// the time.
func TestTheCollectorKeepsItsPaceWhenMuchLives(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(pace)
	defer func() {
		kept, thrown = nil, nil
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(percent)
	}()
	cycles := func(follows bool) (n uint32) {
		c := newCeiling(192 << 20)
		kept = make([]byte, 64<<20)
		runtime.GC()
		if follows {
			c.follow()
		}
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		for range 64 {
			for range 64 {
				thrown = make([]byte, 64<<10)
			}
			if follows {
				c.follow()
			}
		}
		n = stats.NumGC
		runtime.ReadMemStats(&stats)
		return stats.NumGC - n
	}
	still, following := cycles(false), cycles(true)
	t.Logf("256 MiB of garbage beside 64 MiB that live: %d collections with a ceiling that follows, %d with one that stays", following, still)
	if following > 16 {
		t.Errorf("there are %d collections, want about 4 and at most 16", following)
	}
	if still < 2*following {
		t.Errorf("a ceiling that stays has %d collections, and one that follows %d: this shows nothing", still, following)
	}
}

// A bubble is not left while a goroutine of it runs.
func TestWhoBoundsTheMemoryWaitsForWhoFollowsIt(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(pace)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	t.Setenv("GOMEMLIMIT", "")
	synctest.Test(t, func(t *testing.T) {
		leave := Bound()
		time.Sleep(3 * followEvery) // of the bubble's clock
		debug.SetMemoryLimit(math.MaxInt64)
		leave()
		runtime.GC() // after which the ceiling would be set again
		time.Sleep(3 * followEvery)
		if left := debug.SetMemoryLimit(-1); left != math.MaxInt64 {
			t.Errorf("the ceiling is set to %d after it was left", left)
		}
	})
}

func TestMemoryIsGivenBackOnceForEachIdleTime(t *testing.T) {
	var i Idle
	for n, step := range []struct {
		saves uint64
		idle  bool
	}{{0, true}, {0, false}, {5, false}, {9, false}, {9, true}, {9, false}, {9, false}, {10, false}, {10, true}} {
		if got := i.begins(step.saves); got != step.idle {
			t.Errorf("step %d: idle %v, want %v", n, got, step.idle)
		}
	}
}
