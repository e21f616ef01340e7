package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// unread is one way in which a disk does not give what was written to it.
type unread struct {
	name  string
	files string // below the queue's directory, of which reads fail
	// inject is strace's way of letting reads fail; empty: pages of the files are taken from under the maps, whose readers get
	// the signal that a page which the disk can't give is.
	inject string
	late   bool // the relay is started before; else it meets the failing reads from its first on
	told   bool // what is read in vain is damage, and must be told with its numbers; else nothing may be missing or be counted
}

var unreads = []unread{
	{name: "every third read of the journal's slots is EIO", files: "journal/slot-*", inject: "pread64:error=EIO:when=1+3"},
	{name: "every third read of a segment is EIO", files: "log/*.seg", inject: "pread64:error=EIO:when=1+3"},
	{name: "all reads of a segment are EIO", files: "log/*.seg", inject: "pread64:error=EIO", late: true, told: true},
	{name: "pages of tables that the disk can't give", files: "store/*.sst", late: true, told: true},
	{name: "no read fails (the control)", files: "*/*", inject: "pread64:error=EIO:when=65535"},
}

// unreadResult is one of them.
type unreadResult struct {
	Fault        string `json:"fault"`
	Acknowledged int    `json:"acknowledged"`
	Failed       int    `json:"failed"` // reads, from the trace
	Lost         int    `json:"lost"`
	Forgotten    int    `json:"forgotten"`
	Damaged      int    `json:"damaged"`
	Told         int    `json:"told"` // events that its lines name
}

// readAll plays all of them.
func (d *disksickRun) readAll(ctx context.Context, out io.Writer) error {
	var faults []error
	for i := range unreads {
		u := &unreads[i]
		if !strings.Contains(u.name, d.only) {
			continue
		}
		for round := range d.rounds {
			result, err := d.read(ctx, fmt.Sprintf("unread-%d-%d", i, round), u)
			result.Fault = u.name
			if encoded := json.NewEncoder(out).Encode(result); encoded != nil {
				return encoded
			}
			if err == nil {
				err = result.judge(u)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", u.name, err))
				break
			}
		}
	}
	return errors.Join(faults...)
}

func (u *unreadResult) judge(of *unread) error {
	control := strings.Contains(of.name, "control")
	switch {
	case of.inject != "" && (u.Failed == 0) != control:
		return fmt.Errorf("%d reads failed: it shows nothing", u.Failed)
	case of.told && u.Damaged == 0:
		return errors.New("nothing is counted as damaged")
	case !of.told && u.Damaged > 0:
		return fmt.Errorf("%d things are counted as damaged, and the disk gave them when it was asked again", u.Damaged)
	case u.Lost > u.Told, u.Lost > 0 && !strings.HasPrefix(of.files, "log"):
		return fmt.Errorf("%d events are lost, and its lines tell of %d", u.Lost, u.Told)
	case u.Forgotten > 0:
		return fmt.Errorf("%d events are accepted again", u.Forgotten)
	}
	return nil
}

// read is one round: a queue is filled and its relay killed; then it is read.
func (d *disksickRun) read(ctx context.Context, name string, u *unread) (result unreadResult, err error) {
	receivers, err := newPair()
	if err != nil {
		return result, err
	}
	defer receivers.close()
	r, err := d.site.newRelay(name, receivers.endpoints(), smallFree)
	if err != nil {
		return result, err
	}
	l, err := d.loadRelay(ctx, r, receivers)
	if err != nil {
		return result, err
	}
	pause(ctx, 3*time.Second)
	l.finish()
	if u.inject == "" { // a stop leaves tables
		if _, err := r.start(ctx); err != nil {
			return result, err
		}
		if err := r.stop(); err != nil {
			return result, err
		}
	}
	paths, err := filepath.Glob(filepath.Join(r.data, u.files))
	if err != nil || len(paths) == 0 {
		return result, fmt.Errorf("there is no %q: %v", u.files, err)
	}
	trace := filepath.Join(r.dir, "trace")
	var strace []string
	if u.inject != "" {
		strace = []string{"strace", "-f", "-qq", "-y", "-o", trace, "-e", "signal=none", "-e", "trace=pread64", "-e", "inject=" + u.inject}
		for _, path := range paths {
			strace = append(strace, "-P", path)
		}
	}
	live := receivers.live.ids()
	receivers.live.reset()
	defer func() {
		if r.proc != nil {
			r.proc.kill()
		}
	}()
	if u.late {
		if err := d.readLate(ctx, r, u, paths, strace); err != nil {
			return result, err
		}
		// It went on; what it took for lost must be told, and everything else arrive from the next one.
		result.Damaged, err = r.damaged(ctx)
		if err != nil {
			return result, err
		}
		result.Told = toldNumbers(damageLines(r.proc.log))
		r.proc.kill()
	} else {
		r.under = append(strace[:1:1], append([]string{"-D", "--seccomp-bpf"}, strace[1:]...)...)
	}
	a, err := inspect(ctx, r, receivers, l.acked.ledger(), live)
	if err != nil {
		return result, err
	}
	result.Acknowledged, result.Lost, result.Forgotten = a.Acknowledged, a.Lost, a.Forgotten
	result.Told = max(result.Told, toldNumbers(damageLines(r.proc.log)))
	result.Damaged = max(result.Damaged, a.Damaged)
	if err := r.alive(); err != nil {
		return result, err
	}
	text, err := os.ReadFile(trace)
	if err != nil && u.inject != "" {
		return result, err
	}
	result.Failed = bytes.Count(text, []byte("(INJECTED)"))
	return result, nil
}

// readLate starts the relay on a disk that is well and has it read all once that is not.
func (d *disksickRun) readLate(ctx context.Context, r *relay, u *unread, paths, strace []string) error {
	if _, err := r.start(ctx); err != nil {
		return err
	}
	if u.inject == "" {
		for _, path := range paths {
			if err := os.Truncate(path, 0); err != nil {
				return err
			}
		}
	} else {
		args := append([]string{"-p", strconv.Itoa(r.proc.pid())}, strace[1:]...)
		tracer, err := startProcess("strace", r.dir, "strace", args...)
		if err != nil {
			return err
		}
		defer tracer.kill()
		pause(ctx, time.Second)
	}
	for _, path := range []string{"/events?limit=1000", "/endpoints/" + heldEndpoint + "/failed"} {
		_, _, _, _ = r.request(ctx, "GET", "http://"+r.admin+path, "") // whatever it answers: it must live on
	}
	if err := r.operate(ctx, heldEndpoint, "resume"); err != nil {
		return err
	}
	err := await(ctx, startLimit, func() bool {
		s, err := r.stats(ctx, heldEndpoint)
		return err == nil && s.Pending == 0 || r.alive() != nil
	})
	return errors.Join(err, r.alive())
}
