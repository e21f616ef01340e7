package queue

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// What a lane is to attempt again has a record each, in the store or on its way there. The lane has those in memory that are
// due first; of the rest it knows no more than when the first may be due. So a lane takes from the log however much it is
// retrying, and however much others are: what nobody has room for is a range on disk.

// retry is a delivery that was attempted and will be again.
type retry struct {
	seq      uint64
	due      time.Time
	queued   int64 // since when it waits, queue time
	attempts int
	replay   uint64 // that it is part of, 0 for none
}

// place is where a retry stands among those of its lane.
type place struct {
	due time.Time
	seq uint64
}

func (r *retry) place() place { return place{r.due, r.seq} }

func (p place) compare(o place) int { return cmp.Or(p.due.Compare(o.due), cmp.Compare(p.seq, o.seq)) }

// retries is what of a lane's retries is in memory, and what is known of the rest. All is under the lane's mu.
type retries struct {
	first  retryHeap
	rest   bool  // there are more, none of which stands before beyond
	beyond place // of the rest
	away   map[uint64]struct{}
	short  bool // fewer of the rest were found than there are, and the store is compared with its sums

	hastened   time.Time // Hasten was called last
	hastenedAt int64     // queue time

	touched  map[uint64]*retry // while the rest is looked through: what was queued, nil when it is one of the first
	lookedTo uint64            // by whoever wants all of them, in the order of their arrival
}

// room is how many retries of a lane may be in memory. A lane always has some room, and more as long as all lanes together
// have.
func (l *Lane) room() int {
	if l.q.retriesHeld.Load() >= int64(l.q.opts.allRetries) {
		return l.q.opts.laneRetries
	}
	return 16 * l.q.opts.laneRetries
}

// add puts a retry where it belongs. The caller holds mu.
func (l *Lane) add(r *retry) {
	rs := &l.retries
	delete(rs.away, r.seq)
	if rs.rest && r.place().compare(rs.beyond) >= 0 {
		rs.touch(r.seq, r)
		return
	}
	rs.touch(r.seq, nil)
	heap.Push(&rs.first, r)
	l.q.retriesHeld.Add(1)
	if room := l.room(); len(rs.first) > room {
		slices.SortFunc(rs.first, func(a, b *retry) int { return a.place().compare(b.place()) })
		l.keepFirst(max(room/2, 1))
	}
}

func (rs *retries) touch(seq uint64, r *retry) {
	if rs.touched != nil {
		rs.touched[seq] = r
	}
}

// keepFirst leaves all but the first n to their records. They are in their order.
func (l *Lane) keepFirst(n int) {
	rs := &l.retries
	if n >= len(rs.first) {
		return
	}
	gone := rs.first[n:]
	for _, r := range gone {
		rs.touch(r.seq, r)
	}
	if p := gone[0].place(); !rs.rest || p.compare(rs.beyond) < 0 {
		rs.rest, rs.beyond = true, p
	}
	l.q.retriesHeld.Add(-int64(len(gone)))
	clear(gone)
	rs.first = slices.Clip(rs.first[:n])
}

// pop hands out the first one; it is away until it is added again or ended.
func (l *Lane) pop() *retry {
	rs := &l.retries
	r := heap.Pop(&rs.first).(*retry)
	l.q.retriesHeld.Add(-1)
	if rs.away == nil {
		rs.away = map[uint64]struct{}{}
	}
	rs.away[r.seq] = struct{}{}
	return r
}

// next is when a retry may be due; zero when none waits.
func (rs *retries) next() time.Time {
	due := time.Time{}
	if len(rs.first) > 0 {
		due = rs.first[0].due
	}
	if rs.rest && (due.IsZero() || rs.beyond.due.Before(due)) {
		due = rs.beyond.due
	}
	return due
}

// isBehind reports whether one of the rest may be before all that are in memory.
func (rs *retries) isBehind() bool {
	return rs.rest && (len(rs.first) == 0 || rs.beyond.compare(rs.first[0].place()) < 0)
}

// forget lets go of all retries.
func (l *Lane) forgetRetries() {
	l.q.retriesHeld.Add(-int64(len(l.retries.first)))
	l.retries = retries{}
}

