package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	trickleRate  = 50 // events a second, where nothing else is said
	trickleConns = 4
	trickleRoom  = 1 << 16 // events of one trickle, enough for 20 minutes
	trickleWait  = 15 * time.Second
)

// trickle posts single events at a steady rate and follows each of them to a receiver.
type trickle struct {
	load     *load
	receiver *receiver
	// Moments by sequence number, in nanoseconds since 1970; 0 for not yet.
	postedAt   [trickleRoom]atomic.Int64
	answeredAt [trickleRoom]atomic.Int64
	receivedAt [trickleRoom]atomic.Int64
}

// trickleResult says how long events were under way.
type trickleResult struct {
	Sent     uint64    `json:"sent"`
	Missing  uint64    `json:"missing"`  // answered 200 and not received in time
	Posted   quantiles `json:"posted"`   // posted → received
	Accepted quantiles `json:"accepted"` // answered 200 → received; an event that arrived before its answer was read counts 0
}

// newTrickle posts trickleRate events of a type a second to addr and path and expects them at r, which has one trickle at
// a time.
func newTrickle(addr, path, eventType string, r *receiver) (*trickle, error) {
	return newTrickleAt(trickleRate, addr, path, eventType, r)
}

// newTrickleAt is newTrickle at another rate, in events a second.
func newTrickleAt(rate float64, addr, path, eventType string, r *receiver) (*trickle, error) {
	t := &trickle{receiver: r}
	l, err := newLoad(loadPlan{
		addr: addr, path: path, conns: trickleConns, rate: rate, count: trickleRoom, eventType: eventType,
		answered: t.answered,
	}, newRun())
	t.load = l
	return t, err
}

func (t *trickle) answered(seq uint64, posted, at time.Time) {
	t.postedAt[seq].Store(posted.UnixNano())
	t.answeredAt[seq].Store(at.UnixNano())
}

func (t *trickle) arrived(id []byte, at time.Time) {
	if run, seq, ok := parseID(id); ok && run == t.load.run && seq < trickleRoom {
		t.receivedAt[seq].CompareAndSwap(0, at.UnixNano()) // a repeat doesn't count
	}
}

// measure posts until ctx ends or the time has passed (0: no limit), then waits for the stragglers.
func (t *trickle) measure(ctx context.Context, d time.Duration) (trickleResult, error) {
	o := observer(t.arrived)
	t.receiver.observer.Store(&o)
	defer t.receiver.observer.Store(nil)

	posting, cancel := ctx, func() {}
	if d > 0 {
		posting, cancel = context.WithTimeout(ctx, d)
	}
	defer cancel()
	result := t.load.post(posting)

	if len(result.Errors) > 0 {
		return trickleResult{}, fmt.Errorf("trickle to %s: answers other than 200: %v", t.load.plan.addr, result.Errors)
	}
	// The end of ctx ends the posting, not the wait for what is under way. Running out of time shows as missing events.
	waitUntil(context.WithoutCancel(ctx), trickleWait, trickleWait, t.missing, func() bool { return t.missing() == 0 })
	return t.result(result.OK), nil
}

// missing counts the events that were answered 200 and have not arrived.
func (t *trickle) missing() uint64 {
	var n uint64
	for seq := range min(t.load.claimed.Load(), trickleRoom) {
		if t.answeredAt[seq].Load() != 0 && t.receivedAt[seq].Load() == 0 {
			n++
		}
	}
	return n
}

func (t *trickle) result(sent uint64) trickleResult {
	var posted, accepted histogram
	for seq := range t.receivedAt {
		received, answered := t.receivedAt[seq].Load(), t.answeredAt[seq].Load()
		if received == 0 || answered == 0 {
			continue
		}
		posted.record(time.Duration(received - t.postedAt[seq].Load()))
		accepted.record(time.Duration(received - answered))
	}
	return trickleResult{Sent: sent, Missing: t.missing(), Posted: posted.quantiles(), Accepted: accepted.quantiles()}
}
