package log

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// The ids of a sealed segment are records of 16 bytes, sorted, in pages of 4 KiB with a checksum each. The hashes are
// spread evenly, so the page of one is guessed and seldom missed by more than one.
const (
	idRecord  = 16
	idPage    = 4 << 10
	idsOnPage = (idPage - 4) / idRecord
)

type placedID struct {
	hash  entry.Hash
	place uint32 // of the event: its sequence number less that of the segment's first event, see seqOf
}

// appendIDs sorts the ids and appends their pages.
func appendIDs(dst []byte, ids []placedID) []byte {
	slices.SortFunc(ids, func(a, b placedID) int {
		if c := cmp.Compare(binary.BigEndian.Uint64(a.hash[:]), binary.BigEndian.Uint64(b.hash[:])); c != 0 {
			return c
		}
		if c := bytes.Compare(a.hash[8:], b.hash[8:]); c != 0 {
			return c
		}
		return cmp.Compare(a.place, b.place)
	})
	for len(ids) > 0 {
		n := min(len(ids), idsOnPage)
		from := len(dst)
		for i := range ids[:n] {
			dst = append(dst, ids[i].hash[:]...)
			dst = binary.LittleEndian.AppendUint32(dst, ids[i].place)
		}
		for len(dst)-from < idsOnPage*idRecord {
			dst = append(dst, bytes.Repeat([]byte{0xff}, idRecord-4)...)
			dst = binary.LittleEndian.AppendUint32(dst, noPlace)
		}
		dst = append(dst, make([]byte, idPage-4-(len(dst)-from))...)
		dst = binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
		ids = ids[n:]
	}
	return dst
}

// noPlace fills what a page has no id for. Places above it are those of carried events.
const noPlace = carriedPlaces - 1

// page reads one page of ids.
func (s *segment) page(buf []byte, n int64) error {
	sec := s.sections[sectionIDs]
	if err := s.readAt(buf[:idPage], sec.offset+n*idPage); err != nil {
		return err
	}
	if codec.Sum(buf[:idPage-4]) != binary.LittleEndian.Uint32(buf[idPage-4:]) {
		return fmt.Errorf("read the ids of segment %d: checksum of page %d: %w", s.number, n, codec.ErrDamaged)
	}
	return nil
}

// seqOf is the sequence number of the event at a place; a carried one lies before the segment's first event.
func (s *segment) seqOf(place uint32) uint64 {
	if place >= carriedPlaces {
		return s.firstEvent - (1<<32 - uint64(place))
	}
	return s.firstEvent + uint64(place)
}

// carriedPlaces is the first place of a carried event.
const carriedPlaces = 1 << 28

// find returns the places of the events of a sealed segment that have an id.
func (s *segment) find(h *entry.Hash) (places []uint32, err error) {
	pages := s.sections[sectionIDs].length / idPage
	if pages == 0 || !s.filter.mayHave(h) {
		return nil, nil
	}
	buf := make([]byte, idPage)
	at := min(int64(float64(binary.BigEndian.Uint64(h[:]))/(1<<64)*float64(pages)), pages-1)
	// The guess is off by a page or, rarely, two: step by step to the page in which the first record that is not before h
	// is, and then on while there are records of h.
	for down := true; ; {
		if err := s.page(buf, at); err != nil {
			return nil, err
		}
		n := idsOnPage
		for n > 0 && binary.LittleEndian.Uint32(buf[(n-1)*idRecord+12:]) == noPlace {
			n--
		}
		i := searchPage(buf, n, h)
		if down && i == 0 && at > 0 {
			at--
			continue
		}
		down = false
		for ; i < n && bytes.Equal(buf[i*idRecord:][:12], h[:]); i++ {
			places = append(places, binary.LittleEndian.Uint32(buf[i*idRecord+12:]))
		}
		if i < n || at == pages-1 {
			return places, nil
		}
		at++
	}
}

// searchPage returns how many of the first n records of a page are before h.
func searchPage(buf []byte, n int, h *entry.Hash) int {
	return sort.Search(n, func(i int) bool { return bytes.Compare(buf[i*idRecord:][:12], h[:]) >= 0 })
}

// filter is a split-block Bloom filter of 20 bits an id: one cache line a look. Without words it lets everything pass. Of a
// million new ids 230 seem to be in one of maxIDs ids, and each costs a read; with 16 bits 910 did. 50 million ids are in 190.
type filter struct{ words atomic.Pointer[[]uint64] }

const (
	filterBits = 20
	lineWords  = 8 // of 64 bits: a cache line
)

func newFilterWords(ids int64) []uint64 {
	lines := max((ids*filterBits+511)/512, 1)
	return make([]uint64, lines*lineWords)
}

// where a hash is in a filter: the line, and a bit in each of its words.
func filterLine(words []uint64, h *entry.Hash) []uint64 {
	lines := uint64(len(words) / lineWords)
	at := (uint64(binary.LittleEndian.Uint32(h[4:])) * lines) >> 32
	return words[at*lineWords:][:lineWords]
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

// Odd numbers that spread the bits of a hash over the words of a line.
var filterSalt = [lineWords]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

func (f *filter) bytes() int64 {
	if p := f.words.Load(); p != nil {
		return int64(len(*p)) * 8
	}
	return 0
}

// fill makes the filter from the pages of the segment.
func (s *segment) fill() error {
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
				if binary.LittleEndian.Uint32(rec[12:]) != noPlace {
					filterAdd(words, (*entry.Hash)(rec[:12]))
				}
			}
		}
	}
	s.filter.words.Store(&words)
	return nil
}
