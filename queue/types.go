package queue

import "realtorbot-relay/queue/entry"

// What an entry of the log holds is defined where entries are read and written.
type (
	// LaneID numbers a lane for good: it is never given to another.
	LaneID = entry.LaneID
	// LaneSet is an immutable set of lanes: the endpoints that one event goes to.
	LaneSet = entry.LaneSet
	// Event is what Append stores. Its slices are the caller's; they are copied before Append returns.
	Event = entry.Event
	// Stored is one event of the log. Its byte slices are shared and must not be written to.
	Stored = entry.Stored
	// Attempt is the record of one POST of one delivery.
	Attempt = entry.Attempt
	// Letter says of which failed delivery an event is a copy.
	Letter = entry.Letter
)

// NewLaneSet makes the set of the given lanes.
func NewLaneSet(ids ...LaneID) LaneSet { return entry.NewLaneSet(ids...) }
