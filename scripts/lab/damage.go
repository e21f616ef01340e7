// damage tries to break the promise that nothing is dropped silently: it spoils files of the queue, and looks for what
// is missing and not told.

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
	"strings"
)

// damageRun spoils files of a queue, each time of a fresh copy of the one that was filled.
type damageRun struct {
	site  site
	cases int
	seed  uint64
	size  int
	only  string
}

// damageCase is one harm to one kind of file. A kind of no file is a backup.
type damageCase struct {
	kind   *fileKind
	harm   *harm
	live   bool // while the relay serves; else before it starts
	killed bool // the queue was left by a kill
}

func (c *damageCase) String() string {
	if c.harm == nil && c.kind == nil {
		return "nothing in a backup (the control)"
	}
	name, when := "a backup", "at rest"
	if c.kind != nil {
		name = c.kind.name
	}
	if c.live {
		when = "live"
	}
	if c.killed {
		when += ", after a kill"
	}
	if c.harm == nil {
		return "nothing (the control), " + when
	}
	return fmt.Sprintf("%s: %s, %s", name, c.harm.name, when)
}

// damageCases are n cases from a seed: all that there are once, in its order, then again at other places, and always some
// backups.
func damageCases(n int, r *rand.Rand) (list []damageCase) {
	var files, backups []damageCase
	for h := range harms {
		if harms[h].backup {
			backups = append(backups, damageCase{harm: &harms[h]})
		}
		for k := range fileKinds {
			if fileKinds[k].whole && !harms[h].whole {
				continue
			}
			for _, live := range []bool{false, true} {
				files = append(files, damageCase{kind: &fileKinds[k], harm: &harms[h], live: live, killed: r.IntN(2) == 0})
			}
		}
	}
	r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	r.Shuffle(len(backups), func(i, j int) { backups[i], backups[j] = backups[j], backups[i] })
	for i := range n {
		if i%6 == 5 {
			list = append(list, backups[i/6%len(backups)])
			continue
		}
		list = append(list, files[(i-i/6)%len(files)])
	}
	return list
}

