package queue

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math"
	"slices"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// loadRetries reads records of unloaded retries, and loads the first of them. With all, for a caller that fails them all, it
// loads some of any page. It reads disk, one caller at a time, and does not hold mu meanwhile.
func (l *Lane) loadRetries(all bool) error {
	l.retryReading.Lock()
	defer l.retryReading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := &l.retries
	if !all && !rs.unloadedFirst() {
		return nil
	}
	load := &retryLoad{lane: l, all: all, capacity: max(l.retryCapacity()/2, 1), known: map[uint64]struct{}{}}
	for _, r := range rs.loaded {
		load.known[r.seq] = struct{}{}
	}
	for seq := range rs.handedOut {
		load.known[seq] = struct{}{}
	}
	err := load.read()
	rs.changed, rs.loading = nil, false
	if l.discarded {
		return err
	}
	l.q.retriesInMemory.Add(int64(load.found.Len()))
	rs.loaded = append(rs.loaded, load.found.retryHeap...)
	for _, r := range rs.loaded {
		r.hasten(rs.hastenedTo, rs.hastenedAt) // if Hasten was called meanwhile
	}
	slices.SortFunc(rs.loaded, func(a, b *retry) int { return a.order().compare(b.order()) })
	if !all {
		l.unloadAfter(load.capacity)
	}
	rs.unloaded.tidy()
	return err
}

// retryLoad is one call of loadRetries.
type retryLoad struct {
	lane     *Lane
	all      bool
	capacity int                 // how many it may load
	known    map[uint64]struct{} // events whose retries are loaded or handed out
	found    latestFirst         // the first ones, so far
}

// read reads pages as long as one may have a retry that comes before those found. The caller holds the lane's mu; mu is not
// held while the disk is read.
func (ld *retryLoad) read() error {
	l := ld.lane
	for !l.discarded {
		at := ld.nextPage()
		if at < 0 {
			break
		}
		if err := ld.readPage(at); err != nil {
			return err
		}
	}
	return nil
}

// nextPage returns the index of the page to read, -1 for none.
func (ld *retryLoad) nextPage() int {
	ps := &ld.lane.retries.unloaded
	best := -1
	for i := range ps.list {
		if p := &ps.list[i]; p.count > 0 && (best < 0 || !ld.all && p.least.compare(ps.list[best].least) < 0) {
			best = i
		}
	}
	if best >= 0 && ld.found.Len() >= ld.capacity && (ld.all || ps.list[best].least.compare(ld.found.retryHeap[0].order()) >= 0) {
		return -1
	}
	return best
}

// readPage reads a page's records.
func (ld *retryLoad) readPage(at int) error {
	l, rs := ld.lane, &ld.lane.retries
	for seq, r := range rs.changed {
		if r == nil {
			ld.known[seq] = struct{}{}
		} else {
			delete(ld.known, seq)
		}
	}
	rs.changed = map[uint64]*retry{}
	from, to := rs.unloaded.list[at].from, uint64(math.MaxUint64)
	if at+1 < len(rs.unloaded.list) {
		to = rs.unloaded.list[at+1].from - 1
	}
	var unsavedRetries []*retry
	inUnsaved := map[uint64]bool{} // the store does not have their present records
	for name, u := range l.unsaved {
		if name.kind != entry.Retry || name.seq < from || name.seq > to {
			continue
		}
		inUnsaved[name.seq] = true
		if _, mine := ld.known[name.seq]; !mine && u.record != nil {
			r, err := parseRetry(name.seq, u.record)
			if err != nil {
				return err
			}
			r.due = l.q.loaded(r.due)
			unsavedRetries = append(unsavedRetries, r)
		}
	}
	was := rs.unloaded.clear(at)
	if !rs.loading || was.least.compare(rs.loadingLeast) < 0 {
		rs.loading, rs.loadingLeast = true, was.least
	}
	hastened := rs.hastenedAt
	l.mu.Unlock()
	list, below, err := ld.scan(from, to, inUnsaved)
	l.mu.Lock()
	if l.discarded {
		return nil
	}
	if rs.hastenedAt != hastened {
		was.least.hasten(rs.hastenedTo)
	}
	if err != nil {
		rs.unloaded.add(was.from, was.count, was.least).incomplete = was.incomplete
		return err
	}
	var found []*retry
	for _, r := range append(list, unsavedRetries...) {
		if _, is := rs.changed[r.seq]; !is && (below == 0 || r.seq < below) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *retry) int { return cmp.Compare(a.seq, b.seq) })
	behind := was
	if behind.count -= int64(len(found)); below == 0 {
		behind.count = 0
	}
	rs.unloaded.split(at, found, below, behind, maps.Clone(rs.changed))
	for _, r := range found {
		ld.accept(r)
	}
	if below > 0 {
		return nil
	}
	return ld.miscounted(was, was.count-int64(len(found)))
}

// scan reads records of a range. It stops when there are more than two pages of them; below is then the event below which it
// read all, else 0.
func (ld *retryLoad) scan(from, to uint64, inUnsaved map[uint64]bool) (list []*retry, below uint64, err error) {
	l, n := ld.lane, 0
	err = l.q.index.scan(recordKey(l.id, entry.Retry, from), recordKey(l.id, entry.Retry, to), func(key store.Key, record []byte) (bool, error) {
		if n++; n > 2*pageRecords {
			below = key.Number
			return false, nil
		}
		if _, mine := ld.known[key.Number]; mine || inUnsaved[key.Number] {
			return true, nil
		}
		r, err := parseRetry(key.Number, record)
		if err == nil {
			r.due = l.q.loaded(r.due)
			list = append(list, r)
		}
		return err == nil, err
	})
	return list, below, err
}

// accept takes a retry if it is among the first.
func (ld *retryLoad) accept(r *retry) {
	rs := &ld.lane.retries
	r.hasten(rs.hastenedTo, rs.hastenedAt)
	if full := !ld.all && ld.found.Len() >= ld.capacity; full {
		last := ld.found.retryHeap[0]
		if last.order().compare(r.order()) < 0 {
			last = r
		} else {
			heap.Pop(&ld.found)
			delete(ld.known, last.seq)
		}
		rs.unloaded.add(last.seq, 1, last.order())
		if last == r {
			return
		}
	}
	heap.Push(&ld.found, r)
	ld.known[r.seq] = struct{}{}
}

// miscounted corrects the count when there are not as many records as were counted. The store may have lost some, which its
// sums show: then it is made again and has them. So all are read once more, and what is missing then is lost.
func (ld *retryLoad) miscounted(was retryPage, lost int64) error {
	l, ps := ld.lane, &ld.lane.retries.unloaded
	if lost > 0 && (!was.incomplete || l.q.writer.storeSuspected.Load()) {
		if !was.incomplete {
			l.q.writer.suspectStore()
		}
		ps.add(was.from, lost, retryOrder{due: l.q.opts.Now().Add(readAgain)})
		ps.merge()
		ps.list[0].incomplete = true
		return fmt.Errorf("%d of its retries are not in the store", lost)
	}
	if lost != 0 {
		l.retrying -= lost
		l.changed()
	}
	if lost > 0 {
		l.q.damaged.Add(lost)
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: %d retrying deliveries are lost: their records can't be read any more", l.name, lost))
	}
	return nil
}

// latestFirst is a retryHeap in the opposite order.
type latestFirst struct{ retryHeap }

func (h latestFirst) Less(i, j int) bool { return h.retryHeap.Less(j, i) }
