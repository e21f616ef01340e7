// disksick tries to break the promise that no 200 leaves without its sync: the disk fails under load, in one way after
// the other.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// disksickRun has a relay's disk fail under load, in ways that the kernel reports.
type disksickRun struct {
	powercutRun // the relay, its load and its volume are the same
}

// diskFault is one way in which a disk fails.
type diskFault struct {
	name string
	// strace's way of letting one system call fail, the so many-th of a thread; empty: the disk itself fails.
	inject []string
	kind   string // of the file system
	tight  bool   // its image lies on a host too small for it
	lives  bool   // what fails is the store's alone: the relay goes on and says so
	// fail makes the disk fail, repair makes it work again; the relay has ended when repair is called.
	fail, repair func(*faultyDisk) error
}

// faultyDisk is a file system that can be made to fail.
type faultyDisk struct {
	host *volume // the file system that holds the image; nil for a directory of this machine
	disk *volume
}

// disksickResult is one fault.
type disksickResult struct {
	Fault        string  `json:"fault"`
	Rounds       int     `json:"rounds"`
	Acknowledged int     `json:"acknowledged"`
	Lost         int     `json:"lost"`
	Forgotten    int     `json:"forgotten"`
	Repeats      int     `json:"repeats"`
	Damaged      int     `json:"damaged"`
	After        int     `json:"answered_after"` // 200s that no sync covers, after a failed call on the journal; from the trace
	EndMs        float64 `json:"end_ms"`         // from the fault to the end of the process, at most
	Said         string  `json:"said"`           // the line that told it

	StartMs startsMs `json:"start_ms"`
	starts  []time.Duration
}

const (
	tightHost = 200 << 20 // holds less than the image claims to have
	endLimit  = 30 * time.Second
	rotten    = "the queue" // how the line begins that tells of a failed write
)

var diskFaults = []diskFault{
	{name: "EIO from a sync", kind: "ext4", inject: []string{"io_getevents:error=EIO:when=10"}},
	{name: "EIO from fdatasync", kind: "ext4", inject: []string{"io_submit:error=ENOSYS", "fdatasync:error=EIO:when=10"}},
	{name: "EIO from pwrite64", kind: "ext4", inject: []string{"pwrite64:error=EIO:when=10"}},
	{name: "ENOSPC from pwrite64", kind: "ext4", inject: []string{"pwrite64:error=ENOSPC:when=10"}},
	{name: "EIO from msync", kind: "ext4", lives: true, inject: []string{"msync:error=EIO:when=3+"}},
	{name: "a disk smaller than it claims (EIO)", kind: "ext4", tight: true, fail: fillHost, repair: emptyHost},
	{name: "a file system that goes read-only", kind: "ext4", fail: goReadOnly, repair: remountWritable},
	{name: "a file system that is shut down", kind: "xfs", fail: func(b *faultyDisk) error { return b.disk.shutdown() }, repair: remountWritable},
}

func runDisksick(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("disksick", "Has the disk of a relay under load fail, by injected errors and by disks that really do. The relay must answer no event 200 after\n"+
		"the journal's first failed call, say so, and end with exit code 1 (of the store alone: say so and go on); on the disk made well again it must start, with nothing acknowledged lost.\n"+
		"On a disk that can't be written it must accept nothing, and say why. Exit code 1 otherwise.")
	var run disksickRun
	run.site.flags(fs)
	fs.IntVar(&run.rounds, "rounds", 1, "`rounds` of each fault")
	fs.IntVar(&run.conns, "c", 32, "`connections`")
	fs.Float64Var(&run.rate, "rate", 3000, "`events` a second")
	fs.IntVar(&run.size, "size", 1000, "`bytes` of an event")
	fs.StringVar(&run.only, "only", "", "only faults whose `name` holds this")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if run.rounds < 1 {
		return usageError("disksick needs -rounds of 1 or more")
	}
	if err := needRoot("mkfs.ext4", "mkfs.xfs", "e2fsck", "strace"); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	var faults []error
	for i, s := range diskFaults {
		if !strings.Contains(s.name, run.only) {
			continue
		}
		result := disksickResult{Fault: s.name}
		for round := range run.rounds {
			if err := run.fall(ctx, fmt.Sprintf("sick-%d-%d", i, round), s, &result); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", s.name, err))
				break
			}
		}
		result.StartMs = summarise(result.starts)
		if err := json.NewEncoder(out).Encode(result); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d events acknowledged, %d rounds: %d lost, %d forgotten, %d repeats, %d damaged, %d answered 200 after the failure; ended after %.0f ms, serving again after %.0f/%.0f/%.0f ms (min/median/max)\n",
			s.name, result.Acknowledged, result.Rounds, result.Lost, result.Forgotten, result.Repeats, result.Damaged, result.After, result.EndMs, result.StartMs.Min, result.StartMs.Median, result.StartMs.Max)
		if bad := result.Lost + result.Forgotten + result.Damaged + result.After; bad > 0 {
			faults = append(faults, fmt.Errorf("%s: %d lost, %d forgotten, %d damaged, %d answered 200 after the failure", s.name, result.Lost, result.Forgotten, result.Damaged, result.After))
		}
	}
	return errors.Join(append(faults, run.readAll(ctx, out))...)
}

