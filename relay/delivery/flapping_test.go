package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"realtorbot-relay/queue"
)

// bouncing plays downs and ups at the given minutes and returns what was reported, as "minute state".
func bouncing(h *queue.Health, b *flapDetector, from, to int, downs, ups []int) (reported []string) {
	note := func(minute int, n Transition, report bool) {
		if report {
			reported = append(reported, fmt.Sprint(minute, " ", n.State))
		}
	}
	for minute := from; minute < to; minute++ {
		now := gateStart.Add(time.Duration(minute) * time.Minute)
		if slices.Contains(downs, minute) {
			h.Down = now
			n, report := b.down(h, "answered 500", now)
			note(minute, n, report)
		}
		if slices.Contains(ups, minute) {
			h.Down = time.Time{}
			n, report := b.up(h, true, now)
			note(minute, n, report)
		}
		n, report := b.steady(h, now)
		note(minute, n, report)
	}
	return reported
}

func TestBouncingIsToldAsFlapping(t *testing.T) {
	every := func(from, step, to int) (minutes []int) {
		for m := from; m < to; m += step {
			minutes = append(minutes, m)
		}
		return minutes
	}
	for name, c := range map[string]struct {
		downs, ups []int
		want       []string
	}{
		"one outage":          {[]int{5}, []int{50}, []string{"5 down", "50 up"}},
		"two an hour":         {[]int{5, 35, 65}, []int{10, 40, 70}, []string{"5 down", "10 up", "35 down", "40 up", "65 down", "70 up"}},
		"every other minute":  {every(0, 2, 60), every(1, 2, 60), []string{"0 down", "1 up", "2 down", "3 up", "4 flapping", "74 steady"}},
		"and it stays down":   {[]int{0, 2, 4}, []int{1, 3, 60}, []string{"0 down", "1 up", "2 down", "3 up", "4 flapping", "19 steady", "60 up"}},
		"steady in between":   {[]int{0, 2, 4, 40}, []int{1, 3, 5, 41}, []string{"0 down", "1 up", "2 down", "3 up", "4 flapping", "20 steady", "40 down", "41 up"}},
		"slower than a while": {every(0, 14, 29), every(7, 14, 29), []string{"0 down", "7 up", "14 down", "21 up", "28 flapping", "43 steady"}},
	} {
		var h queue.Health
		var b flapDetector
		if reported := bouncing(&h, &b, 0, 90, c.downs, c.ups); !slices.Equal(reported, c.want) {
			t.Errorf("%s: reported %q, want %q", name, reported, c.want)
		}
	}
	// A restart in the middle changes nothing of it, but for when it is steady.
	var h queue.Health
	var b, after flapDetector
	reported := bouncing(&h, &b, 0, 6, []int{0, 2, 4}, []int{1, 3, 5})
	reported = append(reported, bouncing(&h, &after, 6, 60, []int{6, 8}, []int{7, 9})...)
	if want := []string{"0 down", "1 up", "2 down", "3 up", "4 flapping", "24 steady"}; !slices.Equal(reported, want) {
		t.Errorf("with a restart: reported %q, want %q", reported, want)
	}
	if h.Changes != 0 || !h.Flapping.IsZero() {
		t.Errorf("left %+v", h)
	}
}

func TestLagIsHealth(t *testing.T) {
	g := gateOf(4, 0)
	for i, step := range []struct {
		waited time.Duration
		set    func()
		lags   bool
	}{
		{waited: 9 * time.Minute},
		{waited: 11 * time.Minute, set: func() { g.pauseReason = "by the operator" }},
		{waited: 11 * time.Minute, set: func() { g.pauseReason, g.Down = "", gateStart }},
		{waited: 11 * time.Minute, set: func() { g.Down = time.Time{} }, lags: true},
		{waited: 16 * time.Minute, lags: true},
		{waited: 6 * time.Minute, lags: true},
		{waited: 5 * time.Minute},
		{waited: 10 * time.Minute},
		{waited: 11 * time.Minute, lags: true},
		{waited: 0},
	} {
		if step.set != nil {
			step.set()
		}
		if g.updateLag(step.waited, gateStart); g.Lagging.IsZero() == step.lags {
			t.Errorf("step %d: lagging since %v, want %v", i, g.Lagging, step.lags)
		}
	}
}
