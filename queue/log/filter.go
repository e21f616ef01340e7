package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// filter is a split-block Bloom filter of 20 bits an id; a look-up reads one cache line. Without words it lets everything
// pass. Of a million new ids 230 seem to be in one of maxIDs ids, and each costs a read; with 16 bits 910 did. 50 million
// ids are in 190 filters.
type filter struct{ words atomic.Pointer[[]uint64] }

const (
	filterBits = 20
	lineWords  = 8 // of 64 bits: a cache line
)

func newFilterWords(ids int64) []uint64 {
	lines := max((ids*filterBits+511)/512, 1)
	return make([]uint64, lines*lineWords)
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
	p := f.words.Load()
	if p == nil {
		return 1
	}
	return filterLine(*p, h)[0] >> (binary.LittleEndian.Uint32(h[8:]) * filterSalt[0] >> 26) & 1
}

func filterAdd(words []uint64, h *entry.Hash) {
	line, bits := filterLine(words, h), binary.LittleEndian.Uint32(h[8:])
	for i := range line {
		line[i] |= 1 << (bits * filterSalt[i] >> 26)
	}
}

func (f *filter) mayHave(h *entry.Hash) bool {
	p := f.words.Load()
	if p == nil {
		return true
	}
	line, bits := filterLine(*p, h), binary.LittleEndian.Uint32(h[8:])
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
	if p := f.words.Load(); p != nil {
		return int64(len(*p)) * 8
	}
	return 0
}

// loadFilter makes the filter from the segment's pages of ids.
func (s *segment) loadFilter() error {
	sec := s.sections[sectionIDs]
	pages := sec.length / idPage
	words := newFilterWords(pages * idsOnPage)
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
	s.filter.words.Store(&words)
	return nil
}

// LoadFilters makes the filters of sealed segments, newest first, as long as memory is allowed for them, until stop is
// closed. It reads all their pages of ids.
func (l *Log) LoadFilters(stop <-chan struct{}) {
	budget := l.opts.FilterBytes
	for _, s := range slices.Backward(l.list()) {
		select {
		case <-stop:
			return
		default:
		}
		sealed, t := l.state(s)
		if !sealed {
			continue
		}
		need := s.filter.bytes()
		if need == 0 {
			need = t.sections[sectionIDs].length / idRecord * filterBits / 8
			if need > budget {
				return
			}
			if err := s.loadFilter(); errors.Is(err, codec.ErrDamaged) {
				_ = l.rebuildIDs(s)
			}
		}
		budget -= need
	}
}

// evictFilters frees the oldest filters beyond the memory that is allowed.
func (l *Log) evictFilters() {
	budget := l.opts.FilterBytes
	for _, s := range slices.Backward(l.list()) {
		if budget -= s.filter.bytes(); budget < 0 {
			s.filter.words.Store(nil)
		}
	}
}
