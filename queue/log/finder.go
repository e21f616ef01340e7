package log

import (
	"math"
	"sort"
)

// Finder looks for blocks that may match, so that a search for a few events among millions reads a few blocks. One goroutine
// uses it.
type Finder struct {
	log          *Log
	any          []uint64 // a block must have one of these words; nil: no condition
	all          []uint64 // and all of these
	members      []Member // and of each of these a value, if all of its events were asked for it
	since, until int64    // events accepted from since on and before until, queue times; 0: no bound

	loaded *segment // the segment whose runs and blocks are loaded
	blocks []Info
	runs   []run
}

// NewFinder makes a finder of blocks that have one of the words any, unless that is nil, all of the words all, of each of the members
// one of its values, and events that were accepted from since on and before until, queue times, 0 for no bound. It reads nothing.
func (l *Log) NewFinder(any, all []uint64, members []Member, since, until int64) *Finder {
	return &Finder{log: l, any: any, all: all, members: members, since: since, until: until}
}

// load loads the runs of a segment; those of the open segment each time.
func (f *Finder) load(s *segment) error {
	sealed, t := f.log.state(s)
	if sealed && f.loaded == s {
		return nil
	}
	f.loaded, f.blocks, f.runs = nil, nil, nil
	if t.firstAt == 0 || t.lastAt < f.since || f.until != 0 && t.firstAt >= f.until || sealed && t.stripped {
		if sealed {
			f.loaded = s
		}
		return nil
	}
	if !sealed {
		f.log.mu.RLock()
		defer f.log.mu.RUnlock()
		if s.sealed { // it was sealed just now
			f.log.mu.RUnlock()
			err := f.load(s)
			f.log.mu.RLock()
			return err
		}
		f.blocks = s.blocks
		f.selectRuns(func(word uint64) []run { return s.postings[word] })
		return nil // these runs are copies: the writer goes on
	}
	var postings []byte
	var err error
	if f.any != nil || len(f.all)+len(f.members) > 0 {
		if postings, err = f.log.postingsOf(s); err != nil {
			return err
		}
	}
	if postings != nil {
		if f.selectRuns(func(word uint64) []run { return lookUp(postings, word) }); len(f.runs) == 0 {
			f.loaded = s // most segments of a long search: their tables need not be read
			return nil
		}
	}
	if f.blocks, err = f.log.table(s); err != nil {
		return err
	}
	if f.loaded = s; postings == nil {
		f.runs = []run{{0, uint32(len(f.blocks))}}
	}
	return nil
}

// selectRuns makes the runs from what look finds for the words.
func (f *Finder) selectRuns(runsOf func(word uint64) []run) {
	f.runs = []run{{0, math.MaxUint32}}
	if f.any != nil {
		f.runs = nil
		for _, w := range f.any {
			f.runs = union(f.runs, runsOf(w))
		}
	}
	for _, w := range f.all {
		f.runs = intersect(f.runs, runsOf(w))
	}
	for _, m := range f.members {
		may := others(runsOf(m.Name))
		for _, v := range m.Values {
			may = union(may, runsOf(v))
		}
		f.runs = intersect(f.runs, may)
	}
}

func (f *Finder) fits(b *Info) bool {
	return b.Kind == Entries && b.Events > 0 && b.LastAt >= f.since && (f.until == 0 || b.FirstAt < f.until)
}

// From returns the nearest events from seq on, in one block, that may match: from the one up to below the other. Events that
// are not saved yet may match, too: then from is the first of those, or seq, and to is 0. It may read footers from disk.
func (f *Finder) From(seq uint64) (from, to uint64, err error) {
	list := f.log.list()
	i := sort.Search(len(list), func(i int) bool { return list[i].firstEvent > seq })
	for i = max(i-1, 0); i < len(list); i++ {
		s := list[i]
		sealed, t := f.log.state(s)
		if sealed && t.endEvent <= seq {
			continue
		}
		if err := f.load(s); err != nil {
			if Gone(err) {
				continue
			}
			return seq, 0, err
		}
		at := uint32(sort.Search(len(f.blocks), func(n int) bool { return f.blocks[n].EndEvent() > seq }))
		for _, r := range f.runs {
			for n := max(r.from, at); n < min(r.to, uint32(len(f.blocks))); n++ {
				if b := &f.blocks[n]; f.fits(b) && b.EndEvent() > seq {
					return max(seq, b.FirstEvent), b.EndEvent(), nil
				}
			}
		}
	}
	_, end := f.log.End()
	return max(seq, end), 0, nil
}

// Before returns the nearest events below seq, in one block, that may match: from the one up to below the other; ok is false
// when there are none. It does not know events that are not saved yet: seq is at most the end of the log. It may read
// footers from disk.
func (f *Finder) Before(seq uint64) (from, to uint64, ok bool, err error) {
	list := f.log.list()
	i := sort.Search(len(list), func(i int) bool { return list[i].firstEvent >= seq })
	for i--; i >= 0; i-- {
		if err := f.load(list[i]); err != nil {
			if Gone(err) {
				continue
			}
			return 0, 0, false, err
		}
		for r := len(f.runs) - 1; r >= 0; r-- {
			for n := min(int(f.runs[r].to), len(f.blocks)) - 1; n >= int(f.runs[r].from); n-- {
				if b := &f.blocks[n]; f.fits(b) && b.FirstEvent < seq {
					return b.FirstEvent, min(seq, b.EndEvent()), true, nil
				}
			}
		}
	}
	return 0, 0, false, nil
}

// BlocksWith calls fn with each block that has events from a sequence number on and below another, and one of the words;
// which are the indexes of the words that it has. It reads footers from disk.
func (l *Log) BlocksWith(words []uint64, from, below uint64, fn func(p Place, info *Info, which []int) error) error {
	for _, s := range l.list() {
		sealed, t := l.state(s)
		if sealed && (t.endEvent <= from || t.stripped) || t.firstEvent >= below {
			continue
		}
		f := Finder{log: l}
		var table []Info
		blocks := map[uint32][]int{}
		for i, w := range words {
			f.loaded, f.all = nil, []uint64{w}
			if err := f.load(s); err != nil {
				return err
			}
			if len(f.runs) > 0 {
				table = f.blocks
			}
			for _, r := range f.runs {
				for n := r.from; n < min(r.to, uint32(len(f.blocks))); n++ {
					if b := &f.blocks[n]; f.fits(b) && b.EndEvent() > from && b.FirstEvent < below {
						blocks[n] = append(blocks[n], i)
					}
				}
			}
		}
		for n := range table {
			if which := blocks[uint32(n)]; len(which) > 0 {
				b := &table[n]
				if err := fn(Place{s.number, b.Offset, b.Sum}, b, which); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Recent is the first event of about the last so many bytes of saved blocks.
func (l *Log) Recent(bytes int64) uint64 {
	list := l.list()
	_, at := l.End()
	for i := len(list) - 1; i >= 0 && bytes > 0; i-- {
		sealed, t := l.state(list[i])
		if sealed && t.stripped {
			return at
		}
		blocks, err := l.table(list[i])
		if err != nil {
			return at
		}
		for n := len(blocks) - 1; n >= 0 && bytes > 0; n-- {
			if b := &blocks[n]; b.Kind == Entries && b.Events > 0 {
				at = b.FirstEvent
				bytes -= int64(b.Stored)
			}
		}
	}
	return at
}
