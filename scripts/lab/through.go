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
	addr, _, err := b.child(ctx, "receive")
	if err != nil {
		return err
	}
	receiver := &remoteReceiver{addr: addr, client: http.Client{Timeout: 10 * time.Second}}
	keepNothing, nothing, err := b.child(ctx, "keep-nothing")
	if err != nil {
		return err
	}
	relay, err := b.start(ctx, "relay-through", []endpoint{{name: "receiver", url: "http://" + addr + "/events", events: []string{"lead.*"}}})
	if err != nil {
		return err
	}
	passOn, passing, err := b.child(ctx, "pass-on", "-to", addr)
	if err != nil {
		return err
	}
	for _, target := range []string{addr, relay.ingest, passOn} {
		if _, err := b.delivered(ctx, target, receiver, 1, time.Second); err != nil { // to warm up
			return err
		}
	}
	var straight, relayed, passed, own, per, passedPer []float64
	var written, events uint64
	for range b.rounds {
		s, err := b.delivered(ctx, addr, receiver, 1, b.span)
		if err != nil {
			return err
		}
		straight = append(straight, s.perSecond)
		var t deliveredRound
		spent, err := during(relay.proc.pid(), func() (n uint64, err error) {
			t, err = b.delivered(ctx, relay.ingest, receiver, 1, b.span)
			return t.accepted.OK, err
		})
		if err != nil {
			return err
		}
		relayed, per = append(relayed, t.perSecond), append(per, spent.perEvent)
		written, events = written+spent.written, events+t.accepted.OK
		spent, err = during(passing.pid(), func() (n uint64, err error) {
			t, err = b.delivered(ctx, passOn, receiver, 1, b.span)
			return t.accepted.OK, err
		})
		if err != nil {
			return err
		}
		passed, passedPer = append(passed, t.perSecond), append(passedPer, spent.perEvent)
		spent, err = during(nothing.pid(), func() (uint64, error) {
			k, err := b.round(ctx, keepNothing, benchConns, 1, b.span)
			return k.OK, err
		})
		if err != nil {
			return err
		}
		own = append(own, spent.perEvent)
	}
	memory, err := rssAnon(relay.proc.pid())
	if err != nil {
		return err
	}
	cost := compared("processor time per event, in and out", "keep-nothing, per request", own, per, "µs", 0)
	met := cost.Ratio <= 3.5
	cost.Asked, cost.Met = "ratio ≤ 3.50", &met
	ceiling := compared(fmt.Sprintf("through pass-on, %d connections", benchConns), "straight to the receiver", straight, passed, "events/s", 0)
	passedCost := compared("processor time per event through pass-on", "keep-nothing, per request", own, passedPer, "µs", 0)
	ceiling.Note, passedCost.Note = "no relay in this row", "no relay in this row"
	b.add(
		ceiling, passedCost,
		compared(fmt.Sprintf("through the relay, %d connections, until all are delivered", benchConns), "through pass-on", passed, relayed, "events/s", 0),
		compared(fmt.Sprintf("through the relay to one receiver, %d connections, until all are delivered", benchConns), "straight to the receiver", straight, relayed, "events/s", 0.4),
		cost,
		measured("bytes written to disk per byte of a delivered event's body", "", 0, float64(written)/float64(events*benchSize), "B", 4),
		measured("anonymous memory at the end", "", 0, float64(memory)/(1<<20), "MiB", 0),
	)
	return nil
}

// spending is what a process used while something was done.
type spending struct {
	perEvent float64 // µs of processor time
	written  uint64  // bytes
}

// during measures a process while do goes on, which returns the number of events.
func during(pid int, do func() (events uint64, err error)) (spending, error) {
	before, err := readUsage(pid)
	if err != nil {
		return spending{}, err
	}
	events, err := do()
	if err != nil {
		return spending{}, err
	}
	after, err := readUsage(pid)
	if err != nil {
		return spending{}, err
	}
	return spending{float64((after.cpu - before.cpu).Microseconds()) / float64(max(events, 1)), after.written - before.written}, nil
}

const fanOutEndpoints = 10

// fanOut: deliveries a second when each event goes to ten endpoints, and when it goes to one.
func (b *bench) fanOut(ctx context.Context) error {
	addr, _, err := b.child(ctx, "receive")
	if err != nil {
		return err
	}
	receiver := &remoteReceiver{addr: addr, client: http.Client{Timeout: 10 * time.Second}}
	var relays []*relay
	for _, n := range []int{1, fanOutEndpoints} {
		var endpoints []endpoint
		for i := range n {
			endpoints = append(endpoints, endpoint{name: fmt.Sprintf("endpoint-%d", i+1), url: "http://" + addr + "/events", events: []string{"lead.*"}})
		}
		relay, err := b.start(ctx, fmt.Sprintf("relay-to-%d", n), endpoints)
		if err != nil {
			return err
		}
		relays = append(relays, relay)
	}
	var figures [2][]float64
	for round := range b.rounds + 1 {
		for i, n := range []uint64{1, fanOutEndpoints} {
			d, err := b.delivered(ctx, relays[i].ingest, receiver, n, b.span)
			if err != nil {
				return err
			}
			if round > 0 { // the first is to warm up
				figures[i] = append(figures[i], d.perSecond)
			}
		}
	}
	b.add(compared(fmt.Sprintf("deliveries to %d endpoints, until all are delivered", fanOutEndpoints), "the relay with one", figures[0], figures[1], "deliveries/s", 1.5))
	return nil
}

// deliveredRound is one round that ends when the last event has been received.
type deliveredRound struct {
	accepted  loadResult
	perSecond float64 // deliveries received, over the time from the first post to the last arrival
}

// delivered posts to target for a span and waits until the receiver has all, each of them copies times.
func (b *bench) delivered(ctx context.Context, target string, receiver *remoteReceiver, copies uint64, span time.Duration) (deliveredRound, error) {
	if err := receiver.reset(ctx); err != nil {
		return deliveredRound{}, err
	}
	began := time.Now().Add(settleTime) // round begins with that pause
	accepted, err := b.round(ctx, target, benchConns, 1, span)
	if err != nil {
		return deliveredRound{}, err
	}
	var got counts
	var asked error
	all := func() bool {
		got, asked = receiver.counts(ctx)
		return asked == nil && got.Unique >= accepted.OK && got.Received >= accepted.OK*copies
	}
	if err := waitUntil(ctx, throughLimit, throughStall, func() uint64 { return got.Received }, all); err != nil {
		return deliveredRound{}, fmt.Errorf("wait for %d events at the receiver: %w", accepted.OK, err)
	}
	return deliveredRound{accepted: accepted, perSecond: float64(accepted.OK*copies) / time.Since(began).Seconds()}, nil
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
