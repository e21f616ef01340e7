package main

import (
	"context"
	"fmt"
	"path/filepath"
)

const (
	hundredEndpoints = 100
	twentyEndpoints  = 20
)

// yardsticks starts the two servers that the intake is held against.
func (b *bench) yardsticks(ctx context.Context) (keepNothing, bareLog string, err error) {
	if keepNothing, _, err = b.child(ctx, "keep-nothing"); err != nil {
		return "", "", err
	}
	bareLog, _, err = b.child(ctx, "bare-log", "-file", filepath.Join(b.site.dir, "bare.log"))
	return keepNothing, bareLog, err
}

// intake: what it costs to accept an event.
func (b *bench) intake(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	keepNothing, bareLog, err := b.yardsticks(ctx)
	if err != nil {
		return err
	}
	one, err := b.startPaused(ctx, "relay-one", 1, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}
	for _, conns := range []int{1, benchConns, manyConns} {
		figures, err := b.turns(ctx, conns, 1, keepNothing, bareLog, one.ingest)
		if err != nil {
			return err
		}
		at := fmt.Sprintf("%d connections", conns)
		if conns == 1 {
			at = "1 connection"
		}
		bare := compared("bare-log itself, "+at, "keep-nothing", figures[keepNothing], figures[bareLog], "events/s", 0)
		bare.Note = "no relay in this row"
		b.add(bare, compared("ingest, "+at, "bare-log", figures[bareLog], figures[one.ingest], "events/s", 0.9))
	}
	return nil
}

// paused: what it costs to accept an event that many endpoints are subscribed to, none of which takes it now.
func (b *bench) paused(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	for _, n := range []int{twentyEndpoints, hundredEndpoints} {
		// Both begin empty: a queue that has grown is slower.
		one, err := b.startPaused(ctx, fmt.Sprintf("relay-beside-%d", n), 1, "http://"+nowhere.addr+"/events")
		if err != nil {
			return err
		}
		many, err := b.startPaused(ctx, fmt.Sprintf("relay-%d", n), n, "http://"+nowhere.addr+"/events")
		if err != nil {
			return err
		}
		figures, err := b.turns(ctx, benchConns, 1, one.ingest, many.ingest)
		if err != nil {
			return err
		}
		b.add(compared(fmt.Sprintf("ingest, %d connections, %d endpoints subscribed and paused", benchConns, n), "the relay with one",
			figures[one.ingest], figures[many.ingest], "events/s", 0.95))
	}
	return nil
}

// batches: what it costs to accept events a hundred at a time.
func (b *bench) batches(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	_, bareLog, err := b.yardsticks(ctx)
	if err != nil {
		return err
	}
	one, err := b.startPaused(ctx, "relay-batches", 1, "http://"+nowhere.addr+"/events")
	if err != nil {
		return err
	}
	figures, err := b.turns(ctx, fillConns, fillBatch, bareLog, one.ingest)
	if err != nil {
		return err
	}
	b.add(compared(fmt.Sprintf("ingest, NDJSON of %d events, %d connections", fillBatch, fillConns), "bare-log",
		figures[bareLog], figures[one.ingest], "events/s", 0.7).orAtLeast(150_000))
	return nil
}
