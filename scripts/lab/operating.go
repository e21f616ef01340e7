package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// operatingRun is a relay under load while something that it needs is used up, or who watches it does not behave.
type operatingRun struct {
	site  site
	span  time.Duration // of each step
	disk  *volume
	relay *relay
	got   *receiver
	acked acknowledged
	now   operatingStep
}

// operatingStep is what the command prints of one step.
type operatingStep struct {
	Name       string `json:"name"`
	Looks      int    `json:"looks"`
	Accepted   int    `json:"accepted"`   // looks at which an event was accepted
	Refused    int    `json:"refused"`    // 503
	Unanswered int    `json:"unanswered"` // nothing came, as without descriptors
	StopMs     int64  `json:"stop_ms,omitempty"`
}

const (
	lookEvery = 100 * time.Millisecond
	// stopBound is how long a stop may take: what is under way ends at once here, the log has a second, and the disk is slow.
	stopBound = 15 * time.Second
	// atOnce is how long an end may take that waits for nothing: a second signal, or one during a start.
	atOnce        = 5 * time.Second
	operatingRate = 500
	memoryMiB     = 160
	halfPosted    = 400 // connections that never end a body
)

func runOperating(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("operating", "Loads a relay whose log's reader stands still, ends, or writes to a full disk; that gets signals in bursts at its start, while it serves\n"+
		"and at its end; and for which bytes, inodes, descriptors, a quota and memory are used up in turn. Exit code 1 when it ends for any\n"+
		"of that, does not refuse when it must or accept when it can, when its health and its intake say different things at one look, a stop\n"+
		"takes longer than its bound, or an acknowledged event is not delivered; 3 where the machine can't do it.")
	var run operatingRun
	run.site.flags(fs)
	d := fs.Duration("d", 10*time.Minute, "how long, all steps together")
	only := fs.String("only", "", "only the steps whose name has this `text`")
	control := fs.Bool("control", false, "withhold one delivered event, which must be found missing, and stop a relay that is frozen, which must be told")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if err := needRoot("mkfs.ext4"); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	if err := run.prepare(); err != nil {
		return err
	}
	defer run.disk.unmount()
	defer run.got.close()
	defer run.end()

	var steps []operatingAct
	for _, s := range run.steps() {
		if strings.Contains(s.name, *only) {
			steps = append(steps, s)
		}
	}
	if len(steps) == 0 || *d < time.Second*time.Duration(len(steps)) {
		return usageError("-only names no step, or -d is less than a second for each")
	}
	run.span = *d / time.Duration(len(steps))

	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	l, err := newLoad(loadPlan{addr: run.relay.ingest, path: "/events", conns: 8, rate: operatingRate, answered: run.acked.note}, newRun())
	if err != nil {
		return err
	}
	run.acked.run = l.run
	posted := make(chan struct{})
	go func() { defer close(posted); l.post(loading) }()
	defer func() { stopLoad(); <-posted }()
	for _, step := range steps {
		run.now = operatingStep{Name: step.name}
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("operating, %s: %w: %s", step.name, err, run.relay.proc.lastWords())
		}
		if err := json.NewEncoder(out).Encode(run.now); err != nil {
			return err
		}
	}
	stopLoad()
	<-posted
	return run.audit(ctx, out, *control)
}

// operatingAct is one step. Each begins without a relay and ends without one.
type operatingAct struct {
	name string
	run  func(context.Context) error
}

func (o *operatingRun) prepare() (err error) {
	if o.disk, err = newVolume(o.site.dir, "disk", "ext4", smallDisk); err != nil {
		return err
	}
	o.got = newReceiver()
	addr, err := startReceiver(o.got)
	if err != nil {
		return err
	}
	// In debug each delivery is a line: a reader that does not read is full within a moment.
	o.relay, err = o.site.newRelay("relay", []endpoint{{name: liveEndpoint, url: "http://" + addr + "/events", events: []string{"lead.*"}}},
		smallFree, "\n[log]\nlevel = \"debug\"")
	if err != nil {
		return err
	}
	o.relay.data = filepath.Join(o.disk.at, "data")
	o.relay.client.Timeout = 5 * time.Second
	return o.relay.configure([]endpoint{{name: liveEndpoint, url: "http://" + addr + "/events", events: []string{"lead.*"}}})
}

func (o *operatingRun) end() {
	if o.relay.proc != nil {
		o.relay.proc.kill()
	}
}

func (o *operatingRun) steps() []operatingAct {
	return []operatingAct{
		{"the log's reader stands still", o.readerStands},
		{"the log's reader ends", o.readerEnds},
		{"the log is on the full disk", o.logOnFullDisk},
		{"signals", o.signals},
		{"no bytes", o.noBytes},
		{"no inodes", o.noInodes},
		{"no descriptors", o.noDescriptors},
		{"no quota", o.noQuota},
		{"no memory", o.noMemory},
	}
}

