package canonical

import (
	"cmp"
	"slices"
	"sort"

	"realtorbot-relay/relay/memory"
)

// shuffle is an object that was written with its members in the order of the text, which is not JavaScript's. All places are
// in canon.out.
type shuffle struct {
	open, end int32 // its braces: the first, and the byte after the last
	members   int32 // where its members begin in canon.strays
	count     int32
}

// stray remembers an object that ends here, with these members, to be put into order when the whole text has been read:
// doing it here would copy what is inside once for each object around it.
func (c *canon) stray(open int, members []member) bool {
	var err error
	if c.shuffles, err = memory.Grow(c.account, c.shuffles, 1); err == nil {
		c.strays, err = memory.Grow(c.account, c.strays, len(members))
	}
	if err != nil {
		return c.full(err)
	}
	c.shuffles = append(c.shuffles, shuffle{int32(open), int32(len(c.out)), int32(len(c.strays)), int32(len(members))})
	c.strays = append(c.strays, members...)
	return true
}

// settle puts the objects that were written from start on into JavaScript's order, all in one copy. top are the members of
// the object at start, if that is one, and are told where they have come to.
func (c *canon) settle(start int, top []member) bool {
	if len(c.shuffles) == 0 {
		return true
	}
	var err error
	if c.spare, err = memory.Grow(c.account, c.spare[:0], len(c.out)-start); err != nil {
		return c.full(err)
	}
	c.spare = append(c.spare, c.out[start:]...)
	c.out = c.out[:start]
	slices.SortFunc(c.shuffles, func(a, b shuffle) int { return cmp.Compare(a.open, b.open) })
	o := ordering{canon: c, start: int32(start)}
	if len(top) == 0 {
		o.put(int32(start), int32(start+len(c.spare)), 0, len(c.shuffles))
	} else {
		from := 0
		if int(c.shuffles[0].open) == start { // it is a stray itself
			from = 1
			slices.SortFunc(top, byRank)
		}
		c.out = append(c.out, '{')
		for i := range top {
			m := &top[i]
			if i > 0 {
				c.out = append(c.out, ',')
			}
			to := int32(len(c.out))
			o.put(m.start, m.end, o.first(from, len(c.shuffles), m.start), o.first(from, len(c.shuffles), m.end))
			m.value += to - m.start
			m.start, m.end = to, int32(len(c.out))
		}
		c.out = append(c.out, '}')
	}
	c.shuffles, c.strays = c.shuffles[:0], c.strays[:0]
	return true
}

// ordering copies from canon.spare, which holds what was written from start on, back to canon.out.
type ordering struct {
	*canon
	start int32
}

// put appends what was written between two places, in which the shuffles from low to before high are.
func (o ordering) put(from, to int32, low, high int) {
	for low < high {
		o.letOthers()
		s := o.shuffles[low]
		o.out = append(o.out, o.spare[from-o.start:s.open+1-o.start]...)
		next := o.first(low+1, high, s.end)
		members := o.strays[s.members : s.members+s.count]
		slices.SortFunc(members, byRank)
		for i, m := range members {
			if i > 0 {
				o.out = append(o.out, ',')
			}
			o.put(m.start, m.end, o.first(low+1, next, m.start), o.first(low+1, next, m.end))
		}
		o.out = append(o.out, '}')
		from, low = s.end, next
	}
	o.out = append(o.out, o.spare[from-o.start:to-o.start]...)
}

// first is the first of the shuffles from low to before high that begins at a place or behind it.
func (o ordering) first(low, high int, place int32) int {
	return low + sort.Search(high-low, func(i int) bool { return o.shuffles[low+i].open >= place })
}

// byRank orders members as JavaScript does: array indices by number, then the others as they came.
func byRank(a, b member) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	return cmp.Compare(a.start, b.start)
}
