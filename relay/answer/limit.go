package answer

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Share is how many connections of a listener may be open at a time.
type Share struct {
	All        int
	PerAddress int // of one client address, an IPv6 one being its /64; clients of a unix socket have none
	// PerSecond is how many one address may begin a second, once all together begin more than eight times as many; 0 for no
	// bound. Those on which a request was answered don't count.
	PerSecond int
	// Health answers "GET /health" for connections beyond the limits, so that a relay that is full is not taken for one
	// that is gone. Its body is a line of JSON.
	Health func() (status int, body string)
	// Refused is told of each connection that gets no place. Nil: nobody is.
	Refused *Refusals
	// Proxies have connections of their own as many as there are: what is sent on one counts for the client that they name.
	Proxies Proxies
}

// Limit makes a listener that lets so many connections be open at a time. When all places are taken, the connection that
// has kept us waiting for the longest gives up its own, as long as that was more than a second: whoever sends or reads
// slowly can't keep out those who don't. Where none has, one of an address that has more than a sixteenth of the places gives up
// its own for one of an address that has less: many who come anew all the time can't keep out those who don't, either. Else
// one more is told so, in our form and with Retry-After, and closed; fasthttp's own limit would answer it in plain text.
func Limit(ln net.Listener, s Share) net.Listener {
	return &limited{Listener: ln, share: s, addresses: map[netip.Addr]tally{}, pace: newPace(s.PerSecond), now: time.Now}
}

type limited struct {
	net.Listener
	share Share
	now   func() time.Time

	mu        sync.Mutex
	open      []*counted           // all that have a place, in no order
	addresses map[netip.Addr]tally // of those with an address
	refusing  int                  // connections without a place that are being answered
	pace      pace
}

// tally is what one client address has.
type tally struct{ open, refusing int }

const (
	// grace is how long a client may keep us waiting for the next of its bytes, or for room to answer, before its place
	// may be given to another.
	grace = time.Second
	// fairShare is the part of all places above which an address gives way to one below it.
	fairShare = 16
	// acceptPause is how long it takes until a connection is accepted after that has failed.
	acceptPause = 5 * time.Millisecond
	// refusedTime and refusedBytes bound what is still read of a request that was refused halfway: enough for a client to
	// finish a body somewhat too large and find the answer. unclearBytes is for a client whose framing is wrong: enough
	// to find the answer behind headers that are far too long.
	refusedTime  = time.Second
	refusedBytes = 32 << 20
	unclearBytes = 2 << 20
)

// Accept returns the next connection that gets a place.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if isPassing(err) {
			l.spare()
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &counted{Conn: conn, at: l}
		if c.origin = addressOf(conn.RemoteAddr()); l.share.Proxies.has(c.origin) {
			c.ofProxy, c.nameless = true, l.share.Proxies.Protocol
		} else {
			c.address = Group(c.origin)
		}
		c.client = c.origin
		c.since.Store(l.now().UnixNano())
		why := l.admit(c)
		if why == "" {
			return c, nil
		}
		l.share.Refused.note(why, c.origin)
		if why != RefusedPace && l.mayRefuse(c.address) {
			go l.refuse(c) // ends by itself within refusalTime
		} else {
			_ = cut(conn)
		}
	}
}

// isPassing reports whether an error of accepting is one that others cause and that goes by: fasthttp would stop serving.
func isPassing(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EPROTO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// spare gives up one connection, so that there is a descriptor for the next, and waits a moment.
func (l *limited) spare() {
	l.mu.Lock()
	l.cutSlowestLocked(netip.Addr{})
	l.mu.Unlock()
	time.Sleep(acceptPause)
}

// admit gives a connection a place, if there is one or one can be made, and says else why not.
func (l *limited) admit(c *counted) (refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.addresses[c.address]
	switch {
	case !l.beginLocked(c, c.address):
		return RefusedPace
	case c.address.IsValid() && of.open >= l.share.PerAddress:
		if !l.cutSlowestLocked(c.address) {
			return RefusedAddress
		}
	case len(l.open) >= l.share.All:
		if !l.cutSlowestLocked(netip.Addr{}) && !l.cutOfManyLocked(c.address) {
			return RefusedFull
		}
	}
	c.place = len(l.open)
	l.open = append(l.open, c)
	l.countLocked(c.address, 1, 0)
	return ""
}

// beginLocked takes leave for an address to begin a connection.
func (l *limited) beginLocked(c *counted, address netip.Addr) bool {
	if !l.pace.begin(address, l.now()) {
		return false
	}
	c.paced = address
	return true
}

// count has an open connection count for another address, or for none, from here on. It reports false when that address has
// as many as one may have, and none of them makes room: then nothing is changed.
func (l *limited) count(c *counted, address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.place < 0 || address == c.address: // it was given up: whoever reads from it notices
		return true
	case address.IsValid() && l.addresses[address].open >= l.share.PerAddress && !l.cutSlowestLocked(address):
		return false
	}
	l.countLocked(c.address, -1, 0)
	c.address = address
	l.countLocked(address, 1, 0)
	return true
}

// cutSlowestLocked cuts the connection that has kept us waiting for the longest, of one address or, with none, of all.
func (l *limited) cutSlowestLocked(address netip.Addr) bool {
	return l.cutWaitingLocked(address, l.now().Add(-grace).UnixNano())
}

// cutOfManyLocked makes room for an address that has fewer than a fair share of the places, where another has more: of the one that has
// the most, the connection is cut that has kept us waiting for the longest, however short that is.
func (l *limited) cutOfManyLocked(newcomer netip.Addr) bool {
	fair, has := max(l.share.All/fairShare, 1), l.addresses[newcomer].open
	if !newcomer.IsValid() || has >= fair {
		return false
	}
	var most netip.Addr
	for address, of := range l.addresses {
		if of.open > max(l.addresses[most].open, fair) {
			most = address
		}
	}
	return most.IsValid() && l.cutWaitingLocked(most, math.MaxInt64)
}

// cutWaitingLocked cuts the connection that has kept us waiting for the longest, from before a time on, of one address or, with none, of
// all.
func (l *limited) cutWaitingLocked(address netip.Addr, least int64) bool {
	var longest *counted
	for _, c := range l.open {
		if address.IsValid() && c.address != address {
			continue
		}
		if since := c.since.Load(); since != 0 && since < least {
			longest, least = c, since
		}
	}
	if longest == nil {
		return false
	}
	l.leaveLocked(longest)
	_ = cut(longest.Conn) // whoever serves it notices, and closes it
	return true
}

// leaveLocked takes a connection's place from it, once.
func (l *limited) leaveLocked(c *counted) {
	if c.place < 0 {
		return
	}
	last := len(l.open) - 1
	l.open[c.place] = l.open[last]
	l.open[c.place].place = c.place
	l.open[last] = nil
	l.open = l.open[:last]
	c.place = -1
	l.countLocked(c.address, -1, 0)
}

func (l *limited) countLocked(address netip.Addr, open, refusing int) {
	if !address.IsValid() {
		return
	}
	of := l.addresses[address]
	of.open += open
	of.refusing += refusing
	if of == (tally{}) {
		delete(l.addresses, address)
	} else {
		l.addresses[address] = of
	}
}
