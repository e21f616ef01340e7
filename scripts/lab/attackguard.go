package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	guardZone   = ".guard.test"
	guardServer = "127.0.0.77" // where names of the zone are looked up
	guardWait   = time.Minute
	guardEvents = 4 // so that a name that changes where it leads does
)

// guardNames are where the names lead, the nth time that they are looked up. No answer: it takes for ever.
var guardNames = map[string]func(n int) []string{
	"loopback":  always("127.0.0.1"),
	"private":   always("10.255.255.1"),
	"zero":      always("0.0.0.0"),
	"metadata":  always("169.254.169.254"),
	"metadata6": always("fd00:ec2::254"),
	"mapped":    always("::ffff:127.0.0.1"),
	"nat64":     always("64:ff9b::a9fe:a9fe"),
	"both":      always("169.254.169.254", "127.0.0.1"),
	"changing":  func(n int) []string { return []string{[]string{"127.0.0.1", "169.254.169.254"}[n%2]} },
	"never":     nil,
}

func always(addresses ...string) func(int) []string { return func(int) []string { return addresses } }

// guardCase is an endpoint that leads, or must not lead, to this machine; at the port of the trap.
type guardCase struct {
	name, host, more string
	proxied          bool   // by way of the trap's proxy
	reached          bool   // whether the trap, or its proxy, may hear of it
	class            string // of the attempts that don't reach it; "": there need be none
}

const (
	guardLeave   = "allow_private = true\n"
	guardByProxy = "proxy_lookup = \"proxy\"\n"
	guardBlocked = "blocked_address"
)

var guardCases = []guardCase{
	{name: "control: an address as written", host: "127.0.0.1", reached: true},
	{name: "control: a name with leave", host: "loopback" + guardZone, more: guardLeave, reached: true},
	{name: "control: a proxy that looks up", host: "loopback" + guardZone, more: guardByProxy, proxied: true, reached: true},
	{name: "a name of this machine", host: "loopback" + guardZone, class: guardBlocked},
	{name: "a name of a private address", host: "private" + guardZone, class: guardBlocked},
	{name: "a name of 0.0.0.0, with leave", host: "zero" + guardZone, more: guardLeave, class: guardBlocked},
	{name: "a name of a metadata service, with leave", host: "metadata" + guardZone, more: guardLeave, class: guardBlocked},
	{name: "a name of one in unique-local space, with leave", host: "metadata6" + guardZone, more: guardLeave, class: guardBlocked},
	{name: "a name of one by NAT64, with leave", host: "nat64" + guardZone, more: guardLeave, class: guardBlocked},
	{name: "a name of this machine inside of IPv6", host: "mapped" + guardZone, class: guardBlocked},
	{name: "a name of two addresses", host: "both" + guardZone, class: guardBlocked},
	{name: "a name that changes, with leave", host: "changing" + guardZone, more: guardLeave, reached: true, class: guardBlocked},
	{name: "by a proxy, a name of this machine", host: "loopback" + guardZone, proxied: true, class: guardBlocked},
	{name: "by a proxy, a name of a metadata service, with leave", host: "metadata" + guardZone, more: guardLeave, proxied: true, class: guardBlocked},
	{name: "by a proxy, a name that is never looked up", host: "never" + guardZone, proxied: true},
}

// guardRanges are those that no name may lead to without leave, and the forms of IPv6 in which an address of IPv4 may hide.
var (
	guardRanges = strings.Fields("0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.168.0.0/16 198.18.0.0/15 " +
		"198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32 ::/128 ::1/128 64:ff9b:1::/48 100::/64 2001:db8::/32 3fff::/20 fc00::/7 fe80::/10 fec0::/10 ff00::/8")
	guardHidden = strings.Fields("127.0.0.1 10.0.0.1 169.254.169.254 172.16.0.1 192.168.0.1 100.100.100.200 0.0.0.0")
	guardForms  = []func(v4 [4]byte) (v6 [16]byte){
		func(v4 [4]byte) (v6 [16]byte) { copy(v6[12:], v4[:]); v6[10], v6[11] = 0xff, 0xff; return v6 },     // mapped
		func(v4 [4]byte) (v6 [16]byte) { copy(v6[12:], v4[:]); return v6 },                                  // compatible
		func(v4 [4]byte) (v6 [16]byte) { copy(v6[12:], v4[:]); copy(v6[:], "\x00\x64\xff\x9b"); return v6 }, // NAT64
		func(v4 [4]byte) (v6 [16]byte) { copy(v6[2:], v4[:]); copy(v6[:], "\x20\x02"); return v6 },          // 6to4
		func(v4 [4]byte) (v6 [16]byte) { copy(v6[12:], v4[:]); v6[8], v6[9] = 0xff, 0xff; return v6 },       // translated
	}
)

