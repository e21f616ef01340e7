package alert

import (
	"testing"
	"time"
)

func TestForecastIsTheLineThroughTheLastHours(t *testing.T) {
	start := time.Unix(1700000000, 0)
	for name, tt := range map[string]struct {
		minutes int
		free    func(minute int) int64
		left    int64
		want    time.Duration
		known   bool
	}{
		"filling":        {60, func(m int) int64 { return 1000_000 - int64(m)*1000 }, 341_000, 600 * time.Minute, true},
		"filled already": {60, func(m int) int64 { return 1000_000 - int64(m)*1000 }, 2000_000, 0, true},
		"steady":         {60, func(int) int64 { return 1000_000 }, 0, 0, false},
		"emptying":       {60, func(m int) int64 { return int64(m) * 1000 }, 0, 0, false},
		"too early":      {forecastLeast - 1, func(m int) int64 { return 1000_000 - int64(m)*1000 }, 0, 0, false},
		"never, really":  {60, func(m int) int64 { return 1000_000_000 - int64(m) }, 0, 0, false},
		// What was seven hours ago counts no more.
		"turned": {13 * 60, func(m int) int64 {
			if m < 6*60 {
				return 5000_000 + int64(m)*1000
			}
			return 5000_000 - int64(m)*1000
		}, 4221_000 - 60_000, 60 * time.Minute, true},
	} {
		var f forecast
		for m := range tt.minutes {
			f.note(start.Add(time.Duration(m)*time.Minute), tt.free(m))
			f.note(start.Add(time.Duration(m)*time.Minute+time.Second), 0) // too early for another
		}
		if in, known := f.until(tt.left); known != tt.known || in.Round(time.Minute) != tt.want {
			t.Errorf("%s: in %s, known %v; want %s, %v", name, in, known, tt.want, tt.known)
		}
	}
}
