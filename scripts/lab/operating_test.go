package main

import "testing"

func TestALookAtWhichHealthAndIntakeDifferIsTold(t *testing.T) {
	for _, one := range []struct {
		before, own, posted, after int
		well                       bool
	}{
		{200, 200, 200, 200, true},
		{503, 503, 503, 503, true},
		{200, 200, 503, 503, true}, // it changed in between
		{503, 503, 200, 200, true},
		{200, 200, 503, 200, false}, // health is well while events are refused
		{503, 503, 200, 503, false},
		{200, 503, 200, 200, false}, // the two listeners differ
		{200, 200, 500, 503, false},
		{200, 200, 413, 200, false},
	} {
		if err := judgeLook(one.before, one.own, one.posted, one.after); (err == nil) != one.well {
			t.Errorf("%+v: %v", one, err)
		}
	}
}