// guardAddresses are names that lead to the first and last address of each range, to one in its middle, and to those that hide.
func guardAddresses() (cases []guardCase) {
	add := func(a netip.Addr) {
		cases = append(cases, guardCase{name: "a name of " + a.String(), host: fmt.Sprintf("at-%x%s", a.AsSlice(), guardZone), class: guardBlocked})
	}
	for _, text := range guardRanges {
		of := netip.MustParsePrefix(text)
		first, last := of.Addr().AsSlice(), of.Addr().AsSlice()
		for bit := of.Bits(); bit < of.Addr().BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		middle := bytes.Clone(last)
		if bit := of.Bits(); bit < of.Addr().BitLen() {
			middle[bit/8] &^= 0x80 >> (bit % 8)
		}
		for _, raw := range [][]byte{first, middle, last} {
			a, _ := netip.AddrFromSlice(raw) // of the length that it had
			add(a)
		}
	}
	for _, text := range guardHidden {
		for _, form := range guardForms {
			add(netip.AddrFrom16(form(netip.MustParseAddr(text).As4())))
		}
	}
	return cases
}

// whereTo is where a name of guardAddresses leads.
func whereTo(name string) func(int) []string {
	raw, err := hex.DecodeString(strings.TrimPrefix(name, "at-"))
	a, ok := netip.AddrFromSlice(raw)
	if err != nil || !ok || !strings.HasPrefix(name, "at-") {
		return nil
	}
	return always(a.String())
}

// trap counts the requests that reach it, straight and as a proxy, by the last part of their path.
type trap struct {
	mu              sync.Mutex
	target, proxied map[string]int
}

func (t *trap) handle(count map[string]int) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		path := string(ctx.Path())
		t.mu.Lock()
		count[path[strings.LastIndexByte(path, '/')+1:]]++
		t.mu.Unlock()
	}
}

