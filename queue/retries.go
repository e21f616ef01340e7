package queue

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// What a lane is to attempt again has a record each, in the store or on its way there. The lane has those in memory that are
// due first; of the rest it knows no more than when the first may be due. So a lane takes from the log however much it is
// retrying, and however much others are: what nobody has room for is a range on disk.
//
// A retry is in one of four places, and moves between them under the lane's mu alone:
//
//	first   in memory                      add, recall ─▶ first ─▶ pop, keepFirst
//	away    handed out by TakeDue          pop ─▶ away ─▶ add (again later), endRetry
//	rest    counted by its page alone      add, keepFirst ─▶ rest ─▶ recall
//	found   in the hands of a recall       rest ─▶ found ─▶ first, rest
//
// Its record is in the store, or among the lane's unsaved changes, as long as it is in any of them.

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
	first retryHeap
	away  map[uint64]struct{} // events whose retries were handed out
	rest  retryPages

	hastened   time.Time // Hasten was called last
	hastenedAt int64     // queue time

	// While records are read:
	touched map[uint64]*retry // what was queued meanwhile, nil when it came into memory
	reads   bool              // pages are being read,
	reading place             // and none of theirs stands before this
}

// retryPages are ranges of events, one behind the other from the first event to the last, with what is known of the retries
// of each that are in none but their records.
type retryPages struct {
	list  []retryPage
	high  uint64 // the last event that was noted
	count int64
	least place // none of them stands before it; while there are some
}

type retryPage struct {
	from  uint64
	count int64
	least place
	short bool // fewer records were found than there are, and the store is compared with its sums
}

const (
	// pageRecords is how many records a page is to have.
	pageRecords = 2048
	// sparePages is how many pages there may be without any, besides two for each pageRecords: for what comes back.
	sparePages = 64
)

// page is the number of the one that an event belongs to.
func (ps *retryPages) page(seq uint64) int {
	return sort.Search(len(ps.list), func(i int) bool { return ps.list[i].from > seq }) - 1
}

// note counts n retries of a page that are in their records alone, none of which stands before a place.
func (ps *retryPages) note(seq uint64, n int64, at place) *retryPage {
	if last := len(ps.list) - 1; last < 0 {
		ps.list = []retryPage{{}}
	} else if seq > ps.high && ps.list[last].count >= pageRecords {
		ps.list = append(ps.list, retryPage{from: seq})
	}
	ps.high = max(ps.high, seq)
	p := &ps.list[ps.page(seq)]
	if p.count == 0 || at.compare(p.least) < 0 {
		p.least = at
	}
	if ps.count == 0 || at.compare(ps.least) < 0 {
		ps.least = at
	}
	p.count += n
	ps.count += n
	return p
}

// take forgets what a page tells: its records are being read.
func (ps *retryPages) take(i int) retryPage {
	p := ps.list[i]
	ps.list[i].count, ps.list[i].short = 0, false
	ps.count -= p.count
	return p
}

// split makes pages of one whose records were read, up to below an event; what is behind is as it was. queued is what was
// noted meanwhile.
func (ps *retryPages) split(i int, found []*retry, below uint64, behind retryPage, queued map[uint64]*retry) {
	for seq, r := range queued {
		if r == nil || ps.page(seq) != i {
			delete(queued, seq)
		}
	}
	ps.take(i)
	var more []retryPage
	for n := pageRecords; n < len(found); n += pageRecords {
		more = append(more, retryPage{from: found[n].seq})
	}
	if behind.count > 0 {
		behind.from = below
		more = append(more, behind)
		ps.count += behind.count
	}
	ps.list = slices.Insert(ps.list, i+1, more...)
	for seq, r := range queued {
		ps.note(seq, 1, r.place())
	}
}

// join makes one page of all: nobody knows in which one something is missing.
func (ps *retryPages) join() {
	for i := range ps.list {
		if p := ps.list[i]; i > 0 && p.count > 0 {
			if first := &ps.list[0]; first.count == 0 || p.least.compare(first.least) < 0 {
				first.least = p.least
			}
			ps.list[0].count += p.count
		}
	}
	ps.list = ps.list[:1]
}

// tidy lets go of pages that have nothing, which the one before covers then, and looks for the least of all.
func (ps *retryPages) tidy() {
	for empty := 1; empty > 0 && len(ps.list) > sparePages+2*int(ps.count/pageRecords); {
		empty = 0
		ps.list = slices.DeleteFunc(ps.list, func(p retryPage) bool {
			if p.count > 0 || p.from == 0 {
				return false
			}
			empty++
			return empty%2 == 1
		})
	}
	ps.count = 0
	for _, p := range ps.list {
		if p.count > 0 && (ps.count == 0 || p.least.compare(ps.least) < 0) {
			ps.least = p.least
		}
		ps.count += p.count
	}
}

