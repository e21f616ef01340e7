package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// damageRun spoils files of a queue while the relay is down, one kind after the other, always of a fresh copy.
type damageRun struct {
	powercutRun // the relay and its load are the same
}

// harm is one way to spoil a file. Of the files that match the newest is taken.
type harm struct {
	name  string
	files string // below the queue's directory
	spoil func([]byte) []byte

	derived bool // it is made again from the log: nothing may be missing
	backup  bool // it is a backup that is spoilt, and restored
	refused bool // which a restore has to refuse, with nothing written
}

// damageResult is what a relay made of one harm.
type damageResult struct {
	Harm         string  `json:"harm"`
	Derived      bool    `json:"derived"` // what was spoilt is made again from the log
	File         string  `json:"file"`
	Acknowledged int     `json:"acknowledged"`
	Missing      int     `json:"missing"` // acknowledged, and not delivered: allowed when it is told
	Mangled      int64   `json:"mangled"` // delivered, and not what was posted: must be 0
	Damaged      int     `json:"damaged"` // as the relay counts
	Told         string  `json:"told,omitempty"`
	Ended        string  `json:"ended,omitempty"` // how the process ended, when it did not serve
	Refused      bool    `json:"refused"`         // a restore wrote nothing
	StartMs      float64 `json:"start_ms"`
}

var harms = []harm{
	{name: "nothing (the control)", files: "FORMAT", spoil: func(b []byte) []byte { return b }},
	{name: "a flipped bit in the journal", files: "journal/slot-*", spoil: flipMiddle},
	{name: "a journal slot cut in half", files: "journal/slot-*", spoil: func(b []byte) []byte { return b[:len(b)/2] }},
	{name: "a journal slot of zeros", files: "journal/slot-*", spoil: zeros},
	{name: "a flipped bit in a segment", files: "log/*.seg", spoil: flipMiddle},
	{name: "a segment cut in half", files: "log/*.seg", spoil: func(b []byte) []byte { return b[:len(b)/2] }},
	{name: "a segment of zeros", files: "log/*.seg", spoil: zeros},
	{name: "a flipped bit in a table", files: "store/*.sst", spoil: flipMiddle, derived: true},
	{name: "a table of zeros", files: "store/*.sst", spoil: zeros, derived: true},
	{name: "a write-ahead log of zeros", files: "store/*.mem", spoil: zeros, derived: true},
	{name: "a manifest cut in half", files: "store/MANIFEST", spoil: func(b []byte) []byte { return b[:len(b)/2] }, derived: true},
	{name: "a mark of zeros", files: "mark", spoil: zeros, derived: true},
	{name: "nothing in a backup (the control)", spoil: func(b []byte) []byte { return b }, backup: true, derived: true},
	{name: "a flipped bit in a backup", spoil: flipMiddle, backup: true, refused: true},
	{name: "a backup cut in half", spoil: func(b []byte) []byte { return b[:len(b)/2] }, backup: true, refused: true},
	{name: "a backup without its last byte", spoil: func(b []byte) []byte { return b[:len(b)-1] }, backup: true, refused: true},
	{name: "a backup of zeros", spoil: zeros, backup: true, refused: true},
}

// flipMiddle turns one bit in the middle of what was written, which ends with the last byte that is not zero.
func flipMiddle(b []byte) []byte {
	if used := len(bytes.TrimRight(b, "\x00")); used > 0 {
		b[used/2] ^= 1
	}
	return b
}

func zeros(b []byte) []byte { return make([]byte, len(b)) }

