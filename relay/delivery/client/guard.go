package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"realtorbot-relay/relay/address"
)

// guard decides which addresses an endpoint's connections may go to. It checks every address that is really dialled, after the
// name was resolved, at every dial: a name that resolves to something else the second time gains nothing. The rules:
//
//   - public addresses are allowed;
//   - a loopback or private address is allowed when the URL's host is that very address, or is "localhost" and the address
//     is loopback: the operator wrote it; a name that resolves to one is refused unless allow_private is set;
//   - link-local addresses, metadata services and special-purpose addresses are always refused, also when the URL spells
//     them out: no receiver of events is there, and 0.0.0.0 would reach this machine.
//
// It is immutable.
type guard struct {
	endpoint     string // the endpoint's name, for error texts
	host         string // as the URL has it
	written      netip.Addr
	localhost    bool
	allowPrivate bool
	isProxy      bool // host is the endpoint's proxy
}

// newGuard returns the guard of an endpoint; host is the URL's, without port and brackets.
func newGuard(endpoint, host string, allowPrivate bool) *guard {
	g := &guard{endpoint: endpoint, host: host, localhost: strings.EqualFold(host, "localhost"), allowPrivate: allowPrivate}
	if addr, err := netip.ParseAddr(host); err == nil {
		g.written = addr.Unmap() // a dialled ::ffff:127.0.0.1 comes back as 127.0.0.1
	}
	return g
}

// newProxyGuard returns the guard of an endpoint's proxy, which follows the same rules.
func newProxyGuard(endpoint, host string, allowPrivate bool) *guard {
	g := newGuard(endpoint, host, allowPrivate)
	g.isProxy = true
	return g
}

// DialControl returns a net.Dialer's ControlContext for connections that are not an endpoint's. It follows the guard's rules:
// host is as the operator wrote it, and section is where allow_private stands.
func DialControl(section, host string, allowPrivate bool) func(context.Context, string, string, syscall.RawConn) error {
	g := newGuard("", host, allowPrivate)
	return func(ctx context.Context, network, hostPort string, conn syscall.RawConn) error {
		err := g.control(ctx, network, hostPort, conn)
		var blocked *blockedError
		switch {
		case !errors.As(err, &blocked):
			return err
		case blocked.class == address.Loopback || blocked.class == address.Private:
			return fmt.Errorf("address %s is %s; %s.allow_private = true lets a name resolve to such addresses", blocked.addr, blocked.class, section)
		}
		return fmt.Errorf("address %s is %s; no setting allows it", blocked.addr, blocked.class)
	}
}

// control is a net.Dialer's ControlContext. It runs before each connect, with the address that is connected to.
func (g *guard) control(_ context.Context, _, hostPort string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return fmt.Errorf("read address to dial: %w", err)
	}
	return g.check(target.Addr())
}

// check returns a *blockedError when the guard refuses addr.
func (g *guard) check(addr netip.Addr) error {
	addr = addr.Unmap()
	class := address.Classify(addr)
	allowed := false
	switch class {
	case address.Public:
		allowed = true
	case address.Loopback:
		allowed = g.allowPrivate || g.localhost || addr == g.written
	case address.Private:
		allowed = g.allowPrivate || addr == g.written
	}
	if allowed {
		return nil
	}
	return &blockedError{endpoint: g.endpoint, host: g.host, isProxy: g.isProxy, addr: addr, class: class}
}

// blockedError says why the guard refused an address, and which setting would allow it.
type blockedError struct {
	endpoint, host string
	isProxy        bool
	addr           netip.Addr
	class          address.Class
}

func (e *blockedError) Error() string {
	subject := fmt.Sprintf("address %s", e.addr)
	switch {
	case e.isProxy:
		subject += fmt.Sprintf(" of proxy %q", e.host)
	case e.host != e.addr.String():
		subject += fmt.Sprintf(" of host %q", e.host)
	}
	switch {
	case e.class != address.Loopback && e.class != address.Private:
		return fmt.Sprintf("%s is %s, where deliveries of endpoint %q never go; no setting allows it", subject, e.class, e.endpoint)
	case e.isProxy:
		return fmt.Sprintf("%s is %s; write the address itself into proxy, or set allow_private = true for endpoint %q",
			subject, e.class, e.endpoint)
	}
	return fmt.Sprintf("%s is %s; set allow_private = true for endpoint %q to let its host's name resolve to such addresses",
		subject, e.class, e.endpoint)
}
