package ingest

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/answer"
)

// budget is memory in bytes that requests may make the relay hold, together and each owner to it. An owner that holds its
// share, or a budget that is used up, makes room by cutting the connections of clients that keep us waiting, those that
// have for the longest first. What comes back goes to the owners that hold the least: many who hold all that there is, none of them
// slow, keep nobody out who wants little, and nor does one that holds nothing and wants much. Safe for concurrent use.
type budget struct {
	all   int64 // bytes, of all owners together
	spare int64 // of them, those for owners that hold little: they need not wait

	mu           sync.Mutex
	held         int64
	owners       map[owner]int64 // what each holds; none at 0
	reservations []*reservation  // those that hold more than small, in no order
	slow         []slowClient    // of makeRoomLocked, which is the only one to use it
	waiting      []*waiter       // for room, in the order in which they came
}

// waiter is a request that waits for room. Whoever gives something back counts for it what it needs, once that fits, and closes
// granted: to wake all who wait with each byte that comes back would keep the processors from everybody else.
type waiter struct {
	owner        owner
	share, bytes int64
	granted      chan struct{}
}

// owner is who a share belongs to: a source, or, before a request has shown its credential, a client's address.
type owner struct {
	source  string
	address netip.Addr
}

const (
	// small is what a reservation has when it is not worth being cut.
	small = 1 << 10
	// slowAfter is how long a client may keep us waiting before its connection may be cut for another's request.
	slowAfter = time.Second
	// roomWait is how long a request waits for room, bytes that others are about to give back.
	roomWait = 500 * time.Millisecond
	// roomLook is how often it looks meanwhile whether somebody has to make room.
	roomLook = 100 * time.Millisecond
	// littlePart is up to which part of a budget an owner holds little.
	littlePart = 32
)

var errNoRoom = errors.New("requests take all the memory that there is for them")

func newBudget(all int64) *budget {
	return &budget{all: all, owners: map[owner]int64{}}
}

// reservation is what one request has reserved of a budget. The nil reservation is of a budget without end. It is used by one goroutine.
type reservation struct {
	of    *budget
	owner owner
	share int64 // the most that the owner may hold
	bytes int64
	conn  net.Conn    // of the client, which tells how long it has kept us waiting; nil when nobody can be told
	index int         // in of.reservations, under of.mu; -1 for none
	ahead int64       // of bytes, those that were taken ahead and are not used yet
	hasty bool        // does not wait for room
	cut   bool        // conn was cut, under of.mu: what it has comes back soon
	waits atomic.Bool // for room: it is we who keep its client waiting
}

// begin makes h one of b, that holds nothing yet.
func (h *reservation) begin(b *budget, p owner, share int64, conn net.Conn) {
	h.of, h.owner, h.share, h.conn, h.bytes, h.index = b, p, share, conn, 0, -1
	h.ahead, h.hasty, h.cut = 0, false, false
}

