package ingest

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

// member says where in canon.out a member of an object was written.
type member struct {
	from  int    // where its name starts in canon.in
	start int    // its name, with the quotes
	value int    // its value, after the colon
	end   int    // the byte after its value
	rank  uint64 // its place among the object's members
}

// name is the member's name in canonical form, without the quotes. Two names are the same when their canonical forms are.
func (m member) name(out []byte) []byte { return out[m.start+1 : m.value-2] }

// notIndex is the rank of the first member whose name is no array index. It is also the first number beyond them.
const notIndex = 1<<32 - 1

// rank orders the members of an object as JavaScript does (ECMA-262, OrdinaryOwnPropertyKeys): array indices, which are
// the numbers from 0 to 2^32-2 written without leading zeros, by number, then the other names as they came. place is the
// member's place in the text.
func rank(name []byte, place int) uint64 {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return notIndex + uint64(place)
	}
	var n uint64
	for _, b := range name {
		if b < '0' || b > '9' {
			return notIndex + uint64(place)
		}
		n = n*10 + uint64(b-'0')
	}
	if n >= notIndex {
		return notIndex + uint64(place)
	}
	return n
}

// reorder puts the members of the object that was written at open, and with which out ends, into their order by rank.
func (c *canon) reorder(members []member, open int) {
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.rank, b.rank) })
	c.spare = append(c.spare[:0], c.out[open:]...)
	to := open + 1
	for i := range members {
		m := &members[i]
		if i > 0 {
			c.out[to] = ','
			to++
		}
		n := copy(c.out[to:], c.spare[m.start-open:m.end-open])
		m.value += to - m.start
		m.start, m.end = to, to+n
		to += n
	}
}

// fewMembers is up to how many names comparing each with each is the faster way to find two that are the same.
const fewMembers = 16

// nameSeed keeps clients from making names that all fall into one place of the table.
var nameSeed = maphash.MakeSeed()

// duplicate returns the place of the first member whose name was there before, or -1. Its cost grows with the number of
// members, not with its square.
func (c *canon) duplicate(members []member) int {
	if len(members) <= fewMembers {
		for i := 1; i < len(members); i++ {
			name := members[i].name(c.out)
			for _, m := range members[:i] {
				if m.value-m.start == len(name)+3 && bytes.Equal(m.name(c.out), name) {
					return i
				}
			}
		}
		return -1
	}
	// An open-addressed table, at most half full, of places counted from 1.
	size := 1 << bits.Len(uint(2*len(members)-1))
	c.table = slices.Grow(c.table[:0], size)[:size]
	clear(c.table)
	for i, m := range members {
		name := m.name(c.out)
		slot := int(maphash.Bytes(nameSeed, name)) & (size - 1)
		for c.table[slot] != 0 {
			if bytes.Equal(members[c.table[slot]-1].name(c.out), name) {
				return i
			}
			slot = (slot + 1) & (size - 1)
		}
		c.table[slot] = int32(i + 1)
	}
	return -1
}
