package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxUnsaved is how long before a kill a delivery may have been settled and still be made again: the relay saves its
	// progress every 0.1 s, and a save under way takes what the disk and the other users of two cores leave it.
	maxUnsaved = 2 * time.Second
	// lateReceipt is for how long a request may lie in a receiver's socket before it is seen, its sender dead by then.
	lateReceipt = time.Second
)

// repeats holds every repeated delivery against the kills of the relay: what is delivered again must have been in flight,
// or settled since the last save, when the relay was killed. It is safe for concurrent use.
type repeats struct {
	run uint32

	mu         sync.Mutex
	kills      []time.Time
	seen       [][]time.Time // by receiver and sequence number; zero: not yet
	oldest     time.Duration // the longest between a delivery and the kill that had it made again
	groundless int           // repeats without a kill that explains them
}

func newRepeats(run uint32, receivers int, count uint64) *repeats {
	r := &repeats{run: run, seen: make([][]time.Time, receivers)}
	for i := range r.seen {
		r.seen[i] = make([]time.Time, count)
	}
	return r
}

// killed is told of each kill just before it is made.
func (r *repeats) killed(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kills = append(r.kills, at)
}

// observe makes the observer of a receiver.
func (r *repeats) observe(receiver int) *observer {
	o := observer(func(id []byte, at time.Time) { r.delivered(receiver, id, at) })
	return &o
}

func (r *repeats) delivered(receiver int, id []byte, at time.Time) {
	run, seq, ok := parseID(id)
	if !ok || run != r.run || seq >= uint64(len(r.seen[receiver])) {
		return // the ledger tells of events that nobody posted
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.seen[receiver][seq]
	r.seen[receiver][seq] = at
	if before.IsZero() {
		return
	}
	// The first kill after the delivery is the one that undid it.
	after := slices.IndexFunc(r.kills, before.Before)
	if after >= 0 {
		r.oldest = max(r.oldest, r.kills[after].Sub(before))
		return
	}
	if n := len(r.kills); n > 0 && before.Sub(r.kills[n-1]) < lateReceipt {
		return
	}
	r.groundless++
}

// judge returns an error when a repeat is not explained by a kill that came at most one save later.
func (r *repeats) judge() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.groundless > 0:
		return fmt.Errorf("%d deliveries were repeated without a kill", r.groundless)
	case r.oldest > maxUnsaved:
		return fmt.Errorf("a delivery was repeated that was settled %s before the kill, more than %s", r.oldest.Round(time.Millisecond), maxUnsaved)
	}
	return nil
}