// Take adds bytes to what is held, before they are allocated. It may wait, up to roomWait.
func (h *reservation) Take(bytes int) error {
	if h == nil {
		return nil
	}
	if int64(bytes) <= h.ahead {
		h.ahead -= int64(bytes)
		return nil
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if err := h.of.reserveLocked(h, h.owner, h.share, int64(bytes)); err != nil {
		return err
	}
	h.noteLocked(int64(bytes))
	return nil
}

// takeAhead takes bytes that will be used under a semaphore, where there is no waiting: others wait for it.
func (h *reservation) takeAhead(bytes int) error {
	if err := h.Take(bytes); err != nil {
		return err
	}
	h.ahead, h.hasty = int64(bytes), true
	return nil
}

// settle gives back what was taken ahead and not used.
func (h *reservation) settle() {
	h.Give(int(h.ahead))
	h.ahead, h.hasty = 0, false
}

// Give gives back what was taken.
func (h *reservation) Give(bytes int) {
	if h == nil || bytes == 0 {
		return
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.freeLocked(h.owner, int64(bytes))
	h.noteLocked(-int64(bytes))
}

// end gives back all.
func (h *reservation) end() { h.Give(int(h.bytes)) }

// move makes another owner, of another budget, hold what h does. After an error all is as before.
func (h *reservation) move(to *budget, p owner, share int64) error {
	bytes := h.bytes
	to.mu.Lock()
	err := to.reserveLocked(h, p, share, bytes)
	to.mu.Unlock()
	if err != nil {
		return err
	}
	h.end()
	to.mu.Lock()
	defer to.mu.Unlock()
	h.of, h.owner, h.share = to, p, share
	h.noteLocked(bytes)
	return nil
}

// reserveLocked counts bytes for an owner, and waits for room when there is none, up to roomWait.
func (b *budget) reserveLocked(whom *reservation, p owner, share, bytes int64) error {
	w := &waiter{owner: p, share: share, bytes: bytes}
	if b.fitsLocked(w) && (whom.hasty || !b.yieldsLocked(w)) {
		b.countLocked(w)
		return nil
	}
	if bytes > min(share, b.mostLocked(w)) {
		return errNoRoom
	}
	b.makeRoomLocked(w)
	if whom.hasty {
		return errNoRoom
	}
	w.granted = make(chan struct{})
	b.waiting = append(b.waiting, w)
	whom.waits.Store(true)
	defer whom.waits.Store(false)
	end, look := time.NewTimer(roomWait), time.NewTicker(roomLook)
	defer end.Stop()
	defer look.Stop()
	for over := false; ; {
		b.mu.Unlock()
		select {
		case <-w.granted:
		case <-look.C:
		case <-end.C:
			over = true
		}
		b.mu.Lock()
		at := slices.Index(b.waiting, w)
		switch {
		case at < 0: // granted
			return nil
		case over:
			b.waiting = slices.Delete(b.waiting, at, at+1)
			b.grantLocked()
			return errNoRoom
		}
		b.makeRoomLocked(w)
	}
}

func (b *budget) fitsLocked(w *waiter) bool {
	return b.held+w.bytes <= b.mostLocked(w) && b.withinShareLocked(w)
}

// mostLocked is how much may be held once a waiter is served.
func (b *budget) mostLocked(w *waiter) int64 {
	if b.littleLocked(w) {
		return b.all
	}
	return b.all - b.spare
}

// littleLocked reports whether the owner of a waiter that is served holds little then.
func (b *budget) littleLocked(w *waiter) bool { return b.owners[w.owner]+w.bytes <= b.all/littlePart }

// unusedLocked is how much of the spare the owners that hold little leave to others that do.
func (b *budget) unusedLocked() int64 {
	left := b.spare
	for _, bytes := range b.owners {
		if bytes <= b.all/littlePart {
			left -= bytes
		}
	}
	return left
}

func (b *budget) withinShareLocked(w *waiter) bool { return b.owners[w.owner]+w.bytes <= w.share }

// yieldsLocked reports whether somebody waits for room who holds less than this one's owner. What is of the spare is for nobody else.
func (b *budget) yieldsLocked(w *waiter) bool {
	holds := b.owners[w.owner]
	return slices.ContainsFunc(b.waiting, func(o *waiter) bool { return b.owners[o.owner] < holds && b.withinShareLocked(o) }) &&
		!(b.littleLocked(w) && w.bytes <= b.unusedLocked())
}

// grantLocked serves those who wait, those whom the spare is for and then owners that hold the least before others: until there is enough
// for one of them, what is free is kept for them. Of one owner, who needs less does not wait for who needs more.
func (b *budget) grantLocked() {
	for len(b.waiting) > 0 {
		next, least := -1, int64(math.MaxInt64) // the first that fits of those that hold the least
		unused := b.unusedLocked()
		for i, w := range b.waiting {
			if !b.withinShareLocked(w) {
				continue
			}
			holds := b.owners[w.owner]
			if b.littleLocked(w) && w.bytes <= unused {
				holds -= b.all
			}
			if holds < least {
				next, least = -1, holds
			}
			if holds == least && next < 0 && b.fitsLocked(w) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		w := b.waiting[next]
		b.waiting = slices.Delete(b.waiting, next, next+1)
		b.countLocked(w)
		close(w.granted)
	}
}

func (b *budget) countLocked(w *waiter) {
	b.held += w.bytes
	b.owners[w.owner] += w.bytes
}

// freeLocked gives bytes of an owner back, to those who wait for them.
func (b *budget) freeLocked(p owner, bytes int64) {
	b.held -= bytes
	if b.owners[p] -= bytes; b.owners[p] == 0 {
		delete(b.owners, p)
	}
	b.grantLocked()
}

// noteLocked remembers what h holds, and keeps it among those that may be cut while that is worth it.
func (h *reservation) noteLocked(more int64) {
	h.bytes += more
	b := h.of
	switch {
	case h.bytes > small && h.index < 0:
		h.index = len(b.reservations)
		b.reservations = append(b.reservations, h)
	case h.bytes <= small && h.index >= 0:
		last := len(b.reservations) - 1
		b.reservations[h.index] = b.reservations[last]
		b.reservations[h.index].index = h.index
		b.reservations[last] = nil
		b.reservations, h.index = b.reservations[:last], -1
	}
}

// slowClient is a client that keeps us waiting, and since when.
type slowClient struct {
	of    *reservation
	since time.Time
}

// makeRoomLocked cuts the connections of the clients that have kept us waiting for the longest, if that was longer than slowAfter, until
// what w lacks is on its way back: of its owner when the owner's share lacks it, else of all.
func (b *budget) makeRoomLocked(w *waiter) {
	lack := b.owners[w.owner] + w.bytes - w.share
	ofOwner := lack > 0
	lack = max(lack, b.held+w.bytes-b.mostLocked(w))
	least := time.Now().Add(-slowAfter)
	b.slow = b.slow[:0]
	for _, o := range b.reservations {
		switch {
		case ofOwner && o.owner != w.owner || o.waits.Load():
		case o.cut:
			lack -= o.bytes
		case o.conn != nil:
			if since := answer.Waiting(o.conn); !since.IsZero() && since.Before(least) {
				b.slow = append(b.slow, slowClient{o, since})
			}
		}
	}
	slices.SortFunc(b.slow, func(one, other slowClient) int { return one.since.Compare(other.since) })
	for _, c := range b.slow {
		if lack <= 0 {
			break
		}
		answer.Cut(c.of.conn) // whoever reads from it notices, and gives back
		c.of.cut = true
		lack -= c.of.bytes
	}
	clear(b.slow)
}
