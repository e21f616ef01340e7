package queue

import (
	"fmt"

	"realtorbot-relay/queue/entry"
)

// Which lanes there are. The keeper alone changes it; everybody looks at it without waiting.

// Lane returns the lane of the endpoint with the given name. A lane that is not there yet is made, on disk, and begins at
// the end of the log.
func (q *Queue) Lane(name string) (*Lane, error) {
	if lane := q.laneNamed(name); lane != nil {
		return lane, nil // also on a full disk
	}
	if err := q.MakeLanes([]string{name}); err != nil {
		return nil, err
	}
	return q.laneNamed(name), nil
}

// MakeLanes makes the lanes that are not there yet, on disk, in one commit. They begin at the end of the log.
func (q *Queue) MakeLanes(names []string) error {
	missing := false
	for _, name := range names {
		missing = missing || q.laneNamed(name) == nil
	}
	if !missing {
		return nil
	}
	err := q.update(func() error {
		k := &q.keeper
		var list []*gathered
		var made []*Lane
		seen := map[string]bool{}
		for _, name := range names {
			if seen[name] || q.laneNamed(name) != nil {
				continue
			}
			seen[name] = true
			end := q.end.Load()
			lane := newLane(q, k.nextLane, laneRecord{name: name, cursor: end, born: end, counted: end})
			k.nextLane++
			made = append(made, lane)
			list = append(list, &gathered{lane: lane, made: &entry.Lane{ID: lane.id, Name: name, Record: lane.record().append(nil)}})
		}
		if err := k.mustCommit(q, list); err != nil {
			return err
		}
		q.addLanes(made)
		return nil
	})
	if err != nil {
		return fmt.Errorf("make lane %q: %w", names[0], err)
	}
	return nil
}

func (q *Queue) laneNamed(name string) *Lane {
	if names := q.names.Load(); names != nil {
		return (*names)[name]
	}
	return nil
}

// addLanes shows lanes to the committer. Keeper and start only.
func (q *Queue) addLanes(made []*Lane) {
	lanes := append([]*Lane(nil), *q.lanes.Load()...)
	for _, lane := range made {
		for len(lanes) <= int(lane.id) {
			lanes = append(lanes, nil)
		}
		lanes[lane.id] = lane
	}
	q.showLanes(lanes)
}

func (q *Queue) showLanes(lanes []*Lane) {
	names := make(map[string]*Lane, len(lanes))
	for _, l := range lanes {
		if l != nil {
			names[l.name] = l
		}
	}
	q.names.Store(&names)
	q.lanes.Store(&lanes)
}

// Lanes returns all lanes there are, also those whose endpoint is not configured any more.
func (q *Queue) Lanes() []*Lane {
	all := *q.lanes.Load()
	list := make([]*Lane, 0, len(all))
	for _, l := range all {
		if l != nil {
			list = append(list, l)
		}
	}
	return list
}

// GiveUp deletes a lane with all that it holds, for good. Nobody may use the lane any more.
func (q *Queue) GiveUp(lane *Lane) error {
	err := q.call(&call{clean: true, fn: func() error {
		k := &q.keeper
		if err := k.mustCommit(q, []*gathered{{lane: lane, discard: true, made: &entry.Lane{ID: lane.id, Name: lane.name}}}); err != nil {
			return err
		}
		lanes := append([]*Lane(nil), *q.lanes.Load()...)
		lanes[lane.id] = nil
		q.showLanes(lanes)
		lane.close()
		q.freed.Store(true)
		return k.flush(q)
	}})
	if err != nil {
		return fmt.Errorf("give up lane %q: %w", lane.name, err)
	}
	return nil
}
