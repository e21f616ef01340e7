package answer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
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
// slowly can't keep out those who don't. Where none has, one more is told so, in our form and with Retry-After, and
// closed; fasthttp's own limit would answer it in plain text.
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
	turning   int                  // connections that are being told
	pace      pace
}

// tally is what one client address has.
type tally struct{ open, turning int }

const tooMany = `{"error":{"code":"unavailable","message":"the relay has too many connections"}}` + "\n"

const (
	// grace is how long a client may keep us waiting for the next of its bytes, or for room to answer, before its place
	// may be given to another.
	grace = time.Second
	// acceptPause is how long it takes until a connection is accepted after that has failed.
	acceptPause = 5 * time.Millisecond
	// turnAwayTime is how long a connection too many may take to ask and to hear so.
	turnAwayTime  = 500 * time.Millisecond
	turnAwayBytes = 64 << 10
	// maxTurning of them are told at a time, and so many of one address; more are closed without an answer.
	maxTurning           = 64
	maxTurningPerAddress = 8
	// refusedTime and refusedBytes bound what is still read of a request that was refused halfway: enough for a client to
	// finish a body somewhat too large and find the answer.
	refusedTime  = time.Second
	refusedBytes = 32 << 20
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
		if why != RefusedPace && l.mayTurn(c.address) {
			go l.turnAway(c) // ends by itself within turnAwayTime
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
	l.giveUpLocked(netip.Addr{})
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
		if !l.giveUpLocked(c.address) {
			return RefusedAddress
		}
	case len(l.open) >= l.share.All:
		if !l.giveUpLocked(netip.Addr{}) {
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
	case address.IsValid() && l.addresses[address].open >= l.share.PerAddress && !l.giveUpLocked(address):
		return false
	}
	l.countLocked(c.address, -1, 0)
	c.address = address
	l.countLocked(address, 1, 0)
	return true
}

// giveUpLocked cuts the connection that has kept us waiting for the longest, of one address or, with none, of all.
func (l *limited) giveUpLocked(address netip.Addr) bool {
	var longest *counted
	least := l.now().Add(-grace).UnixNano()
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

func (l *limited) countLocked(address netip.Addr, open, turning int) {
	if !address.IsValid() {
		return
	}
	of := l.addresses[address]
	of.open += open
	of.turning += turning
	if of == (tally{}) {
		delete(l.addresses, address)
	} else {
		l.addresses[address] = of
	}
}

func (l *limited) mayTurn(address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turning >= maxTurning || l.addresses[address].turning >= maxTurningPerAddress {
		return false
	}
	l.turning++
	l.countLocked(address, 0, 1)
	return true
}

// turnAway answers a connection beyond the limit: that there are too many, or the relay's health if that was asked for.
func (l *limited) turnAway(c *counted) {
	conn := c.Conn
	defer func() {
		_ = conn.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.turning--
		l.countLocked(c.address, 0, -1)
	}()
	_ = conn.SetDeadline(time.Now().Add(turnAwayTime))
	var head [512]byte
	n, _ := conn.Read(head[:]) // a client that says nothing is told as well
	status, body := 503, tooMany
	if l.share.Health != nil && asksForHealth(head[:n]) {
		status, body = l.share.Health()
	}
	out := []byte("HTTP/1.1 503 Service Unavailable\r\n")
	if status == 200 {
		out = []byte("HTTP/1.1 200 OK\r\n")
	}
	out = append(out, "Content-Type: "+contentType+"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = append(out, "\r\n\r\n"...)
	out = append(out, body...)
	_ = conn.SetDeadline(time.Now().Add(turnAwayTime))
	if _, err := conn.Write(out); err == nil {
		linger(conn, turnAwayTime, turnAwayBytes)
	}
}

// asksForHealth reads the beginning of a request.
func asksForHealth(head []byte) bool {
	target, ok := bytes.CutPrefix(head, []byte("GET /health"))
	return ok && len(target) > 0 && (target[0] == ' ' || target[0] == '?')
}

// linger reads what a client still sends after its answer is written: closing with bytes unread resets the connection,
// and a reset takes back an answer that the client has not read yet. It ends after wait, or after so many bytes.
func linger(conn net.Conn, wait time.Duration, most int64) {
	_ = conn.SetDeadline(time.Now().Add(wait))
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, most)
}

// Waiting says since when the client of a connection has kept us waiting, for bytes or for room to answer; the zero Time
// when it does not, and for a connection that is none of Limit's.
func Waiting(conn net.Conn) time.Time {
	if c, ok := conn.(*counted); ok {
		if since := c.since.Load(); since != 0 {
			return time.Unix(0, since)
		}
	}
	return time.Time{}
}

// Cut ends what is read from a connection and written to it, whoever does so, who then closes it.
func Cut(conn net.Conn) {
	if c, ok := conn.(*counted); ok {
		conn = c.Conn
	}
	_ = cut(conn)
}

// cut closes a connection without TLS's close_notify: TLS would still try to say goodbye to a client that may not listen.
func cut(conn net.Conn) error {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = outer.NetConn()
	}
	return conn.Close()
}

// counted is a connection with a place, which it gives back when it is closed.
type counted struct {
	net.Conn
	at      *limited
	address netip.Addr // that it counts for, under at.mu; the zero Addr for none
	place   int        // in at.open, under at.mu; -1 for none

	// Of its reader:
	origin   netip.Addr // who connected, by the PROXY protocol if a proxy did
	ofProxy  bool       // origin is a proxy, which names a client in each request
	nameless bool       // the PROXY protocol has not been read yet
	client   netip.Addr // who sent the request that is answered
	paced    netip.Addr // for whom its beginning counts; the zero Addr for nobody

	// since is when it began to keep us waiting, in nanoseconds since 1970; 0 while we keep it waiting.
	since   atomic.Int64
	wire    wire // of its reader
	once    sync.Once
	refused atomic.Bool // a request was answered that may not have been read to its end
}

// Read reads what the client sends, as long as that is requests.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.nameless && (n > 0 || err != nil) {
		c.nameless = false
		if refused := c.introduce(err); refused != nil {
			return 0, refused
		}
	}
	if n > 0 {
		if bad := c.wire.read(p[:n]); bad != nil {
			return 0, bad
		}
	}
	return n, err
}

// Write answers. From here on it is the client's turn: to read, and to ask again.
func (c *counted) Write(p []byte) (int, error) {
	c.since.Store(c.at.now().UnixNano())
	return c.Conn.Write(p)
}

// Close closes the connection.
func (c *counted) Close() error {
	c.once.Do(func() {
		c.at.mu.Lock()
		has := c.place >= 0
		c.at.mu.Unlock()
		if has && c.refused.Load() {
			linger(c.Conn, refusedTime, refusedBytes)
		}
		c.at.mu.Lock()
		c.at.leaveLocked(c)
		c.at.mu.Unlock()
	})
	return c.Conn.Close()
}
