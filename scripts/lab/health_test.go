package main

import (
	"strings"
	"testing"
	"time"
)

var auditStart = time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)

func TestTheAuditFindsWhatFailedUnjustly(t *testing.T) {
	at := func(seconds int) time.Time { return auditStart.Add(time.Duration(seconds) * time.Second) }
	five := func(change func(a []storyAttempt)) []storyAttempt {
		var list []storyAttempt
		for n := range 5 {
			list = append(list, storyAttempt{Number: n + 1, At: at(60 * n), DurationMS: 2000, Class: "timeout"})
		}
		change(list)
		return list
	}
	same := func([]storyAttempt) {}
	answered := func(attempt, second int, took time.Duration, status int) []told {
		return []told{{attempt: attempt, status: status, at: at(second), ended: at(second).Add(took)}}
	}
	for _, c := range []struct {
		name     string
		attempts []storyAttempt
		told     []told
		states   states
		cut      spans
		failed   time.Duration
		want     string
	}{
		{name: "five", attempts: five(same)},
		{name: "max_age", failed: 2 * time.Hour},
		{name: "max_age to the millisecond", failed: time.Hour},
		{name: "a millisecond before max_age", failed: time.Hour - time.Millisecond, want: "after 0 charged attempts of 5, 59m59.999s old"},
		{name: "four", attempts: five(same)[:4], want: "after 4 charged attempts of 5"},
		{name: "none", want: "after 0 charged attempts of 5"},
		{name: "down", attempts: five(same), states: states{down: spans{{at(50), at(70)}}}, want: "was down"},
		{name: "down until just then", attempts: five(same), states: states{down: spans{{at(50), at(60).Add(100 * time.Millisecond)}}}},
		{name: "still down", attempts: five(same), states: states{down: spans{{from: at(239)}}}, want: "was down"},
		{name: "a probe, and then the attempt", attempts: append([]storyAttempt{{Number: 2, At: at(55), Class: "timeout"}}, five(same)...), states: states{down: spans{{at(50), at(58)}}}},
		{name: "offline", attempts: five(same), states: states{offline: spans{{at(100), at(130)}}}, want: "is offline"},
		{name: "the cable is out", attempts: five(same), cut: spans{{at(119), at(121)}}, want: "cable was out"},
		{name: "the cable was out between", attempts: five(same), cut: spans{{at(90), at(110)}}},
		{name: "told to wait", attempts: five(func(a []storyAttempt) { a[3].Status, a[3].Class = 429, "status" }), want: "told to wait"},
		{name: "answered", attempts: five(same), told: answered(2, 60, 100*time.Millisecond, 200), want: "answered with success"},
		{name: "answered late", attempts: five(same), told: answered(2, 60, 1900*time.Millisecond, 200)},
		{name: "another one answered", attempts: five(same), told: answered(3, 60, 100*time.Millisecond, 200)},
		{name: "answered with a failure", attempts: five(same), told: answered(2, 60, 100*time.Millisecond, 500)},
		{name: "answered on a line that was cut", attempts: five(same), told: answered(2, 60, 100*time.Millisecond, 200), cut: spans{{at(61), at(62)}}},
	} {
		if c.failed == 0 {
			c.failed = 10 * time.Minute
		}
		k := course{waits: 4, maxAge: time.Hour, timeout: 2 * time.Second, states: c.states, cut: c.cut}
		unjust := k.judge(&failedStory{id: "evt", accepted: auditStart, failed: auditStart.Add(c.failed), attempts: c.attempts, told: c.told})
		if text := strings.Join(unjust, "; "); (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, text, c.want)
		}
	}
}

func TestWhatARelaySaidOfItsEndpointsIsRead(t *testing.T) {
	log := `{"level":"info","time":"2024-01-15T10:30:00.000Z","message":"serving"}
{"level":"warn","endpoint":"crm","reason":"x","time":"2024-01-15T10:30:01.000Z","message":"endpoint is down: 5 attempts failed in a row; its deliveries wait"}
{"level":"warn","endpoint":"crm","event":"evt_1","attempt":2,"status":500,"duration_ms":500,"class":"status","time":"2024-01-15T10:30:02.000Z","message":"attempt failed"}
{"level":"warn","endpoint":"erp","reason":"x","time":"2024-01-15T10:30:02.500Z","message":"this machine seems to be offline: deliveries wait and no attempt is charged"}
{"level":"info","endpoint":"crm","time":"2024-01-15T10:30:03.000Z","message":"endpoint is up again"}
{"level":"warn","endpoint":"crm","time":"2024-01-15T10:30:04.000Z","message":"endpoint is do
{"level":"info","time":"2024-01-15T10:30:05.000Z","message":"serving"}
{"level":"info","endpoint":"erp","time":"2024-01-15T10:30:06.000Z","message":"this machine is online again"}
`
	said, err := readStates(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int) time.Time { return auditStart.Add(time.Duration(ms) * time.Millisecond) }
	charged := said["crm"].charged
	if len(charged) != 1 || charged[0].id != "evt_1" || charged[0].Number != 2 || charged[0].Status != 500 || !charged[0].At.Equal(at(1500)) {
		t.Errorf("charged: %+v", charged)
	}
	for _, c := range []struct {
		what  string
		spans spans
		from  time.Time
		to    time.Time
	}{{"crm down", said["crm"].down, at(1000), at(3000)}, {"erp offline", said["erp"].offline, at(2500), at(5000)}} {
		if len(c.spans) != 1 || !c.spans[0].from.Equal(c.from) || !c.spans[0].to.Equal(c.to) {
			t.Errorf("%s: %v", c.what, c.spans)
		}
	}
}
