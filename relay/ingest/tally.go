package ingest

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue"
)

// tally is what was counted about a source since the start, for /metrics. It belongs to the name: a source that a reload
// replaces hands it on.
type tally struct {
	events, duplicates atomic.Int64
	requests           [len(statuses) + 1]atomic.Int64 // by status of the answer; the last for any other
	refused            [len(reasons)]atomic.Int64      // those answered 503, by reason
	lacked             atomic.Int64                    // bytes of the last request for which the source's share had no room
	lackedAt           atomic.Int64                    // when that was, Unix nanoseconds
}

// SourceFull is the reason of a refusal for want of room in a source's share, and its code.
const SourceFull = "source_full"

// reasons are why a request is answered 503: a closed set.
var reasons = [...]string{"disk", "overloaded", "stopping", "reloaded", "failed", SourceFull}

func (t *tally) unavailable(reason string) {
	if at := slices.Index(reasons[:], reason); at >= 0 {
		t.refused[at].Add(1)
	}
}

// lacks remembers how much room was not there for events of which some may be repeats.
func (t *tally) lacks(events []queue.Event, receipts []queue.Receipt, now time.Time) {
	size := int64(0)
	for i := range events {
		if !receipts[i].Duplicate {
			size += int64(len(events[i].Body))
		}
	}
	t.lacked.Store(size)
	t.lackedAt.Store(now.UnixNano())
}

// stored notes that there was room for something. Then the source is full no longer, unless it was refused lately: who is told to
// come again in a minute has had the time to.
func (t *tally) stored(now time.Time) {
	if t.lacked.Load() > 0 && now.UnixNano()-t.lackedAt.Load() > int64(fullRests) {
		t.lacked.Store(0)
	}
}

// fullRests is for how long after it was refused a source is full though something smaller is stored.
const fullRests = 2 * time.Minute

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
	Refused            map[string]int64 // requests answered 503, by reason

	QueuedEvents, QueuedBytes int64 // of its events, now
	MaxQueued                 int64 // bytes that may be kept of them; 0: any number
	Full                      bool  // the request that was refused last for want of that would be refused now, too
}

// Tallies tells what was counted about the sources, in the order of the configuration.
func (in *Intake) Tallies() []SourceTally {
	var list []SourceTally
	for _, s := range *in.listed.Load() {
		t := SourceTally{Source: s.Name, Events: s.tally.events.Load(), Duplicates: s.tally.duplicates.Load(), Requests: map[string]int64{}, Refused: map[string]int64{}}
		for i := range s.tally.requests {
			status := "other"
			if i < len(statuses) {
				status = strconv.Itoa(statuses[i])
			}
			t.Requests[status] = s.tally.requests[i].Load()
		}
		for i, reason := range reasons {
			t.Refused[reason] = s.tally.refused[i].Load()
		}
		t.MaxQueued = s.MaxQueued
		t.QueuedEvents, t.QueuedBytes = in.queue.Usage(s.Name)
		t.Full = s.MaxQueued > 0 && s.tally.lacked.Load() > 0 && t.QueuedBytes+min(s.tally.lacked.Load(), s.MaxQueued) > s.MaxQueued
		list = append(list, t)
	}
	return list
}
