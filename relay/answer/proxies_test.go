package answer

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

// The proxy connects from 127.0.0.2, another stands before it at 198.51.100.1.
var twoProxies = Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}}

// tellClient answers with who the client is.
func tellClient(ctx *fasthttp.RequestCtx) { JSON(ctx, 200, []byte(Client(ctx).String())) }

func asked(headers ...string) string {
	return "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func TestTheClientIsTheNearestWhoIsNoProxy(t *testing.T) {
	h := openHall(t, Share{All: 64, PerAddress: 64, Proxies: twoProxies}, tellClient)
	for _, tt := range []struct {
		name string
		from byte
		text string
		want string // the client, or why it is answered 400
	}{
		{"one hop", 2, asked("X-Forwarded-For: 192.0.2.7"), "192.0.2.7"},
		{"in small letters", 2, asked("x-forwarded-for: 192.0.2.7"), "192.0.2.7"},
		{"what the client wrote itself", 2, asked("X-Forwarded-For: 203.0.113.9, 192.0.2.7"), "192.0.2.7"},
		{"two proxies", 2, asked("X-Forwarded-For: 203.0.113.9, 192.0.2.7, 198.51.100.1"), "192.0.2.7"},
		{"a line for each", 2, asked("X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 192.0.2.7", "X-Other: 1", "X-Forwarded-For: 198.51.100.1"), "192.0.2.7"},
		{"with a port", 2, asked("X-Forwarded-For: 192.0.2.7:4711"), "192.0.2.7"},
		{"IPv6", 2, asked("X-Forwarded-For: 2001:db8::7"), "2001:db8::7"},
		{"IPv6 with a port", 2, asked("X-Forwarded-For: [2001:db8::7]:80"), "2001:db8::7"},
		{"IPv4 inside of IPv6", 2, asked("X-Forwarded-For: ::ffff:192.0.2.7"), "192.0.2.7"},
		{"empty elements", 2, asked("X-Forwarded-For: 192.0.2.7, ,"), "192.0.2.7"},
		{"nothing but proxies", 2, asked("X-Forwarded-For: 198.51.100.9, 198.51.100.1"), "198.51.100.9"},
		{"what is no address", 2, asked("X-Forwarded-For: 192.0.2.7, unknown"), "127.0.0.2"},
		{"a zone", 2, asked("X-Forwarded-For: fe80::1%eth0"), "127.0.0.2"},
		{"said nothing", 2, asked(), "127.0.0.2"},
		{"Forwarded", 2, asked(`Forwarded: for=203.0.113.9, for=192.0.2.7;proto=https;by=127.0.0.2`), "192.0.2.7"},
		{"Forwarded, IPv6", 2, asked(`Forwarded: proto=http;For="[2001:db8::7]:4711"`), "2001:db8::7"},
		{"Forwarded, two lines", 2, asked(`Forwarded: for=192.0.2.7`, `Forwarded: for="[2001:db8:ffff::1]"`), "192.0.2.7"},
		{"Forwarded, hidden", 2, asked(`Forwarded: for=192.0.2.7, for=_hidden`), "127.0.0.2"},
		{"both agree", 2, asked("X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7"), "192.0.2.7"},
		{"both don't", 2, asked("X-Forwarded-For: 192.0.2.7", "Forwarded: for=203.0.113.9"), badTwoForwarded},
		{"both don't, the other way", 2, asked("X-Forwarded-For: 203.0.113.9", "Forwarded: for=192.0.2.7"), badTwoForwarded},
		{"a quote that hides the proxy's", 2, asked(`Forwarded: for=203.0.113.9;x=", for=192.0.2.7`), badForwarded},
		{"a quote over two quotes", 2, asked(`Forwarded: for=203.0.113.9;x=", for="[2001:db8::7]"`), badForwarded},
		{"Forwarded twice in one", 2, asked(`Forwarded: for=203.0.113.9;for=192.0.2.7`), badForwarded},
		{"Forwarded is no pair", 2, asked(`Forwarded: 192.0.2.7`), badForwarded},
		{"of somebody who is no proxy", 3, asked("X-Forwarded-For: 192.0.2.7"), "127.0.0.3"},
		{"Forwarded of somebody who is none", 3, asked("Forwarded: for=192.0.2.7"), "127.0.0.3"},
		{"both of somebody who is none", 3, asked("X-Forwarded-For: 192.0.2.7", "Forwarded: x"), "127.0.0.3"},
		{"another's protocol", 3, "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + asked(), "this is not a request"},
		{"in a trailer", 2, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"1\r\nx\r\n0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n", "this is not a request"},
	} {
		status, body := h.status(h.enter(tt.from, tt.text))
		if want := tt.want; status == 400 && !strings.Contains(body, want) || status == 200 && body != want || status != 400 && status != 200 {
			t.Errorf("%s: answered %d %s, want %s", tt.name, status, body, want)
		}
	}
}

// Whatever a client writes, it is known by the address that the proxy adds, or refused.
func FuzzWhatAProxyAddsIsTheClient(f *testing.F) {
	for _, seed := range []string{"", "192.0.2.1", "unknown,", `for="`, `for=x;x="\`, `for=192.0.2.1;`, "for=192.0.2.1,", " , ", `"`, `a="b"`, "for=\"[::1]:1\"", ",;=\"\\"} {
		f.Add(seed)
	}
	want := netip.MustParseAddr("192.0.2.7")
	proxy := netip.MustParseAddr("127.0.0.2")
	f.Fuzz(func(t *testing.T, client string) {
		for _, added := range []struct{ name, inLine, own string }{
			{"X-Forwarded-For", ", 192.0.2.7", "192.0.2.7"},
			{"X-Forwarded-For", ",192.0.2.7", "192.0.2.7:80"},
			{"Forwarded", ", for=192.0.2.7", "for=192.0.2.7"},
			{"Forwarded", `, for="192.0.2.7:80";proto=https`, `by=1;for="192.0.2.7"`},
		} {
			for _, lines := range []string{
				added.name + ": " + client + added.inLine + "\r\n",
				added.name + ": " + client + "\r\n" + added.name + ": " + added.own + "\r\n",
				"Forwarded: " + client + "\r\nX-Forwarded-For: " + client + "\r\n" + added.name + ": " + added.own + "\r\n",
			} {
				var h fasthttp.RequestHeader
				if h.Read(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n"+lines+"\r\n"))) != nil || framing(&h) != "" || strings.ContainsAny(client, "\r\n") {
					continue
				}
				if got, wrong := twoProxies.client(&h, proxy); wrong == "" && got != want {
					t.Errorf("%q: the client is %s", lines, got)
				}
			}
		}
	})
}

func TestAProxyTakesMoreThanAnAddressMayAndItsClientsDoNot(t *testing.T) {
	arrived, leave := make(chan struct{}, 8), make(chan struct{})
	refused := NewRefusals("intake", zerolog.Nop())
	h := openHall(t, Share{All: 16, PerAddress: 3, Proxies: twoProxies, Refused: refused}, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/wait" {
			arrived <- struct{}{}
			<-leave
		}
		welcome(ctx)
	})
	idle := h.fill(2, 5) // of the proxy, on which nothing was asked yet
	wait := strings.Replace(asked("X-Forwarded-For: 192.0.2.7"), "GET /", "GET /wait", 1)
	var waiting []net.Conn
	for range 3 {
		waiting = append(waiting, h.enter(2, wait))
		<-arrived
	}
	if status, body := h.status(h.enter(2, asked("X-Forwarded-For: 192.0.2.7"))); status != 503 || !strings.Contains(body, "from this address") {
		t.Errorf("the fourth request at a time of one client is answered %d %s", status, body)
	}
	if counts := refused.Counts(); counts[RefusedAddress] != 1 {
		t.Errorf("counted: %v", counts)
	}
	for _, headers := range [][]string{{"X-Forwarded-For: 192.0.2.8"}, nil} {
		if status, body := h.status(h.enter(2, asked(headers...))); status != 200 {
			t.Errorf("%v: answered %d %s", headers, status, body)
		}
	}
	if status, body := h.status(h.enter(2, strings.Replace(asked("X-Forwarded-For: 192.0.2.7"), "GET /", "GET /health", 1))); status != 200 {
		t.Errorf("health is answered %d %s", status, body)
	}
	close(leave)
	for _, conn := range waiting {
		if status, _ := h.status(conn); status != 200 {
			t.Errorf("answered %d", status)
		}
	}
	// Its connections are nobody's again.
	if _, err := io.WriteString(waiting[0], asked("X-Forwarded-For: 192.0.2.7")); err != nil {
		t.Fatal(err)
	}
	if status, body := h.status(waiting[0]); status != 200 {
		t.Errorf("once the others are answered: %d %s", status, body)
	}
	for _, conn := range idle {
		_ = conn.SetDeadline(time.Now().Add(time.Millisecond))
		if isCut(conn) {
			t.Error("a connection of the proxy was cut")
		}
	}
}