// TakeDue hands out the retry that is due first, if it is due by now. With a later moment than now whoever probes an
// endpoint has one before its time. It reads from disk.
func (l *Lane) TakeDue(now time.Time) (d *Delivery, ok bool) {
	for {
		l.mu.Lock()
		if due := l.retries.next(); due.IsZero() || due.After(now) || l.gone || l.full() {
			l.mu.Unlock()
			return nil, false
		}
		if l.retries.isBehind() {
			l.mu.Unlock()
			if err := l.recall(false); err != nil {
				l.tryLater(err)
				return nil, false
			}
			continue
		}
		r := l.pop()
		l.mu.Unlock()
		d := &Delivery{Event: Stored{Seq: r.seq}, Attempts: r.attempts, Replay: r.replay, Due: r.due, began: l.q.shown(int64(r.replay)), retry: r}
		ev, found, err := l.q.find(r.seq)
		if err == nil && found {
			ev.At = l.q.shown(ev.At)
			d.Event = ev
			return d, true
		}
		l.mu.Lock()
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			if !l.gone {
				l.add(r)
			}
			l.mu.Unlock()
			l.tryLater(err)
			return nil, false
		}
		l.q.damaged.Add(1)
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: event %d can't be read and its delivery is given up: %v", l.name, r.seq, cmp.Or(err, errNotKept)))
		l.fail(d, nil, Failure{Class: "unreadable", Reason: "the event can't be read from disk any more"})
		l.mu.Unlock()
	}
}

// errNotKept: an event that is needed is in no segment.
var errNotKept = errors.New("the log does not have it any more")

// Hasten makes every retry that waits due at now at the latest, to be handed out in the order of their arrival. That is not
// saved: after a restart they wait as long as Retry was told, unless they are brought forward again.
func (l *Lane) Hasten(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	rs.hastened, rs.hastenedAt = now, l.q.now()
	for _, r := range rs.first {
		r.hasten(rs.hastened, rs.hastenedAt)
	}
	heap.Init(&rs.first)
	if rs.rest {
		rs.leave(now)
	}
	l.wake()
}

// hasten brings a retry forward that waited when all that waited were, which was at a moment, also told in queue time.
func (r *retry) hasten(when time.Time, at int64) {
	if !when.IsZero() && r.queued <= at && r.due.After(when) {
		r.due = when
	}
}

// recallStep is how many records are read at a time.
const recallStep = 2048

// recall looks through the records of the retries that are not in memory, and takes the first of them there. With all,
// whoever gives all of them up gets some, in the order of their arrival. It reads from disk, one caller at a time, and no
// lock that others need is held meanwhile.
func (l *Lane) recall(all bool) error {
	l.recalling.Lock()
	defer l.recalling.Unlock()
	s := l.beginRecall(all)
	if s == nil {
		return nil
	}
	err := s.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	touched := l.retries.touched
	l.retries.touched = nil
	if err != nil || l.gone {
		return err
	}
	return s.end(touched)
}

// recalled is what is found of a lane's retries.
type recalled struct {
	lane  *Lane
	all   bool
	room  int    // for how many it has
	from  uint64 // records of events below are not looked at
	to    uint64 // nor those from here on, if it was cut short
	cut   bool
	mine  map[uint64]struct{} // events whose retries were in memory or under way when it began
	early map[uint64]unsaved  // records that the store did not have then
	want  int64               // how many there should be
	found int64
	first lastFirst // of those that were found

	rest       bool // some had no room, and this is where the first of them stands:
	beyond     place
	hastened   time.Time
	hastenedAt int64
}

// beginRecall returns nil when there is nothing to look for.
func (l *Lane) beginRecall(all bool) *recalled {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	if l.gone || !rs.rest || !all && !rs.isBehind() {
		return nil
	}
	s := &recalled{
		lane: l, all: all, room: max(l.room()/2, 1), mine: map[uint64]struct{}{}, early: map[uint64]unsaved{},
		hastened: rs.hastened, hastenedAt: rs.hastenedAt,
	}
	if all {
		s.from = rs.lookedTo
	}
	for _, r := range rs.first {
		s.mine[r.seq] = struct{}{}
	}
	for seq := range rs.away {
		s.mine[seq] = struct{}{}
	}
	for name, u := range l.unsaved {
		if name.what == entry.Retry {
			s.early[name.seq] = u
		}
	}
	s.want = l.retrying - int64(len(s.mine))
	rs.touched = map[uint64]*retry{}
	return s
}

