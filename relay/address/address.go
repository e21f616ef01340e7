// Package address tells what kind of place an IP address is. The configuration is judged by it when it is read, and each
// connection when it is dialled: one table for both.
package address

import (
	"net/netip"
	"slices"
)

// Class says what kind of place an address is, as far as it matters to those who deliver there.
type Class uint8

// The classes, from harmless to worst: when an address carries others inside, the worst of them counts.
const (
	Public    Class = iota
	Private         // reached inside a network only: RFC 1918, unique local, shared (CGNAT), benchmarking
	Loopback        // this machine
	LinkLocal       // link-local, and the metadata services of clouds wherever they live
	Special         // nothing that an event could be meant for: unspecified, multicast, reserved, documentation, …
)

// String is the class's name in error texts.
func (c Class) String() string {
	switch c {
	case Public:
		return "public"
	case Private:
		return "private"
	case Loopback:
		return "loopback"
	case LinkLocal:
		return "link-local or a metadata service"
	}
	return "special-purpose"
}

// span is one row of the table. Where inner is set, the class is the worse one of class and of the IPv4 addresses that
// inner finds inside.
type span struct {
	prefix netip.Prefix
	class  Class
	inner  func(netip.Addr) []netip.Addr
}

// ranges holds the special-purpose ranges of the IANA registries (IPv4: RFC 6890 and updates; IPv6: the same) by what
// lives there, besides multicast, the unallocated, and metadata services at addresses that look like others. No range of
// the registries is public, also where they say that it can be reached from everywhere: anycast services and name servers
// receive no events. The longest prefix that holds the address counts.
var ranges = sortedRanges([]span{
	// IPv4
	{must("0.0.0.0/8"), Special, nil}, // "this network"; 0.0.0.0 dials this machine
	{must("0.0.0.0/32"), Special, nil},
	{must("10.0.0.0/8"), Private, nil},           // RFC 1918
	{must("100.64.0.0/10"), Private, nil},        // shared address space, also Tailscale's
	{must("100.100.100.200/32"), LinkLocal, nil}, // metadata, Alibaba Cloud
	{must("127.0.0.0/8"), Loopback, nil},
	{must("168.63.129.16/32"), LinkLocal, nil}, // metadata, Azure
	{must("169.254.0.0/16"), LinkLocal, nil},   // also metadata, 169.254.169.254
	{must("172.16.0.0/12"), Private, nil},      // RFC 1918
	{must("192.0.0.0/24"), Special, nil},       // IETF protocol assignments
	{must("192.0.0.0/29"), Private, nil},       // DS-Lite, IPv4 service continuity
	{must("192.0.0.8/32"), Special, nil},       // dummy address
	{must("192.0.0.9/32"), Special, nil},       // Port Control Protocol anycast
	{must("192.0.0.10/32"), Special, nil},      // TURN anycast
	{must("192.0.0.170/32"), Special, nil},     // NAT64 discovery
	{must("192.0.0.171/32"), Special, nil},     // NAT64 discovery
	{must("192.0.0.192/32"), LinkLocal, nil},   // metadata, Oracle Cloud
	{must("192.0.2.0/24"), Special, nil},       // documentation
	{must("192.31.196.0/24"), Special, nil},    // AS112
	{must("192.52.193.0/24"), Special, nil},    // AMT
	{must("192.88.99.0/24"), Special, nil},     // 6to4 relay anycast, deprecated
	{must("192.88.99.2/32"), Special, nil},     // 6a44 relay anycast
	{must("192.168.0.0/16"), Private, nil},     // RFC 1918
	{must("192.175.48.0/24"), Special, nil},    // AS112
	{must("198.18.0.0/15"), Private, nil},      // benchmarking; laboratories and VPN clients route it inside
	{must("198.51.100.0/24"), Special, nil},    // documentation
	{must("203.0.113.0/24"), Special, nil},     // documentation
	{must("224.0.0.0/4"), Special, nil},        // multicast
	{must("240.0.0.0/4"), Special, nil},        // reserved
	{must("255.255.255.255/32"), Special, nil}, // broadcast

	// IPv6
	{must("::/0"), Special, nil},         // not allocated, unless below
	{must("2000::/3"), Public, nil},      // global unicast
	{must("::/96"), Special, ipv4At(12)}, // IPv4-compatible, deprecated
	{must("::/128"), Special, nil},
	{must("::1/128"), Loopback, nil},
	{must("::ffff:0:0/96"), Public, ipv4At(12)},    // IPv4-mapped
	{must("::ffff:0:0:0/96"), Special, ipv4At(12)}, // IPv4-translated (SIIT)
	{must("64:ff9b::/96"), Public, ipv4At(12)},     // NAT64
	{must("64:ff9b:1::/48"), Private, ipv4InNAT64}, // NAT64 of the network's own
	{must("100::/64"), Special, nil},               // discard
	{must("100:0:0:1::/64"), Special, nil},         // dummy prefix
	{must("2001::/23"), Special, nil},              // IETF protocol assignments
	{must("2001::/32"), Public, ipv4InTeredo},
	{must("2001:1::1/128"), Special, nil},            // Port Control Protocol anycast
	{must("2001:1::2/128"), Special, nil},            // TURN anycast
	{must("2001:1::3/128"), Special, nil},            // DNS-SD registration anycast
	{must("2001:2::/48"), Private, nil},              // benchmarking
	{must("2001:3::/32"), Special, nil},              // AMT
	{must("2001:4:112::/48"), Special, nil},          // AS112
	{must("2001:10::/28"), Special, nil},             // ORCHID, deprecated
	{must("2001:20::/28"), Special, nil},             // ORCHIDv2
	{must("2001:30::/28"), Special, nil},             // drone remote identification
	{must("2001:db8::/32"), Special, nil},            // documentation
	{must("2002::/16"), Public, ipv4At(2)},           // 6to4
	{must("2620:4f:8000::/48"), Special, nil},        // AS112
	{must("3fff::/20"), Special, nil},                // documentation
	{must("5f00::/16"), Special, nil},                // segment routing
	{must("fc00::/7"), Private, nil},                 // unique local
	{must("fd00:42::42/128"), LinkLocal, nil},        // metadata, Scaleway
	{must("fd00:c1::a9fe:a9fe/128"), LinkLocal, nil}, // metadata, Oracle Cloud
	{must("fd00:ec2::23/128"), LinkLocal, nil},       // credentials of pods, AWS
	{must("fd00:ec2::254/128"), LinkLocal, nil},      // metadata, AWS
	{must("fd20:ce::254/128"), LinkLocal, nil},       // metadata, Google Cloud
	{must("fe80::/10"), LinkLocal, nil},
	{must("fec0::/10"), Private, nil}, // site-local, deprecated
	{must("ff00::/8"), Special, nil},  // multicast
})

