package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	benchSize     = 250
	benchConns    = 64
	manyConns     = 256
	manyEndpoints = 20
	settleTime    = 500 * time.Millisecond // between two measurements, for the one before to finish its compactions
)

// bench runs the speed chapter.
type bench struct {
	site   site
	self   string // this program, which is also the yardsticks and the receiver
	rounds int
	span   time.Duration // of one round
	steady time.Duration // of the latency rows
	report report
	// Children that are still to be stopped, newest last.
	running []*process
}

func runBench(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("bench", "Measures the relay beside its yardsticks and prints one Markdown table. Takes about six minutes, with -quick about one and a half.\n"+
		"A figure that falls short is marked, and is no error.")
	var b bench
	b.site.flags(fs)
	quick := fs.Bool("quick", false, "fewer and shorter rounds")
	dir := fs.String("out", "", "write bench.md and bench.json into this `directory`, too")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	b.rounds, b.span, b.steady = 5, 5*time.Second, 20*time.Second
	if *quick {
		b.rounds, b.span, b.steady = 3, 2*time.Second, 5*time.Second
	}
	if err := b.site.open(); err != nil {
		return err
	}
	defer b.site.close()
	if err := b.perform(ctx); err != nil {
		return err
	}
	fmt.Fprint(out, b.report.markdown())
	if *dir == "" {
		return nil
	}
	return b.report.save(*dir)
}

func (b *bench) perform(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	if b.report.Machine, err = describeMachine(b.site.dir, b.site.bin); err != nil {
		return err
	}
	b.report.Method = fmt.Sprintf("Events of %d bytes, one a post, closed loop from the same machine; medians of %d rounds of %s in which the contestants took turns; latency at %d events a second for %s.",
		benchSize, b.rounds, b.span, trickleRate, b.steady)
	defer b.stopAll()
	for _, part := range []func(context.Context) error{b.intake, b.latency, b.through} {
		if err := part(ctx); err != nil {
			return err
		}
		b.stopAll()
	}
	return nil
}

func (b *bench) stopAll() {
	for len(b.running) > 0 {
		last := b.running[len(b.running)-1]
		b.running = b.running[:len(b.running)-1]
		last.kill()
	}
}

// child starts a subcommand of this program that listens, and returns its address.
func (b *bench) child(ctx context.Context, name string, args ...string) (addr string, err error) {
	if addr, err = freeAddress(); err != nil {
		return "", err
	}
	p, err := startProcess(name, b.site.dir, b.self, append([]string{name, "-listen", addr}, args...)...)
	if err != nil {
		return "", err
	}
	b.running = append(b.running, p)
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn := dial(ready, addr)
	if conn == nil {
		return "", fmt.Errorf("start %s: nothing listens on %s: %s", name, addr, p.lastWords())
	}
	return addr, conn.Close()
}

// start starts a relay.
func (b *bench) start(ctx context.Context, name string, endpoints []endpoint) (*relay, error) {
	r, err := b.site.newRelay(name, endpoints)
	if err != nil {
		return nil, err
	}
	_, err = r.start(ctx)
	if r.proc != nil {
		b.running = append(b.running, r.proc)
	}
	return r, err
}

// startPaused starts a relay with so many endpoints, all subscribed and paused.
func (b *bench) startPaused(ctx context.Context, name string, n int, url string) (*relay, error) {
	endpoints := make([]endpoint, n)
	for i := range endpoints {
		endpoints[i] = endpoint{name: fmt.Sprintf("endpoint-%d", i+1), url: url, events: []string{"lead.*"}}
	}
	r, err := b.start(ctx, name, endpoints)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if err := r.operate(ctx, e.name, "pause"); err != nil {
			return nil, fmt.Errorf("pause endpoint %q: %w", e.name, err)
		}
	}
	return r, nil
}