// look asks health and intake at one moment, and returns whether an event was accepted. Health is asked before and after: when it
// changes in between, either is right.
func (o *operatingRun) look(ctx context.Context, mayLack bool) (accepted bool, err error) {
	if err := o.relay.alive(); err != nil {
		return false, err
	}
	health := func(address string) (int, error) {
		status, _, _, err := o.relay.request(ctx, http.MethodGet, "http://"+address+"/health", "")
		return status, err
	}
	before, err1 := health(o.relay.ingest)
	own, err2 := health(o.relay.admin)
	status, _, text, err3 := o.relay.post(ctx)
	after, err4 := health(o.relay.ingest)
	o.now.Looks++
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		o.now.Unanswered++
		if mayLack {
			return false, ctx.Err()
		}
		return false, fmt.Errorf("a look got no answer: %w", err)
	}
	if err := judgeLook(before, own, status, after); err != nil {
		return false, fmt.Errorf("%w: %.200s", err, text)
	}
	if status == http.StatusOK {
		o.now.Accepted++
	} else {
		o.now.Refused++
	}
	return status == http.StatusOK, nil
}

// judgeLook says what is wrong with a look: what health says, at the intake before and after and at the admin listener, and how an
// event was answered in between.
func judgeLook(before, own, posted, after int) error {
	if posted != http.StatusOK && posted != http.StatusServiceUnavailable {
		return fmt.Errorf("an event is answered %d", posted)
	}
	if before == after && (before != posted || own != posted) {
		return fmt.Errorf("an event is answered %d, while health at the intake says %d and at the admin listener %d", posted, before, own)
	}
	return nil
}

// watch looks for a time. It returns how often an event was accepted and refused.
func (o *operatingRun) watch(ctx context.Context, span time.Duration, mayLack bool, between func() error) (accepted, refused int, err error) {
	for began := time.Now(); time.Since(began) < span; pause(ctx, lookEvery) {
		if between != nil {
			if err := between(); err != nil {
				return accepted, refused, err
			}
		}
		was := o.now.Refused
		ok, err := o.look(ctx, mayLack)
		if err != nil {
			return accepted, refused, err
		}
		if ok {
			accepted++
		}
		refused += o.now.Refused - was
		if ctx.Err() != nil {
			return accepted, refused, ctx.Err()
		}
	}
	return accepted, refused, nil
}

// serve watches a relay that lacks nothing: no event may be refused.
func (o *operatingRun) serve(ctx context.Context, between func() error) error {
	_, refused, err := o.watch(ctx, o.span, false, between)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d events were refused although nothing is lacking", refused)
	}
	return err
}

// lacks watches a relay for which something has been used up: within a moment it refuses, and when it is given back it accepts.
func (o *operatingRun) lacks(ctx context.Context, mayLack bool, use, giveBack func() error) error {
	if err := use(); err != nil {
		return errors.Join(err, giveBack())
	}
	_, _, err := o.watch(ctx, min(o.span/4, refuseLimit), mayLack, nil)
	var accepted int
	if err == nil {
		accepted, _, err = o.watch(ctx, o.span/2, mayLack, nil)
	}
	if err == nil && accepted > 0 && !mayLack {
		err = fmt.Errorf("%d events were accepted although it is used up", accepted)
	}
	if err := errors.Join(err, giveBack()); err != nil {
		return err
	}
	if _, err := accepting(ctx, o.relay, time.Now()); err != nil {
		return err
	}
	_, refused, err := o.watch(ctx, o.span/4, false, nil)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d events were refused although there is enough again", refused)
	}
	return err
}

// stop ends the relay within its bound.
func (o *operatingRun) stop() error {
	began := time.Now()
	err := o.relay.proc.stop(stopBound)
	o.now.StopMs = max(o.now.StopMs, time.Since(began).Milliseconds())
	return err
}

// logTo has the relay write its log to a file or pipe, under the same process id.
func (o *operatingRun) logTo(path string) {
	o.relay.under = []string{"/bin/sh", "-c", `exec 2>>"$0"; exec "$@"`, path}
}

func (o *operatingRun) start(ctx context.Context) error {
	_, err := o.relay.start(ctx)
	return err
}

