package answer

import (
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// Client is the address of whoever sends a request; the zero Addr when there is none, as on a unix socket.
func Client(ctx *fasthttp.RequestCtx) netip.Addr { return addressOf(ctx.RemoteAddr()) }

// Group is what an address is counted under: an IPv6 one under its /64, of which one client may have all.
func Group(address netip.Addr) netip.Addr {
	if address.Is6() {
		whole, _ := address.Prefix(64) // which an IPv6 address always has
		address = whole.Addr()
	}
	return address
}

func addressOf(from net.Addr) netip.Addr {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
