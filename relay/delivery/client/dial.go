package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"syscall"
	"time"
)

// stage is how far a connection had come when it failed.
type stage uint8

const (
	connecting stage = iota // to the endpoint or its proxy
	tunnelling              // from the proxy to the endpoint
	handshake               // TLS with the endpoint
)

// dialError says at which stage a connection could not be made.
type dialError struct {
	at  stage
	err error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dial connects, through the proxy if there is one, and for https makes the handshake, all of it before the deadline. The
// dialer tries IPv6 and IPv4 side by side (RFC 8305) and asks the guard before each address.
func (p *pool) dial(deadline time.Time, timing *Timing) (*connection, error) {
	ctx, cancel := context.WithDeadline(p.ctx, deadline)
	defer cancel()

	*timing = Timing{}
	start := time.Now()
	// The resolver calls DNSDone on this goroutine: once, or with a proxy twice, when both names have been looked up.
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone: func(httptrace.DNSDoneInfo) { timing.DNS = time.Since(start) },
	})
	sock, err := p.connect(traced)
	timing.Connect = time.Since(start) - timing.DNS
	if err != nil {
		return nil, err
	}
	if p.trust == nil {
		return &connection{Conn: sock, out: sock.Conn, sock: sock, opened: time.Now()}, nil
	}

	start = time.Now()
	sock.secure = true
	secure := tls.Client(sock, p.trust.config(start))
	err = secure.HandshakeContext(ctx)
	timing.TLS = time.Since(start)
	if err != nil {
		sock.Close()
		return nil, &dialError{at: handshake, err: err}
	}
	state := secure.ConnectionState()
	p.trust.remember(&state)
	return &connection{Conn: secure, out: secure, sock: sock, opened: time.Now()}, nil
}

// connect makes the connection to the endpoint, or to its proxy and from there to the endpoint.
func (p *pool) connect(ctx context.Context) (*socket, error) {
	address, target := p.address, ""
	if p.proxy != nil {
		var err error
		if target, err = p.proxy.resolve(ctx, p.dialer.Resolver); err != nil {
			return nil, &dialError{err: err}
		}
		address = p.proxy.address
	}
	conn, err := p.connectTo(ctx, address)
	if err != nil {
		return nil, &dialError{err: err}
	}
	sock, err := newSocket(conn)
	if err != nil {
		conn.Close()
		return nil, &dialError{err: err}
	}
	if p.proxy == nil || p.proxy.tunnel == nil {
		return sock, nil
	}
	if err := p.proxy.tunnel(ctx, sock, target); err != nil {
		sock.Close()
		return nil, &dialError{at: tunnelling, err: err}
	}
	return sock, nil
}

// Dial connects to host:port as net.Dialer.DialContext does, with the same errors, and asks the guard before each address that it
// connects to, as a net.Dialer asks its ControlContext.
type Dial func(ctx context.Context, network, address string, guard func(context.Context, string, string, syscall.RawConn) error) (net.Conn, error)

func (p *pool) connectTo(ctx context.Context, address string) (net.Conn, error) {
	if p.through != nil {
		return p.through(ctx, "tcp", address, p.dialer.ControlContext)
	}
	return p.dialer.DialContext(ctx, "tcp", address)
}

// dialFailure explains why no connection could be made within timeout.
func (p *pool) dialFailure(e *dialError, timeout time.Duration) failure {
	switch {
	case e.at == handshake:
		return tlsFailure(e.err, p.address, timeout, p.trust)
	case e.at == tunnelling:
		return tunnelFailure(e.err, p.proxy, timeout)
	case p.proxy != nil:
		return connectFailure(e.err, "proxy "+p.proxy.address, timeout)
	}
	return connectFailure(e.err, p.address, timeout)
}

// staysLocal reports whether a connection between these addresses stays on this machine.
func staysLocal(remote, local net.Addr) bool {
	to, ok := remote.(*net.TCPAddr)
	if !ok {
		return true // a unix socket
	}
	from, _ := local.(*net.TCPAddr)
	return to.IP.IsLoopback() || from != nil && to.IP.Equal(from.IP)
}

// isLocal reports whether the dial failed for a reason that involved nothing beyond this machine.
func (e *dialError) isLocal(p *pool) bool {
	if e.at != connecting {
		host, _, _ := net.SplitHostPort(p.address)
		if e.at == tunnelling {
			host, _, _ = net.SplitHostPort(p.proxy.address)
		}
		address, err := netip.ParseAddr(host)
		return host == "localhost" || err == nil && address.IsLoopback()
	}
	var op *net.OpError
	if !errors.Is(e.err, syscall.ECONNREFUSED) || !errors.As(e.err, &op) {
		return true
	}
	to, ok := op.Addr.(*net.TCPAddr)
	return !ok || to.IP.IsLoopback()
}
