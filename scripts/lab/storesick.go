// storesick tries to break the promise that what was acknowledged has no copy in the store alone: each of its system
// calls fails in turn.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// storesickRun has system calls of the store fail, each time of a relay on a fresh copy of a queue that was filled.
type storesickRun struct {
	site     site
	cases    int
	controls int
	seed     uint64
	size     int
	only     string
	seen     map[string]map[string]int // by moment and call, how often it was made when nothing failed
	old      time.Time                 // from then on all that was filled is over its dedup window
}

// sickCase is one way in which calls go wrong at one moment.
type sickCase struct {
	moment *moment
	call   string
	how    string
	err    syscall.Errno
	loses  bool // nothing fails, and a segment of the log is taken away: it must be found
}

func (c *sickCase) String() string {
	switch {
	case c.loses:
		return c.moment.name + ": nothing fails, and a segment is taken away (the control)"
	case c.call == "":
		return c.moment.name + ": nothing fails (the control)"
	}
	return fmt.Sprintf("%s: %s %s: %s", c.moment.name, c.call, c.how, errnoName(c.err))
}

// The ways in which a call fails.
const (
	failsOnce  = "fails once"
	failsWhile = "fails for a while"
	failsOn    = "fails from then on"
	failsEvery = "fails now and then"
)

var failings = []string{failsOnce, failsWhile, failsOn, failsEvery}

// errnoName is an error's name, or what it says when that isn't known here.
func errnoName(e syscall.Errno) string {
	for name, is := range map[string]syscall.Errno{"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EDQUOT": syscall.EDQUOT,
		"EMFILE": syscall.EMFILE, "ENFILE": syscall.ENFILE, "ENOMEM": syscall.ENOMEM} {
		if is == e {
			return name
		}
	}
	return e.Error()
}

// callFault makes system calls of the store fail: which one, and when.
type callFault struct {
	dir     string // of the store; what else begins with its name is the store that is being made
	call    string // "" of none: they are counted
	err     syscall.Errno
	how     string
	from    int  // the first that fails, counted from 0
	n       int  // how many do in a row, or of how many each last one
	atTable bool // it begins when a table is made

	mu     sync.Mutex
	armed  bool
	begun  bool
	counts map[string]int
	failed int
	first  string // what failed first
}

func (c *callFault) arm(armed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = armed
}

func (c *callFault) decide(q question) syscall.Errno {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed || !strings.HasPrefix(q.file, c.dir) {
		return 0
	}
	c.begun = c.begun || !c.atTable || q.call == "create" && strings.HasSuffix(q.file, ".sst")
	if !c.begun {
		return 0
	}
	at := c.counts[q.call] - c.from
	c.counts[q.call]++
	if q.call != c.call || at < 0 || c.how == failsOnce && at > 0 || c.how == failsWhile && at >= c.n || c.how == failsEvery && at%c.n != 0 {
		return 0
	}
	if c.failed++; c.failed == 1 {
		c.first = filepath.Base(q.file)
	}
	return c.err
}

// done is how many failed so far, and whether all that are to have.
func (c *callFault) done() (failed int, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string]int{failsOnce: 1, failsWhile: c.n, failsOn: 3, failsEvery: 3}[c.how]
	return c.failed, c.failed >= want
}

func runStoresick(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("storesick", "Has system calls of the store fail under a relay, at a moment that is named, and looks at what became of what it had acknowledged.\n"+
		"Exit code 1 when anything is missing, is counted wrongly, is accepted again, when a pause or a giving up does not hold, when the\n"+
		"relay ended without a word, or when nothing failed.")
	var run storesickRun
	run.site.flags(flags)
	flags.IntVar(&run.cases, "cases", 24, "`cases`, from the seed; 0: all there are")
	flags.IntVar(&run.controls, "controls", 1, "`times` that each moment is played without a failure before")
	flags.Uint64Var(&run.seed, "seed", 0, "of the cases; 0: another each time")
	flags.IntVar(&run.size, "size", 600, "`bytes` of an event")
	flags.StringVar(&run.only, "only", "", "of the cases only those whose `name` holds this")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if run.cases < 0 || run.controls < 1 {
		return usageError("storesick needs -cases of 0 or more and -controls of 1 or more")
	}
	if run.seed == 0 {
		run.seed = rand.Uint64()
	}
	if err := canAsk(); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	f, err := fillQueue(ctx, &run.site, run.size)
	if err != nil {
		return err
	}
	run.old = time.Now().Add(shortWindow + 5*time.Second)
	fmt.Fprintf(out, "seed %d: %d events acknowledged\n", run.seed, f.total)
	return run.all(ctx, f, out)
}

