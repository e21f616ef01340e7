package relay

import "testing"

func TestMemoryIsGivenBackOnceForEachTimeOfRest(t *testing.T) {
	var w rest
	for i, step := range []struct {
		saves uint64
		idle  bool
	}{{0, true}, {0, false}, {5, false}, {9, false}, {9, true}, {9, false}, {9, false}, {10, false}, {10, true}} {
		if got := w.idle(step.saves); got != step.idle {
			t.Errorf("step %d: idle %v, want %v", i, got, step.idle)
		}
	}
}
