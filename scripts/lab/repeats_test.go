package main

import (
	"strings"
	"testing"
	"time"
)

func TestRepeatsMustBeExplainedByAKill(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	tests := []struct {
		name      string
		kills     []int // ms
		delivered []int
		oldest    time.Duration
		fault     string
	}{
		{"none", nil, []int{0}, 0, ""},
		{"killed just afterwards", []int{80}, []int{0, 200}, 80 * time.Millisecond, ""},
		{"seen only after the kill", []int{100}, []int{110, 300}, 0, ""},
		{"undone twice", []int{50, 260}, []int{0, 200, 400}, 60 * time.Millisecond, ""},
		{"without a kill", nil, []int{0, 10}, 0, "without a kill"},
		{"long before the kill", []int{9000}, []int{0, 9100}, 9 * time.Second, "settled 9s before"},
		{"undone once, repeated twice", []int{50}, []int{0, 2000, 5000}, 50 * time.Millisecond, "without a kill"},
	}
	for _, test := range tests {
		r := newRepeats(7, 2, 10)
		for _, kill := range test.kills {
			r.killed(at(kill))
		}
		for _, d := range test.delivered {
			(*r.observe(1))(appendID(nil, 7, 3), at(d))
		}
		(*r.observe(1))(appendID(nil, 8, 3), at(0)) // of another run
		(*r.observe(0))(appendID(nil, 7, 3), at(0)) // to another receiver
		err := r.judge()
		if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fault)
		}
		if r.oldest != test.oldest {
			t.Errorf("%s: oldest %s, want %s", test.name, r.oldest, test.oldest)
		}
	}
}