// anyBelow reports whether there may be some of events below one.
func (ps *retryPages) anyBelow(seq uint64) bool {
	return slices.ContainsFunc(ps.list, func(p retryPage) bool { return p.count > 0 && p.from < seq })
}

// hasten notes that all of them may have been brought forward.
func (ps *retryPages) hasten(when time.Time) {
	for i := range ps.list {
		ps.list[i].least.hasten(when)
	}
	ps.least.hasten(when)
}

func (p *place) hasten(when time.Time) {
	if p.due.After(when) {
		*p = place{due: when}
	}
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
	if l.gone {
		return
	}
	rs := &l.retries
	delete(rs.away, r.seq)
	if rs.rest.count > 0 && r.place().compare(rs.rest.least) >= 0 {
		l.leave(r)
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

// leave leaves a retry to its record.
func (l *Lane) leave(r *retry) {
	l.retries.touch(r.seq, r)
	l.retries.rest.note(r.seq, 1, r.place())
}

// keepFirst leaves all but the first n to their records. They are in their order.
func (l *Lane) keepFirst(n int) {
	rs := &l.retries
	if n >= len(rs.first) {
		return
	}
	gone := rs.first[n:]
	for _, r := range gone {
		l.leave(r)
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
	if rs.restFirst() {
		return rs.restLeast().due
	}
	if len(rs.first) > 0 {
		return rs.first[0].due
	}
	return time.Time{}
}

// restFirst reports whether one that is not in memory may be before all that are.
func (rs *retries) restFirst() bool {
	if rs.rest.count == 0 && !rs.reads {
		return false
	}
	return len(rs.first) == 0 || rs.restLeast().compare(rs.first[0].place()) < 0
}

// restLeast is before what none of those stands that are not in memory; while there are some.
func (rs *retries) restLeast() place {
	if rs.reads && (rs.rest.count == 0 || rs.reading.compare(rs.rest.least) < 0) {
		return rs.reading
	}
	return rs.rest.least
}

// forgetRetries lets go of all retries.
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
		if l.retries.restFirst() {
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
			l.add(r)
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
	rs.rest.hasten(now)
	rs.reading.hasten(now)
	l.wake()
}

// hasten brings a retry forward that waited when all that waited were, which was at a moment, also told in queue time.
func (r *retry) hasten(when time.Time, at int64) {
	if !when.IsZero() && r.queued <= at && r.due.After(when) {
		r.due = when
	}
}

// recall reads records of retries that are not in memory, and takes the first of them there. With all, whoever gives all of
// them up gets some. It reads from disk, one caller at a time, and no lock that others need is held meanwhile.
func (l *Lane) recall(all bool) error {
	l.recalling.Lock()
	defer l.recalling.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	if !all && !rs.restFirst() {
		return nil
	}
	s := &recall{lane: l, all: all, room: max(l.room()/2, 1), mine: map[uint64]struct{}{}}
	for _, r := range rs.first {
		s.mine[r.seq] = struct{}{}
	}
	for seq := range rs.away {
		s.mine[seq] = struct{}{}
	}
	err := s.read()
	rs.touched, rs.reads = nil, false
	if l.gone {
		return err
	}
	l.q.retriesHeld.Add(int64(s.first.Len()))
	rs.first = append(rs.first, s.first.retryHeap...)
	for _, r := range rs.first {
		r.hasten(rs.hastened, rs.hastenedAt) // if that was meanwhile
	}
	slices.SortFunc(rs.first, func(a, b *retry) int { return a.place().compare(b.place()) })
	if !all {
		l.keepFirst(s.room)
	}
	rs.rest.tidy()
	return err
}

// recall is one look through a lane's records.
type recall struct {
	lane  *Lane
	all   bool
	room  int                 // for how many it has
	mine  map[uint64]struct{} // events whose retries are in memory or under way
	first lastFirst           // of those that were found
}

// read reads pages as long as they may have one that comes before those that were found. The caller holds the lane's mu, and
// it is let go while the disk is read.
func (s *recall) read() error {
	l := s.lane
	for !l.gone {
		at := s.choose()
		if at < 0 {
			break
		}
		if err := s.readPage(at); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the number of a page that is to be read, -1 for none.
func (s *recall) choose() int {
	ps := &s.lane.retries.rest
	best := -1
	for i := range ps.list {
		if p := &ps.list[i]; p.count > 0 && (best < 0 || !s.all && p.least.compare(ps.list[best].least) < 0) {
			best = i
		}
	}
	if best >= 0 && s.first.Len() >= s.room && (s.all || ps.list[best].least.compare(s.first.retryHeap[0].place()) >= 0) {
		return -1
	}
	return best
}

func (s *recall) readPage(at int) error {
	l, rs := s.lane, &s.lane.retries
	for seq, r := range rs.touched {
		if r == nil {
			s.mine[seq] = struct{}{}
		} else {
			delete(s.mine, seq)
		}
	}
	rs.touched = map[uint64]*retry{}
	from, to := rs.rest.list[at].from, uint64(math.MaxUint64)
	if at+1 < len(rs.rest.list) {
		to = rs.rest.list[at+1].from - 1
	}
	var young []*retry
	early := map[uint64]bool{} // the store does not have their records as they are
	for name, u := range l.unsaved {
		if name.what != entry.Retry || name.seq < from || name.seq > to {
			continue
		}
		early[name.seq] = true
		if _, mine := s.mine[name.seq]; !mine && u.record != nil {
			r, err := parseRetry(name.seq, u.record)
			if err != nil {
				return err
			}
			r.due = l.q.due(r.due)
			young = append(young, r)
		}
	}
	was := rs.rest.take(at)
	if !rs.reads || was.least.compare(rs.reading) < 0 {
		rs.reads, rs.reading = true, was.least
	}
	hastened := rs.hastenedAt
	l.mu.Unlock()
	list, below, err := s.scan(from, to, early)
	l.mu.Lock()
	if l.gone {
		return nil
	}
	if rs.hastenedAt != hastened {
		was.least.hasten(rs.hastened)
	}
	if err != nil {
		rs.rest.note(was.from, was.count, was.least).short = was.short
		return err
	}
	var found []*retry
	for _, r := range append(list, young...) {
		if _, is := rs.touched[r.seq]; !is && (below == 0 || r.seq < below) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *retry) int { return cmp.Compare(a.seq, b.seq) })
	behind := was
	if behind.count -= int64(len(found)); below == 0 {
		behind.count = 0
	}
	rs.rest.split(at, found, below, behind, maps.Clone(rs.touched))
	for _, r := range found {
		s.offer(r)
	}
	if below > 0 {
		return nil
	}
	return s.miscounted(was, was.count-int64(len(found)))
}

// scan reads records of a range. When they are more than two pages it stops, and tells below which event it read all.
func (s *recall) scan(from, to uint64, early map[uint64]bool) (list []*retry, below uint64, err error) {
	l, n := s.lane, 0
	err = l.q.index.scan(recordKey(l.id, entry.Retry, from), recordKey(l.id, entry.Retry, to), func(key store.Key, record []byte) (bool, error) {
		if n++; n > 2*pageRecords {
			below = key.Number
			return false, nil
		}
		if _, mine := s.mine[key.Number]; mine || early[key.Number] {
			return true, nil
		}
		r, err := parseRetry(key.Number, record)
		if err == nil {
			r.due = l.q.due(r.due)
			list = append(list, r)
		}
		return err == nil, err
	})
	return list, below, err
}

// offer takes a retry in, if it is among the first.
func (s *recall) offer(r *retry) {
	rs := &s.lane.retries
	r.hasten(rs.hastened, rs.hastenedAt)
	if full := !s.all && s.first.Len() >= s.room; full {
		last := s.first.retryHeap[0]
		if last.place().compare(r.place()) < 0 {
			last = r
		} else {
			heap.Pop(&s.first)
			delete(s.mine, last.seq)
		}
		rs.rest.note(last.seq, 1, last.place())
		if last == r {
			return
		}
	}
	heap.Push(&s.first, r)
	s.mine[r.seq] = struct{}{}
}

// miscounted goes on when there are not as many records as were counted. The store may have lost some, which its sums tell:
// then it is made again, and has them. All are looked through again; what is missing then is lost.
func (s *recall) miscounted(was retryPage, lost int64) error {
	l, ps := s.lane, &s.lane.retries.rest
	if lost > 0 && (!was.short || l.q.keeper.suspected.Load()) {
		if !was.short {
			l.q.keeper.doubt()
		}
		ps.note(was.from, lost, place{due: l.q.opts.Now().Add(readAgain)})
		ps.join()
		ps.list[0].short = true
		return fmt.Errorf("%d of its retries are not in the store", lost)
	}
	if lost != 0 {
		l.retrying -= lost
		l.changed()
	}
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
