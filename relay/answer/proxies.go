package answer

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"
)

// Proxies are those in front of a listener who are believed when they say who a client is. What anybody else says of
// that is not looked at. The zero Proxies are none.
type Proxies struct {
	Networks []netip.Prefix
	// Protocol: they begin each of their connections with the PROXY protocol. See Introduced.
	Protocol bool
}

// has reports whether an address is a proxy's.
func (p Proxies) has(address netip.Addr) bool {
	return address.IsValid() && slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(address) })
}

const (
	listHeader      = "X-Forwarded-For"
	forwardedHeader = "Forwarded" // RFC 7239

	badForwarded    = "the header Forwarded is none of RFC 7239"
	badTwoForwarded = "the headers Forwarded and X-Forwarded-For name two clients: have the proxy remove the one that it does not write"
)

// client is who sent a request that came from the address of a proxy. Each proxy adds whom it had the request from at
// the right: from there on, the first who is no proxy is the client, and what stands to the left of it is what the client
// itself wrote. Where a proxy says nothing, or nothing that is an address, the client is that proxy.
//
// Proxies write one of the two headers and let the other pass, whoever wrote that: when both are there and don't agree,
// nobody can tell who the client is, and wrong says so.
func (p Proxies) client(h *fasthttp.RequestHeader, from netip.Addr) (client netip.Addr, wrong string) {
	var room [8][]byte
	lines := headerLines(room[:0], h, listHeader)
	listed := p.farther(lines, from, listHops)
	lines, hasList := headerLines(room[:0], h, forwardedHeader), len(lines) > 0
	if len(lines) == 0 {
		return listed.client, ""
	}
	forwarded := p.farther(lines, from, forwardedHops)
	switch {
	case forwarded.malformed:
		return client, badForwarded
	case hasList && listed.client != forwarded.client:
		return client, badTwoForwarded
	}
	return forwarded.client, ""
}

type walk struct {
	client    netip.Addr
	malformed bool
}

// farther walks along the hops of header lines, from the nearest on, for as long as they are proxies. hops are those of
// a line, the nearest last, the zero Addr for one that is no address; ok is false where the line can't be read.
func (p Proxies) farther(lines [][]byte, from netip.Addr, hops func(line []byte) (list []netip.Addr, ok bool)) walk {
	for _, line := range slices.Backward(lines) {
		list, ok := hops(line)
		if !ok {
			return walk{malformed: true}
		}
		for _, hop := range slices.Backward(list) {
			if !hop.IsValid() {
				return walk{client: from}
			}
			if from = hop; !p.has(hop) {
				return walk{client: from}
			}
		}
	}
	return walk{client: from}
}

// headerLines are the values of a header in the order of its lines, which is that of the proxies that wrote them. They are
// taken from the headers as they came: what is parsed has the trailers behind them, which a client writes last.
func headerLines(to [][]byte, h *fasthttp.RequestHeader, name string) [][]byte {
	for raw := h.RawHeaders(); len(raw) > 0; {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte{'\n'})
		if isHeader(line, name) {
			to = append(to, line[len(name)+1:])
		}
	}
	return to
}

// listHops reads a line of X-Forwarded-For.
func listHops(line []byte) (hops []netip.Addr, ok bool) {
	for element := range bytes.SplitSeq(line, []byte{','}) {
		if element = bytes.TrimSpace(element); len(element) > 0 {
			hops = append(hops, hopAddress(element))
		}
	}
	return hops, true
}

// forwardedHops reads a line of Forwarded, all of it: a quote that somebody left open may not hide what a proxy added.
func forwardedHops(line []byte) (hops []netip.Addr, ok bool) {
	rest := bytes.TrimSpace(line)
	for len(rest) > 0 {
		if rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], " \t")
			continue
		}
		var hop netip.Addr
		named := false
		for {
			var name, value []byte
			if name, value, rest, ok = forwardedPair(rest); !ok {
				return nil, false
			}
			if bytes.EqualFold(name, []byte("for")) {
				if named {
					return nil, false
				}
				hop, named = hopAddress(value), true
			}
			if len(rest) == 0 || rest[0] != ';' {
				break
			}
			rest = rest[1:]
		}
		hops = append(hops, hop)
		if rest = bytes.TrimLeft(rest, " \t"); len(rest) > 0 && rest[0] != ',' {
			return nil, false
		}
	}
	return hops, true
}

// forwardedPair reads name=value, with the value in quotes or not. What is quoted inside of quotes is no address, and
// left as it is.
func forwardedPair(in []byte) (name, value, rest []byte, ok bool) {
	name, in, ok = bytes.Cut(in, []byte{'='})
	if !ok || len(name) == 0 || len(in) == 0 || bytes.ContainsAny(name, " \t,;\"") {
		return nil, nil, nil, false
	}
	if in[0] != '"' {
		end := bytes.IndexAny(in, ";, \t")
		if end < 0 {
			end = len(in)
		}
		value = in[:end]
		return name, value, in[end:], end > 0 && bytes.IndexByte(value, '"') < 0
	}
	for i := 1; i < len(in); i++ {
		switch in[i] {
		case '\\':
			i++
		case '"':
			return name, in[1:i], in[i+1:], true
		}
	}
	return nil, nil, nil, false
}

// hopAddress reads the address of a hop, as it is or with a port, an IPv6 one in brackets or without; the zero Addr for
// anything else, as "unknown".
func hopAddress(text []byte) netip.Addr {
	if len(text) > len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535") {
		return netip.Addr{}
	}
	s := string(text)
	address, err := netip.ParseAddr(s)
	if err != nil {
		var withPort netip.AddrPort
		if withPort, err = netip.ParseAddrPort(s); err == nil {
			address = withPort.Addr()
		} else if s[0] == '[' && s[len(s)-1] == ']' {
			address, err = netip.ParseAddr(s[1 : len(s)-1])
		}
	}
	if err != nil || address.Zone() != "" {
		return netip.Addr{}
	}
	return address.Unmap()
}
