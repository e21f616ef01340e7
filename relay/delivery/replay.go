package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

// Replay is the progress of a replay, in the form of /stats.
type Replay struct {
	ID        string     `json:"id"`
	State     string     `json:"state"` // running, done or cancelled
	Began     time.Time  `json:"began"`
	Ended     *time.Time `json:"ended,omitempty"`
	IDs       int        `json:"ids,omitempty"` // how many it was given
	OfFailed  bool       `json:"of_failed"`
	Types     []string   `json:"types,omitempty"`
	Classes   []string   `json:"classes,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
	Rate      float64    `json:"rate,omitempty"`
	Total     *int64     `json:"total,omitempty"` // missing when they were too many to count at once
	TakenUp   int64      `json:"taken_up"`        // attempted at least once; each of them is in one of the next three
	Delivered int64      `json:"delivered"`
	Failed    int64      `json:"failed"`
	Retrying  int64      `json:"retrying"`
	Passed    int64      `json:"passed_over"` // pending or retrying anyway, or not stored any more
}

// ReplayOf puts the queue's status of a replay into the form of /stats.
func ReplayOf(s queue.ReplayStatus) Replay {
	r := Replay{
		ID: s.ID, State: s.State, Began: s.Began.UTC(), Ended: timeOrNil(s.Ended), IDs: len(s.Spec.Seqs), OfFailed: s.Spec.Failed,
		Types: s.Spec.Types, Classes: s.Spec.Classes, Since: timeOrNil(s.Spec.Since), Until: timeOrNil(s.Spec.Until), Rate: s.Spec.Rate,
		TakenUp: s.TakenUp, Delivered: s.Delivered, Failed: s.Failed, Retrying: s.Retrying, Passed: s.Passed,
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
