package delivery

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

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
