package answer

import (
	"net"
	"net/netip"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

// Client is the address of whoever sends a request, as a proxy names it if one is trusted to; the zero Addr when there is
// none, as on a unix socket. The handler alone may ask.
func Client(ctx *fasthttp.RequestCtx) netip.Addr {
	if c, ok := ctx.Conn().(*counted); ok {
		return c.client
	}
	return addressOf(ctx.RemoteAddr())
}

// From adds to a line whom it is about, if that has an address.
func From(line *zerolog.Event, client netip.Addr) *zerolog.Event {
	if client.IsValid() {
		line = line.Stringer("from", client)
	}
	return line
}

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
