package entry

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// LaneID numbers a lane for good: it is never given to another.
type LaneID uint32

// LaneSet is an immutable set of lanes: the endpoints that an event goes to. Equal sets are equal strings. It has the
// shorter of two forms, told apart by the first byte: the gaps between the numbers as varints, or a bitmap.
type LaneSet string

const (
	setOfGaps = 'g'
	setOfBits = 'b'
)

// NewLaneSet makes the set of the given lanes, in any order, each once or more.
func NewLaneSet(ids ...LaneID) LaneSet {
	if len(ids) == 0 {
		return ""
	}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	gaps := []byte{setOfGaps}
	next := LaneID(0)
	for _, id := range sorted {
		gaps = binary.AppendUvarint(gaps, uint64(id-next))
		next = id + 1
	}
	if size := int(sorted[len(sorted)-1]/8) + 2; size < len(gaps) {
		set := make([]byte, size)
		set[0] = setOfBits
		for _, id := range sorted {
			set[1+id/8] |= 1 << (id % 8)
		}
		return LaneSet(set)
	}
	return LaneSet(gaps)
}

// Has reports whether the lane is in the set.
func (s LaneSet) Has(id LaneID) bool {
	if len(s) == 0 {
		return false
	}
	if s[0] == setOfBits {
		at := 1 + int(id/8)
		return at < len(s) && s[at]&(1<<(id%8)) != 0
	}
	found := false
	s.gaps(func(lane LaneID) bool {
		found = lane == id
		return lane < id
	})
	return found
}

// gaps calls fn with each lane of a set of gaps until it returns false.
func (s LaneSet) gaps(fn func(LaneID) bool) {
	next, gap, shift := uint64(0), uint64(0), 0
	for i := 1; i < len(s); i++ {
		gap |= uint64(s[i]&0x7f) << shift
		if s[i]&0x80 != 0 {
			shift += 7
			continue
		}
		if next += gap; !fn(LaneID(next)) {
			return
		}
		next, gap, shift = next+1, 0, 0
	}
}

// Len is the number of lanes in the set.
func (s LaneSet) Len() int {
	n := 0
	if len(s) > 0 && s[0] == setOfBits {
		for i := 1; i < len(s); i++ {
			n += bits.OnesCount8(s[i])
		}
		return n
	}
	for i := 1; i < len(s); i++ {
		if s[i]&0x80 == 0 {
			n++
		}
	}
	return n
}

// Each calls fn with every lane of the set, in order.
func (s LaneSet) Each(fn func(LaneID)) {
	if len(s) == 0 {
		return
	}
	if s[0] == setOfGaps {
		s.gaps(func(id LaneID) bool { fn(id); return true })
		return
	}
	for i := 1; i < len(s); i++ {
		for b := s[i]; b != 0; b &= b - 1 {
			fn(LaneID((i-1)*8 + bits.TrailingZeros8(b)))
		}
	}
}
