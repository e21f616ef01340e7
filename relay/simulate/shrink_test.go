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
	s := &shrinker{t: t, length: *length, without: strings.FieldsFunc(*leftOut, func(r rune) bool { return r == ',' })}
	out, fails := s.fails(s.length, s.without)
	if !fails {
		t.Fatalf("seed %d does not fail within two tries", *firstSeed)
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
	fmt.Printf("scripts/simulate -seed %d -seeds 1 -length %s -without %q -log\n", *firstSeed, s.length, strings.Join(s.without, ","))
}

type shrinker struct {
	t       *testing.T
	length  time.Duration
	without []string
}

// fails plays a life, a second time if it passes: not all of it comes from the seed.
func (s *shrinker) fails(length time.Duration, without []string) (out string, fails bool) {
	for range 2 {
		cmd := exec.Command(os.Args[0], "-alone", "-seed", fmt.Sprint(*firstSeed), "-length", length.String(), "-without", strings.Join(without, ","),
			"-test.run", "^TestOneLife$", "-test.timeout", patience.String())
		raw, err := cmd.CombinedOutput()
		if err != nil {
			return string(raw), true
		}
	}
	return "", false
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
