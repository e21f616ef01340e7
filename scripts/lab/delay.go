package main

import (
	"context"
	"fmt"
)

// latency: from event posted to event received, beyond what the direct path takes, with little to do and with much
// waiting for somebody else.
func (b *bench) latency(ctx context.Context) error {
	r := newReceiver()
	addr, err := startReceiver(r)
	if err != nil {
		return err
	}
	defer r.close()
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	relay, err := b.start(ctx, "relay-latency", []endpoint{
		{name: "receiver", url: "http://" + addr + "/events", events: []string{liveType}},
		{name: "waiting", url: "http://" + nowhere.addr + "/events", events: []string{downType}},
	})
	if err != nil {
		return err
	}
	if err := relay.operate(ctx, "waiting", "pause"); err != nil {
		return err
	}
	rates := []float64{trickleRate, 1000}
	for _, rate := range rates {
		if err := b.delay(ctx, relay, addr, r, rate, ""); err != nil {
			return err
		}
	}
	if _, err := b.fill(ctx, relay, downType, backlogEvents); err != nil {
		return err
	}
	for _, rate := range rates {
		if err := b.delay(ctx, relay, addr, r, rate, fmt.Sprintf(", %d events waiting for another endpoint", backlogEvents)); err != nil {
			return err
		}
	}
	return nil
}

// delay measures one rate: straight to the receiver, then through the relay.
func (b *bench) delay(ctx context.Context, relay *relay, addr string, r *receiver, rate float64, beside string) error {
	var results [2]trickleResult
	for i, target := range []string{addr, relay.ingest} {
		t, err := newTrickleAt(rate, target, "/events", liveType, r)
		if err != nil {
			return err
		}
		if results[i], err = t.measure(ctx, b.steady); err != nil {
			return err
		}
		if results[i].Missing > 0 {
			return fmt.Errorf("%d events to %s never arrived", results[i].Missing, target)
		}
	}
	straight, relayed := results[0].Posted, results[1].Posted
	above := func(name string, straight, relayed int64, most float64) row {
		ms := float64(relayed-straight) / 1000
		out := measured(fmt.Sprintf("posted → received at %.0f/s%s: %s above the direct path's", rate, beside, name), "", 0, ms, "ms", most)
		out.Note = fmt.Sprintf("%.2f ms, direct %.2f ms", float64(relayed)/1000, float64(straight)/1000)
		return out
	}
	b.add(above("p50", straight.P50us, relayed.P50us, 1), above("p99", straight.P99us, relayed.P99us, 5))
	return nil
}