// Classify says what kind of place addr is. It looks through forms that carry an IPv4 address inside (IPv4-mapped,
// NAT64, 6to4, Teredo), so that none of them is a way around. An invalid address is Special.
func Classify(addr netip.Addr) Class {
	if !addr.IsValid() {
		return Special
	}
	addr = addr.WithZone("")
	for _, r := range ranges {
		if !r.prefix.Contains(addr) {
			continue
		}
		class := r.class
		if r.inner != nil {
			for _, inner := range r.inner(addr) {
				class = max(class, Classify(inner))
			}
		}
		return class
	}
	return Public // IPv4 outside all ranges
}

// sortedRanges puts the longest prefixes first, so that the first match is the most specific one.
func sortedRanges(rs []span) []span {
	slices.SortStableFunc(rs, func(a, b span) int { return b.prefix.Bits() - a.prefix.Bits() })
	return rs
}

func must(prefix string) netip.Prefix { return netip.MustParsePrefix(prefix) }

// ipv4At finds the IPv4 address that begins at the given byte.
func ipv4At(offset int) func(netip.Addr) []netip.Addr {
	return func(addr netip.Addr) []netip.Addr {
		b := addr.As16()
		return []netip.Addr{netip.AddrFrom4([4]byte(b[offset:]))}
	}
}

// ipv4InTeredo finds the client's address, stored inverted, and that of its server (RFC 4380).
func ipv4InTeredo(addr netip.Addr) []netip.Addr {
	b := addr.As16()
	return []netip.Addr{
		netip.AddrFrom4([4]byte(b[4:])),
		netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}),
	}
}

// ipv4InNAT64 finds the IPv4 address of a network's own NAT64 prefix, whose length from /48 to /96 only that network
// knows: it returns each place where the address may be (RFC 6052, section 2.2; byte 8 is passed over). Places that hold
// no unicast address are left out: they are the prefix itself, or unused and zero.
func ipv4InNAT64(addr netip.Addr) []netip.Addr {
	b := addr.As16()
	places := [][4]byte{
		{b[6], b[7], b[9], b[10]},    // /48
		{b[7], b[9], b[10], b[11]},   // /56
		{b[9], b[10], b[11], b[12]},  // /64
		{b[12], b[13], b[14], b[15]}, // /96
	}
	var found []netip.Addr
	for _, place := range places {
		if place[0] != 0 && place[0] < 224 {
			found = append(found, netip.AddrFrom4(place))
		}
	}
	return found
}