// fall is one round.
func (d *disksickRun) fall(ctx context.Context, name string, s diskFault, result *disksickResult) error {
	faulty, err := newFaultyDisk(d.site.dir, name, s)
	if err != nil {
		return err
	}
	defer faulty.close()
	receivers, err := newPair()
	if err != nil {
		return err
	}
	defer receivers.close()
	r, err := d.relayOn(name, faulty.disk, receivers, true)
	if err != nil {
		return err
	}
	r.queue = []string{smallFree}
	if err := r.configure(receivers.endpoints()); err != nil {
		return err
	}
	l, err := d.loadRelay(ctx, r, receivers)
	if err != nil {
		return err
	}
	defer l.finish()
	pause(ctx, randomCut())
	trace := filepath.Join(d.site.dir, name+".trace")
	if len(s.inject) > 0 {
		args := []string{"-f", "-y", "-qq", "-p", strconv.Itoa(r.proc.pid()), "-s", "2000000",
			"-e", "signal=none", "-e", "trace=pwrite64,write,fdatasync,msync,io_submit,io_getevents"}
		for _, inject := range s.inject {
			args = append(args, "-e", "inject="+inject)
		}
		tracer, err := startProcess("strace", r.dir, "strace", append(args, "-o", trace)...)
		if err != nil {
			return err
		}
		defer tracer.kill()
	} else if err := s.fail(faulty); err != nil {
		return err
	}
	await := d.awaitEnd
	if s.lives {
		await = d.awaitWord
	}
	if err := await(ctx, r, time.Now(), result); err != nil {
		return err
	}
	l.finish()
	if len(s.inject) > 0 {
		if err := d.judge(ctx, trace, result); err != nil {
			return err
		}
	}
	if s.repair != nil {
		if err := acceptsNothing(ctx, r); err != nil {
			return err
		}
		if err := s.repair(faulty); err != nil {
			return err
		}
	}
	live := receivers.live.ids()
	receivers.live.reset()
	a, err := inspect(ctx, r, receivers, l.acked.ledger(), live)
	if r.proc != nil {
		r.proc.kill()
	}
	if err != nil {
		return err
	}
	result.Rounds++
	result.Acknowledged += a.Acknowledged
	result.Lost += a.Lost
	result.Forgotten += a.Forgotten
	result.Repeats += a.Repeats
	result.Damaged += a.Damaged
	result.starts = append(result.starts, a.Start)
	return nil
}

