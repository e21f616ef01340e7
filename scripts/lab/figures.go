// figures tries to break the promise that cost grows with what happens, and not with what is queued or kept: queues of
// millions of events.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// figures holds what the relay costs on large queues to what is asked. The queues are made by the queue's own writer, since
// posting them would take hours.
type figures struct {
	site   site
	sizes  figureSizes
	report report
	made   int  // relays
	long   bool // the sizes that are asked for
}

// figureSizes are how many events the parts have.
type figureSizes struct {
	quiet     int // events of 1 KiB, one of them for a lane that gets no other
	retention int // events, half of which go
	lanes     int // events that go, beside lanes with failed ones
	bytes     time.Duration
	ids       int // ids that are known
	settled   int // settled events beside which processor time is measured
	round     time.Duration
	rounds    int
}

var (
	shortSizes = figureSizes{quiet: 1_000_000, retention: 1_000_000, lanes: 1_000_000, bytes: 4 * time.Second, ids: 2_000_000, settled: 1_000_000, round: 2 * time.Second, rounds: 2}
	longSizes  = figureSizes{quiet: 20_000_000, retention: 10_000_000, lanes: 5_000_000, bytes: 20 * time.Second, ids: 50_000_000, settled: 10_000_000, round: 5 * time.Second, rounds: 7}
)

var figureParts = []struct {
	name string
	run  func(*figures, context.Context) error
}{
	{"quiet", (*figures).quiet},
	{"retention", (*figures).retention},
	{"lanes", (*figures).manyLanes},
	{"bytes", (*figures).bytes},
	{"ids", (*figures).ids},
}

func runFigures(ctx context.Context, args []string, out io.Writer) error {
	var names []string
	for _, p := range figureParts {
		names = append(names, p.name)
	}
	fs := newFlags("figures", "Makes large queues by the queue's own writer, runs the relay on them and holds what it costs to what is asked.\nExit code 1 when a figure falls short.")
	f := figures{sizes: shortSizes}
	f.site.flags(fs)
	long := fs.Bool("long", false, "the sizes that are asked for: half an hour or more, 30 GB of disk")
	only := fs.String("only", strings.Join(names, ","), "`parts` to measure, separated by commas")
	scale := fs.Float64("scale", 1, "this `share` of all sizes; of events that go, a million at least")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	parts := strings.Split(*only, ",")
	for _, name := range parts {
		if !slices.Contains(names, name) {
			return usageError(fmt.Sprintf("figures has no part %q; there are: %s", name, strings.Join(names, ",")))
		}
	}
	if *scale <= 0 || *scale > 1 {
		return usageError("-scale is above 0 and at most 1")
	}
	if f.long = *long; *long {
		f.sizes = longSizes
	}
	for _, n := range []*int{&f.sizes.quiet, &f.sizes.retention, &f.sizes.lanes, &f.sizes.ids, &f.sizes.settled} {
		*n = max(int(float64(*n)**scale)/fillEvents*fillEvents, 20*fillEvents)
	}
	for _, n := range []*int{&f.sizes.retention, &f.sizes.lanes} {
		*n = max(*n, leastGone)
	}
	if err := f.site.open(); err != nil {
		return err
	}
	defer f.site.close()
	err := f.perform(ctx, parts)
	fmt.Fprint(out, f.report.markdown()) // also when a part failed: the others took their time
	return errors.Join(err, f.report.judge())
}

func (f *figures) perform(ctx context.Context, parts []string) (err error) {
	if f.report.Machine, err = describeMachine(f.site.dir, f.site.bin); err != nil {
		return err
	}
	f.report.Method = "Queues made by the queue's own writer; nothing of them is in the page cache when the relay starts."
	var failures []error
	for _, part := range figureParts {
		if !slices.Contains(parts, part.name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		if err := part.run(f, ctx); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", part.name, err))
		}
		fmt.Fprintf(os.Stderr, "figures: %s took %.0f s\n", part.name, time.Since(began).Seconds())
	}
	return errors.Join(failures...)
}

// leastGone is how many events the parts have that watch some go: the last segment of them has younger ones, too, and stays.
const leastGone = 1_000_000

// shortSlack is how many times as long as is asked may be what a short run measures: its queues are small, and what does not
// grow with them is soon beyond what is asked on a machine that has other things to do.
const shortSlack = 5

// within makes a row of a time for which there is a limit.
func (f *figures) within(what, yardstick string, base, figure time.Duration, most float64) row {
	r := measured(what, yardstick, inMillis(base), inMillis(figure), "ms", most)
	if !f.long {
		r = r.heldTo(fmt.Sprintf("%g ms", shortSlack*most), inMillis(figure) < shortSlack*most)
	}
	return r
}

func (f *figures) add(rows ...row) { f.report.Rows = append(f.report.Rows, rows...) }

// judge names the rows that fall short.
func (r *report) judge() error {
	var short []error
	for _, w := range r.Rows {
		if w.fails() {
			short = append(short, fmt.Errorf("%s: %s, asked is %s", w.What, figureText(w.Figure, w.Unit), w.Asked))
		}
	}
	return errors.Join(short...)
}

// newRelay prepares a relay whose queue is yet to be made.
func (f *figures) newRelay(endpoints []endpoint, queue ...string) (*relay, error) {
	f.made++
	return f.site.newRelay(fmt.Sprintf("relay-%d", f.made), endpoints, queue...)
}

// endRelay stops a relay and removes all that it has: a queue here takes gigabytes.
func endRelay(r *relay) error {
	err := r.stop()
	return errors.Join(err, os.RemoveAll(r.dir))
}

// steadyPlan is the plan of a steady rate of posts.
func steadyPlan(r *relay, eventType string, perSecond float64, d time.Duration) loadPlan {
	return loadPlan{addr: r.ingest, path: "/events", conns: 16, rate: perSecond, duration: d, eventType: eventType}
}

// steady has a trickle posted to a relay for some time, and tells the longest time to an answer.
func steady(ctx context.Context, r *relay, eventType string, perSecond float64, d time.Duration) (longest time.Duration, err error) {
	l, posted, err := postAll(ctx, steadyPlan(r, eventType, perSecond, d), newRun())
	if err != nil {
		return 0, err
	}
	if posted.OK == 0 {
		return 0, errors.New("nothing was posted")
	}
	return l.latency.quantile(1), nil
}
