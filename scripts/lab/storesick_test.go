package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCallsOfTheStoreFailAsTheyAreTo(t *testing.T) {
	for _, c := range []struct {
		how  string
		want []int // of twelve calls
	}{
		{failsOnce, []int{2}},
		{failsWhile, []int{2, 3, 4}},
		{failsOn, []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
		{failsEvery, []int{2, 5, 8, 11}},
	} {
		s := callFault{dir: "/q/store", call: "msync", err: syscall.EIO, how: c.how, from: 2, n: 3, armed: true, counts: map[string]int{}}
		var failed []int
		for i := range 12 {
			if s.decide(question{"fallocate", "/q/store/1.sst"})+s.decide(question{"msync", "/q/log/1.seg"}) != 0 {
				t.Fatalf("%s: another call or another file failed", c.how)
			}
			if s.decide(question{"msync", "/q/store.new/1.sst"}) == syscall.EIO {
				failed = append(failed, i)
			}
		}
		if n, _ := s.done(); !slices.Equal(failed, c.want) || n != len(c.want) || s.counts["fallocate"] != 12 {
			t.Errorf("%s: %v failed, %d by its count, want %v", c.how, failed, n, c.want)
		}
	}
}

func TestAMergeBeginsWithItsFirstTable(t *testing.T) {
	s := callFault{dir: "/q/store", call: "msync", err: syscall.EIO, how: failsOn, atTable: true, counts: map[string]int{}}
	early := s.decide(question{"create", "/q/store/1.sst"}) // nobody armed it yet
	s.arm(true)
	if early += s.decide(question{"msync", "/q/store/1.mem"}) + s.decide(question{"create", "/q/store/2.mem"}); early != 0 {
		t.Error("a call failed before a table was made")
	}
	s.decide(question{"create", "/q/store/2.sst"})
	if s.decide(question{"msync", "/q/store/1.mem"}) != syscall.EIO {
		t.Error("no call failed after a table was made")
	}
}

func TestASampleOfCasesHasEveryMomentAndEveryWay(t *testing.T) {
	s := storesickRun{cases: 20, seed: 7, seen: map[string]map[string]int{}}
	for i := range moments {
		s.seen[moments[i].name] = map[string]int{"msync": 9, "create": 2, "unlink": 0}
	}
	all := func() []sickCase { return append(s.list(false), s.list(true)...) }
	list := all()
	if len(list) != s.cases {
		t.Fatalf("%d cases, want %d", len(list), s.cases)
	}
	used := map[string]int{}
	for i := range list {
		used[list[i].moment.name]++
		used[list[i].how]++
		if list[i].call == "unlink" {
			t.Errorf("%s: the call was never seen", &list[i])
		}
	}
	for i := range moments {
		if used[moments[i].name] == 0 {
			t.Errorf("no case of %q", moments[i].name)
		}
	}
	for _, how := range failings {
		if used[how] == 0 {
			t.Errorf("no case of %q", how)
		}
	}
	if !slices.Equal(list, all()) {
		t.Error("the same seed gives other cases")
	}
	s.cases, s.only = 0, "merging: msync"
	if every := all(); len(every) != 12 || !strings.HasPrefix(every[0].String(), "merging: msync fails") {
		t.Errorf("of one call at one moment there are %d cases, want 12: four ways, three errors", len(every))
	}
}
