package queue

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
)

// Each retry of a lane has a record, in the store or on its way there. Those that are due first are in memory as well; of
// the others the lane knows only how many there are, and when the first may be due, for each range of events (a page). So a
// lane takes events from the log however many retries it has, and however many others have.
//
// A retry is in one of four places. It moves between them under the lane's mu alone:
//
//	loaded     in memory                    addRetry, loadRetries ─▶ loaded ─▶ popRetry, unloadAfter
//	handedOut  returned by TakeDue          popRetry ─▶ handedOut ─▶ addRetry (again later), endRetry
//	unloaded   counted by its page alone    addRetry, unloadAfter ─▶ unloaded ─▶ loadRetries
//	found      read by loadRetries          unloaded ─▶ found ─▶ loaded, unloaded
//
// Its record is in the store, or among the lane's unsaved changes, as long as it is in any of them.

// retry is a delivery that was attempted and will be attempted again.
type retry struct {
	seq      uint64
	due      time.Time
	queued   int64 // since when it waits, queue time
	attempts int
	replay   uint64 // number of the replay that it is part of, 0 for none
}

// retryOrder orders the retries of a lane.
type retryOrder struct {
	due time.Time
	seq uint64
}

func (r *retry) order() retryOrder { return retryOrder{r.due, r.seq} }

func (p retryOrder) compare(o retryOrder) int {
	return cmp.Or(p.due.Compare(o.due), cmp.Compare(p.seq, o.seq))
}

// retries are a lane's retries that are in memory, and what is known of the others. Everything is under the lane's mu.
type retries struct {
	loaded    retryHeap
	handedOut map[uint64]struct{} // their events
	unloaded  retryPages

	hastenedTo time.Time // what Hasten was given last
	hastenedAt int64     // when that was, queue time

	// While records are read:
	changed      map[uint64]*retry // retries that were queued meanwhile; nil: it came into memory
	loading      bool              // pages are being read,
	loadingLeast retryOrder        // and none of their retries is before this
}

func (p *retryOrder) hasten(when time.Time) {
	if p.due.After(when) {
		*p = retryOrder{due: when}
	}
}

// retryCapacity is how many retries of the lane may be in memory: always some, and more while all lanes together have few.
func (l *Lane) retryCapacity() int {
	if l.q.retriesInMemory.Load() >= int64(l.q.opts.allRetries) {
		return l.q.opts.laneRetries
	}
	return 16 * l.q.opts.laneRetries
}

// addRetry puts a retry where it belongs. The caller holds mu.
func (l *Lane) addRetry(r *retry) {
	if l.discarded {
		return
	}
	rs := &l.retries
	delete(rs.handedOut, r.seq)
	if rs.unloaded.count > 0 && r.order().compare(rs.unloaded.least) >= 0 {
		l.unload(r)
		return
	}
	rs.noteChange(r.seq, nil)
	heap.Push(&rs.loaded, r)
	l.q.retriesInMemory.Add(1)
	if capacity := l.retryCapacity(); len(rs.loaded) > capacity {
		slices.SortFunc(rs.loaded, func(a, b *retry) int { return a.order().compare(b.order()) })
		l.unloadAfter(max(capacity/2, 1))
	}
}

// noteChange tells a loadRetries under way of a retry that moved.
func (rs *retries) noteChange(seq uint64, r *retry) {
	if rs.changed != nil {
		rs.changed[seq] = r
	}
}

// unload leaves a retry to its record.
func (l *Lane) unload(r *retry) {
	l.retries.noteChange(r.seq, r)
	l.retries.unloaded.add(r.seq, 1, r.order())
}

// unloadAfter unloads all but the first n. They are in order.
func (l *Lane) unloadAfter(n int) {
	rs := &l.retries
	if n >= len(rs.loaded) {
		return
	}
	gone := rs.loaded[n:]
	for _, r := range gone {
		l.unload(r)
	}
	l.q.retriesInMemory.Add(-int64(len(gone)))
	clear(gone)
	rs.loaded = slices.Clip(rs.loaded[:n])
}

