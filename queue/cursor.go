package queue

import (
	"cmp"
	"slices"
)

// cursor is how far a lane, or one of its replays, has come in the log. What is settled out of order above the position that is
// saved is saved with it, so that a start makes nothing pending that was settled. The lane's mu guards it.
type cursor struct {
	next         uint64              // everything below was handed out, or is not for this reader
	settledAbove map[uint64]struct{} // settled before the last start, not below next
	window       []*flight           // first attempts handed out and those settled since, by event; the first one is not settled
	released     []*flight           // by event; handed out again before anything new
}

// newCursor makes the cursor that position was called on.
func newCursor(low uint64, settled []uint64) cursor {
	c := cursor{next: low}
	if len(settled) > 0 {
		c.settledAbove = make(map[uint64]struct{}, len(settled))
		for _, seq := range settled {
			c.settledAbove[seq] = struct{}{}
		}
	}
	return c
}

// low is the first event that may be pending: everything below is settled, or not for this reader.
func (c *cursor) low() uint64 {
	if len(c.window) > 0 {
		return c.window[0].ev.Seq
	}
	return c.next
}

// position is what is saved: low, and which events from there on are settled, ascending.
func (c *cursor) position() (low uint64, settled []uint64) {
	for _, f := range c.window {
		if f.settled {
			settled = append(settled, f.ev.Seq)
		}
	}
	for seq := range c.settledAbove {
		settled = append(settled, seq)
	}
	slices.Sort(settled)
	return c.low(), settled
}

// width is how many events there are between low and next that have to be remembered.
func (c *cursor) width() int { return len(c.window) + len(c.settledAbove) }

// pass notes that an event, which next has just passed, is settled already. While low stays below it, the next save must say so.
func (c *cursor) pass(seq uint64) {
	if len(c.window) > 0 {
		c.window = append(c.window, &flight{ev: Stored{Seq: seq}, settled: true})
	}
}

// settle notes that a first attempt of the window is settled, and frees its event.
func (c *cursor) settle(f *flight) {
	f.settled, f.ev = true, Stored{Seq: f.ev.Seq}
	n := 0
	for n < len(c.window) && c.window[n].settled {
		n++
	}
	clear(c.window[:n])
	if c.window = c.window[n:]; len(c.window) == 0 {
		c.window = nil
	}
}

// release has a first attempt handed out again, in the order of events.
func (c *cursor) release(f *flight) {
	at, _ := slices.BinarySearchFunc(c.released, f.ev.Seq, compareFlight)
	c.released = slices.Insert(c.released, at, f)
}

// takeReleased returns the oldest first attempt that was released, nil when there is none.
func (c *cursor) takeReleased() *flight {
	if len(c.released) == 0 {
		return nil
	}
	f := c.released[0]
	c.released = slices.Delete(c.released, 0, 1)
	return f
}

// isPending reports whether an event that is for this reader is not settled.
func (c *cursor) isPending(seq uint64) bool {
	if at, in := slices.BinarySearchFunc(c.window, seq, compareFlight); in {
		return !c.window[at].settled
	}
	_, settled := c.settledAbove[seq]
	return seq >= c.next && !settled
}

func compareFlight(f *flight, seq uint64) int { return cmp.Compare(f.ev.Seq, seq) }
