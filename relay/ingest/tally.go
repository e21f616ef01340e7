package ingest

import (
	"strconv"
	"sync/atomic"
)

// tally is what was counted about a source since the start, for /metrics. It belongs to the name: a source that a reload
// replaces hands it on.
type tally struct {
	events, duplicates atomic.Int64
	requests           [len(statuses) + 1]atomic.Int64 // by status of the answer; the last for any other
}

// statuses are what a source answers: a closed set.
var statuses = [...]int{200, 400, 401, 403, 405, 408, 413, 415, 429, 503}

// note counts a request by the status of its answer.
func (t *tally) note(status int) {
	at := 0
	for at < len(statuses) && statuses[at] != status {
		at++
	}
	t.requests[at].Add(1)
}

// SourceTally is a snapshot of what was counted about a source since the start.
type SourceTally struct {
	Source             string
	Events, Duplicates int64
	Requests           map[string]int64 // by status of the answer, "other" for those that are none of the usual
}

// Tallies tells what was counted about the sources, in the order of the configuration.
func (in *Intake) Tallies() []SourceTally {
	var list []SourceTally
	for _, s := range *in.listed.Load() {
		t := SourceTally{Source: s.Name, Events: s.tally.events.Load(), Duplicates: s.tally.duplicates.Load(), Requests: map[string]int64{}}
		for i := range s.tally.requests {
			status := "other"
			if i < len(statuses) {
				status = strconv.Itoa(statuses[i])
			}
			t.Requests[status] = s.tally.requests[i].Load()
		}
		list = append(list, t)
	}
	return list
}
