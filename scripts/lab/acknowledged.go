package main

import (
	"slices"
	"sync"
	"time"
)

// acknowledged is the ledger of a load that is under way: what was answered 200 until now. It is safe for concurrent use.
type acknowledged struct {
	run uint32

	mu   sync.Mutex
	seqs []uint64
}

// note is told of each post of one event that was answered 200.
func (a *acknowledged) note(seq uint64, _, _ time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seqs = append(a.seqs, seq)
}

// ledger is what is known at this moment.
func (a *acknowledged) ledger() *ledger {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &ledger{run: a.run, acked: slices.Clone(a.seqs)}
}

// newest is the last n of them.
func (a *acknowledged) newest(n int) *ledger {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &ledger{run: a.run, acked: slices.Clone(a.seqs[max(0, len(a.seqs)-n):])}
}

func (a *acknowledged) count() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return uint64(len(a.seqs))
}
