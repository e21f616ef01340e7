// backlog tries to break the promise that an endpoint that is down costs nothing per event: a million events pile up
// behind one.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	maxRSSAnon     = 150 << 20
	maxRestart     = time.Second
	fillBatch      = 100
	fillConns      = 8
	phaseAlone     = 5 * time.Second
	drainStall     = 2 * time.Minute
	downType       = "lead.created"
	liveType       = "appointment.scheduled"
	backlogMinimum = 1000
)

// backlogRun piles up events behind an endpoint that is down.
type backlogRun struct {
	site  site
	count uint64
	wait  time.Duration
	alone time.Duration // of the measurements without anything beside

	relay *relay
	down  *closedPort
	live  *receiver
	meter memoryMeter
}

// backlogResult is what the backlog command prints.
type backlogResult struct {
	Acknowledged  int     `json:"acknowledged"`
	FillPerSecond float64 `json:"fill_per_second"`
	FailedDown    uint64  `json:"failed_while_down"` // deliveries given up by their own schedule, from /stats
	Received      uint64  `json:"received"`          // unique, after the endpoint came back
	Missing       int64   `json:"missing"`           // acknowledged, neither received nor failed: must be 0
	Repeats       uint64  `json:"repeats"`
	DrainSeconds  float64 `json:"drain_seconds"`

	RestartTermMs float64 `json:"restart_after_sigterm_ms"` // from start to /health 200, all queued
	RestartKillMs float64 `json:"restart_after_sigkill_ms"`
	StopMs        float64 `json:"stop_ms"` // from SIGTERM to the end of the process

	FillMiB  float64 `json:"rss_anon_fill_mib"` // the most that was seen
	IdleMiB  float64 `json:"rss_anon_restarted_mib"`
	DrainMiB float64 `json:"rss_anon_drain_mib"`

	Before   trickleResult `json:"live_before"`
	Filling  trickleResult `json:"live_while_filling"`
	Queued   trickleResult `json:"live_beside_backlog"`
	Draining trickleResult `json:"live_while_draining"`
}

