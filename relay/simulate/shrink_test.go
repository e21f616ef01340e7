package simulate

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var shrink = flag.Bool("shrink", false, "make the failing -seed small")

// TestShrink leaves out of a failing life what it fails without: its end, actors, and steps of those that are left.
func TestShrink(t *testing.T) {
	if !*shrink {
		t.Skip("for a seed that fails")
	}
	s := &shrinker{length: *length, without: strings.FieldsFunc(*leftOut, func(r rune) bool { return r == ',' }), play: playAlone}
	if !s.shrink() {
		t.Fatalf("seed %d does not fail within two tries", *firstSeed)
	}
	fmt.Printf("scripts/simulate -seed %d -seeds 1 -length %s -without %q -log\n", *firstSeed, s.length, strings.Join(s.without, ","))
}

// shrinker makes a failing life small.
type shrinker struct {
	length  time.Duration
	without []string
	play    func(length time.Duration, without []string) (out string, fails bool)
}

// shrink returns false when the life does not fail.
func (s *shrinker) shrink() bool {
	out, fails := s.fails(s.length, s.without)
	if !fails {
		return false
	}
	if first := firstFault(out) + time.Second; first < s.length {
		if _, fails := s.fails(first, s.without); fails {
			s.length = first
		}
	}
	steps := stepsOf(out)
	var left []string
	for _, actor := range sortedKeys(steps) {
		if !s.tryWithout(actor) {
			left = append(left, actor)
		}
	}
	for _, actor := range left {
		s.dropSteps(actor, 0, steps[actor])
	}
	return true
}

// fails plays a life, a second time if it passes: not all of it comes from the seed.
func (s *shrinker) fails(length time.Duration, without []string) (out string, fails bool) {
	for range 2 {
		if out, fails = s.play(length, without); fails {
			return out, true
		}
	}
	return "", false
}

// playAlone plays -seed in a process of its own.
func playAlone(length time.Duration, without []string) (out string, fails bool) {
	cmd := exec.Command(os.Args[0], "-alone", "-seed", fmt.Sprint(*firstSeed), "-length", length.String(), "-without", strings.Join(without, ","),
		"-test.run", "^TestOneLife$", "-test.timeout", patience.String())
	raw, err := cmd.CombinedOutput()
	return string(raw), err != nil
}

// tryWithout leaves out some more if the life fails without it as well.
func (s *shrinker) tryWithout(more ...string) bool {
	without := append(slices.Clone(s.without), more...)
	if _, fails := s.fails(s.length, without); !fails {
		return false
	}
	s.without = without
	fmt.Printf("fails without %s\n", strings.Join(more, ","))
	return true
}

// dropSteps leaves out an actor's steps of a range, or of its halves.
func (s *shrinker) dropSteps(actor string, from, to int) {
	var steps []string
	for step := from; step < to; step++ {
		steps = append(steps, fmt.Sprint(actor, "/", step))
	}
	if len(steps) == 0 || s.tryWithout(steps...) || len(steps) == 1 {
		return
	}
	middle := (from + to) / 2
	s.dropSteps(actor, from, middle)
	s.dropSteps(actor, middle, to)
}

var faultTime = regexp.MustCompile(`\.go:\d+: (\d+)d (\d\d):(\d\d):(\d\d)`)

// firstFault is when the first promise was broken.
func firstFault(out string) time.Duration {
	m := faultTime.FindStringSubmatch(out)
	if m == nil {
		return 1 << 62
	}
	var n [4]time.Duration
	for i := range n {
		v, _ := strconv.Atoi(m[i+1])
		n[i] = time.Duration(v)
	}
	return n[0]*24*time.Hour + n[1]*time.Hour + n[2]*time.Minute + n[3]*time.Second
}

// stepsOf reads how many steps each actor took.
func stepsOf(out string) map[string]int {
	steps := map[string]int{}
	for line := range strings.Lines(out) {
		_, list, ok := strings.Cut(strings.TrimSpace(line), toldActors)
		if !ok {
			continue
		}
		for one := range strings.SplitSeq(list, ", ") {
			actor, n, _ := strings.Cut(one, ": ")
			steps[actor], _ = strconv.Atoi(n)
		}
	}
	return steps
}

// toldActors begins the line that says how many steps each actor took.
const toldActors = "actors: "

func (w *world) tellActors() string {
	var list []string
	for _, actor := range sortedKeys(w.taken) {
		list = append(list, fmt.Sprint(actor, ": ", w.taken[actor]))
	}
	return toldActors + strings.Join(list, ", ")
}

func sortedKeys(m map[string]int) []string {
	var list []string
	for key := range m {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

// What a life fails without is left out: of a life that fails after an hour, for what the operator did in its fourth step and crm in any,
// nothing else is left. Each second play of it passes.
func TestWhatALifeFailsWithoutIsLeftOut(t *testing.T) {
	plays := 0 // every second one passes
	s := &shrinker{length: 24 * time.Hour, without: []string{"line"}, play: func(length time.Duration, without []string) (string, bool) {
		plays++
		w := map[string]bool{}
		for _, name := range without {
			w[name] = true
		}
		if plays%2 == 0 || length < time.Hour || w["operator"] || w["operator/3"] || w["crm"] || w["crm/0"] && w["crm/1"] {
			return "", false
		}
		return "    play_test.go:9: 0d 01:00:00.000 a promise is broken\n    " + toldActors + "crm: 2, mail: 3, operator: 9\n", true
	}}
	if !s.shrink() {
		t.Fatal("the life does not fail")
	}
	if s.length != time.Hour+time.Second {
		t.Errorf("%s long, want an hour", s.length)
	}
	want := []string{"line", "mail", "crm/0", "operator/0", "operator/1", "operator/2", "operator/4", "operator/5", "operator/6", "operator/7", "operator/8"}
	got := slices.Clone(s.without)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("without %v, want %v", got, want)
	}
	never := &shrinker{length: time.Hour, play: func(time.Duration, []string) (string, bool) { return "", false }}
	if never.shrink() {
		t.Error("a life that does not fail is made smaller")
	}
}