// pipe is a log that somebody has open for reading, and whether he reads is his affair.
func (o *operatingRun) pipe(name string) (reader *os.File, err error) {
	path := filepath.Join(o.site.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	o.logTo(path)
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (o *operatingRun) readerStands(ctx context.Context) error {
	reader, err := o.pipe("stands")
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := o.serve(ctx, nil); err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) readerEnds(ctx context.Context) error {
	reader, err := o.pipe("ends")
	if err != nil {
		return err
	}
	if err := errors.Join(o.start(ctx), reader.Close()); err != nil {
		return err
	}
	if err := o.serve(ctx, nil); err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) logOnFullDisk(ctx context.Context) error {
	o.logTo(filepath.Join(o.disk.at, "log"))
	if err := o.start(ctx); err != nil {
		return err
	}
	var filler string
	err := o.lacks(ctx, false, func() (err error) { filler, err = fill(o.disk.at, 0); return err }, func() error { return makeRoom(filler) })
	if err != nil {
		return err
	}
	if filler, err = fill(o.disk.at, 0); err == nil {
		err = o.stop() // on the full disk
	}
	return errors.Join(err, makeRoom(filler), os.Remove(filepath.Join(o.disk.at, "log")))
}

// burst sends a signal some times, as fast as that goes.
func (o *operatingRun) burst(s syscall.Signal, times int) error {
	for range times {
		if err := o.relay.proc.cmd.Process.Signal(s); err != nil {
			return fmt.Errorf("send %v: %w", s, err)
		}
	}
	return nil
}

// ends waits for the process to end.
func (o *operatingRun) ends(limit time.Duration, why string) error {
	began := time.Now()
	select {
	case <-o.relay.proc.ended:
		o.now.StopMs = max(o.now.StopMs, time.Since(began).Milliseconds())
		return nil
	case <-time.After(limit):
		return fmt.Errorf("still there %v after %s", limit, why)
	}
}

// startAmid starts the relay, which is sent signals as soon as it takes them, and until it is ready.
func (o *operatingRun) startAmid(ctx context.Context, s syscall.Signal) error {
	_, err := o.relay.startUntil(ctx, func(ctx context.Context) error {
		if takes, err := takesSignals(o.relay.proc.pid()); err == nil && takes {
			if err := o.burst(s, 10); err != nil {
				return err
			}
		}
		return o.relay.health(ctx)
	})
	return err
}

// takesSignals reports whether the relay has come to the line from which on no SIGHUP ends it; behind that it ignores SIGPIPE. A few
// milliseconds before it is not the relay yet, but Go's runtime.
func takesSignals(pid int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "SigIgn:"); found {
			var mask uint64
			_, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &mask)
			return mask&(1<<(syscall.SIGPIPE-1)) != 0, err
		}
	}
	return false, errors.New("read /proc: no SigIgn")
}

func (o *operatingRun) signals(ctx context.Context) error {
	o.relay.under = nil
	if err := o.startAmid(ctx, syscall.SIGHUP); err != nil {
		return fmt.Errorf("SIGHUPs during a start: %w", err)
	}
	if err := o.serve(ctx, func() error { return o.burst(syscall.SIGHUP, 20) }); err != nil {
		return err
	}
	if err := errors.Join(o.burst(syscall.SIGHUP, 20), o.burst(syscall.SIGTERM, 1), o.burst(syscall.SIGHUP, 20)); err != nil {
		return err
	}
	if err := o.ends(stopBound, "SIGTERM amid SIGHUPs"); err != nil {
		return err
	}
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := o.burst(syscall.SIGTERM, 2); err != nil {
		return err
	}
	if err := o.ends(atOnce, "a second SIGTERM"); err != nil {
		return err
	}
	// A stop during a start, at some moment of it.
	for n := range 10 {
		first := errors.New("not yet")
		_, err := o.relay.startUntil(ctx, func(context.Context) error {
			if takes, err := takesSignals(o.relay.proc.pid()); err == nil && takes {
				return nil
			}
			return first
		})
		if err != nil {
			return err
		}
		pause(ctx, time.Duration(n)*7*time.Millisecond)
		if err := o.burst(syscall.SIGTERM, 1); err != nil {
			return err
		}
		if err := o.ends(stopBound, "SIGTERM during a start"); err != nil {
			return err
		}
	}
	return nil
}

func (o *operatingRun) noBytes(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	var filler string
	err := o.lacks(ctx, false, func() (err error) { filler, err = fill(o.disk.at, 0); return err }, func() error { return makeRoom(filler) })
	if err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) noInodes(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	crowd := filepath.Join(o.disk.at, "crowd")
	err := o.lacks(ctx, false, func() error {
		if err := os.Mkdir(crowd, 0o700); err != nil {
			return err
		}
		for n := 0; ; n++ {
			f, err := os.Create(filepath.Join(crowd, fmt.Sprint(n)))
			if errors.Is(err, unix.ENOSPC) {
				return nil
			}
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("use up the inodes: %w", err)
			}
		}
	}, func() error { return os.RemoveAll(crowd) })
	if err != nil {
		return err
	}
	return o.stop()
}

