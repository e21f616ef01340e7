package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http/httpproxy"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/testca"
)

// asked is what proxies of a test were asked for.
type asked struct {
	mu    sync.Mutex
	lines []string
}

func (a *asked) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

// all is what was asked for since the last call.
func (a *asked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := a.lines
	a.lines = nil
	return lines
}

// httpProxy forwards requests and tunnels of those who know credentials to one receiver, whatever they ask for.
func httpProxy(t *testing.T, to net.Addr, credentials string) (*receiver, *asked) {
	t.Helper()
	log := &asked{}
	return receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		for {
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			log.note("%s %s %s %s", request.Method, request.RequestURI, request.Host, request.Header.Get("Proxy-Authorization"))
			if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials)); credentials != "" && request.Header.Get("Proxy-Authorization") != want {
				io.WriteString(conn, answer(407, "Proxy-Authenticate: Basic\r\nConnection: close\r\n", "who are you?"))
				return
			}
			behind, err := net.Dial("tcp", to.String())
			if err != nil {
				io.WriteString(conn, answer(502, "Connection: close\r\n", ""))
				return
			}
			defer behind.Close()
			if request.Method == http.MethodConnect {
				io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
				splice(conn, in, behind)
				return
			}
			request.Header.Del("Proxy-Authorization")
			if request.Write(behind) != nil {
				return
			}
			response, err := http.ReadResponse(bufio.NewReader(behind), request)
			if err != nil || response.Write(conn) != nil {
				return
			}
		}
	}), log
}

func splice(conn net.Conn, in io.Reader, behind net.Conn) {
	go func() {
		io.Copy(behind, in)
		behind.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(conn, behind)
}

// socksProxy is one of RFC 1928, with the user and password of RFC 1929 if credentials has them. reply is its answer to
// CONNECT, 0 for well.
func socksProxy(t *testing.T, to net.Addr, credentials string, reply byte) (*receiver, *asked) {
	t.Helper()
	log := &asked{}
	return receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		read := func(n int) []byte {
			bytes := make([]byte, n)
			io.ReadFull(in, bytes)
			return bytes
		}
		methods := read(int(read(2)[1]))
		method := byte(0)
		if credentials != "" {
			method = 2
		}
		if !slices.Contains(methods, method) {
			conn.Write([]byte{5, 0xff})
			return
		}
		conn.Write([]byte{5, method})
		if method == 2 {
			user := read(int(read(2)[1]))
			password := read(int(read(1)[0]))
			if string(user)+":"+string(password) != credentials {
				conn.Write([]byte{1, 1})
				return
			}
			conn.Write([]byte{1, 0})
		}
		host := ""
		switch head := read(4); head[3] {
		case 1:
			host = net.IP(read(4)).String()
		case 3:
			host = string(read(int(read(1)[0])))
		case 4:
			host = net.IP(read(16)).String()
		}
		log.note("%s:%d", host, binary.BigEndian.Uint16(read(2)))
		conn.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
		if reply != 0 {
			return
		}
		behind, err := net.Dial("tcp", to.String())
		if err != nil {
			return
		}
		defer behind.Close()
		splice(conn, in, behind)
	}), log
}

