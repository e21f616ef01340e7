package queue

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// checker walks log and store of a queue at rest and compares them with each other and with a ledger.
type checker struct {
	q          *Queue
	ledger     *ledger
	now        int64
	events     map[uint64]Stored
	logged     int64 // events that lie in the log and were not carried
	bodies     int64
	carried    map[uint64]bool
	carriedSum int64
	held       unservedUsage // what of that unserved lanes hold
	counted    struct{ carried, bytes, events, bodies, held int64 }
	weighed    bool // the last is as of now
	lanes      map[LaneID]*laneRecord
	retries    map[LaneID]map[uint64]bool
	failures   map[LaneID]map[uint64]bool
	replays    map[LaneID]bool
	sums       store.Sums
	fresh      store.Sums
	complaints []string
}

// check returns everything that is wrong with a queue. Nobody may use its lanes meanwhile.
func check(q *Queue, l *ledger, now int64) []string {
	c := &checker{
		q: q, ledger: l, now: now, events: map[uint64]Stored{}, carried: map[uint64]bool{}, lanes: map[LaneID]*laneRecord{},
		retries: map[LaneID]map[uint64]bool{}, failures: map[LaneID]map[uint64]bool{}, replays: map[LaneID]bool{},
	}
	// The writer, and retention with it, waits meanwhile.
	if err := errors.Join(q.writer.awaitSave(q), q.update(c.walk)); err != nil {
		return []string{err.Error()}
	}
	c.checkStore()
	c.checkEvents()
	for _, id := range slices.Sorted(maps.Keys(c.lanes)) {
		c.checkLane(id)
	}
	c.checkOrphans()
	return c.complaints
}

func (c *checker) say(format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Sprintf(format, args...))
}

func (c *checker) walk() error {
	_, c.sums = c.q.index.store.Sums()
	c.counted.carried, c.counted.bytes = int64(c.q.writer.retain.carriedEvents), c.q.writer.retain.carriedBytes
	c.counted.events, c.counted.bodies, _ = c.q.log.Totals()
	c.counted.held, c.weighed = c.q.writer.retain.unserved.all, !c.q.freed.Load() && !c.q.writer.retain.sweeping
	last := uint64(0)
	err := c.q.log.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		b, err := c.q.log.Read(p)
		if err != nil {
			return err
		}
		frames, err := b.Frames()
		for _, f := range frames {
			if f.First <= last {
				c.say("log: events %d to %d are there twice", f.First, last)
			}
			last = f.End() - 1
			c.logged += int64(f.End() - f.First)
			c.add(f, &c.bodies)
		}
		return err
	})
	if err != nil {
		c.say("log: %v", err)
	}
	for _, k := range store.Kinds {
		if err := c.q.index.scan(store.First(k), store.Last(k), c.file); err != nil {
			c.say("store: %v: %v", k, err)
		}
	}
	c.makeAgain()
	return nil
}

// makeAgain makes a store from the log, as if there were none.
func (c *checker) makeAgain() {
	dir := filepath.Join(c.q.opts.Dir, freshName)
	damaged := c.q.damaged.Load()
	_, err := c.q.makeStore()
	var s *store.Store
	if err == nil {
		s, err = store.Open(c.q.storeOptions(dir, false))
	}
	if err != nil {
		c.say("the store can't be made again from the log: %v", err)
		return
	}
	_, c.fresh = s.Sums()
	if err := errors.Join(s.Opened(), s.Close(closeLimit), os.RemoveAll(dir)); err != nil {
		c.say("the store that was made again: %v", err)
	}
	if c.q.damaged.Load() != damaged {
		c.say("the log lacks entries that make the store")
	}
}

