package log

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// The ids of a sealed segment are records of 16 bytes, sorted, in pages of 4 KiB with a checksum each. Hashes are spread
// evenly, so the page of a hash is guessed, and seldom missed by more than one.
const (
	idRecord  = 16
	idPage    = 4 << 10
	idsOnPage = (idPage - 4) / idRecord
)

type idPlace struct {
	hash  entry.Hash
	place uint32 // of the event: its sequence number less that of the segment's first event, see seqOf
}

// appendIDs sorts the ids and appends their pages.
func appendIDs(dst []byte, ids []idPlace) []byte {
	slices.SortFunc(ids, func(a, b idPlace) int {
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
			dst = binary.LittleEndian.AppendUint32(dst, noID)
		}
		dst = append(dst, make([]byte, idPage-4-(len(dst)-from))...)
		dst = binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
		ids = ids[n:]
	}
	return dst
}

// noID fills the rest of a page. Places above it are those of carried events.
const noID = carriedPlaces - 1

// readIDPage reads one page of ids from disk.
func (s *segment) readIDPage(buf []byte, n int64) error {
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

// findID returns the places of the events of a sealed segment with an id. It reads nothing when the filter excludes the id,
// else a page or, rarely, two.
func (s *segment) findID(h *entry.Hash) (places []uint32, err error) {
	pages := s.sections[sectionIDs].length / idPage
	if pages == 0 || !s.filter.Load().mayHave(h) {
		return nil, nil
	}
	buf := make([]byte, idPage)
	at := min(int64(float64(binary.BigEndian.Uint64(h[:]))/(1<<64)*float64(pages)), pages-1)
	// The guess is off by one page or, rarely, two: go down to the page that has the first record not before h, then up
	// while records are those of h.
	for down := true; ; {
		if err := s.readIDPage(buf, at); err != nil {
			return nil, err
		}
		n := idsOnPage
		for n > 0 && binary.LittleEndian.Uint32(buf[(n-1)*idRecord+12:]) == noID {
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
