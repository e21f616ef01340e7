package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// filter is a split-block Bloom filter of 20 bits an id; a look-up reads one cache line, which with tens of filters is in no
// cache: so eight neighbouring segments share one. A nil filter lets everything pass. Of a million new ids 230 seem to be in
// a filter, and each costs a read of every segment that shares it; with 16 bits 910 did. 50 million ids are in 24 filters of
// 190 segments. A filter does not change.
type filter struct{ words []uint64 }

// filterGroup is how many neighbouring segments share a filter, once all of them are sealed.
const filterGroup = 8

const (
	filterBits = 20
	lineWords  = 8 // of 64 bits: a cache line
)

func newFilterWords(ids int64) []uint64 { return make([]uint64, filterBytes(ids)/8) }

// filterBytes is the size of a filter of so many ids.
func filterBytes(ids int64) int64 {
	const line = lineWords * 8 // bytes
	return max((ids*filterBits+8*line-1)/(8*line), 1) * line
}

// filterLine is the cache line that a hash belongs to. It has a bit in each word of it.
func filterLine(words []uint64, h *entry.Hash) []uint64 {
	lines := uint64(len(words) / lineWords)
	at := (uint64(binary.LittleEndian.Uint32(h[4:])) * lines) >> 32
	return words[at*lineWords:][:lineWords]
}

// passes is 1 when the first word of its line lets a hash pass, as two in three do not, and else 0. Who goes through many
// filters asks this of all first: nothing depends on an answer, so that the processor reads their lines side by side.
func (f *filter) passes(h *entry.Hash) uint64 {
	if f == nil {
		return 1
	}
	return filterLine(f.words, h)[0] >> (binary.LittleEndian.Uint32(h[8:]) * filterSalt[0] >> 26) & 1
}

func filterAdd(words []uint64, h *entry.Hash) {
	line, bits := filterLine(words, h), binary.LittleEndian.Uint32(h[8:])
	for i := range line {
		line[i] |= 1 << (bits * filterSalt[i] >> 26)
	}
}

func (f *filter) mayHave(h *entry.Hash) bool {
	if f == nil {
		return true
	}
	line, bits := filterLine(f.words, h), binary.LittleEndian.Uint32(h[8:])
	for i := range line {
		if line[i]&(1<<(bits*filterSalt[i]>>26)) == 0 {
			return false
		}
	}
	return true
}

// filterSalt are odd numbers that spread the bits of a hash over the words of a line.
var filterSalt = [lineWords]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

func (f *filter) bytes() int64 {
	if f == nil {
		return 0
	}
	return int64(len(f.words)) * 8
}

// addIDs adds the ids of a sealed segment's pages to a filter. It reads all of them.
func (s *segment) addIDs(words []uint64) error {
	sec := s.sections[sectionIDs]
	pages := sec.length / idPage
	buf := make([]byte, 64*idPage)
	for at := int64(0); at < pages; at += 64 {
		n := min(64, pages-at)
		if err := s.readAt(buf[:n*idPage], sec.offset+at*idPage); err != nil {
			return err
		}
		for p := range n {
			page := buf[p*idPage:][:idPage]
			if codec.Sum(page[:idPage-4]) != binary.LittleEndian.Uint32(page[idPage-4:]) {
				return fmt.Errorf("read the ids of segment %d: checksum of page %d: %w", s.number, at+p, codec.ErrDamaged)
			}
			for i := range idsOnPage {
				rec := page[i*idRecord:]
				if binary.LittleEndian.Uint32(rec[12:]) != noID {
					filterAdd(words, (*entry.Hash)(rec[:12]))
				}
			}
		}
	}
	return nil
}

// KeepFilters makes the filters of sealed segments, as LoadFilters does, and then those that segments share when a group of
// them is complete, until stop is closed.
func (l *Log) KeepFilters(stop <-chan struct{}) {
	for {
		l.LoadFilters(stop)
		select {
		case <-stop:
			return
		case <-l.groupSealed:
		}
	}
}

// LoadFilters makes the filters of sealed segments that lack theirs, newest first, as long as memory is allowed for them,
// until stop is closed. It reads their pages of ids.
func (l *Log) LoadFilters(stop <-chan struct{}) {
	budget := l.opts.FilterBytes
	list := l.list()
	end := max(len(list)-1, 0) // the last is open
	for end > 0 {
		from := end - 1
		for from > 0 && list[from-1].number/filterGroup == list[end-1].number/filterGroup {
			from--
		}
		group := list[from:end]
		if list[end].number/filterGroup == group[0].number/filterGroup { // more come: until then each has its own
			group, from = list[end-1:end], end-1
		}
		end = from
		select {
		case <-stop:
			return
		default:
		}
		have := group[0].filter.Load()
		need := have.bytes()
		if have == nil || slices.ContainsFunc(group, func(s *segment) bool { return s.filter.Load() != have }) {
			ids := int64(0)
			for _, s := range group {
				ids += s.sections[sectionIDs].length / idRecord
			}
			if need = filterBytes(ids); need > budget {
				return
			}
			l.loadFilter(group, ids)
		}
		budget -= need
	}
}

// loadFilter makes the filter of sealed segments that follow one another.
func (l *Log) loadFilter(group []*segment, ids int64) {
	f := &filter{newFilterWords(ids)}
	for _, s := range group {
		err := s.addIDs(f.words)
		if errors.Is(err, codec.ErrDamaged) {
			err = l.rebuildIDs(s) // who looks for an id asks those first
		}
		if err != nil {
			return // it was deleted or stripped meanwhile: the next call makes the filter
		}
	}
	l.mu.RLock() // a segment that is stripped gets its filter under mu
	defer l.mu.RUnlock()
	for _, s := range l.segments {
		if group[0].number <= s.number && s.number <= group[len(group)-1].number {
			s.filter.Store(f)
		}
	}
}

// evictFilters frees the oldest filters beyond the memory that is allowed.
func (l *Log) evictFilters() {
	budget := l.opts.FilterBytes
	var last *filter
	for _, s := range slices.Backward(l.list()) {
		f := s.filter.Load()
		if f != last {
			budget -= f.bytes()
			last = f
		}
		if budget < 0 {
			s.filter.Store(nil)
		}
	}
}
