package delivery

import (
	"testing"
	"time"
)

func TestMeterAveragesTheLastMinute(t *testing.T) {
	var m meter
	for i := range 120 {
		m.add(gateStart.Add(time.Duration(i)*time.Second/2), time.Millisecond)
	}
	tests := []struct {
		after time.Duration
		want  float64
	}{
		{59 * time.Second, 2},
		{60 * time.Second, 118.0 / 60},
		{89 * time.Second, 1},
		{118 * time.Second, 2.0 / 60},
		{119 * time.Second, 0},
		{time.Hour, 0},
	}
	for _, tt := range tests {
		if got := m.perSecond(gateStart.Add(tt.after)); got != tt.want {
			t.Errorf("after %v: %v a second, want %v", tt.after, got, tt.want)
		}
	}
}

func TestMeterBeginsAnewWhenTheClockGoesBack(t *testing.T) {
	var m meter
	m.add(gateStart, time.Millisecond)
	m.add(gateStart.Add(-time.Hour), time.Millisecond)
	if got := m.perSecond(gateStart.Add(-time.Hour)); got != 1.0/60 {
		t.Errorf("%v a second, want %v", got, 1.0/60)
	}
}

func TestQuantilesAreOfTheLatest(t *testing.T) {
	var m meter
	if m.quantiles() != nil {
		t.Fatal("quantiles of nothing")
	}
	m.add(gateStart, 3*time.Millisecond)
	if got := *m.quantiles(); got != (Quantiles{3, 3, 3}) {
		t.Errorf("of one: %v", got)
	}
	for range 5000 {
		m.add(gateStart, time.Hour)
	}
	for i := range 1024 {
		m.add(gateStart, time.Duration(i)*time.Millisecond)
	}
	if got := *m.quantiles(); got != (Quantiles{512, 921, 1013}) {
		t.Errorf("of 1024: %v", got)
	}
}

func TestMeterBearsAnyDuration(t *testing.T) {
	var m meter
	m.add(gateStart, 1<<62)
	if got := m.quantiles().P99; got != float64(1<<32-1)/1000 {
		t.Errorf("p99 %v ms", got)
	}
}
