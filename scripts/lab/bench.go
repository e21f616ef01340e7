// bench measures whether an acknowledged event costs little more than its own sync: the intake and the whole way beside
// a yardstick.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	benchSize  = 250
	benchConns = 64
	manyConns  = 256
	settleTime = 500 * time.Millisecond // between two measurements, for the one before to finish its compactions
)

// bench measures the relay beside its yardsticks, part by part.
type bench struct {
	site   site
	self   string // this program, which is also the yardsticks and the receiver
	rounds int
	span   time.Duration // of one round
	steady time.Duration // of the latency rows
	large  uint64        // events of the larger backlog
	report report
	// Children that are still to be stopped, newest last.
	running []*process
}

// benchParts are the parts of the table, in order.
var benchParts = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"intake", (*bench).intake},
	{"paused", (*bench).paused},
	{"batches", (*bench).batches},
	{"latency", (*bench).latency},
	{"through", (*bench).through},
	{"fanout", (*bench).fanOut},
	{"footprint", (*bench).footprint},
	{"backlog", (*bench).backlog},
	{"queued", (*bench).queued},
}

// backlogEvents is what the parts latency and backlog pile up.
const backlogEvents = 1_000_000

func partNames() string {
	var names []string
	for _, p := range benchParts {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

func runBench(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("bench", "Measures the relay beside its yardsticks and prints one Markdown table. Takes about twenty minutes, with -quick about six.\n"+
		"A figure that falls short is marked, and is no error.")
	var b bench
	b.site.flags(fs)
	quick := fs.Bool("quick", false, "fewer and shorter rounds")
	only := fs.String("only", partNames(), "`parts` to measure, separated by commas")
	fs.Uint64Var(&b.large, "n", 10_000_000, "`events` that the part queued piles up, a multiple of 100")
	dir := fs.String("out", "", "write bench.md and bench.json into this `directory`, too")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	parts := strings.Split(*only, ",")
	for _, name := range parts {
		if !slices.Contains(strings.Split(partNames(), ","), name) {
			return usageError(fmt.Sprintf("bench has no part %q; there are: %s", name, partNames()))
		}
	}
	if b.large == 0 || b.large%fillBatch != 0 {
		return usageError(fmt.Sprintf("-n %d: want a multiple of %d", b.large, fillBatch))
	}
	b.rounds, b.span, b.steady = 5, 5*time.Second, 20*time.Second
	if *quick {
		b.rounds, b.span, b.steady = 3, 2*time.Second, 5*time.Second
	}
	if err := b.site.open(); err != nil {
		return err
	}
	defer b.site.close()
	err := b.perform(ctx, parts)
	fmt.Fprint(out, b.report.markdown()) // also when a part failed: the others took their time
	if *dir != "" {
		err = errors.Join(err, b.report.save(*dir))
	}
	return err
}

func (b *bench) perform(ctx context.Context, parts []string) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	if b.report.Machine, err = describeMachine(b.site.dir, b.site.bin); err != nil {
		return err
	}
	b.report.Method = fmt.Sprintf("Events of %d bytes, one a post where nothing else is said, closed loop from the same machine; the relay syncs before every answer and has its default settings.\n"+
		"Medians of %d rounds of %s in which the contestants took turns; latency for %s.", benchSize, b.rounds, b.span, b.steady)
	defer b.stopAll()
	var failures []error
	for _, part := range benchParts {
		if !slices.Contains(parts, part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", part.name)
		if err := part.run(b, ctx); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", part.name, err))
		}
		b.stopAll()
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

func (b *bench) stopAll() {
	for len(b.running) > 0 {
		last := b.running[len(b.running)-1]
		b.running = b.running[:len(b.running)-1]
		last.kill()
	}
}

// child starts a subcommand of this program that listens, and returns its address and process.
func (b *bench) child(ctx context.Context, name string, args ...string) (addr string, p *process, err error) {
	if addr, err = freeAddress(); err != nil {
		return "", nil, err
	}
	p, err = startProcess(name, b.site.dir, b.self, append([]string{name, "-listen", addr}, args...)...)
	if err != nil {
		return "", nil, err
	}
	b.running = append(b.running, p)
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn := dial(ready, addr, new(atomic.Uint64))
	if conn == nil {
		return "", nil, fmt.Errorf("start %s: nothing listens on %s: %s", name, addr, p.lastWords())
	}
	return addr, p, conn.Close()
}

// start starts a relay; queue are lines for its section [queue].
func (b *bench) start(ctx context.Context, name string, endpoints []endpoint, queue ...string) (*relay, error) {
	r, err := b.site.newRelay(name, endpoints, queue...)
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

// round posts for one span, so many events a post, and returns what came of it. Any answer but 200 is an error.
func (b *bench) round(ctx context.Context, addr string, conns, batch int, span time.Duration) (loadResult, error) {
	pause(ctx, settleTime)
	_, result, err := postAll(ctx, loadPlan{addr: addr, path: "/events", conns: conns, duration: span, size: benchSize, batch: batch}, newRun())
	return result, err
}

// turns has contestants post in turns, each after another one from round to round, and returns their events a second.
func (b *bench) turns(ctx context.Context, conns, batch int, contestants ...string) (map[string][]float64, error) {
	for _, addr := range contestants {
		if _, err := b.round(ctx, addr, conns, batch, time.Second); err != nil { // to warm up
			return nil, err
		}
	}
	figures := map[string][]float64{}
	for i := range b.rounds {
		for j := range contestants {
			addr := contestants[(i+j)%len(contestants)]
			result, err := b.round(ctx, addr, conns, batch, b.span)
			if err != nil {
				return nil, err
			}
			figures[addr] = append(figures[addr], result.PerSecond)
		}
	}
	return figures, nil
}

// fill posts so many events of a type as fast as they are answered, in batches.
func (b *bench) fill(ctx context.Context, r *relay, eventType string, events uint64) (perSecond float64, err error) {
	_, posted, err := postAll(ctx, loadPlan{
		addr: r.ingest, path: "/events", conns: fillConns, count: events, duration: fillLimit, batch: fillBatch, size: benchSize, eventType: eventType,
	}, newRun())
	return posted.PerSecond, err
}

const fillLimit = 15 * time.Minute

func (b *bench) add(rows ...row) { b.report.Rows = append(b.report.Rows, rows...) }
