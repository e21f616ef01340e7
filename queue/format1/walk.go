package format1

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
)

// logCount is what a walk over the log found.
type logCount struct {
	runs     []run // of events that exist, ascending
	next     uint64
	nextLane uint32
	events   int64
	bytes    int64
	missing  uint64 // events
}

// run is events without a gap.
type run struct{ from, to uint64 }

// has reports whether the log has an event.
func (t *logCount) has(seq uint64) bool {
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].to > seq })
	return i < len(t.runs) && t.runs[i].from <= seq
}

// count walks the log, once.
func (r *Reader) count() (*logCount, error) {
	if r.logCount == nil {
		if err := r.Frames(func(*Frame) error { return nil }); err != nil {
			return nil, err
		}
	}
	return r.logCount, nil
}

// logWalk goes over the frames of store and journal as one log.
type logWalk struct {
	r        *Reader
	lanes    *laneTable
	count    *logCount
	fn       func(*Frame) error
	expected uint64 // the event behind the last one; 0 before the first
	saved    int64  // events found that the store must have

	missingInStore uint64           // events missing of those
	unownedEvents  map[uint32]int64 // deliveries of lanes that do not exist
}

// Frames calls fn with every frame of the log, ascending: those of the store's blocks, and those of the journal that the
// store lacks. No event comes twice: a frame of which a part came before is cut. Missing events are reported. A frame is
// valid during the call.
func (r *Reader) Frames(fn func(*Frame) error) error {
	h, err := r.lanes()
	if err != nil {
		return err
	}
	w := &logWalk{r: r, lanes: h, count: &logCount{nextLane: r.applied.lanes}, fn: fn, unownedEvents: map[uint32]int64{}}
	for _, l := range w.lanes.lanes {
		if l != nil {
			l.pending = 0
		}
	}
	if err := r.eachBlock(kindBlock, w.block); err != nil {
		return err
	}
	if w.expected > 0 { // else retention had deleted everything in the store, or its position is lost
		if err := w.before(r.applied.next); err != nil {
			return err
		}
	} else if r.placed {
		w.expected = r.applied.next
	}
	if err := w.fill(math.MaxUint64); err != nil {
		return err
	}
	if w.gap(max(r.checkpoint.end, w.lanes.beyond)); w.expected == 0 {
		w.expected = r.applied.next
	}
	return w.finish()
}

// block takes a block of the store. A block behind the store's position is left of a save that was cut short; or the
// position is an older one, and the journal may lack those events.
func (w *logWalk) block(last uint64, raw []byte, err error) error {
	for err == nil && len(raw) > 0 {
		var f *Frame
		if f, raw, err = w.r.parser.parse(raw); err != nil {
			break
		}
		if w.expected > 0 {
			if err := w.before(f.First); err != nil {
				return err
			}
		}
		if err := w.take(f); err != nil {
			return err
		}
	}
	if err != nil && last < w.r.applied.next {
		w.r.damage("store", fmt.Sprintf("the block up to event %d can't be read: %v", last, err))
	}
	return nil
}

// before takes from the journal what it has of the events before one, and reports those that neither has.
func (w *logWalk) before(first uint64) error {
	if w.expected >= first {
		return nil
	}
	if err := w.fill(first); err != nil {
		return err
	}
	w.gap(first)
	return nil
}

// fill takes the journal's frames from the expected event on, as far as they begin below an event.
func (w *logWalk) fill(below uint64) error {
	list := w.r.journal.frames
	for i := sort.Search(len(list), func(i int) bool { return list[i].end() > w.expected }); i < len(list) && list[i].first < below; i++ {
		p := &list[i]
		if p.end() <= w.expected {
			continue
		}
		raw, err := w.r.journal.read(p)
		var f *Frame
		if err == nil {
			f, _, err = w.r.entries.parse(raw)
		}
		if err != nil && !isDamage(err) {
			return err
		}
		if err != nil {
			w.r.damage("journal", fmt.Sprintf("the entry with events %d to %d can't be read: %v", p.first, p.end()-1, err))
			continue
		}
		if w.expected > 0 {
			w.gap(f.First)
		}
		if err := w.take(f); err != nil {
			return err
		}
	}
	return nil
}