// popRetry hands out the first one.
func (l *Lane) popRetry() *retry {
	rs := &l.retries
	r := heap.Pop(&rs.loaded).(*retry)
	l.q.retriesInMemory.Add(-1)
	if rs.handedOut == nil {
		rs.handedOut = map[uint64]struct{}{}
	}
	rs.handedOut[r.seq] = struct{}{}
	return r
}

// next is when a retry may be due; zero when there is none.
func (rs *retries) next() time.Time {
	if rs.unloadedFirst() {
		return rs.unloadedLeast().due
	}
	if len(rs.loaded) > 0 {
		return rs.loaded[0].due
	}
	return time.Time{}
}

// unloadedFirst reports whether an unloaded retry may come before all that are loaded.
func (rs *retries) unloadedFirst() bool {
	if rs.unloaded.count == 0 && !rs.loading {
		return false
	}
	return len(rs.loaded) == 0 || rs.unloadedLeast().compare(rs.loaded[0].order()) < 0
}

// unloadedLeast is not behind any unloaded retry; there is one at least.
func (rs *retries) unloadedLeast() retryOrder {
	if rs.loading && (rs.unloaded.count == 0 || rs.loadingLeast.compare(rs.unloaded.least) < 0) {
		return rs.loadingLeast
	}
	return rs.unloaded.least
}

// forgetRetries frees the memory of all retries.
func (l *Lane) forgetRetries() {
	l.q.retriesInMemory.Add(-int64(len(l.retries.loaded)))
	l.retries = retries{}
}

// TakeDue returns the retry that is due first, if it is due by now. A sender that probes the endpoint passes a later time
// than now. It reads disk, and does not hold the lane's lock meanwhile.
func (l *Lane) TakeDue(now time.Time) (d *Delivery, ok bool) {
	for {
		l.mu.Lock()
		if due := l.retries.next(); due.IsZero() || due.After(now) || l.discarded || l.full() {
			l.mu.Unlock()
			return nil, false
		}
		if l.retries.unloadedFirst() {
			l.mu.Unlock()
			if err := l.loadRetries(false); err != nil {
				l.readLater(err)
				return nil, false
			}
			continue
		}
		r := l.popRetry()
		l.mu.Unlock()
		d := &Delivery{Event: Stored{Seq: r.seq}, Attempts: r.attempts, Replay: r.replay, Due: r.due, since: int64(r.replay), q: l.q, retry: r}
		ev, found, err := l.q.find(r.seq)
		if err == nil && found {
			if d.Replay == 0 {
				d.since = ev.At
			}
			ev.At = l.q.shown(ev.At)
			d.Event = ev
			return d, true
		}
		l.mu.Lock()
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			l.addRetry(r)
			l.mu.Unlock()
			l.readLater(err)
			return nil, false
		}
		l.q.damaged.Add(1)
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: event %d can't be read, so its delivery is failed: %v", l.name, r.seq, cmp.Or(err, errNotInLog)))
		l.fail(d, nil, Failure{Class: "unreadable", Reason: "the event can't be read from disk any more"})
		l.mu.Unlock()
	}
}

// errNotInLog: no segment has an event that is needed.
var errNotInLog = errors.New("the log does not have the event any more")

// Hasten makes every retry that waits due at now at the latest; they are handed out in the order in which their events
// arrived. That is not saved: after a restart they wait as long as Retry said, unless they are hastened again. It reads
// memory, under the lane's lock.
func (l *Lane) Hasten(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	rs.hastenedTo, rs.hastenedAt = now, l.q.now()
	for _, r := range rs.loaded {
		r.hasten(rs.hastenedTo, rs.hastenedAt)
	}
	heap.Init(&rs.loaded)
	rs.unloaded.hasten(now)
	rs.loadingLeast.hasten(now)
	l.wake()
}

// hasten brings forward a retry that waited when Hasten was called, at a queue time.
func (r *retry) hasten(when time.Time, at int64) {
	if !when.IsZero() && r.queued <= at && r.due.After(when) {
		r.due = when
	}
}

// retryHeap is a container/heap: first the one that is due first, then the one whose event arrived first.
type retryHeap []*retry

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h retryHeap) Less(i, j int) bool { return h[i].order().compare(h[j].order()) < 0 }

// Push is for container/heap.
func (h *retryHeap) Push(x any) { *h = append(*h, x.(*retry)) }

// Pop is for container/heap.
func (h *retryHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}
