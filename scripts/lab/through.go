package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	throughLimit = 3 * time.Minute
	throughStall = 20 * time.Second
)

// through: the whole way to one receiver, for as long as events come and until all have arrived.
func (b *bench) through(ctx context.Context) error {
	addr, err := b.child(ctx, "receive")
	if err != nil {
		return err
	}
	receiver := &remoteReceiver{addr: addr, client: http.Client{Timeout: 10 * time.Second}}
	relay, err := b.start(ctx, "relay-through", []endpoint{{name: "receiver", url: "http://" + addr + "/events", events: []string{"lead.*"}}})
	if err != nil {
		return err
	}
	for _, target := range []string{addr, relay.ingest} {
		if _, err := b.delivered(ctx, target, receiver, time.Second); err != nil { // to warm up
			return err
		}
	}
	before, err := readUsage(relay.proc.pid())
	if err != nil {
		return err
	}
	var straight, relayed, accepted []float64
	var events uint64
	for range b.rounds {
		s, err := b.delivered(ctx, addr, receiver, b.span)
		if err != nil {
			return err
		}
		straight = append(straight, s.perSecond)
		t, err := b.delivered(ctx, relay.ingest, receiver, b.span)
		if err != nil {
			return err
		}
		relayed, accepted = append(relayed, t.perSecond), append(accepted, t.accepted.PerSecond)
		events += t.accepted.OK
	}
	after, err := readUsage(relay.proc.pid())
	if err != nil {
		return err
	}
	b.add(
		compared(fmt.Sprintf("through the relay to one receiver, %d connections, until all are delivered", benchConns), "straight to the receiver", straight, relayed, "events/s", 0.25),
		compared("accepted meanwhile", "straight to the receiver", straight, accepted, "events/s", 0),
		measured("processor time, accepted and delivered, per 1,000 events", "", 0, (after.cpu-before.cpu).Seconds()*1000/float64(events), "s", 0),
		measured("anonymous memory at the end", "", 0, float64(after.memory)/(1<<20), "MiB", 0),
		measured("bytes written per byte of event", "", 0, float64(after.written-before.written)/float64(events*benchSize), "B", 0),
	)
	return nil
}

// deliveredRound is one round that ends when the last event has been received.
type deliveredRound struct {
	accepted  loadResult
	perSecond float64 // events received, over the time from the first post to the last arrival
}

// delivered posts to target for a span and waits until the receiver has all.
func (b *bench) delivered(ctx context.Context, target string, receiver *remoteReceiver, span time.Duration) (deliveredRound, error) {
	if err := receiver.reset(ctx); err != nil {
		return deliveredRound{}, err
	}
	began := time.Now().Add(settleTime) // round begins with that pause
	accepted, err := b.round(ctx, target, benchConns, span)
	if err != nil {
		return deliveredRound{}, err
	}
	var got counts
	var asked error
	all := func() bool {
		got, asked = receiver.counts(ctx)
		return asked == nil && got.Unique >= accepted.OK
	}
	if err := waitUntil(ctx, throughLimit, throughStall, func() uint64 { return got.Unique }, all); err != nil {
		return deliveredRound{}, fmt.Errorf("wait for %d events at the receiver: %w", accepted.OK, err)
	}
	return deliveredRound{accepted: accepted, perSecond: float64(accepted.OK) / time.Since(began).Seconds()}, nil
}

// remoteReceiver is a receiver in another process.
type remoteReceiver struct {
	addr   string
	client http.Client
}

func (r *remoteReceiver) counts(ctx context.Context) (c counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+"/count", nil)
	if err != nil {
		return c, err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return c, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&c); err != nil {
		return c, fmt.Errorf("read counts of receiver: %w", err)
	}
	return c, nil
}

func (r *remoteReceiver) reset(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.addr+"/reset", nil)
	if err != nil {
		return err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("reset receiver: status %d", res.StatusCode)
	}
	return nil
}