func (s *recalled) read() error {
	for seq, u := range s.early {
		if _, mine := s.mine[seq]; mine || u.record == nil {
			continue
		}
		r, err := parseRetry(seq, u.record)
		if err != nil {
			return err
		}
		s.offer(r)
	}
	for s.to = s.from; ; {
		list, more, err := s.step()
		if err != nil {
			return err
		}
		for _, r := range list {
			s.offer(r)
		}
		if !more {
			return nil
		}
		if s.all && s.first.Len() >= s.room {
			s.cut = true
			return nil
		}
	}
}

// step reads some records. What was queued since it began is left out: who queued it has told.
func (s *recalled) step() (list []*retry, more bool, err error) {
	l, n := s.lane, 0
	err = l.q.index.scan(recordKey(l.id, entry.Retry, s.to), recordKey(l.id, entry.Retry, math.MaxUint64), func(key store.Key, record []byte) (bool, error) {
		n++
		s.to = key.Number + 1
		_, early := s.early[key.Number]
		if _, mine := s.mine[key.Number]; !mine && !early {
			r, err := parseRetry(key.Number, record)
			if err != nil {
				return false, err
			}
			list = append(list, r)
		}
		return n < recallStep, nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	list = slices.DeleteFunc(list, func(r *retry) bool { _, is := l.retries.touched[r.seq]; return is })
	return list, n == recallStep && !l.gone, err
}

// offer takes in what a record tells, if it is among the first.
func (s *recalled) offer(r *retry) {
	s.found++
	r.due = s.lane.q.due(r.due)
	r.hasten(s.hastened, s.hastenedAt)
	heap.Push(&s.first, r)
	if !s.all && s.first.Len() > s.room {
		last := heap.Pop(&s.first).(*retry).place()
		if !s.rest || last.compare(s.beyond) < 0 {
			s.rest, s.beyond = true, last
		}
	}
}

// end puts what was found into the lane. The caller holds its mu.
func (s *recalled) end(touched map[uint64]*retry) error {
	l, rs := s.lane, &s.lane.retries
	had := len(rs.first)
	rs.first = append(rs.first, s.first.retryHeap...)
	for _, r := range touched {
		if r != nil {
			rs.first = append(rs.first, r)
		}
	}
	l.q.retriesHeld.Add(int64(len(rs.first) - had))
	rs.rest, rs.beyond, rs.lookedTo = s.rest, s.beyond, 0
	switch {
	case s.cut:
		rs.lookedTo = s.to
		rs.leave(time.UnixMilli(0))
	case s.from > 0:
		rs.leave(time.UnixMilli(0)) // those below
	}
	if rs.hastenedAt != s.hastenedAt { // since it began
		for _, r := range rs.first {
			r.hasten(rs.hastened, rs.hastenedAt)
		}
		if rs.rest {
			rs.leave(rs.hastened)
		}
	}
	slices.SortFunc(rs.first, func(a, b *retry) int { return a.place().compare(b.place()) })
	if !s.all {
		l.keepFirst(s.room)
	}
	if s.cut || s.from > 0 || s.found == s.want {
		rs.short = false
		return nil
	}
	return s.miscounted()
}

// leave notes that there are more, which may be due at a moment or later.
func (rs *retries) leave(due time.Time) {
	if p := (place{due: due}); !rs.rest || p.compare(rs.beyond) < 0 {
		rs.rest, rs.beyond = true, p
	}
}

// miscounted goes on when there are not as many retries as were counted. The store may have lost some, which its sums tell:
// then it is made again, and has them. What is missing then is lost.
func (s *recalled) miscounted() error {
	l, rs := s.lane, &s.lane.retries
	lost := s.want - s.found
	if lost > 0 && (!rs.short || l.q.keeper.suspected.Load()) {
		if !rs.short {
			rs.short = true
			l.q.keeper.doubt()
		}
		rs.leave(l.q.opts.Now().Add(readAgain))
		return fmt.Errorf("%d of its retries are not in the store", lost)
	}
	rs.short = false
	l.retrying -= lost
	l.changed()
	if lost > 0 {
		l.q.damaged.Add(lost)
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: %d deliveries that were retrying were among what can't be read any more", l.name, lost))
	}
	return nil
}

// retryHeap is a container/heap, first the one that is due first, then the one that arrived first.
type retryHeap []*retry

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h retryHeap) Less(i, j int) bool { return h[i].place().compare(h[j].place()) < 0 }

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

// lastFirst is a retryHeap the other way round.
type lastFirst struct{ retryHeap }

func (h lastFirst) Less(i, j int) bool { return h.retryHeap.Less(j, i) }
