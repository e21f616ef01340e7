package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// footprint: what the relay costs when it has little to do.
func (b *bench) footprint(ctx context.Context) error {
	r := newReceiver()
	addr, err := startReceiver(r)
	if err != nil {
		return err
	}
	defer r.close()
	relay, err := b.site.newRelay("relay-footprint", []endpoint{{name: "receiver", url: "http://" + addr + "/events", events: []string{liveType}}})
	if err != nil {
		return err
	}
	var ready []float64
	for range b.rounds { // the first makes the queue, the others find it
		took, err := relay.start(ctx)
		if err != nil {
			return err
		}
		ready = append(ready, inMillis(took))
		if err := relay.stop(); err != nil {
			return err
		}
	}
	info, err := os.Stat(b.site.bin)
	if err != nil {
		return fmt.Errorf("look at the binary: %w", err)
	}
	if _, err := relay.start(ctx); err != nil {
		return err
	}
	b.running = append(b.running, relay.proc)
	pause(ctx, 5*time.Second) // what a start does is over by then
	var meter memoryMeter
	meter.watch(relay.proc.pid())
	before, err := cpuTime(relay.proc.pid())
	if err != nil {
		return err
	}
	pause(ctx, b.steady)
	after, err := cpuTime(relay.proc.pid())
	if err != nil {
		return err
	}
	meter.stop()
	idle := meter.max()
	meter.watch(relay.proc.pid())
	t, err := newTrickleAt(1000, relay.ingest, "/events", liveType, r)
	if err != nil {
		return err
	}
	if _, err := t.measure(ctx, b.steady); err != nil {
		return err
	}
	meter.stop()
	b.add(
		measured("binary, stripped", "", 0, float64(info.Size())/(1<<20), "MiB", 20),
		measured("cold start until /health is answered", "", 0, median(ready), "ms", 100),
		measured("idle: processor time, in percent of a core", "", 0, 100*(after-before).Seconds()/b.steady.Seconds(), "%", 0.5),
		measured("idle: anonymous memory", "", 0, idle, "MiB", 32),
		measured("1,000 events a second: anonymous memory", "", 0, meter.max(), "MiB", 64),
	)
	return ctx.Err()
}

// backlog: a million events behind an endpoint that is paused and comes back, and what is left of them on disk.
func (b *bench) backlog(ctx context.Context) error {
	addr, _, err := b.child(ctx, "receive")
	if err != nil {
		return err
	}
	receiver := &remoteReceiver{addr: addr, client: http.Client{Timeout: 10 * time.Second}}
	relay, err := b.start(ctx, "relay-backlog", []endpoint{{name: "receiver", url: "http://" + addr + "/events", events: []string{"lead.*"}}},
		`retention = "20s"`, `dedup_window = "1m"`)
	if err != nil {
		return err
	}
	var live []float64
	for range b.rounds {
		d, err := b.delivered(ctx, relay.ingest, receiver, 1, b.span)
		if err != nil {
			return err
		}
		live = append(live, d.perSecond)
	}
	if err := relay.operate(ctx, "receiver", "pause"); err != nil {
		return err
	}
	if err := receiver.reset(ctx); err != nil {
		return err
	}
	if _, err := b.fill(ctx, relay, "lead.created", backlogEvents); err != nil {
		return err
	}
	pause(ctx, 2*time.Second) // the journal's rest moves into the store
	perEvent := float64(diskUsage(relay.dir)) / backlogEvents
	relay.proc.kill()
	ready, err := relay.start(ctx)
	if err != nil {
		return err
	}
	b.running = append(b.running, relay.proc)
	var meter memoryMeter
	meter.watch(relay.proc.pid())
	began := time.Now()
	if err := relay.operate(ctx, "receiver", "resume"); err != nil {
		return err
	}
	var got counts
	err = waitUntil(ctx, fillLimit, drainStall, func() uint64 { return got.Unique }, func() bool {
		c, err := receiver.counts(ctx)
		got = c
		return err == nil && got.Unique >= backlogEvents
	})
	meter.stop()
	if err != nil {
		return err
	}
	drained := float64(backlogEvents) / time.Since(began).Seconds()
	settled, most := time.Now(), diskUsage(relay.dir)
	const least = 64 << 20
	if err := await(ctx, spaceLimit, func() bool { return diskUsage(relay.dir) < least }); err != nil {
		return fmt.Errorf("the queue still has %d MiB: %w", diskUsage(relay.dir)>>20, err)
	}
	space := measured("seconds from the last delivery until the queue has less than 64 MiB on disk", "", 0, time.Since(settled).Seconds(), "s", 120)
	space.Note = fmt.Sprintf("then it had %d MiB; retention 20s, and ids are known for a minute", most>>20)
	b.add(
		measured("disk per queued event", "", 0, perEvent, "B", 350),
		measured("1,000,000 queued: ready after SIGKILL", "", 0, inMillis(ready), "ms", 1000),
		compared("drain of 1,000,000 queued", "live delivery", live, []float64{drained}, "events/s", 0.9),
		measured("draining 1,000,000: anonymous memory", "", 0, meter.max(), "MiB", 128),
		space,
	)
	return nil
}

// spaceLimit is how long the part backlog waits for space to come back.
const spaceLimit = 3 * time.Minute

// queued: a very long backlog, and what it does to a start, to memory and to the intake.
func (b *bench) queued(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	none, err := b.startPaused(ctx, "relay-none-known", 1, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}
	many, err := b.startPaused(ctx, "relay-queued", 1, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}
	var meter memoryMeter
	meter.watch(many.proc.pid())
	filled, err := b.fill(ctx, many, "lead.created", b.large)
	if err != nil {
		return err
	}
	figures, err := b.turns(ctx, benchConns, 1, none.ingest, many.ingest)
	if err != nil {
		return err
	}
	meter.stop()
	filling := meter.max()
	many.proc.kill()
	ready, err := many.start(ctx)
	if err != nil {
		return err
	}
	b.running = append(b.running, many.proc)
	meter.watch(many.proc.pid())
	pause(ctx, 5*time.Second)
	meter.stop()
	millions := grouped(b.large)
	b.add(
		measured(fmt.Sprintf("%s queued in batches of %d", millions, fillBatch), "", 0, filled, "events/s", 0),
		measured(millions+" queued: ready after SIGKILL", "", 0, inMillis(ready), "ms", 3000),
		measured(millions+" queued: anonymous memory while they came", "", 0, filling, "MiB", 128),
		measured(millions+" queued: anonymous memory after the start", "", 0, meter.max(), "MiB", 128),
		compared(fmt.Sprintf("ingest, %d connections, %s ids known", benchConns, millions), "the relay that knows none", figures[none.ingest], figures[many.ingest], "events/s", 0.85),
	)
	return ctx.Err()
}

// grouped writes a number with commas.
func grouped(n uint64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// diskUsage is what the files below dir take on disk, in bytes: blocks, not lengths, since some files have holes.
func diskUsage(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil { // a file that goes away meanwhile takes nothing
			bytes += st.Blocks * 512
		}
		return nil
	})
	return bytes
}