func TestAttemptsGoThroughTheProxy(t *testing.T) {
	ours := testca.New(t, "Our Authority")
	server := &tls.Config{Certificates: []tls.Certificate{ours.Leaf(-1e9, 3600e9, "crm.receiver.test")}}
	secure := receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
		in := tls.Server(conn, server)
		answering(answer(200, "", "tls"), false)(in, bufio.NewReader(in))
	})
	plain := receive(t, "127.0.0.1:0", answering(answer(200, "", "plain"), false))
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("joe:hunter2/3"))
	for name, c := range map[string]struct {
		url, kind, credentials string
		asked                  []string
		excerpt                string
		lookup                 string
	}{
		"http to http":               {"http://crm.receiver.test:8080/a?b=c", "http", "", []string{"POST http://crm.receiver.test:8080/a?b=c crm.receiver.test:8080 ", "POST http://crm.receiver.test:8080/a?b=c crm.receiver.test:8080 "}, "plain", "proxy"},
		"http to http, user":         {"http://crm.receiver.test/", "http", "joe:hunter2/3", []string{"POST http://crm.receiver.test/ crm.receiver.test " + basic, "POST http://crm.receiver.test/ crm.receiver.test " + basic}, "plain", "proxy"},
		"http to https":              {"https://crm.receiver.test/a", "http", "", []string{"CONNECT crm.receiver.test:443 crm.receiver.test:443 "}, "tls", "proxy"},
		"http to https, user":        {"https://crm.receiver.test:8443/a", "http", "joe:hunter2/3", []string{"CONNECT crm.receiver.test:8443 crm.receiver.test:8443 " + basic}, "tls", "proxy"},
		"socks to http":              {"http://crm.receiver.test/a", "socks5", "", []string{"crm.receiver.test:80"}, "plain", "proxy"},
		"socks to https, user":       {"https://crm.receiver.test/a", "socks5", "joe:hunter2/3", []string{"crm.receiver.test:443"}, "tls", "proxy"},
		"socks to an address":        {"http://10.1.2.3/a", "socks5", "", []string{"10.1.2.3:80"}, "plain", "here"},
		"http to http, the address":  {"http://crm.receiver.test/a", "http", "joe:hunter2/3", []string{"CONNECT 8.8.8.8:80 8.8.8.8:80 " + basic}, "plain", "address"},
		"http to https, the address": {"https://crm.receiver.test/a", "http", "", []string{"CONNECT 8.8.8.8:443 8.8.8.8:443 "}, "tls", "address"},
		"socks, the address":         {"https://crm.receiver.test/a", "socks5", "", []string{"8.8.8.8:443"}, "tls", "address"},
		"socks, the name":            {"https://crm.receiver.test/a", "socks5", "", []string{"crm.receiver.test:443"}, "tls", "here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to, lines := plain.Addr(), ""
			if strings.HasPrefix(c.url, "https") {
				to, lines = secure.Addr(), "ca_file = \""+ours.File()+"\"\n"
			}
			proxy, log := httpProxy(t, to, c.credentials)
			if c.kind == "socks5" {
				proxy, log = socksProxy(t, to, c.credentials, 0)
			}
			user := ""
			if c.credentials != "" {
				user = "joe:hunter2%2F3@"
			}
			ep := configured(t, c.url, lines+fmt.Sprintf("proxy = \"%s://%s%s\"\nproxy_lookup = %q", c.kind, user, proxy.Addr(), c.lookup))
			client := mustClient(t, ep)
			known := netip.MustParseAddr("8.8.8.8")
			if c.lookup == config.LookupProxy {
				known = netip.Addr{}
			}
			client.pool.dialer.Resolver = resolve(t, known)
			for range 2 {
				o := client.Attempt(testRequest())
				if o.Status != 200 || string(o.Excerpt) != c.excerpt {
					t.Fatalf("got %+v", o)
				}
			}
			if got := log.all(); !slices.Equal(got, c.asked) {
				t.Errorf("the proxy was asked for %q, want %q", got, c.asked)
			}
			if n := proxy.accepted.Load(); n != 1 {
				t.Errorf("%d connections to the proxy, want one that is kept", n)
			}
		})
	}
}

