package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"time"

	"realtorbot-relay/relay/config"
)

const (
	// idleLimit is how long an unused connection is kept. Many receivers close theirs after 5 s (Node's default): a
	// connection that we give up first can't go stale under an attempt. An endpoint that hears from us less often pays
	// for a new connection each time, with TLS a resumed session.
	idleLimit = 4 * time.Second

	// ageLimit bounds how long a busy endpoint goes on with an address that its name no longer resolves to.
	ageLimit = time.Minute
)

var errClosed = errors.New("client is closed")

// links are the connections to one endpoint. They are kept here and not in a fasthttp.HostClient because an attempt needs
// to know whether its connection is a used one (only then is a broken one worth a second try), because dialling and the
// handshake are measured and explained apart, and because close has to end at once what is under way. There is no limit on
// their number: there are as many as attempts at a time, which is the lane's to bound. Safe for concurrent use.
type links struct {
	address string  // host:port of the endpoint
	trust   *trust  // nil for http
	detour  *detour // nil without a proxy
	dialer  *net.Dialer
	ctx     context.Context // ends with close, and with it every dial
	cancel  context.CancelFunc

	mu     sync.Mutex
	closed bool
	former bool               // none is kept
	open   map[*link]struct{} // all of them, busy or idle, for close
	idle   []*link            // the one used last comes last
	sweep  *time.Timer        // runs while idle holds any
}

// link is one connection; it belongs to one attempt between take and keep or drop.
type link struct {
	net.Conn          // to read from: sock, or TLS on it
	out      net.Conn // to write to: past sock, so that several buffers go out in one write
	sock     *socket
	born     time.Time
	idle     time.Time // since when
	reused   bool      // it has carried an answer already
}

// stage is how far a connection had come.
type stage uint8

const (
	connecting stage = iota // to the endpoint or its proxy
	tunnelling              // from the proxy to the endpoint
	handshake               // TLS with the endpoint
)

// dialError tells at which stage a connection failed to come about.
type dialError struct {
	at  stage
	err error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func newLinks(ep *config.Endpoint, r *request, t *trust, d *detour) *links {
	guard := newGuard(ep.Name, r.host, ep.AllowPrivate)
	if d != nil {
		guard = newProxyGuard(ep.Name, ep.Delivery.Proxy.Host, ep.AllowPrivate)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &links{
		address: r.address,
		trust:   t,
		detour:  d,
		dialer:  &net.Dialer{ControlContext: guard.control},
		ctx:     ctx,
		cancel:  cancel,
		open:    map[*link]struct{}{},
	}
}

// take returns the connection that was used last, or a new one when there is none or fresh is wanted; for a new one it
// fills in t. An idle connection on which anything has come is not used again: a late 408, an answer that nobody waits
// for, or its end. Errors are errClosed and *dialError.
func (ls *links) take(deadline time.Time, fresh bool, t *Timing) (*link, error) {
	if !fresh {
		for l := ls.takeIdle(); l != nil; l = ls.takeIdle() {
			if l.sock.isQuiet(l.Conn) {
				return l, nil
			}
			ls.drop(l)
		}
	}
	l, err := ls.dial(deadline, t)
	if err != nil {
		return nil, err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		l.Close()
		return nil, errClosed
	}
	ls.open[l] = struct{}{}
	return l, nil
}

func (ls *links) takeIdle() *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	last := len(ls.idle) - 1
	if last < 0 || time.Since(ls.idle[last].idle) > idleLimit {
		return nil // the timer is late; it will close them
	}
	l := ls.idle[last]
	ls.idle[last] = nil
	ls.idle = ls.idle[:last]
	return l
}

// dial connects, through the proxy if there is one, and for https shakes hands, all of it before the deadline. The dialer
// tries IPv6 and IPv4 side by side (RFC 8305) and asks the guard before each address.
func (ls *links) dial(deadline time.Time, t *Timing) (*link, error) {
	ctx, cancel := context.WithDeadline(ls.ctx, deadline)
	defer cancel()

	*t = Timing{}
	start := time.Now()
	// The resolver calls these on this goroutine: once, or with a proxy twice, when both names have been looked up.
	lookup := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone: func(httptrace.DNSDoneInfo) { t.DNS = time.Since(start) },
	})
	sock, err := ls.connect(lookup)
	t.Connect = time.Since(start) - t.DNS
	if err != nil {
		return nil, err
	}
	if ls.trust == nil {
		return &link{Conn: sock, out: sock.Conn, sock: sock, born: time.Now()}, nil
	}

	start = time.Now()
	sock.secure = true
	secure := tls.Client(sock, ls.trust.config(start))
	err = secure.HandshakeContext(ctx)
	t.TLS = time.Since(start)
	if err != nil {
		sock.Close()
		return nil, &dialError{at: handshake, err: err}
	}
	state := secure.ConnectionState()
	ls.trust.note(&state)
	return &link{Conn: secure, out: secure, sock: sock, born: time.Now()}, nil
}

