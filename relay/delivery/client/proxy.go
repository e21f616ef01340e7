package client

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	xproxy "golang.org/x/net/proxy"

	"realtorbot-relay/relay/config"
)

// proxyAnswerLimit is how many bytes a proxy's answer to CONNECT may have.
const proxyAnswerLimit = 4 << 10

// proxy is an endpoint's proxy and how connections go through it. It is immutable.
type proxy struct {
	address string // host:port of the proxy, to dial and to show
	target  string // host:port of the endpoint
	host    string // of the endpoint
	port    string
	lookup  string // config.Lookup…
	guard   *guard // of the endpoint; the guard of the proxy's own address is in the dialer

	// tunnel has the proxy connect to target. It is nil when the proxy gets the whole URL instead, since proxies refuse to
	// tunnel to the ports of plain HTTP.
	tunnel func(ctx context.Context, conn net.Conn, target string) error
}

// newProxy returns nil for an endpoint without a proxy.
func newProxy(ep *config.Endpoint, t *template, version string) *proxy {
	c := ep.Delivery.Proxy
	if c.IsZero() {
		return nil
	}
	p := &proxy{address: c.Address(), target: t.address, host: t.host, lookup: ep.Delivery.ProxyLookup,
		guard: newGuard(ep.Name, t.host, ep.AllowPrivate)}
	_, p.port, _ = net.SplitHostPort(t.address)
	switch {
	case c.Kind == config.ProxySOCKS5:
		p.tunnel = socksTunnel(c)
	case t.tunnels:
		p.tunnel = connectTunnel(c, version)
	}
	return p
}

// resolve has the guard check every address that the endpoint's name resolves to, before the proxy hears of it, and returns the
// host:port that the proxy is asked for. A name that can't be looked up here is not passed on, unless the operator left looking
// up to the proxy: otherwise whoever owns the name could evade the check by answering slowly.
func (p *proxy) resolve(ctx context.Context, resolver *net.Resolver) (target string, err error) {
	if addr, err := netip.ParseAddr(p.host); err == nil {
		return p.target, p.guard.check(addr)
	}
	if p.lookup == config.LookupProxy {
		return p.target, nil
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", p.host)
	if err != nil {
		return "", &lookupError{err}
	}
	for _, addr := range addrs {
		if err := p.guard.check(addr); err != nil {
			return "", err
		}
	}
	if p.lookup != config.LookupAddress {
		return p.target, nil
	}
	addr := addrs[0]
	for _, other := range addrs {
		if other.Unmap().Is4() { // every proxy reaches IPv4
			addr = other.Unmap()
			break
		}
	}
	return net.JoinHostPort(addr.String(), p.port), nil
}

// lookupError: the name of an endpoint behind a proxy could not be looked up here.
type lookupError struct{ err error }

func (e *lookupError) Error() string { return e.err.Error() }
func (e *lookupError) Unwrap() error { return e.err }

// proxyError is a proxy's refusal to connect to the endpoint.
type proxyError struct{ reason string }

func (e *proxyError) Error() string { return e.reason }

// proxyAuthorization returns the value of Proxy-Authorization (RFC 7617); empty for a proxy that needs none.
func proxyAuthorization(p config.Proxy) string {
	if p.User.IsZero() && p.Password.IsZero() {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User.Reveal()+":"+p.Password.Reveal()))
}

// connectTunnel asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func connectTunnel(p config.Proxy, version string) func(context.Context, net.Conn, string) error {
	tail := appendHeader(nil, "\r\nUser-Agent: RealtorBot-Relay/", version)
	if value := proxyAuthorization(p); value != "" {
		tail = appendHeader(tail, "\r\nProxy-Authorization: ", value)
	}
	tail = append(tail, "\r\n\r\n"...)

	return func(ctx context.Context, conn net.Conn, target string) error {
		request := appendHeader(nil, "CONNECT ", target)
		request = appendHeader(request, " HTTP/1.1\r\nHost: ", target)
		request = append(request, tail...)
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
		// A deadline in the past ends reads and writes under way.
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		if _, err := conn.Write(request); err != nil {
			return err
		}
		limited := &io.LimitedReader{R: conn, N: proxyAnswerLimit}
		in := bufio.NewReaderSize(limited, proxyAnswerLimit)
		answer, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		switch {
		case err != nil && limited.N <= 0:
			return &proxyError{"its answer to CONNECT passes " + strconv.Itoa(proxyAnswerLimit>>10) + " KiB"}
		case err != nil && (isTimeout(err) || isBroken(err)):
			return err
		case err != nil:
			return &proxyError{"its answer to CONNECT is not valid HTTP/1.1"}
		}
		switch status := answer.StatusCode; {
		case status == fasthttp.StatusProxyAuthRequired && p.User.IsZero():
			return &proxyError{StatusText(status) + ": write user and password into proxy, as in http://user:password@host:port"}
		case status == fasthttp.StatusProxyAuthRequired:
			return &proxyError{StatusText(status) + ": it does not know the user and password that proxy has"}
		case status < 200 || status > 299:
			return &proxyError{StatusText(status)}
		case in.Buffered() > 0:
			return &proxyError{"it sends more than an answer to CONNECT"}
		}
		return nil
	}
}

// socksTunnel asks a SOCKS 5 proxy for a tunnel. A name in the target is passed on.
func socksTunnel(p config.Proxy) func(context.Context, net.Conn, string) error {
	var auth *xproxy.Auth
	if !p.User.IsZero() {
		auth = &xproxy.Auth{User: p.User.Reveal(), Password: p.Password.Reveal()}
	}
	return func(ctx context.Context, conn net.Conn, target string) error {
		dialer, err := xproxy.SOCKS5("tcp", p.Address(), auth, connectedDialer{conn})
		if err != nil {
			return err
		}
		// Its connection is conn in a wrapper, which would keep a large event from going out in one write.
		_, err = dialer.(xproxy.ContextDialer).DialContext(ctx, "tcp", target)
		var op *net.OpError
		if err == nil || isTimeout(err) || isBroken(err) || !errors.As(err, &op) {
			return err
		}
		return &proxyError{strings.TrimPrefix(op.Err.Error(), "unknown error ")} // this prefix stands before known errors too
	}
}

// connectedDialer is a dialer that returns a connection which is there already.
type connectedDialer struct{ conn net.Conn }

func (d connectedDialer) Dial(_, _ string) (net.Conn, error) { return d.conn, nil }

func (d connectedDialer) DialContext(context.Context, string, string) (net.Conn, error) {
	return d.conn, nil
}