// awaitEnd waits until the relay has ended, which it must with exit code 1 and a line that says why.
func (d *disksickRun) awaitEnd(ctx context.Context, r *relay, struck time.Time, result *disksickResult) error {
	select {
	case <-r.proc.ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(endLimit):
		return fmt.Errorf("the relay runs on %s after its disk failed", endLimit)
	}
	result.EndMs = max(result.EndMs, inMillis(time.Since(struck)))
	log, err := os.ReadFile(r.proc.log)
	if err != nil {
		return fmt.Errorf("read log of the relay: %w", err)
	}
	if status := *r.proc.status.Load(); status != "exit status 1" {
		return fmt.Errorf("the relay ended with %s: %.2000s", status, tail(log, 2000))
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"level":"error"`) && strings.Contains(line, rotten) {
			result.Said = strings.TrimSpace(line)
			return nil
		}
	}
	return fmt.Errorf("the relay ended without a word about its disk: %s", r.proc.lastWords())
}

// awaitWord waits until the relay has said that its store can't be written, and kills it.
func (d *disksickRun) awaitWord(ctx context.Context, r *relay, struck time.Time, result *disksickResult) error {
	err := await(ctx, endLimit, func() bool {
		log, _ := os.ReadFile(r.proc.log)
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "the store is damaged and can't be made again yet") {
				result.Said = strings.TrimSpace(line)
			}
		}
		return result.Said != "" || r.alive() != nil
	})
	if err := errors.Join(err, r.alive()); err != nil {
		return fmt.Errorf("the relay does not go on and say what is wrong: %w", err)
	}
	result.EndMs = max(result.EndMs, inMillis(time.Since(struck)))
	r.proc.kill()
	return nil
}

func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

// acceptsNothing starts the relay on the disk as it is: it must refuse events, or end with exit code 1, and say why.
func acceptsNothing(ctx context.Context, r *relay) error {
	_, err := r.startUntil(ctx, func(ctx context.Context) error {
		status, _, text, err := r.post(ctx)
		if err == nil && status != http.StatusServiceUnavailable {
			return fmt.Errorf("an event is answered %d: %.200s", status, text)
		}
		return err
	})
	defer r.proc.kill()
	if err == nil {
		status, _, text, err := r.request(ctx, http.MethodGet, "http://"+r.admin+"/health", "")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(text, `"failing"`)) {
			err = fmt.Errorf("on a disk that can't be written GET /health answers %d: %.200s", status, text)
		}
		return err
	}
	if status := r.proc.status.Load(); status == nil || *status != "exit status 1" || !strings.Contains(r.proc.lastWords(), `"message":"open queue`) {
		return fmt.Errorf("on a disk that can't be written: %w", err)
	}
	return nil
}

// judge counts the answers 200 in a trace that nothing covers: the tracer came while the load was on, so of those that were
// under way then the trace does not have all.
func (d *disksickRun) judge(ctx context.Context, file string, result *disksickResult) error {
	trace, err := wholeTrace(ctx, file)
	if err != nil {
		return err
	}
	verdict, err := judgeTrace(bytes.NewReader(trace))
	if err != nil {
		return err
	}
	result.After += verdict.Uncovered
	if verdict.Failures == 0 || verdict.Unseen > d.conns {
		return fmt.Errorf("the trace has %d failed calls, and %d answers without their writes: it shows nothing", verdict.Failures, verdict.Unseen)
	}
	return nil
}

func newFaultyDisk(dir, name string, s diskFault) (b *faultyDisk, err error) {
	b = &faultyDisk{}
	if s.tight {
		if b.host, err = newVolume(dir, name+"-host", "tmpfs", tightHost); err != nil {
			return nil, err
		}
		dir = b.host.at
	}
	if b.disk, err = newVolume(dir, name, s.kind, smallDisk); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *faultyDisk) close() {
	if b.disk != nil {
		b.disk.unmount() // for good measure: the mounts end with this program's namespace
	}
	if b.host != nil {
		b.host.unmount()
	}
}

// fillHost takes the space that the image believes it has.
func fillHost(b *faultyDisk) error {
	_, err := fill(b.host.at, 0)
	return err
}

func emptyHost(b *faultyDisk) error {
	if err := os.Remove(filepath.Join(b.host.at, "filler")); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	return remountWritable(b)
}

// goReadOnly has ext4 find an error in itself, which errors=remount-ro answers as its name says.
func goReadOnly(b *faultyDisk) error {
	if err := b.disk.remount("errors=remount-ro"); err != nil {
		return err
	}
	device, err := b.disk.device()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", device, "trigger_fs_error"), []byte("made by the laboratory"), 0); err != nil {
		return fmt.Errorf("trigger file system error: %w", err)
	}
	return nil
}

// remountWritable does what an operator does: check the file system, and mount it.
func remountWritable(b *faultyDisk) error {
	if err := b.disk.unmount(); err != nil {
		return err
	}
	if b.disk.kind == "ext4" {
		_ = tool("e2fsck", "-fy", b.disk.image) // its exit code says what was repaired; the mount says whether that was enough
	}
	return b.disk.mount()
}