// connect makes the connection to the endpoint, or to its proxy and from there to the endpoint.
func (ls *links) connect(ctx context.Context) (*socket, error) {
	address, target := ls.address, ""
	if ls.detour != nil {
		var err error
		if target, err = ls.detour.admit(ctx, ls.dialer.Resolver); err != nil {
			return nil, &dialError{err: err}
		}
		address = ls.detour.address
	}
	conn, err := ls.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &dialError{err: err}
	}
	sock, err := newSocket(conn)
	if err != nil {
		conn.Close()
		return nil, &dialError{err: err}
	}
	if ls.detour == nil || ls.detour.tunnel == nil {
		return sock, nil
	}
	if err := ls.detour.tunnel(ctx, sock, target); err != nil {
		sock.Close()
		return nil, &dialError{at: tunnelling, err: err}
	}
	return sock, nil
}

// fault explains why no connection came about within timeout.
func (ls *links) fault(e *dialError, timeout time.Duration) fault {
	switch {
	case e.at == handshake:
		return tlsFault(e.err, ls.address, timeout, ls.trust)
	case e.at == tunnelling:
		return tunnelFault(e.err, ls.detour, timeout)
	case ls.detour != nil:
		return dialFault(e.err, "proxy "+ls.detour.address, timeout)
	}
	return dialFault(e.err, ls.address, timeout)
}

// keep takes back a connection that is ready for another attempt.
func (ls *links) keep(l *link) {
	now := time.Now()
	ls.mu.Lock()
	if ls.closed || ls.former || now.Sub(l.born) > ageLimit {
		ls.mu.Unlock()
		ls.drop(l)
		return
	}
	l.idle, l.reused = now, true
	ls.idle = append(ls.idle, l)
	if ls.sweep == nil {
		ls.sweep = time.AfterFunc(idleLimit, ls.dropExpired)
	}
	ls.mu.Unlock()
}

// drop closes a connection that its attempt is done with.
func (ls *links) drop(l *link) {
	ls.mu.Lock()
	delete(ls.open, l)
	ls.mu.Unlock()
	l.Close()
}

// dropIdle closes all idle connections: when one has gone stale, its endpoint has most likely been restarted.
func (ls *links) dropIdle() { ls.dropUntil(time.Now()) }

func (ls *links) dropExpired() { ls.dropUntil(time.Now().Add(-idleLimit)) }

// dropUntil closes the connections that have been idle since t or longer, and sets the timer for the next one.
func (ls *links) dropUntil(t time.Time) {
	ls.mu.Lock()
	n := 0
	for n < len(ls.idle) && !ls.idle[n].idle.After(t) {
		n++
	}
	expired := append([]*link(nil), ls.idle[:n]...)
	rest := copy(ls.idle, ls.idle[n:])
	clear(ls.idle[rest:])
	ls.idle = ls.idle[:rest]
	for _, l := range expired {
		delete(ls.open, l)
	}
	if ls.sweep != nil {
		ls.sweep.Stop()
		ls.sweep = nil
	}
	if rest > 0 && !ls.closed {
		ls.sweep = time.AfterFunc(time.Until(ls.idle[0].idle.Add(idleLimit)), ls.dropExpired)
	}
	ls.mu.Unlock()
	for _, l := range expired {
		l.Close()
	}
}

// retire closes the idle connections, and each of the others when its attempt is done with it.
func (ls *links) retire() {
	ls.mu.Lock()
	ls.former = true
	ls.mu.Unlock()
	ls.dropIdle()
}

// close ends every connection, busy ones included, and every dial. It may be called more than once.
func (ls *links) close() {
	ls.cancel()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	if ls.sweep != nil {
		ls.sweep.Stop()
		ls.sweep = nil
	}
	for l := range ls.open {
		l.Close()
	}
	clear(ls.open)
	ls.idle = nil
}

func (ls *links) isClosed() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.closed
}
