package queue

import (
	"slices"
	"sort"
	"time"
)

// retryPages are ranges of events, without gaps from the first event to the last, with what is known of the unloaded retries
// of each.
type retryPages struct {
	list    []retryPage
	highest uint64 // the last event that was added
	count   int64
	least   retryOrder // no retry is before it; while there are some
}

// retryPage is a range of events that begins at from and ends before the next page.
type retryPage struct {
	from       uint64
	count      int64
	least      retryOrder // no retry of it is before this; while it has some
	incomplete bool       // fewer records were found than counted, and the store is being compared with its sums
}

const (
	// pageRecords is how many records a page is to have.
	pageRecords = 2048
	// sparePages is how many empty pages there may be, besides two for each pageRecords: retries come back to them.
	sparePages = 64
)

// page is the index of the page of an event.
func (ps *retryPages) page(seq uint64) int {
	return sort.Search(len(ps.list), func(i int) bool { return ps.list[i].from > seq }) - 1
}

// add counts n unloaded retries of an event's page, none of which is before at.
func (ps *retryPages) add(seq uint64, n int64, at retryOrder) *retryPage {
	if last := len(ps.list) - 1; last < 0 {
		ps.list = []retryPage{{}}
	} else if seq > ps.highest && ps.list[last].count >= pageRecords {
		ps.list = append(ps.list, retryPage{from: seq})
	}
	ps.highest = max(ps.highest, seq)
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

// clear empties a page, whose records are about to be read, and returns what it was.
func (ps *retryPages) clear(i int) retryPage {
	p := ps.list[i]
	ps.list[i].count, ps.list[i].incomplete = 0, false
	ps.count -= p.count
	return p
}

// split makes several pages of one whose records were read, up to below an event; behind is what remains of it. queued are
// the retries that were unloaded meanwhile.
func (ps *retryPages) split(i int, found []*retry, below uint64, behind retryPage, queued map[uint64]*retry) {
	for seq, r := range queued {
		if r == nil || ps.page(seq) != i {
			delete(queued, seq)
		}
	}
	ps.clear(i)
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
		ps.add(seq, 1, r.order())
	}
}

// merge makes one page of all: nobody knows in which one records are missing.
func (ps *retryPages) merge() {
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

// tidy removes empty pages, whose range the page before takes, and computes the least of all.
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

// anyBelow reports whether there may be retries of events below one.
func (ps *retryPages) anyBelow(seq uint64) bool {
	return slices.ContainsFunc(ps.list, func(p retryPage) bool { return p.count > 0 && p.from < seq })
}

// hasten notes that all of them may be due at a moment.
func (ps *retryPages) hasten(when time.Time) {
	for i := range ps.list {
		ps.list[i].least.hasten(when)
	}
	ps.least.hasten(when)
}