// noDescriptors leaves the relay as many descriptors as it has open. Whether it can accept then is not known: connections that it
// has go on, and new ones are not taken.
func (o *operatingRun) noDescriptors(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	pid := o.relay.proc.pid()
	var had unix.Rlimit
	var strangers []net.Conn
	err := o.lacks(ctx, true, func() error {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &had); err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)), Max: had.Max}, nil); err != nil {
			return err
		}
		// Those that were free below the limit are taken now: who comes behind must get no answer, or nothing is shown.
		for range len(open) + 16 {
			if c, err := net.DialTimeout("tcp", o.relay.ingest, time.Second); err == nil {
				strangers = append(strangers, c)
			}
		}
		fresh := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		if answer, err := fresh.Get("http://" + o.relay.ingest + "/health"); err == nil {
			answer.Body.Close()
			return errors.New("a new connection is answered although no descriptor is left")
		}
		return nil
	}, func() error {
		for _, c := range strangers {
			c.Close()
		}
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &had, nil)
	})
	if err != nil {
		return err
	}
	return o.stop()
}

// noQuota has the kernel answer as it does when a quota is used up, whatever would need space, from the start on: it waits for it.
func (o *operatingRun) noQuota(ctx context.Context) error {
	kernel, err := askFor()
	if err != nil {
		return err
	}
	defer kernel.close()
	if o.relay.under, err = kernel.under(); err != nil {
		return err
	}
	defer o.end()
	var asked atomic.Int64
	kernel.decide(func(q question) syscall.Errno {
		if strings.HasPrefix(q.file, o.relay.data) && (q.call == "fallocate" || q.call == "create") {
			asked.Add(1)
			return unix.EDQUOT
		}
		return 0
	})
	if _, err := o.relay.startUntil(ctx, func(ctx context.Context) error { return refuses(ctx, o.relay) }); err != nil {
		return err
	}
	if err := o.lacks(ctx, false, func() error { return nil }, func() error { kernel.decide(nil); return nil }); err != nil {
		return err
	}
	if asked.Load() == 0 {
		return errors.New("it never asked for space: this shows nothing")
	}
	return o.stop()
}

// noMemory runs the relay in little memory, and has clients begin requests that would take several times as much.
func (o *operatingRun) noMemory(ctx context.Context) error {
	if err := provesToKill(memoryMiB); err != nil {
		return err
	}
	g, err := newGroup(memoryMiB)
	if err != nil {
		return err
	}
	defer g.remove()
	o.relay.under = g.under()
	defer o.end()
	if err := o.start(ctx); err != nil {
		return err
	}
	var open []net.Conn
	drop := func() error {
		for _, c := range open {
			c.Close()
		}
		return nil
	}
	err = o.lacks(ctx, true, func() error {
		part := strings.Repeat("x", 900<<10)
		for range halfPosted {
			c, err := net.DialTimeout("tcp", o.relay.ingest, time.Second)
			if err != nil {
				continue // it is not taken any more
			}
			open = append(open, c)
			c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			_, _ = fmt.Fprintf(c, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", 1<<20, part)
		}
		return nil
	}, drop)
	if err != nil {
		return err
	}
	if kills, err := g.kills(); err != nil || kills > 0 {
		return errors.Join(fmt.Errorf("the kernel killed %d processes for want of memory", kills), err)
	}
	return o.stop()
}

// audit starts the relay once more and looks for acknowledged events that nobody got.
func (o *operatingRun) audit(ctx context.Context, out io.Writer, control bool) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return fmt.Errorf("operating: the last start: %w", err)
	}
	known := o.acked.ledger()
	lost := func() int { return known.compare(o.got.ids()).Lost }
	_ = waitUntil(ctx, startLimit, startLimit, o.got.received.Load, func() bool { return lost() == 0 })
	left := lost()
	fmt.Fprintf(out, "operating: %d events acknowledged, %d lost\n", len(known.acked), left)
	if left > 0 || len(known.acked) == 0 {
		return fmt.Errorf("operating: %d of %d acknowledged events were not delivered", left, len(known.acked))
	}
	if control {
		return o.controls(known)
	}
	return o.stop()
}

// controls show that what is looked for would be found.
func (o *operatingRun) controls(known *ledger) error {
	ids := o.got.ids()
	delete(ids, string(appendID(nil, known.run, known.acked[0])))
	if n := known.compare(ids).Lost; n != 1 {
		return fmt.Errorf("control: one event was withheld and %d are found missing", n)
	}
	if err := o.burst(syscall.SIGSTOP, 1); err != nil {
		return err
	}
	if err := o.relay.proc.stop(time.Second); err == nil {
		return errors.New("control: a relay that is frozen was stopped in time")
	}
	return nil
}