func runDamage(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("damage", "Kills a relay under load, spoils a file of a copy of its queue, starts a relay on the copy, and looks at what it makes of it. Exit\n"+
		"code 1 when it does not serve, when acknowledged events are missing and it says nothing, or when it delivers what was not posted.")
	var run damageRun
	run.site.flags(flags)
	flags.IntVar(&run.conns, "c", 32, "`connections`")
	flags.Float64Var(&run.rate, "rate", 5000, "`events` a second")
	flags.IntVar(&run.size, "size", 1000, "`bytes` of an event")
	flags.StringVar(&run.only, "only", "", "only harms whose `name` holds this")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	data, acked, event, err := run.fill(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for i, h := range harms {
		if !strings.Contains(h.name, run.only) {
			continue
		}
		result, err := run.suffer(ctx, fmt.Sprintf("copy-%d", i), data, h, acked, event)
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		if h.refused != result.Refused {
			faults = append(faults, fmt.Errorf("%s: refused by restore: %v, want %v", h.name, result.Refused, h.refused))
		}
		if err := json.NewEncoder(out).Encode(result); err != nil {
			return err
		}
		if result.Refused {
			fmt.Fprintf(out, "%s: refused by restore, and nothing was written\n", h.name)
			continue
		}
		fmt.Fprintf(out, "%s: of %d events acknowledged %d are missing, %d mangled; the relay counts %d damaged things; serving after %.0f ms %s\n",
			h.name, result.Acknowledged, result.Missing, result.Mangled, result.Damaged, result.StartMs, result.Ended)
		if err := result.judge(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", h.name, err))
		}
	}
	return errors.Join(faults...)
}

func (d *damageResult) judge() error {
	switch {
	case d.Ended != "":
		return fmt.Errorf("the relay does not serve: %s", d.Ended)
	case d.Mangled > 0:
		return fmt.Errorf("%d events were delivered that are not what was posted", d.Mangled)
	case d.Missing > 0 && d.Derived:
		return fmt.Errorf("%d events are missing, though what was spoilt is made again from the log", d.Missing)
	case d.Missing > 0 && (d.Damaged == 0 || d.Told == ""):
		return fmt.Errorf("%d events are missing without a word", d.Missing)
	}
	return nil
}

// fill makes a queue with something in every kind of file: stopped well once, so that there are tables, then killed.
func (d *damageRun) fill(ctx context.Context) (data string, acked *ledger, event template, err error) {
	receivers, err := newPair()
	if err != nil {
		return "", nil, event, err
	}
	defer receivers.close()
	r, err := d.site.newRelay("relay", receivers.endpoints())
	if err != nil {
		return "", nil, event, err
	}
	acked = &ledger{}
	for _, killed := range []bool{false, true} {
		l, err := d.loadRelay(ctx, r, receivers)
		if err != nil {
			return "", nil, event, err
		}
		pause(ctx, longestCut)
		if !killed {
			l.stop()
			l.ended.Wait()
			if err := r.stop(); err != nil {
				return "", nil, event, err
			}
			continue // the events of this round only fill tables
		}
		l.finish()
		acked, event = l.acked.ledger(), l.event
	}
	return r.data, acked, event, ctx.Err()
}

// suffer spoils a copy of the queue and starts a relay on it.
func (d *damageRun) suffer(ctx context.Context, name, data string, h harm, acked *ledger, event template) (result damageResult, err error) {
	result.Harm, result.Derived, result.Acknowledged = h.name, h.derived, len(acked.acked)
	receivers, err := newPair()
	if err != nil {
		return result, err
	}
	defer receivers.close()
	var mangled atomic.Int64
	receivers.held.srv.Handler = func(ctx *fasthttp.RequestCtx) {
		if run, _, ok := parseID(eventID(ctx.PostBody())); ok && run == acked.run && !event.made(ctx.PostBody()) {
			mangled.Add(1)
		}
		receivers.held.handle(ctx)
	}
	r, err := d.site.newRelay(name, receivers.endpoints())
	if err != nil {
		return result, err
	}
	if h.backup {
		result.File = "backup"
		if result.Refused, err = h.restore(r, data); err != nil || result.Refused {
			return result, err
		}
	} else {
		if err := tool("cp", "-a", data, r.data); err != nil {
			return result, err
		}
		if result.File, err = h.strike(r.data); err != nil {
			return result, err
		}
	}
	took, err := r.start(ctx)
	defer func() { r.proc.kill() }()
	if err != nil {
		result.Ended = r.proc.lastWords()
		return result, ctx.Err()
	}
	result.StartMs = inMillis(took)
	// The endpoint may have been forgotten to be paused, or with all it had: then it says so, and what is missing tells.
	if err := r.operate(ctx, heldEndpoint, "resume"); err != nil {
		return result, err
	}
	if err := r.settle(ctx, receivers.live, receivers.held); err != nil {
		result.Ended = err.Error()
		return result, ctx.Err()
	}
	result.Missing = acked.compare(receivers.held.ids()).Lost
	result.Mangled = mangled.Load()
	if result.Damaged, err = r.damaged(ctx); err != nil {
		return result, err
	}
	result.Told = firstWarning(r.proc.log)
	return result, nil
}

// restore backs the queue up, spoils that, and has a queue made of it for r. refused says that it has nothing then.
func (h *harm) restore(r *relay, data string) (refused bool, err error) {
	if err := tool("cp", "-a", data, r.data); err != nil {
		return false, err
	}
	made := exec.Command(r.bin, "backup", "-config", r.config)
	text, err := made.Output()
	if err != nil {
		return false, fmt.Errorf("back up: %w", err)
	}
	file := filepath.Join(r.dir, "backup")
	if err := errors.Join(os.RemoveAll(r.data), os.WriteFile(file, h.spoil(text), 0o600)); err != nil {
		return false, err
	}
	err = tool(r.bin, "restore", "-config", r.config, file)
	if _, there := os.Lstat(r.data); err != nil && errors.Is(there, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// strike spoils a file and returns its name.
func (h *harm) strike(data string) (string, error) {
	names, err := filepath.Glob(filepath.Join(data, h.files))
	if err != nil {
		return "", err
	}
	newest, at := "", time.Time{}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(at) {
			newest, at = name, info.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("spoil %q: there is no such file", h.files)
	}
	text, err := os.ReadFile(newest)
	if err != nil {
		return "", fmt.Errorf("spoil: %w", err)
	}
	if err := os.WriteFile(newest, h.spoil(text), 0o600); err != nil {
		return "", fmt.Errorf("spoil: %w", err)
	}
	return filepath.Base(newest), nil
}

// firstWarning is the first line of a log that tells of damage.
func firstWarning(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "damage") || strings.Contains(line, "can't be read") || strings.Contains(line, "aside") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
