package delivery

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// isOwn reports whether a connection from one address to the other stays on this machine.
func isOwn(remote, local net.Addr) bool {
	to, ok := remote.(*net.TCPAddr)
	if !ok {
		return true // a unix socket
	}
	from, _ := local.(*net.TCPAddr)
	return to.IP.IsLoopback() || from != nil && to.IP.Equal(from.IP)
}

// isLocal reports whether no connection came about for a reason that needed nothing beyond this machine.
func (e *dialError) isLocal(ls *links) bool {
	if e.at != connecting {
		host, _, _ := net.SplitHostPort(ls.address)
		if e.at == tunnelling {
			host, _, _ = net.SplitHostPort(ls.detour.address)
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
