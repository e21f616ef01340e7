package queue

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// everyHealth has something in every field.
func everyHealth(at time.Time) (h Health) {
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i).Addr().Interface().(type) {
		case *int:
			*f = i + 1
		case *float64:
			*f = float64(i) + 0.25
		case *string:
			*f = "answered 500"
		case *time.Time:
			*f = at.Add(time.Duration(i) * time.Second)
		}
	}
	return h
}

func TestHealthOutlivesARestartAndJumpsOfTheClock(t *testing.T) {
	var m machine
	m.mono.Store(aDay)
	m.wall.Store(noonIn)
	b := openBench(t, m.change)
	want := everyHealth(b.opts.Now())
	b.lane("crm").SetHealth(want)
	if got := b.lane("crm").Health(); got != want {
		t.Fatalf("it is %+v at once, want %+v", got, want)
	}
	b.reopen()
	if got := b.lane("crm").Health(); !reflect.DeepEqual(got, want.moved(func(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()) })) {
		t.Errorf("it is %+v after a restart, want %+v", got, want)
	}
	m.wall.Add(aHour)
	b.reopen()
	if got := b.lane("crm").Health(); got.HeldUntil.Sub(b.opts.Now()) != want.HeldUntil.Sub(want.Down)+2*time.Second {
		t.Errorf("it is held until %v, which is %v", got.HeldUntil, b.opts.Now())
	}
	if got := b.lane("new").Health(); got != (Health{}) {
		t.Errorf("a new lane has %+v", got)
	}
}

func TestLongErrorsAreCut(t *testing.T) {
	b := openBench(t, nil)
	b.lane("crm").SetHealth(Health{LastError: strings.Repeat("x", 1000)})
	b.reopen()
	if n := len(b.lane("crm").Health().LastError); n != maxReason {
		t.Errorf("%d bytes are kept, want %d", n, maxReason)
	}
}

func TestHastenedRetriesAreDueInTheOrderOfTheirArrival(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 6)...)
	now := time.Now()
	for i, wait := range []time.Duration{5, 1, 4, 3, 2, -1} {
		crm.Retry(mustTake(t, crm, ids(i, i+1)[0]), broken(1), now.Add(wait*time.Hour))
	}
	if d, in := takeDue(crm, now); !in || string(d.Event.ID) != "evt_5" {
		t.Fatalf("took %+v, %v", d, in)
	}
	if d, in := takeDue(crm, now); in {
		t.Fatalf("took %s before its time", d.Event.ID)
	}
	if probe, in := takeDue(crm, now.Add(1000*time.Hour)); !in || string(probe.Event.ID) != "evt_1" {
		t.Fatalf("a probe is %+v, %v", probe, in)
	} else {
		crm.Release(probe, now.Add(time.Hour))
	}
	crm.Hasten(now)
	for _, id := range ids(0, 5) {
		d, in := takeDue(crm, now)
		if !in || string(d.Event.ID) != id {
			t.Fatalf("took %+v, %v, want %s", d, in, id)
		}
		crm.Delivered(d, ok(2))
	}
}
