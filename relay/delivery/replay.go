package delivery

import (
	"realtorbot-relay/queue"
	"realtorbot-relay/relay/rfc3339"
)

// Replay is the progress of a replay, in the form of /stats.
type Replay struct {
	ID        string       `json:"id"`
	State     string       `json:"state"` // running, done or cancelled
	Began     rfc3339.Time `json:"began_at"`
	Ended     rfc3339.Time `json:"ended_at,omitzero"`
	IDs       int          `json:"ids,omitempty"` // how many it was given
	OfFailed  bool         `json:"of_failed"`
	Types     []string     `json:"types,omitempty"`
	Classes   []string     `json:"classes,omitempty"`
	Since     rfc3339.Time `json:"since,omitzero"`
	Until     rfc3339.Time `json:"until,omitzero"`
	Rate      float64      `json:"rate,omitempty"`
	Total     *int64       `json:"total,omitempty"` // missing when they were too many to count at once
	TakenUp   int64        `json:"taken_up"`        // attempted at least once; each of them is in one of the next three
	Delivered int64        `json:"delivered"`
	Failed    int64        `json:"failed"`
	Retrying  int64        `json:"retrying"`
	Skipped   int64        `json:"skipped"` // pending or retrying anyway, or not stored any more
}

// ReplayOf puts the queue's status of a replay into the form of /stats.
func ReplayOf(s queue.ReplayStatus) Replay {
	r := Replay{
		ID: s.ID, State: s.State, Began: rfc3339.At(s.Began), Ended: rfc3339.At(s.Ended), IDs: len(s.Spec.Seqs), OfFailed: s.Spec.Failed,
		Types: s.Spec.Types, Classes: s.Spec.Classes, Since: rfc3339.At(s.Spec.Since), Until: rfc3339.At(s.Spec.Until), Rate: s.Spec.Rate,
		TakenUp: s.TakenUp, Delivered: s.Delivered, Failed: s.Failed, Retrying: s.Retrying, Skipped: s.Passed,
	}
	if s.Total >= 0 {
		r.Total = &s.Total
	}
	return r
}

// runningReplays returns the replays of a lane that have not ended.
func runningReplays(queueLane *queue.Lane) (list []Replay) {
	for _, s := range queueLane.Replays() {
		if s.State == queue.ReplayRunning {
			list = append(list, ReplayOf(s))
		}
	}
	return list
}