func TestProxyFailuresNameTheProxy(t *testing.T) {
	gone := receive(t, "127.0.0.1:0", nil)
	gone.Close()
	saying := func(text string) net.Addr { return receive(t, "127.0.0.1:0", answering(text, true)).Addr() }
	asking, _ := httpProxy(t, gone.Addr(), "joe:right")
	failing, _ := httpProxy(t, gone.Addr(), "")
	refusing, _ := socksProxy(t, gone.Addr(), "", 2)
	socksAsking, _ := socksProxy(t, gone.Addr(), "joe:right", 0)
	silent := receive(t, "127.0.0.1:0", func(_ net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) }).Addr()
	garbled := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		in.ReadByte()
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
	}).Addr()
	for name, c := range map[string]struct {
		kind, user string
		proxy      net.Addr
		class      Class
		want       string
	}{
		"gone":                  {"http", "", gone.Addr(), ClassConnectRefused, "connect to proxy " + gone.Addr().String() + ": connection refused"},
		"no password":           {"http", "", asking.Addr(), ClassConnectRefused, "answered 407 Proxy Authentication Required: write user and password into proxy"},
		"wrong password":        {"http", "joe:wrong-canary@", asking.Addr(), ClassConnectRefused, "answered 407 Proxy Authentication Required: it does not know the user"},
		"can't connect":         {"http", "", failing.Addr(), ClassConnectRefused, "asked for crm.receiver.test:443: answered 502 Bad Gateway"},
		"garbage":               {"http", "", saying("SSH-2.0-OpenSSH_9.2p1\r\n"), ClassConnectRefused, "not valid HTTP/1.1"},
		"endless":               {"http", "", saying("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-More: and more\r\n", 1000)), ClassConnectRefused, "passes 4 KiB"},
		"talkative":             {"http", "", saying("HTTP/1.1 200 OK\r\n\r\nhello"), ClassConnectRefused, "more than an answer"},
		"closing":               {"http", "", saying(""), ClassConnectRefused, "closed the connection"},
		"silent":                {"http", "", silent, ClassConnectTimeout, "no connection within 200ms"},
		"socks, refusing":       {"socks5", "", refusing.Addr(), ClassConnectRefused, "asked for crm.receiver.test:443: connection not allowed by ruleset"},
		"socks, no password":    {"socks5", "", socksAsking.Addr(), ClassConnectRefused, "no acceptable authentication methods"},
		"socks, wrong password": {"socks5", "joe:wrong-canary@", socksAsking.Addr(), ClassConnectRefused, "username/password authentication failed"},
		"socks, garbage":        {"socks5", "", garbled, ClassConnectRefused, "unexpected protocol version"},
		"socks, silent":         {"socks5", "", silent, ClassConnectTimeout, "no connection within 200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := configured(t, "https://crm.receiver.test/", fmt.Sprintf("proxy = \"%s://%s%s\"\nproxy_lookup = \"proxy\"", c.kind, c.user, c.proxy))
			if c.class == ClassConnectTimeout {
				hurried(ep)
			}
			client := mustClient(t, ep)
			client.pool.dialer.Resolver = resolve(t, netip.Addr{})
			o := client.Attempt(testRequest())
			if o.Class != c.class || !strings.Contains(o.Err, c.want) || !strings.Contains(o.Err, "proxy "+c.proxy.String()) {
				t.Errorf("got %+v, want %q", o, c.want)
			}
			if strings.Contains(o.Err, "canary") || o.Unreachable || o.Status != 0 {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestGuardStandsBeforeTheProxy(t *testing.T) {
	plain := receive(t, "127.0.0.1:0", answering(answer(200, "", ""), false))
	proxy, log := httpProxy(t, plain.Addr(), "")
	_, port, _ := net.SplitHostPort(proxy.Addr().String())
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	noAnswer := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	metadata, private, public := netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("8.8.8.8")
	loopback := netip.MustParseAddr("127.0.0.1")
	for name, c := range map[string]struct {
		url, proxy string
		resolver   *net.Resolver
		lines      string
		want       string // empty: it goes well
	}{
		"a public name":            {"http://crm.receiver.test/", "127.0.0.1", resolve(t, public), "", ""},
		"a name not known here":    {"http://crm.receiver.test/", "127.0.0.1", resolve(t, netip.Addr{}), "", `look up "crm.receiver.test": `},
		"the same, left to it":     {"http://crm.receiver.test/", "127.0.0.1", resolve(t, netip.Addr{}), `proxy_lookup = "proxy"`, ""},
		"a resolver that is mute":  {"http://crm.receiver.test/", "127.0.0.1", noAnswer, "timeout = \"300ms\"", `proxy_lookup = "proxy" leaves looking up`},
		"a private name":           {"http://crm.receiver.test/", "127.0.0.1", resolve(t, private), "", `10.0.0.1 of host "crm.receiver.test" is private; set allow_private = true`},
		"a private name, allowed":  {"http://crm.receiver.test/", "127.0.0.1", resolve(t, private), "allow_private = true", ""},
		"a metadata name, allowed": {"http://crm.receiver.test/", "127.0.0.1", resolve(t, metadata), "allow_private = true", "no setting allows it"},
		"a private address":        {"http://10.0.0.1/", "127.0.0.1", resolve(t, netip.Addr{}), "", ""},
		"a reserved address":       {"http://240.0.0.1/", "127.0.0.1", resolve(t, netip.Addr{}), "allow_private = true", "240.0.0.1 is special-purpose"},
		"a proxy's name inside":    {"http://8.8.8.8/", "proxy.test", resolve(t, loopback), "", `127.0.0.1 of proxy "proxy.test" is loopback; write the address itself into proxy`},
		"the same, allowed":        {"http://8.8.8.8/", "proxy.test", resolve(t, loopback), "allow_private = true", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ep := configured(t, "http://8.8.8.8/", fmt.Sprintf("proxy = \"http://%s:%s\"", c.proxy, port), c.lines)
			ep.URL = config.NewURL(c.url) // also what a file can't say
			client := mustClient(t, ep)
			client.pool.dialer.Resolver = c.resolver
			o := client.Attempt(testRequest())
			n := len(log.all())
			if c.want == "" && (o.Status != 200 || n != 1) {
				t.Errorf("got %+v, and the proxy %d requests", o, n)
			}
			if c.want != "" && (o.Class != ClassBlockedAddress && o.Class != ClassDNS || !strings.Contains(o.Err, c.want) || n != 0) {
				t.Errorf("got %+v, and the proxy %d requests; want %q", o, n, c.want)
			}
		})
	}
}

// The environment is for programs that were not told where to go. The control is one that follows it.
func TestProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	plain := receive(t, "127.0.0.1:0", answering(answer(200, "", ""), false))
	proxy, log := httpProxy(t, plain.Addr(), "")
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+proxy.Addr().String())
	}
	for _, name := range []string{"NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	_, port, _ := net.SplitHostPort(plain.Addr().String())
	address := "http://crm.receiver.test:" + port + "/"
	c := mustClient(t, configured(t, address, "allow_private = true"))
	c.pool.dialer.Resolver = resolve(t, netip.MustParseAddr("127.0.0.1"))
	if o := c.Attempt(testRequest()); o.Status != 200 || len(log.all()) != 0 {
		t.Errorf("got %+v, and the proxy was asked", o)
	}

	follow := httpproxy.FromEnvironment().ProxyFunc()
	control := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) { return follow(r.URL) }, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: control}).Post(address, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if asked := log.all(); len(asked) != 1 {
		t.Errorf("the control did not ask the proxy: %q", asked)
	}
}

