package answer

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

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
	served   bool       // somebody reads from it

	// since is when it began to keep us waiting, in nanoseconds since 1970; 0 while we keep it waiting.
	since   atomic.Int64
	wire    wire // of its reader
	once    sync.Once
	refused atomic.Bool // a request was answered that may not have been read to its end
	unclear atomic.Bool // what it sends can't be followed as requests any more
}

// Read reads what the client sends, as long as that is requests.
func (c *counted) Read(p []byte) (int, error) {
	if !c.served {
		c.served = true
	}
	n, err := c.Conn.Read(p)
	if c.nameless && (n > 0 || err != nil) {
		c.nameless = false
		if refused := c.introduce(err); refused != nil {
			return 0, refused
		}
	}
	if n > 0 {
		if bad := c.wire.read(p[:n]); bad != nil {
			c.unclear.Store(true)
			return 0, bad
		}
	}
	return n, err
}

// Write answers. From here on it is the client's turn: to read, and to ask again. What fasthttp writes to one that it has nobody for, in
// the goroutine that accepts, is not written: over TLS that would wait for the client, and all who come meanwhile with it.
func (c *counted) Write(p []byte) (int, error) {
	if !c.served {
		return 0, net.ErrClosed
	}
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
			most := int64(refusedBytes)
			if c.unclear.Load() {
				most = unclearBytes
			}
			linger(c.Conn, refusedTime, most)
		}
		c.at.mu.Lock()
		c.at.leaveLocked(c)
		c.at.mu.Unlock()
	})
	return c.Conn.Close()
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
