package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSoakIsJudgedByWhatReturns(t *testing.T) {
	before := footprint{MemoryMiB: 20, Goroutines: 50, Files: 40, DiskMiB: 60, Events: 10}
	well := soakResult{Before: before, Most: footprint{Events: 100_000}, After: before}
	if err := well.judge(); err != nil {
		t.Errorf("all returned: %v", err)
	}
	for what, spoil := range map[string]func(*soakResult){
		"an event is lost":                func(s *soakResult) { s.Lost = 1 },
		"an answer is wrong":              func(s *soakResult) { s.Wrong = 1 },
		"memory stays":                    func(s *soakResult) { s.After.MemoryMiB += moreMemoryMiB + 1 },
		"goroutines stay":                 func(s *soakResult) { s.After.Goroutines += moreGoroutines + 1 },
		"files stay open":                 func(s *soakResult) { s.After.Files += moreFiles + 1 },
		"disk stays":                      func(s *soakResult) { s.After.DiskMiB += moreDiskMiB + 1 },
		"events stay":                     func(s *soakResult) { s.After.Events += moreEvents + 1 },
		"there was nothing to be deleted": func(s *soakResult) { s.Most.Events = 10 },
	} {
		spoiled := well
		spoil(&spoiled)
		if spoiled.judge() == nil {
			t.Errorf("%s: passed", what)
		}
	}
}

func TestNetworkIsJudgedByEveryPromise(t *testing.T) {
	well := networkResult{Acknowledged: 100, Repeats: 4, Unanswered: 3, Resent: 1, Offline: 20, Crowd: networkConcurrency}
	if err := well.judge(); err != nil {
		t.Errorf("all well: %v", err)
	}
	for what, spoil := range map[string]func(*networkResult){
		"an event is lost":                func(n *networkResult) { n.Lost = 1 },
		"a delivery was given up":         func(n *networkResult) { n.Failed = 1 },
		"repeats out of nothing":          func(n *networkResult) { n.Repeats = 5 },
		"an outage was charged":           func(n *networkResult) { n.Charged = 1 },
		"nothing came during the outage":  func(n *networkResult) { n.Offline = 0 },
		"a stampede":                      func(n *networkResult) { n.Crowd++ },
		"nobody came back to an endpoint": func(n *networkResult) { n.Crowd = 0 },
	} {
		spoiled := well
		spoil(&spoiled)
		if spoiled.judge() == nil {
			t.Errorf("%s: passed", what)
		}
	}
}

func TestFirstAttemptsFindsThoseThatBeganLater(t *testing.T) {
	var f firstAttempts
	f.watch([]uint64{1, 2, 3})
	for _, got := range []struct {
		seq     uint64
		attempt string
	}{{1, "1"}, {1, "2"}, {2, "2"}, {9, "5"}} {
		f.received(appendID(nil, 7, got.seq), got.attempt)
	}
	f.received([]byte("evt_of_somebody_else"), "3")
	if f.size() != 3 || f.later() != 1 {
		t.Errorf("%d watched, %d began later; want 3 and 1", f.size(), f.later())
	}
}

func TestAcknowledgedKnowsItsNewest(t *testing.T) {
	a := acknowledged{run: 7}
	for seq := range uint64(5) {
		a.note(seq, time.Time{}, time.Time{})
	}
	if got := a.newest(2).acked; len(got) != 2 || got[0] != 3 || got[1] != 4 {
		t.Errorf("the newest two are %v", got)
	}
	if got := a.newest(9); len(got.acked) != 5 || a.count() != 5 || got.run != 7 {
		t.Errorf("of five there are %d, of run %d", len(got.acked), got.run)
	}
}

func TestDamageMustBeToldWithItsNumbers(t *testing.T) {
	gone := map[uint64]bool{7: true, 8: true, 9: true}
	lines := []string{`{"message":"events 7 to 9 can't be read and are passed over"}`}
	tests := []struct {
		name string
		verdict
		well bool
	}{
		{"nothing happened", verdict{exact: true}, true},
		{"told and counted", verdict{missing: gone, damaged: 3, lines: lines}, true},
		{"not counted", verdict{missing: gone, damaged: 2, lines: lines}, false},
		{"not told", verdict{missing: gone, damaged: 3}, false},
		{"told of one", verdict{missing: gone, damaged: 3, lines: []string{"event 7 can't be read"}}, false},
		{"told without a number", verdict{missing: gone, damaged: 3, lines: []string{"the slot holds nothing any more"}}, false},
		{"the end of a journal", verdict{cut: true, missing: gone, damaged: 1, lines: []string{"the slot holds nothing any more"}}, true},
		{"missing though it is made again", verdict{exact: true, missing: gone, damaged: 3, lines: lines}, false},
		{"accepted again, since it was lost", verdict{missing: gone, damaged: 3, lines: lines, forgotten: []uint64{8}}, true},
		{"accepted again", verdict{damaged: 1, forgotten: []uint64{6}}, false},
		{"ids that are lost", verdict{damaged: 1, lines: []string{"1 ids are lost with their events"}, forgotten: []uint64{6}}, true},
		{"ids that are lost and not counted", verdict{lines: []string{"1 ids are lost with their events"}, forgotten: []uint64{6}}, false},
	}
	for _, test := range tests {
		if err := test.judge(); (err == nil) != test.well {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestHarmsSpoilWhatWasWritten(t *testing.T) {
	written := append(bytes.Repeat([]byte("abcdefgh"), 2000), make([]byte, 5000)...)
	r := rand.New(rand.NewPCG(1, 1))
	for _, h := range harms {
		dir, older := t.TempDir(), t.TempDir()
		for _, name := range []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(older, "a")} {
			if err := os.WriteFile(name, append([]byte(name), written...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		was, wasOther := mustRead(t, path), mustRead(t, other)
		if err := h.do(r, path, []string{other}, older); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		if bytes.Equal(mustRead(t, path), was) && bytes.Equal(mustRead(t, other), wasOther) {
			t.Errorf("%s: nothing is different", h.name)
		}
	}
}

// mustRead is empty for a file that is not there.
func mustRead(t *testing.T, path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return text
}

func TestEveryKindOfFileMeetsEveryHarm(t *testing.T) {
	met := map[string]int{}
	for _, c := range damageCases(500, rand.New(rand.NewPCG(3, 1))) {
		met[strings.TrimSuffix(c.String(), ", after a kill")]++
	}
	if want := (len(fileKinds)-1)*len(harms)*2 + 2*2; len(met) < want {
		t.Errorf("of 500 cases %d are different, want %d at least", len(met), want)
	}
	backups := 0
	for _, c := range damageCases(12, rand.New(rand.NewPCG(3, 1))) {
		if c.kind == nil {
			backups++
		}
	}
	if backups != 2 {
		t.Errorf("of 12 cases %d are of backups, want 2", backups)
	}
}

func TestATemplateKnowsItsEvents(t *testing.T) {
	event, err := newTemplate(7, "lead.created", 250, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest("127.0.0.1:1", "/events", event, 1, noCredential)
	r.patch(42, time.Now())
	made := r.bytes[r.bodyAt:]
	if !event.made(made) {
		t.Error("its own event is strange to it")
	}
	for _, at := range []int{0, event.idAt + 5, len(made) / 2, len(made) - 1} {
		spoiled := slices.Clone(made)
		spoiled[at] ^= 1
		if event.made(spoiled) {
			t.Errorf("a bit at byte %d was not noticed", at)
		}
	}
	if event.made(made[:len(made)-1]) {
		t.Error("a missing byte was not noticed")
	}
}