func TestEchoedCredentialsOfURLAndProxyAreMasked(t *testing.T) {
	var told string
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		for {
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, request.Body)
			told = fmt.Sprintf("%s %s %s example-secret", request.URL.RawQuery, request.URL.Query().Get("key"), request.Header.Get("Proxy-Authorization"))
			io.WriteString(conn, answer(404, "", told))
		}
	})
	ep := configured(t, "http://8.8.8.8/in?key=hidden%2Fquery", `proxy = "http://joe:hidden-password@`+r.Addr().String()+`"`)
	o := mustClient(t, ep).Attempt(testRequest())
	for _, secret := range []string{"hidden%2Fquery", "hidden/query", "Basic ", "example-secret"} {
		if !strings.Contains(told, secret) {
			t.Errorf("the receiver did not echo %q: %s", secret, told)
		}
		if strings.Contains(string(o.Excerpt), secret) {
			t.Errorf("%q is in %s", secret, o.Excerpt)
		}
	}
}

// Whatever a proxy says, a tunnel is open only after a good answer, and its refusal is one line that fits a log.
func FuzzProxyAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nmore", "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", "HTTP/1.0 200\r\n\r\n",
		"SSH-2.0\r\n", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\xff", "\x05\x00\x05\x02\x00\x03\x01a\x00\x00", "",
	} {
		f.Add([]byte(seed))
	}
	p := config.Proxy{Kind: config.ProxyHTTP, Host: "127.0.0.1", Port: 3128}
	d := &proxy{address: p.Address(), target: "crm.receiver.test:443"}
	f.Fuzz(func(t *testing.T, said []byte) {
		for name, tunnel := range map[string]func(context.Context, net.Conn, string) error{
			"http": connectTunnel(p, "1"), "socks5": socksTunnel(p),
		} {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			go func() {
				theirs.Write(said)
				theirs.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			err := tunnel(ctx, ours, d.target)
			cancel()
			ours.Close()
			theirs.Close()
			if err == nil {
				if name == "http" && !strings.Contains(string(said), " 2") || name == "socks5" && !strings.HasPrefix(string(said), "\x05") {
					t.Errorf("%s: %q opened a tunnel", name, said)
				}
				continue
			}
			if text := tunnelFailure(err, d, testTimeout).text; strings.ContainsAny(text, "\r\n\x1b") || len(text) > 2*textLimit {
				t.Errorf("%s: %q is refused as %q", name, said, text)
			}
		}
	})
}
