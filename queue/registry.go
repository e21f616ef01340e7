package queue

import (
	"fmt"
	"slices"

	"realtorbot-relay/queue/entry"
)

// Which lanes there are. Only the writer's goroutine changes it; everybody reads it without waiting.

// Lane returns the lane of an endpoint by its name. It makes a lane that does not exist, as MakeLanes does; else it reads
// memory.
func (q *Queue) Lane(name string) (*Lane, error) {
	if lane := q.Find(name); lane != nil {
		return lane, nil // this works on a full disk
	}
	if err := q.MakeLanes([]string{name}); err != nil {
		return nil, err
	}
	return q.Find(name), nil
}

// MakeLanes makes the lanes that do not exist, in one commit. They begin at the end of the log. When it returns nil they are
// durable: it waits for the writer's goroutine and a sync. When all exist it reads memory.
func (q *Queue) MakeLanes(names []string) error {
	first := slices.IndexFunc(names, func(name string) bool { return q.Find(name) == nil })
	if first < 0 {
		return nil
	}
	err := q.update(func() error {
		w := &q.writer
		var list []*entryDraft
		var made []*Lane
		seen := map[string]bool{}
		for _, name := range names {
			if seen[name] || q.Find(name) != nil {
				continue
			}
			seen[name] = true
			end := q.end.Load()
			lane := newLane(q, w.nextLane, laneRecord{name: name, cursor: end, born: end, counted: end})
			w.nextLane++
			made = append(made, lane)
			list = append(list, &entryDraft{lane: lane, made: &entry.Lane{ID: lane.id, Name: name, Record: lane.record().append(nil)}})
		}
		if err := w.commitOrFail(q, list); err != nil {
			return err
		}
		q.addLanes(made)
		return nil
	})
	if err != nil {
		return fmt.Errorf("make lane %q: %w", names[first], err)
	}
	return nil
}

// Find returns the lane of an endpoint by its name, also of one that is not configured any more; nil when there is none. It reads memory
// and waits for nothing.
func (q *Queue) Find(name string) *Lane {
	if names := q.names.Load(); names != nil {
		return (*names)[name]
	}
	return nil
}

// addLanes shows lanes to the committer. Only the writer's goroutine and Open call it.
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

// Lanes returns all lanes, also those whose endpoint is not configured any more. It reads memory and waits for nothing.
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

// lanesOf returns those lanes of a set that there are. It reads memory, as much as the set has.
func (q *Queue) lanesOf(set LaneSet) (list []*Lane) {
	all := *q.lanes.Load()
	set.Each(func(id LaneID) {
		if int(id) < len(all) && all[id] != nil {
			list = append(list, all[id])
		}
	})
	return list
}

// Discard deletes a lane with everything that it holds, for good. Nobody may use the lane any more. When it returns nil that
// is durable: it waits for the writer's goroutine and the disk.
func (q *Queue) Discard(lane *Lane) error {
	err := q.call(&call{clean: true, fn: func() error {
		w := &q.writer
		if err := w.commitOrFail(q, []*entryDraft{{lane: lane, discard: true, made: &entry.Lane{ID: lane.id, Name: lane.name}}}); err != nil {
			return err
		}
		lanes := append([]*Lane(nil), *q.lanes.Load()...)
		lanes[lane.id] = nil
		q.showLanes(lanes)
		lane.close()
		q.freed.Store(true)
		return w.flush(q)
	}})
	if err != nil {
		return fmt.Errorf("discard lane %q: %w", lane.name, err)
	}
	return nil
}