// file takes one record of the store.
func (c *checker) file(key store.Key, value []byte) (bool, error) {
	var err error
	lane := LaneID(key.Lane)
	of := c.retries
	switch key.Kind {
	case store.Lane:
		if key != nextLaneKey {
			var r laneRecord
			r, err = parseLane(value)
			c.lanes[lane] = &r
		}
	case store.Failed, store.Retry:
		if key.Kind == store.Failed {
			of = c.failures
			_, err = parseFailure(key.Number, value)
		} else {
			_, err = parseRetry(key.Number, value)
		}
		if of[lane] == nil {
			of[lane] = map[uint64]bool{}
		}
		of[lane][key.Number] = true
	case store.Replay:
		c.replays[lane] = true
	case store.Carried:
		c.carried[key.Number] = true
		one, err := parseCarried(value)
		if err != nil {
			return true, err
		}
		c.carriedSum += int64(one.bytes)
		c.held.add(c.q, key.Number, one.bytes, one.lanes)
		f, err := c.q.carriedFrame(key.Number)
		if err != nil || f == nil {
			c.say("carried event %d can't be read: %v", key.Number, err)
			break
		}
		c.add(f, nil)
	}
	return true, err
}

func (c *checker) add(f *entry.Frame, bodies *int64) {
	for r := f.Reader(); ; {
		ev, ok, err := r.Next()
		if err != nil {
			c.say("log: %v", err)
		}
		if err != nil || !ok {
			return
		}
		if bodies != nil {
			*bodies += int64(len(ev.Body))
		}
		c.events[ev.Seq] = ev
	}
}

// checkStore: the store is what its sums say and what the log makes of it.
func (c *checker) checkStore() {
	list, err := c.q.index.store.Check()
	if err != nil || len(list) > 0 {
		c.say("store: it differs from its sums: %v, %v", list, err)
	}
	if lost, err := c.q.lostPlaces(); lost || err != nil {
		c.say("store: places of blocks are missing: %v", err)
	}
	for _, k := range store.Kinds {
		if k == store.Carried || k == store.Place {
			continue // those that nobody needs any more go at leisure, and none is missing
		}
		if has, makes := c.sums.Of(k), c.fresh.Of(k); has != makes {
			c.say("store: it has %d %v, and the log makes %d others of it", has.Count, k, makes.Count)
		}
	}
}

// checkEvents: no acknowledged event is missing, none is there that nobody sent or that was refused, and they are counted.
func (c *checker) checkEvents() {
	for _, id := range c.ledger.ids() {
		want := c.ledger.acked[id]
		ev, there := c.events[want.seq]
		switch {
		case !there && c.ledger.mayBeGone(id, c.now, c.q.opts.Retention):
			c.ledger.gone[id] = true
		case !there:
			c.say("log: event %s, number %d, was acknowledged and is missing", id, want.seq)
		case string(ev.ID) != id || !bytes.Equal(ev.Body, scenarioBody(id)):
			c.say("log: event %s, number %d, is now %s with %d bytes", id, want.seq, ev.ID, len(ev.Body))
		}
	}
	end := c.q.End()
	for seq, ev := range c.events {
		if !c.ledger.tried[string(ev.ID)] {
			c.say("log: event %s was never sent", ev.ID)
		}
		if c.ledger.refused[string(ev.ID)] {
			c.say("log: event %s was refused and is there", ev.ID)
		}
		if seq >= end {
			c.say("log: event %d is behind the end, %d", seq, end)
		}
	}
	if n := int64(len(c.carried)); c.counted.carried != n || c.counted.bytes != c.carriedSum {
		c.say("counters: %d events are carried, %d are counted", n, c.counted.carried)
	}
	if c.weighed && c.counted.held != c.held.all {
		c.say("counters: unserved lanes hold %d bytes of what was carried, %d are counted", c.held.all, c.counted.held)
	}
	if c.counted.events != c.logged || c.counted.bodies != c.bodies {
		c.say("counters: %d events of %d bytes are in the log, %d of %d are counted", c.logged, c.bodies, c.counted.events, c.counted.bodies)
	}
}

