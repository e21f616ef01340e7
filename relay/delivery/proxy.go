package delivery

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

const (
	// proxyAnswerLimit bounds what a proxy may say to CONNECT, in bytes.
	proxyAnswerLimit = 4 << 10
)

// detour is the way of an endpoint's connections through its proxy. It never changes, and is safe for concurrent use.
type detour struct {
	address string // host:port of the proxy, to dial and to show
	target  string // host:port of the endpoint
	host    string // of the endpoint
	port    string
	lookup  string // config.Lookup…
	guard   *guard // of the endpoint; that of the proxy's address sits in the dialer

	// tunnel has the proxy connect to target. It is nil when the proxy is asked for the whole URL instead, as proxies refuse
	// to tunnel to the ports of plain HTTP.
	tunnel func(ctx context.Context, conn net.Conn, target string) error
}

// newDetour is nil for an endpoint without a proxy.
func newDetour(ep *config.Endpoint, r *request, version string) *detour {
	p := ep.Delivery.Proxy
	if p.IsZero() {
		return nil
	}
	d := &detour{address: p.Address(), target: r.address, host: r.host, lookup: ep.Delivery.ProxyLookup,
		guard: newGuard(ep.Name, r.host, ep.AllowPrivate)}
	_, d.port, _ = net.SplitHostPort(r.address)
	switch {
	case p.Kind == config.ProxySOCKS5:
		d.tunnel = socksTunnel(p)
	case r.tunnels:
		d.tunnel = connectTunnel(p, version)
	}
	return d
}

// admit checks where the endpoint's name leads, before the proxy hears of it, and returns the host:port that the proxy is
// asked for. A name that can't be looked up is not handed on, unless the operator left the looking up to the proxy: whoever
// owns the name would only have to be slow here to be judged by nobody.
func (d *detour) admit(ctx context.Context, resolver *net.Resolver) (target string, err error) {
	if addr, err := netip.ParseAddr(d.host); err == nil {
		return d.target, d.guard.check(addr)
	}
	if d.lookup == config.LookupProxy {
		return d.target, nil
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", d.host)
	if err != nil {
		return "", &lookupError{err}
	}
	for _, addr := range addrs {
		if err := d.guard.check(addr); err != nil {
			return "", err
		}
	}
	if d.lookup != config.LookupAddress {
		return d.target, nil
	}
	addr := addrs[0]
	for _, other := range addrs {
		if other.Unmap().Is4() { // which every proxy reaches
			addr = other.Unmap()
			break
		}
	}
	return net.JoinHostPort(addr.String(), d.port), nil
}

// lookupError tells that the name of an endpoint behind a proxy could not be looked up here.
type lookupError struct{ err error }

func (e *lookupError) Error() string { return e.err.Error() }
func (e *lookupError) Unwrap() error { return e.err }

// proxyError is a proxy's refusal to connect to the endpoint.
type proxyError struct{ reason string }

func (e *proxyError) Error() string { return e.reason }

// proxyAuthorization is the value of Proxy-Authorization (RFC 7617); empty for a proxy that asks for none.
func proxyAuthorization(p config.Proxy) string {
	if p.User.IsZero() && p.Password.IsZero() {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User.Reveal()+":"+p.Password.Reveal()))
}

// connectTunnel asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func connectTunnel(p config.Proxy, version string) func(context.Context, net.Conn, string) error {
	rest := appendHeader(nil, "\r\nUser-Agent: RealtorBot-Relay/", version)
	if value := proxyAuthorization(p); value != "" {
		rest = appendHeader(rest, "\r\nProxy-Authorization: ", value)
	}
	rest = append(rest, "\r\n\r\n"...)

	return func(ctx context.Context, conn net.Conn, target string) error {
		request := appendHeader(nil, "CONNECT ", target)
		request = appendHeader(request, " HTTP/1.1\r\nHost: ", target)
		request = append(request, rest...)
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
		// A deadline set in the past ends reads and writes under way.
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
			return &proxyError{statusFault(status).text + ": write user and password into proxy, as in http://user:password@host:port"}
		case status == fasthttp.StatusProxyAuthRequired:
			return &proxyError{statusFault(status).text + ": it does not know the user and password that proxy has"}
		case status < 200 || status > 299:
			return &proxyError{statusFault(status).text}
		case in.Buffered() > 0:
			return &proxyError{"it sends more than an answer to CONNECT"}
		}
		return nil
	}
}

// socksTunnel asks a SOCKS 5 proxy for a tunnel; a name in the target is handed on.
func socksTunnel(p config.Proxy) func(context.Context, net.Conn, string) error {
	var auth *xproxy.Auth
	if !p.User.IsZero() {
		auth = &xproxy.Auth{User: p.User.Reveal(), Password: p.Password.Reveal()}
	}
	return func(ctx context.Context, conn net.Conn, target string) error {
		dialer, err := xproxy.SOCKS5("tcp", p.Address(), auth, dialled{conn})
		if err != nil {
			return err
		}
		// What it returns is conn with a wrapper around it, which would keep a large event from going out in one write.
		_, err = dialer.(xproxy.ContextDialer).DialContext(ctx, "tcp", target)
		var op *net.OpError
		if err == nil || isTimeout(err) || isBroken(err) || !errors.As(err, &op) {
			return err
		}
		return &proxyError{strings.TrimPrefix(op.Err.Error(), "unknown error ")} // which precedes the known ones
	}
}

// dialled is a dialer for what is connected already.
type dialled struct{ conn net.Conn }

func (d dialled) Dial(_, _ string) (net.Conn, error) { return d.conn, nil }

func (d dialled) DialContext(context.Context, string, string) (net.Conn, error) { return d.conn, nil }