// gap reports events that are missing before one that is not.
func (w *logWalk) gap(first uint64) {
	if first <= w.expected {
		return
	}
	from := max(w.expected, 1)
	w.expected = first
	w.count.missing += first - from
	if below := min(first, w.r.applied.next); below > from {
		w.missingInStore += below - from
	}
	if first > from {
		w.r.damage("log", fmt.Sprintf("events %d to %d are missing (%d)", from, first-1, first-from))
	}
}

// take counts what did not come before, and passes it to fn.
func (w *logWalk) take(f *Frame) error {
	if w.expected == 0 {
		if !w.r.placed && f.First > 1 {
			w.count.missing += f.First - 1
			w.r.damage("log", fmt.Sprintf("the %d events before event %d are missing; retention may have deleted some of them", f.First-1, f.First))
		}
		w.expected = f.First
	}
	if f.End() <= w.expected {
		return nil
	}
	if f.First < w.expected {
		f.Events = f.Events[w.expected-f.First:]
		f.First = w.expected
	}
	w.expected = f.End()
	if n := len(w.count.runs); n > 0 && w.count.runs[n-1].to == f.First {
		w.count.runs[n-1].to = f.End()
	} else {
		w.count.runs = append(w.count.runs, run{f.First, f.End()})
	}
	w.count.events += int64(len(f.Events))
	if f.First < w.r.applied.next {
		w.saved += int64(len(f.Events))
	}
	// Events with the same set of lanes share its slice, and mostly come in a row.
	begin := 0
	for i := range f.Events {
		w.count.bytes += int64(len(f.Events[i].Body))
		if i+1 == len(f.Events) || !same(f.Events[i].Lanes, f.Events[i+1].Lanes) {
			w.pending(f.Events[i].Lanes, f.Events[begin].Seq, f.Events[i].Seq+1)
			begin = i + 1
		}
	}
	return w.fn(f)
}

func same(a, b []uint32) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// pending counts pending deliveries of events in a row that go to the same lanes.
func (w *logWalk) pending(lanes []uint32, from, to uint64) {
	if len(lanes) > 0 {
		w.count.nextLane = max(w.count.nextLane, lanes[len(lanes)-1]+1)
	}
	for _, id := range lanes {
		l := w.lanes.at(id)
		if l == nil || l.Lost {
			w.unownedEvents[id] += int64(to - from)
			continue
		}
		if l.Cursor >= to {
			continue
		}
		first := max(from, l.Cursor)
		if len(l.Settled) == 0 {
			l.pending += int64(to - first)
			continue
		}
		begin, _ := slices.BinarySearch(l.Settled, first)
		end, _ := slices.BinarySearch(l.Settled, to)
		l.pending += int64(to-first) - int64(end-begin)
	}
}

// finish adds the retained events, and compares what was found with what the store says it had.
func (w *logWalk) finish() error {
	r, t := w.r, w.count
	t.next = max(w.expected, r.applied.next)
	t.nextLane = max(t.nextLane, w.lanes.found)
	first := r.logCount == nil
	r.logCount = t
	err := r.Retained(func(ev Event) error {
		t.events++
		t.bytes += int64(len(ev.Body))
		w.saved++
		return nil
	})
	if err != nil {
		r.logCount = nil
		return err
	}
	if lost := r.applied.events - w.saved - int64(w.missingInStore); r.placed && lost > 0 {
		t.missing += uint64(lost)
		r.damage("log", fmt.Sprintf("%d more of the events that the store counted are missing: at the log's beginning, or among retained ones", lost))
	}
	if !first {
		return nil
	}
	if r.damaged > 0 { // else those lanes were deleted
		for _, id := range slices.Sorted(maps.Keys(w.unownedEvents)) {
			if _, deleted, _ := r.store.get(laneKey(id)); !deleted {
				r.report("lanes", fmt.Sprintf("lane %d has no record, and %d events are for it: unless it was deleted, its pending deliveries are lost", id, w.unownedEvents[id]))
			}
		}
	}
	for _, l := range w.lanes.lanes {
		if l == nil || l.Lost {
			continue
		}
		// The store does not count what only the journal has, so less is no sign of a loss.
		if before := r.applied.matched[l.ID] - l.Passed; before > l.pending {
			r.report("lanes", fmt.Sprintf("endpoint %q: the events of %d of its %d pending deliveries are not in the log any more", l.Name, before-l.pending, before))
		}
	}
	return r.store.err
}