// checkLane: each delivery is in one state, one that the ledger allows; the counters are what a walk counts.
func (c *checker) checkLane(id LaneID) {
	r := c.lanes[id]
	if r.cursor > c.q.End() {
		c.say("lane %s: the cursor, %d, is behind the end of the log, %d", r.name, r.cursor, c.q.End())
	}
	if may, known := c.ledger.paused[r.name]; known && !slices.Contains(may, r.paused) {
		c.say("lane %s: it is paused %q, want %q", r.name, r.paused, may)
	}
	c.ledger.paused[r.name] = []string{r.paused}
	var pending int64
	for _, seq := range slices.Sorted(maps.Keys(c.events)) {
		ev := c.events[seq]
		if !ev.Lanes.Has(id) {
			continue
		}
		var states []string
		if seq >= r.cursor && !slices.Contains(r.settled, seq) {
			states = append(states, Pending)
			pending++
			if c.carried[seq] && seq < c.q.log.FirstKeptEvent() && !c.ledger.unserved[r.name] {
				c.say("lane %s: event %d is pending and its segment is gone", r.name, seq)
			}
		}
		if c.retries[id][seq] {
			states = append(states, Retrying)
		}
		if c.failures[id][seq] {
			states = append(states, Failed)
		}
		if len(states) == 0 {
			states = append(states, Delivered)
		}
		if len(states) > 1 {
			c.say("lane %s: event %d is in two states, %v", r.name, seq, states)
			continue
		}
		may := c.ledger.may(r.name, string(ev.ID))
		if !slices.ContainsFunc(may, func(one change) bool { return one.state == states[0] }) {
			c.say("lane %s: event %s, number %d, is %s, but may be %v", r.name, ev.ID, seq, states[0], may)
		}
		c.ledger.found(r.name, string(ev.ID), states[0])
	}
	lane := c.q.Find(r.name)
	if lane == nil {
		c.say("lane %s is in the store and is not served", r.name)
		return
	}
	s := lane.Stats()
	for _, one := range []struct {
		what               string
		is, counted, saved int64
	}{
		{"pending", pending, s.Pending, s.Pending},
		{"retrying", int64(len(c.retries[id])), s.Retrying, r.retrying},
		{"failed", int64(len(c.failures[id])), s.Failed, r.failed},
	} {
		if one.is != one.counted || one.is != one.saved {
			c.say("counters: lane %s has %d %s, %d are counted and %d saved", r.name, one.is, one.what, one.counted, one.saved)
		}
	}
	if since, _ := lane.isUnserved(); since != r.unserved {
		c.say("lane %s: it is unserved since %d, and %d is saved", r.name, since, r.unserved)
	}
	if s.Paused != r.paused {
		c.say("lane %s: it is paused %q, and %q is saved", r.name, s.Paused, r.paused)
	}
}

// checkOrphans: nothing is left of lanes and events that are gone, and no lane is gone that nobody gave up.
func (c *checker) checkOrphans() {
	names := map[string]bool{}
	for _, r := range c.lanes {
		names[r.name] = true
	}
	for name, wanted := range c.ledger.lanes {
		if wanted && !names[name] || c.ledger.discarded[name] && names[name] {
			c.say("lane %s: wanted %v, there %v", name, wanted, names[name])
		}
	}
	for what, of := range map[string]map[LaneID]map[uint64]bool{"retries": c.retries, "failed deliveries": c.failures} {
		for id, seqs := range of {
			if c.lanes[id] == nil {
				c.say("orphans: %d %s of lane %d, which is gone", len(seqs), what, id)
			}
			for seq := range seqs {
				if ev, there := c.events[seq]; !there || !ev.Lanes.Has(id) {
					c.say("orphans: %s of event %d for lane %d, which it is not for", what, seq, id)
				}
			}
		}
	}
	for id := range c.replays {
		if c.lanes[id] == nil {
			c.say("orphans: replays of lane %d, which is gone", id)
		}
	}
}
