package canonical

import (
	"bytes"
	"hash/maphash"

	"realtorbot-relay/relay/memory"
)

// member says where in canon.out a member of an object was written. Bodies are far smaller than what its places can tell.
type member struct {
	start int32  // its name, with the quotes
	value int32  // its value, after the colon
	end   int32  // the byte after its value
	rank  uint32 // see rank
}

// name is the member's name in canonical form, without the quotes. Two names are the same when their canonical forms are.
func (m member) name(out []byte) []byte { return out[m.start+1 : m.value-2] }

// notIndex is the rank of members whose name is no array index, and the first number beyond those.
const notIndex = 1<<32 - 1

// rank orders the members of an object as JavaScript does (ECMA-262, OrdinaryOwnPropertyKeys): array indices, which are
// the numbers from 0 to 2^32-2 written without leading zeros, by number, then the other names, which all have one rank, as
// they came.
func rank(name []byte) uint32 {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return notIndex
	}
	var n uint64
	for _, b := range name {
		if b < '0' || b > '9' {
			return notIndex
		}
		n = n*10 + uint64(b-'0')
	}
	return uint32(min(n, notIndex))
}

// fewMembers is up to how many names comparing each with each is the faster way to find two that are the same.
const fewMembers = 16

// nameSeed keeps clients from making names that all fall into one place of a table.
var nameSeed = maphash.MakeSeed()

// names finds out which names the members of one open object have. Its table, which begins at in canon.tables, is the last
// one there whenever a member is read: those of the objects inside are gone by then.
type names struct {
	at, size int // size is 0 as long as the members are few
}

// has reports whether one of the members has the name. It costs the same however many there are.
func (n *names) has(c *canon, members []member, name []byte) (has, ok bool) {
	if len(members) < fewMembers {
		for _, m := range members {
			if int(m.value-m.start) == len(name)+3 && bytes.Equal(m.name(c.out), name) {
				return true, true
			}
		}
		return false, true
	}
	if 2*len(members) >= n.size && !n.grow(c, members) {
		return false, false
	}
	// An open-addressed table, at most half full, of places counted from 1.
	table := c.tables[n.at : n.at+n.size]
	slot := n.slot(name)
	for table[slot] != 0 {
		if bytes.Equal(members[table[slot]-1].name(c.out), name) {
			return true, true
		}
		slot = (slot + 1) & (n.size - 1)
	}
	table[slot] = int32(len(members) + 1)
	return false, true
}

func (n *names) slot(name []byte) int { return int(maphash.Bytes(nameSeed, name)) & (n.size - 1) }

// grow makes a table that is four times as large as the members need.
func (n *names) grow(c *canon, members []member) bool {
	if n.size == 0 {
		n.at, n.size = len(c.tables), 2*fewMembers
	}
	n.size *= 2
	var err error
	if c.tables, err = memory.Grow(c.account, c.tables[:n.at], n.size); err != nil {
		return c.full(err)
	}
	c.tables = c.tables[:n.at+n.size]
	table := c.tables[n.at:]
	clear(table)
	for i, m := range members {
		slot := n.slot(m.name(c.out))
		for table[slot] != 0 {
			slot = (slot + 1) & (n.size - 1)
		}
		table[slot] = int32(i + 1)
	}
	return true
}