// openIntroduced is the address of an introducedHall.
func openIntroduced(t *testing.T, s Share) string {
	t.Helper()
	return introducedHall(t, s).address
}

// introducedHall is a hall whose proxies begin with the PROXY protocol.
func introducedHall(t *testing.T, s Share) *hall {
	t.Helper()
	s.Proxies.Protocol = true
	return openHallAt(t, s, tellClient, standing())
}

// v2 is an introduction of version 2, from its specification: signature, version and command, family, length, addresses.
func v2(t *testing.T, rest string) string {
	t.Helper()
	text, err := hex.DecodeString("0d0a0d0a000d0a515549540a" + strings.ReplaceAll(rest, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheProxyProtocolNamesTheClient(t *testing.T) {
	refused := NewRefusals("intake", zerolog.Nop())
	address := openIntroduced(t, Share{All: 64, PerAddress: 64, Proxies: twoProxies, Refused: refused})
	const v4 = "c0000207 c0000208 0001 0050" // 192.0.2.7 to 192.0.2.8
	withoutIntroduction := 0
	for _, tt := range []struct {
		name, text, want string
		from             byte
	}{
		{"version 1", "PROXY TCP4 192.0.2.7 192.0.2.8 56324 443\r\n" + asked(), "192.0.2.7", 2},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::8 56324 443\r\n" + asked(), "2001:db8::7", 2},
		{"version 1, as nginx writes it", "PROXY TCP6 192.0.2.7 2001:db8::8 56324 443\r\n" + asked(), "192.0.2.7", 2},
		{"version 1, unknown", "PROXY UNKNOWN\r\n" + asked(), "127.0.0.2", 2},
		{"version 2", v2(t, "21 11 000c "+v4) + asked(), "192.0.2.7", 2},
		{"version 2, IPv6", v2(t, "21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000008 0001 0050") + asked(), "2001:db8::7", 2},
		{"version 2 with more behind it", v2(t, "21 11 0013 "+v4+" 04 0004 00000000") + asked(), "192.0.2.7", 2},
		{"version 2, of the proxy itself", v2(t, "20 00 0000") + asked(), "127.0.0.2", 2},
		{"version 2, of the proxy itself with addresses", v2(t, "20 11 000c "+v4) + asked(), "127.0.0.2", 2},
		{"a proxy that names a proxy", "PROXY TCP4 198.51.100.1 192.0.2.8 1 2\r\n" + asked("X-Forwarded-For: 203.0.113.9, 192.0.2.7"), "192.0.2.7", 2},
		{"a header of the client's own", "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + asked("X-Forwarded-For: 203.0.113.9"), "192.0.2.7", 2},
		{"somebody who is no proxy", asked(), "127.0.0.3", 3},
		{"none", asked(), string(badIntroduction), 2},
		{"none, and a header", asked("X-Forwarded-For: 192.0.2.7"), string(badIntroduction), 2},
		{"no address", "PROXY TCP4 192.0.2.777 192.0.2.8 1 2\r\n" + asked(), string(badIntroduction), 2},
		{"a line that does not end", "PROXY TCP4 192.0.2.7 192.0.2.8 1 " + strings.Repeat("2", 200) + "\r\n" + asked(), string(badIntroduction), 2},
		{"version 2, longer than anything", v2(t, "21 11 ffff "+v4) + strings.Repeat("x", 100), string(badIntroduction), 2},
		{"version 2, shorter than an address", v2(t, "21 11 0004 c0000207") + asked(), string(badIntroduction), 2},
		{"version 3", v2(t, "31 11 000c "+v4) + asked(), string(badIntroduction), 2},
		{"two", "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nPROXY TCP4 203.0.113.9 192.0.2.8 1 2\r\n" + asked(), "this is not a request", 2},
		{"one of somebody who is no proxy", "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + asked(), "this is not a request", 3},
	} {
		if tt.want == string(badIntroduction) {
			withoutIntroduction++
		}
		conn := dialFrom(t, tt.from, address)
		if _, err := io.WriteString(conn, tt.text); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		if status, want := answer.StatusCode, tt.want; status == 400 && !bytes.Contains(body, []byte(want)) || status == 200 && string(body) != want || status != 400 && status != 200 {
			t.Errorf("%s: answered %d %s, want %s", tt.name, status, body, want)
		}
	}
	if counts := refused.Counts(); counts[RefusedProxy] != uint64(withoutIntroduction) {
		t.Errorf("counted %v, want %d", counts, withoutIntroduction)
	}
}

func dialFrom(t *testing.T, n byte, address string) net.Conn {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}, Timeout: patience}
	conn, err := from.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// A proxy that says nothing keeps nobody else waiting, and one client of it can't take all places.
func TestConnectionsOfAProxyCountForTheClientsThatItNames(t *testing.T) {
	address := openIntroduced(t, Share{All: 16, PerAddress: 2, Proxies: twoProxies})
	for range 4 {
		dialFrom(t, 2, address)
	}
	ask := func(client string) (int, string) {
		conn := dialFrom(t, 2, address)
		if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.8 1 2\r\n"+asked()); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(body)
	}
	for i, want := range []int{200, 200, 503} {
		if status, body := ask("192.0.2.7"); status != want {
			t.Errorf("connection %d of one client is answered %d %s", i+1, status, body)
		}
	}
	if status, body := ask("192.0.2.9"); status != 200 {
		t.Errorf("another is answered %d %s", status, body)
	}
}