func runBacklog(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("backlog", "Posts events for an endpoint that refuses connections, beside a trickle to one that is well; restarts the relay by SIGTERM and\n"+
		"by SIGKILL; lets the endpoint come back and waits until all have arrived. Exit code 1 when an event is missing, when RssAnon\n"+
		"passes 150 MiB, or when a restart takes more than a second.")
	run := backlogRun{alone: phaseAlone}
	run.site.flags(fs)
	fs.Uint64Var(&run.count, "n", 1_000_000, "`events`, a multiple of 100")
	fs.DurationVar(&run.wait, "wait", 15*time.Minute, "give up when filling, or draining, takes longer")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if run.count < backlogMinimum || run.wait <= 0 {
		return usageError(fmt.Sprintf("backlog needs -n of %d or more and a -wait above 0", backlogMinimum))
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	result, err := run.perform(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	fmt.Fprint(out, result.text())
	return result.judge()
}

func (b *backlogRun) perform(ctx context.Context) (result backlogResult, err error) {
	if err := b.set(); err != nil {
		return result, err
	}
	defer b.down.close()
	defer b.live.close()
	if _, err := b.relay.start(ctx); err != nil {
		return result, err
	}
	defer func() { b.relay.proc.kill() }()
	b.meter.watch(b.relay.proc.pid())
	defer b.meter.stop()

	if result.Before, err = b.trickle(ctx, b.alone); err != nil {
		return result, fmt.Errorf("measure before: %w", err)
	}
	filled, err := b.fill(ctx, &result)
	if err != nil {
		return result, fmt.Errorf("fill: %w", err)
	}
	if result.Queued, err = b.trickle(ctx, b.alone); err != nil {
		return result, fmt.Errorf("measure beside the backlog: %w", err)
	}
	result.FillMiB = b.meter.max()
	if err := b.restart(ctx, &result); err != nil {
		return result, err
	}
	result.IdleMiB = b.meter.max()
	return result, b.drain(ctx, filled, &result)
}

// set prepares the relay and its two endpoints.
func (b *backlogRun) set() (err error) {
	b.live = newReceiver()
	liveAddr, err := startReceiver(b.live)
	if err != nil {
		return err
	}
	if b.down, err = newClosedPort(); err != nil {
		b.live.close()
		return err
	}
	b.relay, err = b.site.newRelay("relay", []endpoint{
		// Short waits, so that probing finds out quickly when the endpoint is back.
		{name: "down", url: "http://" + b.down.addr + "/events", events: []string{downType}, retry: []string{"1s", "1s", "1s", "1s"}},
		{name: "live", url: "http://" + liveAddr + "/events", events: []string{liveType}},
	})
	return err
}

func (b *backlogRun) trickle(ctx context.Context, d time.Duration) (trickleResult, error) {
	t, err := newTrickle(b.relay.ingest, "/events", liveType, b.live)
	if err != nil {
		return trickleResult{}, err
	}
	return t.measure(ctx, d)
}

// beside runs work with a trickle to the live endpoint for as long as it lasts.
func (b *backlogRun) beside(ctx context.Context, work func() error) (result trickleResult, err error) {
	trickling, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	var ended sync.WaitGroup
	ended.Go(func() { result, failed = b.trickle(trickling, 0) })
	err = work()
	stop()
	ended.Wait()
	return result, errors.Join(err, failed)
}

func (b *backlogRun) fill(ctx context.Context, result *backlogResult) (*ledger, error) {
	var filled *ledger
	var err error
	result.Filling, err = b.beside(ctx, func() error {
		l, posted, err := postAll(ctx, loadPlan{
			addr: b.relay.ingest, path: "/events", conns: fillConns, count: b.count, duration: b.wait, batch: fillBatch, eventType: downType, keep: true,
		}, newRun())
		if err != nil {
			return err
		}
		result.FillPerSecond, result.Acknowledged, filled = posted.PerSecond, len(l.ledger.acked), &l.ledger
		return nil
	})
	return filled, err
}

// restart stops and starts the relay with all queued, first the friendly way.
func (b *backlogRun) restart(ctx context.Context, result *backlogResult) error {
	b.meter.stop()
	began := time.Now()
	if err := b.relay.stop(); err != nil {
		return err
	}
	result.StopMs = inMillis(time.Since(began))
	took, err := b.relay.start(ctx)
	if err != nil {
		return fmt.Errorf("after SIGTERM: %w", err)
	}
	result.RestartTermMs = inMillis(took)
	b.relay.proc.kill()
	if took, err = b.relay.start(ctx); err != nil {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	result.RestartKillMs = inMillis(took)
	b.meter.watch(b.relay.proc.pid())
	pause(ctx, 2*time.Second) // what a start allocates shows by then
	return ctx.Err()
}

// drain lets the endpoint come back and waits for its deliveries.
func (b *backlogRun) drain(ctx context.Context, filled *ledger, result *backlogResult) error {
	b.meter.stop()
	b.meter.watch(b.relay.proc.pid())
	ln, err := b.down.open()
	if err != nil {
		return err
	}
	down := newReceiver()
	down.start(ln)
	defer down.close()

	began := time.Now()
	var last endpointStats
	result.Draining, err = b.beside(ctx, func() (err error) {
		gone := func() bool {
			last, err = b.relay.stats(ctx, "down")
			return err == nil && last.Pending+last.Retrying == 0
		}
		// Running out of time is no error here: the missing events tell it.
		waitUntil(ctx, b.wait, drainStall, down.unique, gone)
		return err
	})
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	result.DrainSeconds = time.Since(began).Seconds()
	result.DrainMiB = b.meter.max()
	got := down.counts()
	result.Received, result.Repeats, result.FailedDown = got.Unique, got.Repeats, last.Failed
	result.Missing = int64(filled.compare(down.ids()).Lost) - int64(last.Failed)
	return nil
}

func (r *backlogResult) judge() error {
	var faults []error
	// Fewer than none: a delivery that is listed as failed and arrived all the same.
	if r.Missing != 0 {
		faults = append(faults, fmt.Errorf("%d events missing", r.Missing))
	}
	if n := r.Before.Missing + r.Filling.Missing + r.Queued.Missing + r.Draining.Missing; n > 0 {
		faults = append(faults, fmt.Errorf("%d events of the live endpoint missing", n))
	}
	if most := max(r.FillMiB, r.IdleMiB, r.DrainMiB); most > maxRSSAnon>>20 {
		faults = append(faults, fmt.Errorf("RssAnon %.0f MiB, more than %d", most, maxRSSAnon>>20))
	}
	if slowest := max(r.RestartTermMs, r.RestartKillMs); slowest > inMillis(maxRestart) {
		faults = append(faults, fmt.Errorf("restart took %.0f ms, more than %.0f", slowest, inMillis(maxRestart)))
	}
	return errors.Join(faults...)
}

func (r *backlogResult) text() string {
	return fmt.Sprintf("%d events queued at %.0f/s; serving again %.0f ms after SIGTERM, %.0f ms after SIGKILL\n", r.Acknowledged, r.FillPerSecond, r.RestartTermMs, r.RestartKillMs) +
		fmt.Sprintf("RssAnon at most %.0f MiB while filling, %.0f after the restart, %.0f while draining\n", r.FillMiB, r.IdleMiB, r.DrainMiB) +
		fmt.Sprintf("%d received after the endpoint came back in %.1f s, %d failed while it was down, %d missing, %d repeats\n", r.Received, r.DrainSeconds, r.FailedDown, r.Missing, r.Repeats) +
		fmt.Sprintf("the live endpoint, accepted to received, p50/p99: before %s, while filling %s, beside the backlog %s, while draining %s\n",
			inMs(r.Before.Accepted), inMs(r.Filling.Accepted), inMs(r.Queued.Accepted), inMs(r.Draining.Accepted))
}

func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