func runDamage(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("damage", "Fills a queue, spoils a file of a copy of it, at rest or while a relay serves it, and looks at what the relay makes of it. Exit code 1\n"+
		"when it does not serve, when a count or a list is not the truth, when acknowledged events are missing and it does not say which, when\n"+
		"it delivers what was not posted, or accepts an id again that it should know.")
	var run damageRun
	run.site.flags(flags)
	flags.IntVar(&run.cases, "cases", 12, "`cases`, from the seed")
	flags.Uint64Var(&run.seed, "seed", 0, "of the cases; 0: another each time")
	flags.IntVar(&run.size, "size", 600, "`bytes` of an event")
	flags.StringVar(&run.only, "only", "", "of the cases only those whose `name` holds this")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if run.cases < 1 {
		return usageError("damage needs -cases of 1 or more")
	}
	if run.seed == 0 {
		run.seed = rand.Uint64()
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	f, err := fillQueue(ctx, &run.site, run.size)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d: %d events acknowledged\n", run.seed, f.total)
	r := rand.New(rand.NewPCG(run.seed, 1))
	list := append([]damageCase{{kind: &fileKinds[0]}, {kind: &fileKinds[0], killed: true}, {kind: &fileKinds[0], live: true}, {}}, damageCases(run.cases, r)...)
	var faults []error
	for i := range list {
		c := &list[i]
		place := rand.New(rand.NewPCG(run.seed, uint64(i)))
		if !strings.Contains(c.String(), run.only) && c.harm != nil {
			continue
		}
		result, err := run.suffer(ctx, f, fmt.Sprintf("case-%d", i), c, place)
		result.Case = fmt.Sprintf("%d: %s", i, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if encoded := json.NewEncoder(out).Encode(result); encoded != nil {
			return encoded
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", result.Case, result.File, err))
			fmt.Fprintln(out, "FAULT", faults[len(faults)-1])
		}
	}
	fmt.Fprintf(out, "%d cases and their controls, %d faults; seed %d\n", len(list), len(faults), run.seed)
	return errors.Join(faults...)
}

// damageResult is what a relay made of one case.
type damageResult struct {
	Case    string   `json:"case"`
	File    string   `json:"file"`
	Missing int      `json:"missing"`         // acknowledged, and at some endpoint neither delivered nor listed
	Damaged int      `json:"damaged"`         // as the relay counts
	Ended   string   `json:"ended,omitempty"` // what the process said when it ended by itself while it was being spoilt
	Refused bool     `json:"refused"`         // it did not start, or a restore wrote nothing, and said why
	StartMs float64  `json:"start_ms"`        // to ready, at rest
	Told    []string `json:"told,omitempty"`
}

// suffer plays one case.
func (d *damageRun) suffer(ctx context.Context, f *filled, name string, c *damageCase, place *rand.Rand) (result damageResult, err error) {
	receivers, err := newFour()
	if err != nil {
		return result, err
	}
	defer receivers.close()
	r, err := d.site.newRelay(name, receivers.endpoints())
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(r.dir)
	base := f.stopped
	if c.killed {
		base = f.killed
	}
	if err := tool("cp", "-a", base, r.data); err != nil {
		return result, err
	}
	e := newExamination(f, r, receivers, &result)
	e.exact = c.kind == nil || c.kind.derived || c.harm == nil
	e.journal = c.kind != nil && strings.HasPrefix(c.kind.files, "journal")
	e.cut = c.killed && e.journal
	if c.kind == nil {
		result.File = "backup"
		if result.Refused, err = c.restore(r, place); err != nil {
			return result, err
		}
		if result.Refused != (c.harm != nil) {
			return result, fmt.Errorf("refused by restore: %v, want %v", result.Refused, c.harm != nil)
		}
		if result.Refused {
			return result, nil
		}
	}
	defer func() {
		if r.proc != nil {
			r.proc.kill()
		}
	}()
	if c.live {
		if err := e.begin(ctx); err != nil {
			return result, err
		}
	}
	spared := ""
	if c.kind != nil && c.harm != nil {
		path, others, err := c.kind.choose(place, r.data)
		if err != nil {
			return result, err
		}
		if c.kind.grave {
			spared = path + ".spared"
			if err := tool("cp", "-a", path, spared); err != nil {
				return result, err
			}
		}
		result.File = filepath.Base(path)
		if err := c.harm.do(place, path, others, f.older); err != nil {
			return result, fmt.Errorf("spoil %s: %w", path, err)
		}
	}
	if c.live {
		if err := e.goOn(ctx, place); err != nil {
			return result, err
		}
	}
	if took, err := r.start(ctx); err == nil {
		result.StartMs = inMillis(took)
	} else if words := r.proc.lastWords(); spared == "" || !strings.Contains(words, "nothing was touched") && !strings.Contains(words, "FORMAT") {
		return result, fmt.Errorf("the relay does not serve: %w", err)
	} else {
		// It said why and touched nothing: what was spoilt is put back, as an operator does.
		result.Refused = true
		path := strings.TrimSuffix(spared, ".spared")
		if err := os.Rename(spared, path); err != nil {
			return result, err
		}
		if _, err := r.start(ctx); err != nil {
			return result, fmt.Errorf("the relay does not serve though FORMAT is back: %w", err)
		}
	}
	if spared != "" {
		_ = os.Remove(spared)
	}
	err = e.examine(ctx)
	result.Told = firstOf(damageLines(r.proc.log), 6)
	if err == nil && c.harm == nil {
		err = e.control()
	}
	return result, err
}

// restore backs the queue up, spoils that, and has a queue made of it for r. refused says that it has nothing then.
func (c *damageCase) restore(r *relay, place *rand.Rand) (refused bool, err error) {
	text, err := exec.Command(r.bin, "backup", "-config", r.config).Output()
	if err != nil {
		return false, fmt.Errorf("back up: %w", err)
	}
	file := filepath.Join(r.dir, "backup")
	if err := errors.Join(os.RemoveAll(r.data), os.WriteFile(file, text, 0o600)); err != nil {
		return false, err
	}
	if c.harm != nil {
		if err := c.harm.do(place, file, nil, ""); err != nil {
			return false, err
		}
	}
	err = tool(r.bin, "restore", "-config", r.config, file)
	if _, there := os.Lstat(r.data); err != nil && errors.Is(there, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}
