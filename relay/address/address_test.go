package address

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
)

// Every row of the table, by its first and last address, besides forms that carry an address inside.
func TestClassifyKnowsTheSpecialRanges(t *testing.T) {
	for class, addresses := range map[Class]string{
		Public: `8.8.8.8 1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
			169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.31.195.255 192.31.197.0 192.167.255.255
			192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111 2001:4860:4860::8888 2001:200:: 2620:4f:7fff::
			2620:4f:8001:: 3ffe::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2001:0:808:808:8000:f227:f7f7:f7f7`,
		Private: `10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.7
			192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 fc00:: fdff:ffff::1 2001:2:: 2001:2:0:ffff::1 fec0:: feff::1
			64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:808:808 64:ff9b:1::8.8.8.8 64:ff9b:1::10.0.0.1
			::ffff:10.0.0.1 64:ff9b::192.168.0.1 2002:a00:1::1
			2001:0:808:808:8000:f227:f5ff:fffe 2001:0:a00:1:8000:f227:f7f7:f7f7`,
		Loopback: `127.0.0.0 127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::127.0.0.1
			2002:7f00:1:: 2001:0:808:808:8000:f227:80ff:fffe`,
		LinkLocal: `169.254.0.0 169.254.169.254 169.254.255.255 fe80:: fe80::1%eth0 febf:ffff::1 fd00:ec2::254 fd00:ec2::23 fd00:42::42 fd00:c1::a9fe:a9fe
			fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192 ::ffff:169.254.169.254 64:ff9b::169.254.169.254
			64:ff9b:1::169.254.169.254 64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:ffa9:fe:a9fe:: 64:ff9b:1:0:a9:fea9:fe00:0
			2002:a9fe:a9fe::1 2001:0:808:808:8000:f227:5601:5601 2001:0:a9fe:a9fe:8000:f227:f7f7:f7f7`,
		Special: `192.0.0.9 192.0.0.10 192.31.196.0 192.31.196.255 192.52.193.0 192.52.193.255 192.175.48.0 192.175.48.255
			2001:1::1 2001:1::2 2001:1::3 2001:3:: 2001:3:ffff::1 2001:4:112:: 2001:4:112:ffff::1 2001:20:: 2001:2f:ffff::1
			2001:30:: 2001:3f:ffff::1 2620:4f:8000:: 2620:4f:8000:ffff::1
			0.0.0.0 0.255.255.255 192.0.0.8 192.0.0.11 192.0.0.170 192.0.0.171 192.0.0.255 192.0.2.0 192.0.2.255
			192.88.99.0 192.88.99.2 192.88.99.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0
			239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255 :: ::2 ::8.8.8.8 ::127.0.0.1 ::ffff:0.0.0.0
			::ffff:0:8.8.8.8 64:ff9b::0.0.0.0 64:ff9b::224.0.0.1 100:: 100::ffff:ffff 100:0:0:1:: 100:0:0:1::1 2001:1::
			2001:1::4 2001:10:: 2001:1f:ffff::1 2001:1ff:ffff::1 2001:db8:: 2001:db8:ffff::1 2002:e000:1:: 3fff:: 3fff:fff::1
			5f00:: 5f00:ffff::1 4000::1 fe00::1 ff00:: ff02::1 ffff::1 64:ff9b:2::1`,
	} {
		for address := range strings.FieldsSeq(addresses) {
			if got := Classify(netip.MustParseAddr(address)); got != class {
				t.Errorf("%s: got %s, want %s", address, got, class)
			}
		}
	}
	if got := Classify(netip.Addr{}); got != Special {
		t.Errorf("no address: got %s", got)
	}
}

func TestTableCoversTheRegistries(t *testing.T) {
	// https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-, all rows.
	const registries = `0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
		192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24
		192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
		203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 ::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64
		100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32
		2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
		5f00::/16 fc00::/7 fe80::/10`
	rows := map[netip.Prefix]bool{}
	for _, r := range ranges {
		if rows[r.prefix] || r.prefix != r.prefix.Masked() {
			t.Errorf("%s: twice, or bits beyond its length", r.prefix)
		}
		rows[r.prefix] = true
	}
	for row := range strings.FieldsSeq(registries) {
		if !rows[netip.MustParsePrefix(row)] {
			t.Errorf("%s is missing", row)
		}
	}
}

// A maintained library draws the same line, but for addresses that carry others inside (it refuses most of them), and for
// metadata services at addresses of the ordinary kind (it lets them through).
func TestPublicIsWhatAnotherLibraryCallsSafe(t *testing.T) {
	other := ssrf.New(ssrf.WithAnyNetwork(), ssrf.WithAnyPort())
	carries := func(addr netip.Addr) bool {
		for _, r := range ranges {
			if r.prefix.Contains(addr) {
				return r.inner != nil
			}
		}
		return false
	}
	compared := 0
	compare := func(addr netip.Addr) {
		class, err := Classify(addr), other.SafeAddr(addr)
		if carries(addr) || class == LinkLocal && err == nil && !addr.IsLinkLocalUnicast() {
			return
		}
		compared++
		if (class == Public) != (err == nil) {
			t.Errorf("%s is %s here, and there: %v", addr, class, err)
		}
	}
	prefixes := slices.Concat(ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes, []netip.Prefix{ssrf.IPv6GlobalUnicast})
	for _, r := range ranges {
		prefixes = append(prefixes, r.prefix)
	}
	for _, p := range prefixes {
		first, last := p.Masked().Addr(), lastOf(p)
		for _, addr := range []netip.Addr{first, first.Next(), first.Prev(), last, last.Next(), last.Prev()} {
			if addr.IsValid() {
				compare(addr)
			}
		}
	}
	random := rand.New(rand.NewPCG(4, 6))
	for range 20_000 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], random.Uint64())
		compare(netip.AddrFrom4([4]byte(b[:4])))
		compare(netip.AddrFrom16(b))
	}
	if compared < 20_000 {
		t.Errorf("compared only %d addresses", compared)
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
