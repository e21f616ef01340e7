package queue

import (
	"strings"

	"realtorbot-relay/queue/log"
)

// criteria are the part of a query that an event alone decides. The zero value matches all events.
type criteria struct {
	types        []string     // see matchesType
	lane         *Lane        // nil for any
	source       string       // empty for any
	members      []log.Member // for the finder alone: an event may have others
	since, until int64        // accepted from since on and before until, queue times; 0: no bound
}

// matchesType reports whether a type matches one of the patterns, each a type, "group.*" or "*"; without patterns every type
// does.
func matchesType[T string | []byte](patterns []string, name T) bool {
	for _, p := range patterns {
		group, open := strings.CutSuffix(p, "*")
		if open && len(name) > len(group) && string(name[:len(group)]) == group || !open && string(name) == p {
			return true
		}
	}
	return len(patterns) == 0
}

// match reports whether an event matches.
func (c *criteria) match(ev *Stored) bool {
	return ev.At >= c.since && (c.until == 0 || ev.At < c.until) &&
		(c.lane == nil || ev.Lanes.Has(c.lane.id)) && (c.source == "" || ev.Source == c.source) && matchesType(c.types, ev.Type)
}

// finder returns a finder of blocks that may have events which match.
func (q *Queue) finder(c *criteria) *log.Finder {
	var words []uint64
	if c.lane != nil {
		words = append(words, log.LaneWord(q.log.Key(), c.lane.id))
	}
	if c.source != "" {
		words = append(words, log.SourceWord(q.log.Key(), c.source))
	}
	return q.log.NewFinder(log.TypeWords(q.log.Key(), c.types), words, c.members, c.since, c.until)
}
