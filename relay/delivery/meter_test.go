package delivery

import (
	"math"
	"net/http"
	"testing"
	"time"
	"unsafe"
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

// Senders ask the clock before they get the lane: the one that comes second may be a second behind.
func TestMeterCountsAMomentThatComesLate(t *testing.T) {
	var m meter
	for i := range 10 {
		at := gateStart.Add(time.Duration(i) * time.Second)
		m.add(at, time.Millisecond)
		m.add(at.Add(-2*time.Second), time.Millisecond)
	}
	now := gateStart.Add(10 * time.Second)
	if got := m.perSecond(now); got != 20.0/60 {
		t.Errorf("%v a second, want %v", got, 20.0/60)
	}
	if got := m.inHour(now); got != 20 {
		t.Errorf("%d in the hour, want 20", got)
	}
}

func TestQuantilesAreOfTheLastMinutes(t *testing.T) {
	var m meter
	if m.quantiles(gateStart) != nil {
		t.Fatal("quantiles of nothing")
	}
	// What was slow does not stay slow for as long as nothing else comes, however much of it there was.
	for range 5000 {
		m.add(gateStart, time.Hour)
	}
	if got := m.quantiles(gateStart.Add(5 * time.Minute)); got == nil || got.P50 < 3500_000 || got.P50 > 3700_000 {
		t.Errorf("five minutes later: %v", got)
	}
	if got := m.quantiles(gateStart.Add(6 * time.Minute)); got != nil {
		t.Errorf("six minutes later: %v", got)
	}
	later := gateStart.Add(7 * time.Minute)
	m.add(later, 7*time.Microsecond)
	if got := *m.quantiles(later); got != (Quantiles{0.007, 0.007, 0.007}) {
		t.Errorf("of one: %v", got)
	}
}

func TestQuantilesAreWithinThreePerCent(t *testing.T) {
	var m meter
	for i := range 100_000 { // over three minutes
		m.add(gateStart.Add(time.Duration(i)*2*time.Millisecond), time.Duration(i)*time.Microsecond*100)
	}
	got := *m.quantiles(gateStart.Add(3 * time.Minute))
	for _, q := range []struct{ got, want float64 }{{got.P50, 5000}, {got.P90, 9000}, {got.P99, 9900}} {
		if math.Abs(q.got-q.want) > q.want*0.035 {
			t.Errorf("%v, want %v", q.got, q.want)
		}
	}
}

// Each duration is within a thirty-second of the middle of its size, and sizes have the order of durations.
func TestSizesOfDurations(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < 1<<longest*time.Microsecond; d += max(d/50, time.Microsecond) {
		size := int(sizeOf(d))
		if size < last || size >= sizes {
			t.Fatalf("%v has size %d of %d, after %d", d, size, sizes, last)
		}
		last = size
		micros := float64(d / time.Microsecond)
		if off := math.Abs(millisOf(size)*1000 - micros); off > micros/32+0.5 || micros < 16 && off > 0 {
			t.Errorf("%v is told as %v ms", d, millisOf(size))
		}
	}
	for _, d := range []time.Duration{math.MaxInt64, -time.Hour} {
		if size := sizeOf(d); size >= sizes {
			t.Errorf("%v has size %d of %d", d, size, sizes)
		}
	}
}

// There are thousands of lanes. What was noted long ago takes no memory, and what is noted takes a bounded amount whatever it is.
func TestMeterTakesLittleMemory(t *testing.T) {
	if size := unsafe.Sizeof(meter{}); size > 256 {
		t.Errorf("a meter that noted nothing takes %d bytes", size)
	}
	var m meter
	for i := range 2_000_000 {
		m.add(gateStart.Add(time.Duration(i)*time.Millisecond/5), time.Duration(i)*time.Millisecond)
	}
	bytes := 4*(cap(m.seconds.values)+cap(m.minutes.values)) + 24*cap(m.took.values)
	for _, s := range m.took.values {
		bytes += 8 * cap(s)
	}
	if bytes > 64<<10 {
		t.Errorf("it takes %d bytes", bytes)
	}
	later := gateStart.Add(2 * time.Hour)
	m.perSecond(later)
	m.inHour(later)
	m.quantiles(later)
	if m.seconds.values != nil || m.minutes.values != nil || m.took.values != nil {
		t.Error("what was noted hours ago takes memory")
	}
}

// An endpoint that was slow for its last attempts, hours ago, is not told as slow now.
func TestFiguresOfAnEndpointAreOfLate(t *testing.T) {
	url, _ := quickReceiver(t, func(r *http.Request) int {
		if r.Header.Get("webhook-id") == "evt_0001" {
			return 400
		}
		return 200
	})
	ep := subscriber("crm", url)
	ep.Delivery.Retry = nil
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(4)...)
	d.until("crm", "settled", func(s Status) bool { return s.Delivered == 3 && s.Failed == 1 })
	if s := d.status("crm"); s.AttemptMS == nil || s.DeliveryMS == nil || s.SuccessRate == nil || *s.SuccessRate != 0.75 {
		t.Errorf("at once: %+v", s)
	}
	d.leap.Store(int64(10 * time.Minute))
	if s := d.status("crm"); s.AttemptMS != nil || s.DeliveryMS != nil || s.SuccessRate == nil || *s.SuccessRate != 0.75 {
		t.Errorf("ten minutes later: %+v", s)
	}
	d.leap.Store(int64(2 * time.Hour))
	if s := d.status("crm"); s.SuccessRate != nil || s.Attempts != 4 {
		t.Errorf("two hours later: %+v", s)
	}
}

func TestSuccessRateIsOneOnlyWhenNothingFailed(t *testing.T) {
	for _, tt := range []struct {
		well, failed int
		want         float64
	}{{1, 0, 1}, {0, 1, 0}, {99_999, 1, 0.9999}, {2, 1, 0.6666}} {
		var s laneStats
		for range tt.well {
			s.delay.tick(gateStart)
		}
		for range tt.failed {
			s.failing.tick(gateStart)
		}
		if got := s.successRate(gateStart); got == nil || *got != tt.want {
			t.Errorf("%d well and %d not: %v, want %v", tt.well, tt.failed, got, tt.want)
		}
	}
}