// besiegeGuard has endpoints lead where the operator did not mean: by names, by names that change, by forms of addresses, by a
// proxy. Names are looked up at a server of its own, which only that relay is told of.
func besiegeGuard(ctx context.Context, s *site) (cases int, failed error) {
	names, err := net.ListenPacket("udp", net.JoinHostPort(guardServer, "53"))
	if err != nil {
		return 0, fmt.Errorf("guard: %w", err)
	}
	defer names.Close()
	go answerNames(names)
	t := &trap{target: map[string]int{}, proxied: map[string]int{}}
	var ports [2]string
	for i, count := range []map[string]int{t.target, t.proxied} {
		addr, err := freeAddress()
		if err != nil {
			return 0, err
		}
		ln, err := listenLoopback(addr)
		if err != nil {
			return 0, err
		}
		server := newServer(t.handle(count))
		go func() { _ = server.Serve(ln) }()
		defer func() { _ = server.Shutdown() }()
		_, ports[i], _ = net.SplitHostPort(addr)
	}
	relay, err := s.newRelay("guarded", nil)
	if err != nil {
		return 0, err
	}
	config := configText(relay, nil)
	guardCases := append(guardAddresses(), guardCases...)
	for i, c := range guardCases {
		config = fmt.Appendf(config, "\n[[endpoint]]\nname = \"case%d\"\nurl = \"http://%s/case%d\"\nevents = [\"bot.*\"]\nretry = []\ntimeout = \"2s\"\n%s", i, net.JoinHostPort(c.host, ports[0]), i, c.more)
		if c.proxied {
			config = fmt.Appendf(config, "proxy = \"http://127.0.0.1:%s\"\n", ports[1])
		}
	}
	if err := os.WriteFile(relay.config, config, 0o600); err != nil {
		return 0, err
	}
	if err := withResolver(relay); err != nil {
		return 0, err
	}
	if _, err := relay.start(ctx); err != nil {
		return 0, err
	}
	defer relay.proc.kill()
	classes := make([]map[string]bool, len(guardCases))
	for i := range classes {
		classes[i] = map[string]bool{}
	}
	for n := range guardEvents {
		id := fmt.Sprint("guard-", n)
		if got := tell(ctx, relay.ingest, posting("/events", "", fmt.Sprintf(`{"id":%q,"type":"bot.created","data":{}}`, id))); got != 200 {
			return 0, fmt.Errorf("guard: a post is answered %d", got)
		}
		if err := attempted(ctx, relay, id, guardCases, classes); err != nil {
			return 0, fmt.Errorf("guard: %w", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, c := range guardCases {
		name := fmt.Sprint("case", i)
		reached := t.target[name]
		if c.proxied {
			if reached > 0 {
				failed = errors.Join(failed, fmt.Errorf("guard, %s: it went past its proxy", c.name))
			}
			reached = t.proxied[name]
		}
		if (reached > 0) != c.reached {
			failed = errors.Join(failed, fmt.Errorf("guard, %s: reached %d times, want %t", c.name, reached, c.reached))
		}
		if c.class != "" && !classes[i][c.class] {
			failed = errors.Join(failed, fmt.Errorf("guard, %s: no attempt is %s, but %v", c.name, c.class, classes[i]))
		}
		for class := range classes[i] {
			if c.class != "" && class != c.class && !(class == "" && c.reached) {
				failed = errors.Join(failed, fmt.Errorf("guard, %s: an attempt is %q", c.name, class))
			}
		}
	}
	return len(guardCases), errors.Join(failed, relay.alive(), ctx.Err())
}

// attempted waits until every delivery of an event was attempted, and adds the classes of the attempts.
func attempted(ctx context.Context, r *relay, id string, guardCases []guardCase, classes []map[string]bool) error {
	type story struct {
		Deliveries []struct {
			Endpoint string
			Attempts []struct{ Class string }
		}
	}
	var s story
	var asked error
	waited := await(ctx, guardWait, func() bool {
		s = story{}
		if asked = r.call(ctx, http.MethodGet, "http://"+r.admin+"/events/"+id, &s); asked != nil {
			return true
		}
		all := len(s.Deliveries) == len(classes)
		for _, d := range s.Deliveries {
			var i int
			if _, asked = fmt.Sscanf(d.Endpoint, "case%d", &i); asked != nil {
				return true
			}
			for _, a := range d.Attempts {
				classes[i][a.Class] = true
			}
			all = all && (len(d.Attempts) > 0 || guardCases[i].class == "") // a lookup that fails is nobody's attempt
		}
		return all
	})
	if waited != nil {
		text, _ := json.Marshal(s)
		return fmt.Errorf("not all deliveries of %s were attempted: %s: %w", id, text, waited)
	}
	return asked
}

// withResolver has a relay look up names at guardServer: it runs with mounts of its own, which needs root.
func withResolver(r *relay) error {
	file := filepath.Join(r.dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+guardServer+"\n"), 0o600); err != nil {
		return err
	}
	r.under = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}
	return nil
}

// answerNames answers what is asked of the zone until the connection is closed.
func answerNames(conn net.PacketConn) {
	asked, packet := map[string]int{}, make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		name, inZone := strings.CutSuffix(q.Name.String(), guardZone+".")
		where, known := guardNames[name]
		if at := whereTo(name); at != nil {
			where, known = at, true
		}
		m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}
		m.Authorities, m.Additionals = nil, nil
		switch {
		case !inZone || !known:
			m.RCode = dnsmessage.RCodeNameError
		case where == nil:
			continue
		case q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA:
			if q.Type == dnsmessage.TypeA {
				asked[name]++
			}
			for _, address := range where(asked[name]) {
				a := netip.MustParseAddr(address)
				head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
				switch {
				case q.Type == dnsmessage.TypeA && a.Is4():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
				case q.Type == dnsmessage.TypeAAAA && a.Is6():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
		}
		if reply, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(reply, from)
		}
	}
}
