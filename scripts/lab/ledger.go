package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
)

// ledger is what a run of the generator knows about its events, by sequence number.
type ledger struct {
	run     uint32
	acked   []uint64 // answered 200
	unknown []uint64 // posted, and any other answer or none was seen
}

// write puts the acknowledged ids into a file, one a line.
func (l *ledger) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create ledger: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<16)
	id := make([]byte, 0, idLength+1)
	for _, seq := range l.acked {
		id = append(appendID(id[:0], l.run, seq), '\n')
		w.Write(id) // a bufio.Writer keeps its first error for Flush
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("write ledger: %w", err)
	}
	return f.Close()
}

// comparison is a ledger beside what one receiver got.
type comparison struct {
	Acknowledged     int `json:"acknowledged"`
	Lost             int `json:"lost"`              // acknowledged, and never received: must be 0
	UnknownDelivered int `json:"unknown_delivered"` // received without an answer having been seen: allowed
	NeverSent        int `json:"never_sent"`        // received, though this run never posted it: must be 0
}

// compare counts. received is read only.
func (l *ledger) compare(received map[string]struct{}) comparison {
	c := comparison{Acknowledged: len(l.acked)}
	id := make([]byte, 0, idLength)
	for _, seq := range l.acked {
		id = appendID(id[:0], l.run, seq)
		if _, ok := received[string(id)]; !ok {
			c.Lost++
		}
	}
	for _, seq := range l.unknown {
		id = appendID(id[:0], l.run, seq)
		if _, ok := received[string(id)]; ok {
			c.UnknownDelivered++
		}
	}
	c.NeverSent = len(received) - (c.Acknowledged - c.Lost) - c.UnknownDelivered
	return c
}

// dropOne takes one random acknowledged event out of received, which is how a run shows that its comparison can fail.
// It returns the id, or "" when none of them was received.
func (l *ledger) dropOne(received map[string]struct{}) string {
	order := slices.Clone(l.acked)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, seq := range order {
		id := string(appendID(nil, l.run, seq))
		if _, ok := received[id]; ok {
			delete(received, id)
			return id
		}
	}
	return ""
}
