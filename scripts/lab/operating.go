// operating tries to break the promise that the relay says when it is unwell: it uses up what it needs, and stops
// whoever watches it.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

	l, err := newLoad(loadPlan{addr: run.relay.ingest, path: "/events", conns: 8, rate: operatingRate, answered: run.acked.note}, newRun())
	if err != nil {
		return err
	}
	run.acked.run = l.run
	_, stopLoad := l.begin(ctx)
	defer stopLoad()
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
	if _, err := accepting(ctx, o.relay); err != nil {
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
