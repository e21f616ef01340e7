package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"realtorbot-relay/relay/config"
)

const (
	// IdleTimeout is how long an unused connection is kept. Many receivers close theirs after 5 s (Node's default): a
	// connection that the relay closes first can't go stale under an attempt. An endpoint that gets an event less often pays
	// for a new connection each time, with TLS a resumed session.
	IdleTimeout = 4 * time.Second

	// lifetime bounds how long a busy endpoint's connections go on to an address that its name no longer resolves to.
	lifetime = time.Minute
)

var errClosed = errors.New("client is closed")

// pool holds the connections to one endpoint. It stands here in place of a fasthttp.HostClient for three reasons: an attempt
// has to know whether its connection was used before, since a broken one is worth a second try only then; dialling and the
// handshake are measured and explained apart; and close has to end at once what is under way. The pool puts no limit on their
// number: there are as many as attempts at a time, which the lane bounds. Safe for concurrent use.
type pool struct {
	address string // host:port of the endpoint
	trust   *trust // nil for http
	proxy   *proxy // nil without a proxy
	dialer  *net.Dialer
	through Dial            // in place of dialer, with its guard; nil in production
	ctx     context.Context // ends with close, and with it every dial
	cancel  context.CancelFunc

	mu        sync.Mutex // never held over the network
	closed    bool
	draining  bool                     // none is kept
	open      map[*connection]struct{} // all of them, busy or idle, for close
	idle      []*connection            // the one used last comes last
	idleTimer *time.Timer              // runs while idle holds any
}

// connection belongs to one attempt between get, and put or drop; while it is idle, to the pool.
type connection struct {
	net.Conn           // to read from: sock, or TLS on it
	out       net.Conn // to write to: past sock, so that several buffers go out in one write
	sock      *socket
	opened    time.Time
	idleSince time.Time
	reused    bool // it has carried an answer already
}

func newPool(ep *config.Endpoint, t *template, tr *trust, px *proxy, through Dial) *pool {
	guard := newGuard(ep.Name, t.host, ep.AllowPrivate)
	if px != nil {
		guard = newProxyGuard(ep.Name, ep.Delivery.Proxy.Host, ep.AllowPrivate)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &pool{
		address: t.address,
		trust:   tr,
		proxy:   px,
		dialer:  &net.Dialer{ControlContext: guard.control},
		through: through,
		ctx:     ctx,
		cancel:  cancel,
		open:    map[*connection]struct{}{},
	}
}

// get returns the connection that was used last, or a new one when none is idle or fresh is set; for a new one it fills in
// timing. It does not return an idle connection on which anything has come: a late 408, an answer that nobody waits for, or
// the connection's end. It waits for the network, until the deadline at most. Errors are errClosed and *dialError.
func (p *pool) get(deadline time.Time, fresh bool, timing *Timing) (*connection, error) {
	if !fresh {
		for c := p.getIdle(); c != nil; c = p.getIdle() {
			if c.sock.isUsable(c.Conn) {
				return c, nil
			}
			p.drop(c)
		}
	}
	c, err := p.dial(deadline, timing)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return nil, errClosed
	}
	p.open[c] = struct{}{}
	return c, nil
}

func (p *pool) getIdle() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 || time.Since(p.idle[last].idleSince) > IdleTimeout {
		return nil // the timer is late; it will close them
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// put takes back a connection that is ready for another attempt.
func (p *pool) put(c *connection) {
	now := time.Now()
	p.mu.Lock()
	if p.closed || p.draining || now.Sub(c.opened) > lifetime {
		p.mu.Unlock()
		p.drop(c)
		return
	}
	c.idleSince, c.reused = now, true
	p.idle = append(p.idle, c)
	if p.idleTimer == nil {
		p.idleTimer = time.AfterFunc(IdleTimeout, p.closeExpired)
	}
	p.mu.Unlock()
}

// drop closes a connection that no attempt uses any more.
func (p *pool) drop(c *connection) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	c.Close()
}

// closeIdle closes all idle connections: when one has gone stale, its endpoint was most likely restarted.
func (p *pool) closeIdle() { p.closeIdleSince(time.Now()) }

func (p *pool) closeExpired() { p.closeIdleSince(time.Now().Add(-IdleTimeout)) }

// closeIdleSince closes the connections that have been idle since t or longer, and sets the timer for the next one.
func (p *pool) closeIdleSince(t time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && !p.idle[n].idleSince.After(t) {
		n++
	}
	expired := append([]*connection(nil), p.idle[:n]...)
	left := copy(p.idle, p.idle[n:])
	clear(p.idle[left:])
	p.idle = p.idle[:left]
	for _, c := range expired {
		delete(p.open, c)
	}
	if p.idleTimer != nil {
		p.idleTimer.Stop()
		p.idleTimer = nil
	}
	if left > 0 && !p.closed {
		p.idleTimer = time.AfterFunc(time.Until(p.idle[0].idleSince.Add(IdleTimeout)), p.closeExpired)
	}
	p.mu.Unlock()
	for _, c := range expired {
		c.Close()
	}
}

// drain closes the idle connections at once, and each of the others when its attempt has ended.
func (p *pool) drain() {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	p.closeIdle()
}

// close ends every connection, busy ones included, and every dial.
func (p *pool) close() {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.idleTimer != nil {
		p.idleTimer.Stop()
		p.idleTimer = nil
	}
	for c := range p.open {
		c.Close()
	}
	clear(p.open)
	p.idle = nil
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