// round posts for one span and returns the events per second that were answered 200.
func (b *bench) round(ctx context.Context, addr string, conns int, span time.Duration) (loadResult, error) {
	pause(ctx, settleTime)
	l, err := newLoad(loadPlan{addr: addr, path: "/events", conns: conns, duration: span, size: benchSize}, newRun())
	if err != nil {
		return loadResult{}, err
	}
	result := l.post(ctx)
	if ctx.Err() != nil {
		return loadResult{}, ctx.Err()
	}
	if len(result.Errors) > 0 {
		return loadResult{}, fmt.Errorf("post to %s: answers other than 200: %v", addr, result.Errors)
	}
	return result, nil
}

// intake: what it costs to accept an event.
func (b *bench) intake(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	keepNothing, err := b.child(ctx, "keep-nothing")
	if err != nil {
		return err
	}
	bareLog, err := b.child(ctx, "bare-log", "-file", filepath.Join(b.site.dir, "bare.log"))
	if err != nil {
		return err
	}
	one, err := b.startPaused(ctx, "relay-one", 1, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}
	twenty, err := b.startPaused(ctx, "relay-twenty", manyEndpoints, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}

	for _, conns := range []int{benchConns, manyConns} {
		contestants := []string{keepNothing, bareLog, one.ingest}
		if conns == benchConns {
			contestants = append(contestants, twenty.ingest)
		}
		for _, addr := range contestants {
			if _, err := b.round(ctx, addr, conns, time.Second); err != nil { // to warm up
				return err
			}
		}
		figures := map[string][]float64{}
		for i := range b.rounds {
			for j := range contestants {
				// Another one begins each round, so that none always runs in the wake of the same.
				addr := contestants[(i+j)%len(contestants)]
				result, err := b.round(ctx, addr, conns, b.span)
				if err != nil {
					return err
				}
				figures[addr] = append(figures[addr], result.PerSecond)
			}
		}
		at := fmt.Sprintf("%d connections", conns)
		bare := compared("bare-log itself, "+at, "keep-nothing", figures[keepNothing], figures[bareLog], "events/s", 0)
		bare.Note = "no relay in this row"
		b.add(
			bare,
			compared("ingest, "+at, "keep-nothing", figures[keepNothing], figures[one.ingest], "events/s", 0),
			compared("ingest, "+at, "bare-log", figures[bareLog], figures[one.ingest], "events/s", 0.7),
		)
		if conns == benchConns {
			b.add(compared(fmt.Sprintf("ingest, %s, %d endpoints subscribed and paused", at, manyEndpoints), "the relay with one",
				figures[one.ingest], figures[twenty.ingest], "events/s", 0.9))
		}
	}
	return nil
}

// latency: from event accepted to event received, when there is little to do.
func (b *bench) latency(ctx context.Context) error {
	r := newReceiver()
	addr, err := startReceiver(r)
	if err != nil {
		return err
	}
	defer r.close()
	direct, err := newTrickle(addr, "/events", "lead.created", r)
	if err != nil {
		return err
	}
	straight, err := direct.measure(ctx, b.steady)
	if err != nil {
		return err
	}
	relayed, err := measureWell(ctx, &b.site, "relay-latency", []endpoint{{name: "receiver", url: "http://" + addr + "/events", events: []string{"lead.*"}}}, r, b.steady)
	if err != nil {
		return err
	}
	if n := straight.Missing + relayed.Missing; n > 0 {
		return fmt.Errorf("measure latency: %d events never arrived", n)
	}
	// Accepted is when the generator has read the answer, by when the event may have arrived. Posted counts all that there
	// is, the sync included, and is held to the same limits.
	ms := func(us int64) float64 { return float64(us) / 1000 }
	b.add(
		measured("event accepted → received, p50", "", 0, ms(relayed.Accepted.P50us), "ms", 2),
		measured("event accepted → received, p99", "", 0, ms(relayed.Accepted.P99us), "ms", 10),
		measured("event posted → received, p50", "straight to the receiver", ms(straight.Posted.P50us), ms(relayed.Posted.P50us), "ms", 2),
		measured("event posted → received, p99", "straight to the receiver", ms(straight.Posted.P99us), ms(relayed.Posted.P99us), "ms", 10),
	)
	return nil
}

func (b *bench) add(rows ...row) { b.report.Rows = append(b.report.Rows, rows...) }
