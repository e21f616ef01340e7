package delivery

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
	"unsafe"

	"realtorbot-relay/relay/rfc3339"
)

func TestClockSkewIsThatOfMostEndpoints(t *testing.T) {
	now := time.Now()
	status := func(ahead float64, ago time.Duration) Status {
		return Status{ClockSkew: &ahead, ClockSeen: rfc3339.At(now.Add(-ago))}
	}
	for want, statuses := range map[float64][]Status{
		0:    {},
		-1:   {status(-1, 0), status(-1, 0), status(900, 0)},
		300:  {status(300, 0), status(299, 0), status(0, 0), status(301, 0), status(300, 0)},
		2:    {status(2, 0), status(600, 0)}, // of two, one of which is wrong, it is rather not this machine
		-3.5: {status(-3.5, time.Minute), status(77, 2*time.Hour), {}},
	} {
		if got, _ := ClockSkew(statuses, now); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestStatusTellsTheSkewOfAnAnswer(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer receiver.Close()
	d := openHarness(t, subscriber("crm", receiver.URL))
	d.accept("test", "evt_1")
	d.until("crm", "settled", settled)
	s := d.status("crm")
	if s.ClockSkew == nil || *s.ClockSkew < 3590 || *s.ClockSkew > 3601 {
		t.Fatalf("clock skew %v", fmt.Sprint(s.ClockSkew))
	}
	if ahead, n := ClockSkew([]Status{s}, time.Now()); n != 1 || ahead != *s.ClockSkew {
		t.Errorf("of %d endpoints: %v", n, ahead)
	}
}

// What is told of an endpoint follows the wall clock as it is now: of one that went down while the clock was in 1970, and was set right
// since, the relay said that it was down since 1970.
func TestTimesOfAnEndpointAreToldByTheClockOfNow(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://127.0.0.1:1/"))
	l := d.dispatcher.Lane("crm")
	began := d.now().Add(-time.Minute)
	early := in1970(began)
	if early.Year() != 1970 || d.now().Sub(early).Round(time.Second) != time.Minute {
		t.Fatalf("%s is no reading of a clock in 1970", early)
	}
	l.mu.Lock()
	l.gate.Down, l.gate.LastErrorAt, l.gate.LastSuccess, l.gate.NextProbe = early, early, early, early.Add(time.Hour)
	l.gate.ToldDown = early
	l.mu.Unlock()
	s := d.status("crm")
	for what, got := range map[string]rfc3339.Time{"state_began_at": s.Since, "last_error_at": s.LastErrorAt, "last_success_at": s.LastSuccess} {
		if got.Sub(began).Abs() > time.Second {
			t.Errorf("%s is %s, want %s", what, got, began)
		}
	}
	if s.NextProbe.Sub(began.Add(time.Hour)).Abs() > time.Second {
		t.Errorf("next_probe_at is %s, want %s", s.NextProbe, began.Add(time.Hour))
	}
	l.report(Transition{State: StateUp, At: d.now(), Since: early})
	for _, n := range d.dispatcher.TakeTransitions() {
		if n.Since.Sub(began).Abs() > time.Second {
			t.Errorf("it is told to be over since %s, want %s", n.Since, began)
		}
	}
}

// in1970 is t as a machine would have read it whose wall clock was in 1970: the first word of a time has the seconds since 1885 above its
// lowest 30 bits, and the monotonic clock is in the second.
func in1970(t time.Time) time.Time {
	const since1885 = 85*365 + 21 // days, until 1970
	first := (*uint64)(unsafe.Pointer(&t))
	*first = 1<<63 | uint64(since1885*24*60*60+1)<<30
	return t
}
