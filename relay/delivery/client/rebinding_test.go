package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
)

var errNotFromHere = errors.New("this test reaches no public address")

// fence lets the guard judge each address that is dialled, and then keeps the dial on this machine. It counts the public
// ones that got past the guard.
func fence(c *Client) (public *atomic.Int32) {
	public = &atomic.Int32{}
	judge := c.pool.dialer.ControlContext
	c.pool.dialer.ControlContext = func(ctx context.Context, network, address string, conn syscall.RawConn) error {
		if err := judge(ctx, network, address, conn); err != nil {
			return err
		}
		if !netip.MustParseAddrPort(address).Addr().IsLoopback() {
			public.Add(1)
			return errNotFromHere
		}
		return nil
	}
	return public
}

// A name that is public when it is looked at and private when it is used gets nothing through, whichever way it changes.
// The control is an endpoint that allows private addresses: the same answers lead it to the receiver.
func TestNameThatChangesWhereItLeadsGainsNothing(t *testing.T) {
	public, private := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1")
	for name, answer := range map[string]func(n int) []netip.Addr{
		"first public, then private": func(n int) []netip.Addr {
			if n == 1 {
				return []netip.Addr{public}
			}
			return []netip.Addr{private}
		},
		"in turn": func(n int) []netip.Addr { return []netip.Addr{[]netip.Addr{public, private}[n%2]} },
		"both at once": func(int) []netip.Addr {
			return []netip.Addr{public, private}
		},
		"both at once, private first": func(int) []netip.Addr {
			return []netip.Addr{private, public}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, allowed := range []bool{false, true} {
				r := receive(t, "127.0.0.1:0", answering(answer200, true))
				_, port, _ := net.SplitHostPort(r.Addr().String())
				ep := testEndpoint("http://crm.receiver.test:" + port)
				ep.AllowPrivate = allowed
				c := mustClient(t, ep)
				c.pool.dialer.Resolver = resolving(t, answer)
				reached := fence(c)
				delivered := 0
				for range 8 {
					if o := c.Attempt(testRequest()); o.Class == ClassNone {
						delivered++
					}
				}
				if got := int(r.accepted.Load()); got != delivered || (got > 0) != allowed {
					t.Errorf("allow_private %v: %d connections and %d deliveries", allowed, got, delivered)
				}
				if !allowed && reached.Load() == 0 {
					t.Error("the public address was not even tried")
				}
			}
		})
	}
}

var answer200 = answer(200, "", "")

// The same by way of a proxy: what is looked up here is refused as soon as one of its addresses is.
func TestNameThatLeadsInsideAsWellIsNotHandedOn(t *testing.T) {
	public, private := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.1")
	r := receive(t, "127.0.0.1:0", answering(answer200, false))
	proxy, log := httpProxy(t, r.Addr(), "")
	for _, addresses := range [][]netip.Addr{{public, private}, {private, public}, {private}} {
		ep := configured(t, "http://crm.receiver.test/", `proxy = "http://`+proxy.Addr().String()+`"`)
		c := mustClient(t, ep)
		c.pool.dialer.Resolver = resolving(t, func(int) []netip.Addr { return addresses })
		if o := c.Attempt(testRequest()); o.Class != ClassBlockedAddress || len(log.all()) != 0 {
			t.Errorf("%v: got %+v", addresses, o)
		}
	}
}