// canAsk is an error where a process can't be run so that it asks.
func canAsk() error {
	a, err := askFor()
	if err != nil {
		return err
	}
	defer a.close()
	under, err := a.under()
	if err != nil {
		return err
	}
	said, err := exec.Command(under[0], append(under[1:], "/bin/true")...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return unableError(strings.TrimPrefix(strings.TrimSpace(string(said)), "lab: can't run here: "))
	}
	return err
}

// all plays the controls, which show which calls are made when, and then the cases.
func (s *storesickRun) all(ctx context.Context, f *filled, out io.Writer) error {
	s.seen = map[string]map[string]int{}
	var faults []error
	number := 0
	play := func(c *sickCase) error {
		number++
		result, err := s.suffer(ctx, f, number, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if encoded := json.NewEncoder(out).Encode(result); encoded != nil {
			return encoded
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", result.Case, err))
			fmt.Fprintln(out, "FAULT", faults[len(faults)-1])
		}
		return nil
	}
	if err := play(&sickCase{moment: &moments[0], loses: true}); err != nil {
		return err
	}
	cases := 0
	for _, old := range []bool{false, true} { // the queue becomes old meanwhile
		for i := range moments {
			for range s.controls {
				if m := &moments[i]; m.old == old && len(m.cases(s.only)) > 0 {
					if err := play(&sickCase{moment: m}); err != nil {
						return err
					}
				}
			}
		}
		list := s.list(old)
		for i := range list {
			if err := play(&list[i]); err != nil {
				return err
			}
		}
		cases += len(list)
	}
	for _, k := range sysCalls {
		if s.only == "" && !s.makes(k.name) {
			faults = append(faults, fmt.Errorf("the store never calls %s: nothing is shown of it", k.name))
		}
	}
	fmt.Fprintf(out, "%d cases and %d controls, %d faults; seed %d\n", cases, number-cases, len(faults), s.seed)
	return errors.Join(faults...)
}

// cases are all of a moment whose names hold a text.
func (m *moment) cases(only string) (list []sickCase) {
	for _, k := range sysCalls {
		for _, how := range failings {
			for _, e := range k.errors {
				if c := (sickCase{moment: m, call: k.name, how: how, err: e}); strings.Contains(c.String(), only) {
					list = append(list, c)
				}
			}
		}
	}
	return list
}

// makes reports whether a call was made in all controls of a moment.
func (s *storesickRun) makes(call string) bool {
	for _, seen := range s.seen {
		if seen[call] > 0 {
			return true
		}
	}
	return false
}

// list are the cases of the moments that need an old queue, or of the others: with a number, its share of them, in turn of
// every call, every moment and every way.
func (s *storesickRun) list(old bool) (list []sickCase) {
	share := 0
	for i := range moments {
		if m := &moments[i]; m.old == old {
			share++
			list = append(list, slices.DeleteFunc(m.cases(s.only), func(c sickCase) bool { return s.seen[m.name][c.call] == 0 })...)
		}
	}
	if s.cases == 0 {
		return list
	}
	r := rand.New(rand.NewPCG(s.seed, 1))
	n := (s.cases*share + len(moments) - 1) / len(moments)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	used := map[string]int{}
	var picked []sickCase
	for len(picked) < n && len(list) > 0 {
		best := 0
		for i := range list {
			if s.weight(used, &list[i]) < s.weight(used, &list[best]) {
				best = i
			}
		}
		c := list[best]
		used[c.call]++
		used[c.moment.name]++
		used[c.how]++
		picked = append(picked, c)
		list = slices.Delete(list, best, best+1)
	}
	return picked
}

func (s *storesickRun) weight(used map[string]int, c *sickCase) int {
	return used[c.call]*len(sysCalls) + used[c.moment.name]*len(moments) + used[c.how]*len(failings)
}

// storesickResult is what a relay made of one case.
type storesickResult struct {
	Case    string         `json:"case"`
	File    string         `json:"file,omitempty"` // of the first call that failed
	Failed  int            `json:"failed"`         // calls
	Calls   map[string]int `json:"calls,omitempty"`
	Missing int            `json:"missing"`
	Damaged int            `json:"damaged"`
	Ended   string         `json:"ended,omitempty"` // what the process said when it ended by itself
	Refused bool           `json:"refused,omitempty"`
	Told    []string       `json:"told,omitempty"`
	Seconds float64        `json:"seconds"`
}

// tries is how often a case is played until something failed in it.
const tries = 4

// suffer plays one case. What a store does beside is done when it likes: where the call was not made this time, it is
// played again, and the first one of its kind fails.
func (s *storesickRun) suffer(ctx context.Context, f *filled, number int, c *sickCase) (result storesickResult, err error) {
	began := time.Now()
	defer func() { result.Case, result.Seconds = fmt.Sprintf("%d: %s", number, c), time.Since(began).Seconds() }()
	r := rand.New(rand.NewPCG(s.seed, uint64(number)))
	for try := range tries {
		name := fmt.Sprintf("case-%d-%d", number, try)
		fault := &callFault{call: c.call, err: c.err, how: c.how, atTable: c.moment.atTable, counts: map[string]int{}, n: 2 + r.IntN(5)}
		if seen := s.seen[c.moment.name][c.call]; try == 0 && seen > 1 {
			fault.from = r.IntN(seen)
		}
		result, err = s.once(ctx, f, name, c, fault, r)
		result.File, result.Failed = fault.first, fault.failed
		if err != nil || ctx.Err() != nil {
			return result, err
		}
		if c.loses {
			return result, nil
		}
		if c.call == "" {
			result.Calls = fault.counts
			s.remember(c.moment, fault.counts)
			return result, nil
		}
		if fault.failed > 0 {
			return result, nil
		}
	}
	return result, fmt.Errorf("of %d times in none any call failed: this shows nothing", tries)
}

// remember notes which calls were made in every control of a moment.
func (s *storesickRun) remember(m *moment, counts map[string]int) {
	had, again := s.seen[m.name]
	if !again {
		s.seen[m.name] = counts
		return
	}
	for call, n := range had {
		had[call] = min(n, counts[call])
	}
}

// once plays a case once: a relay on a copy of the queue, the moment in which calls fail, and the examination.
func (s *storesickRun) once(ctx context.Context, f *filled, name string, c *sickCase, fault *callFault, place *rand.Rand) (result storesickResult, err error) {
	receivers, err := newFour()
	if err != nil {
		return result, err
	}
	defer receivers.close()
	r, err := s.site.newRelay(name, receivers.endpoints(), c.moment.queue...)
	if err != nil {
		return result, err
	}
	if !s.site.keep {
		defer os.RemoveAll(r.dir)
	}
	if c.moment.old {
		pause(ctx, time.Until(s.old))
	}
	base := f.stopped
	if c.moment.killed {
		base = f.killed
	}
	if err := tool("cp", "-a", base, r.data); err != nil {
		return result, err
	}
	if c.moment.spoilt {
		if err := os.Remove(filepath.Join(r.data, "store", "000001.sst")); err != nil {
			return result, err
		}
	}
	fault.dir = filepath.Join(r.data, "store")
	a, err := askFor()
	if err != nil {
		return result, err
	}
	defer a.close()
	a.decide(fault.decide)
	if r.under, err = a.under(); err != nil {
		return result, err
	}
	defer func() {
		if r.proc != nil {
			r.proc.kill()
		}
	}()
	var examined damageResult
	e := newExamination(f, r, receivers, &examined)
	e.exact = true
	if c.moment.old {
		e.expired = f.total
	}
	p := underTest{ctx: ctx, examination: e, fault: fault, place: place}
	if err := c.moment.do(&p); err != nil {
		return result, err
	}
	fault.arm(false)
	result.Ended, result.Refused = p.ended, p.refused
	if err := p.judgeEnd(); err != nil {
		return result, err
	}
	if c.loses {
		return result, p.lose()
	}
	if err := p.lookAgain(); err != nil {
		return result, err
	}
	err = e.examine(ctx)
	result.Missing, result.Damaged, result.Told = examined.Missing, examined.Damaged, firstOf(damageLines(r.proc.log), 6)
	if err == nil && c.call == "" {
		if c.moment.spoilt {
			examined.Damaged-- // the table
		}
		err = e.control()
	}
	if err == nil {
		err = r.stop()
	}
	return result, err
}
