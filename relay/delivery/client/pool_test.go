package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/sign"
)

func TestIdleConnectionIsGivenUp(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(200, "", ""), false))
	c := clientTo(t, r)
	c.Attempt(testRequest())
	c.pool.idle[0].idleSince = time.Now().Add(-IdleTimeout - time.Millisecond)
	if c.Attempt(testRequest()); r.accepted.Load() != 2 || len(c.pool.idle) != 2 {
		t.Fatalf("got %d connections, %d idle: an expired one was used", r.accepted.Load(), len(c.pool.idle))
	}
	expired := c.pool.idle[0]
	c.pool.closeExpired()
	if len(c.pool.idle) != 1 || len(c.pool.open) != 1 || c.pool.idle[0] == expired || c.pool.idleTimer == nil {
		t.Errorf("got %d idle, %d open, timer %v", len(c.pool.idle), len(c.pool.open), c.pool.idleTimer)
	}
	if _, err := expired.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("expired connection is open: %v", err)
	}
}

func TestOldConnectionIsGivenUp(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(200, "", ""), false))
	c := clientTo(t, r)
	c.Attempt(testRequest())
	c.pool.idle[0].opened = time.Now().Add(-lifetime - time.Millisecond)
	c.Attempt(testRequest())
	if r.accepted.Load() != 1 || len(c.pool.open) != 0 {
		t.Errorf("got %d connections, %d open", r.accepted.Load(), len(c.pool.open))
	}
}

func TestTLSIsVerifiedMeasuredAndResumed(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate, valid for example.com and 127.0.0.1
	defer server.Close()
	serverConfig := &tls.Config{Certificates: server.TLS.Certificates} // one for all: it holds the keys of the tickets
	resumed := make(chan bool, 1)
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
		secure := tls.Server(conn, serverConfig)
		if mustSwallow(bufio.NewReader(secure)) {
			resumed <- secure.ConnectionState().DidResume
			io.WriteString(secure, answer(200, "Connection: close\r\n", "ok"))
		}
	})
	ep := testEndpoint("https://" + r.Addr().String())
	c := mustClient(t, ep)
	if o := c.Attempt(testRequest()); o.Class != ClassTLS || !strings.Contains(o.Err, "certificate") {
		t.Errorf("unknown authority: got %+v", o)
	}

	c.pool.trust.resuming.RootCAs = x509.NewCertPool()
	c.pool.trust.resuming.RootCAs.AddCert(server.Certificate())
	for i, want := range []bool{false, true} {
		o := c.Attempt(testRequest())
		if o.Status != 200 || o.Timing.TLS == 0 || string(o.Excerpt) != "ok" {
			t.Fatalf("attempt %d: got %+v", i, o)
		}
		if got := <-resumed; got != want {
			t.Errorf("attempt %d: session resumed %v, want %v", i, got, want)
		}
	}

	c.pool.trust.resuming.ServerName = "elsewhere.test"
	c.pool.trust.resuming.ClientSessionCache = nil
	if o := c.Attempt(testRequest()); o.Class != ClassTLS || !strings.Contains(o.Err, "elsewhere.test") {
		t.Errorf("wrong name: got %+v", o)
	}
}

func TestTLSRefusedAfterTheHandshakeIsTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
		tls.Server(conn, &tls.Config{Certificates: server.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert}).Handshake()
		io.Copy(io.Discard, conn)
	})
	ep := testEndpoint("https://" + r.Addr().String())
	c := mustClient(t, ep)
	c.pool.trust.resuming.RootCAs = x509.NewCertPool()
	c.pool.trust.resuming.RootCAs.AddCert(server.Certificate())
	if o := c.Attempt(testRequest()); o.Class != ClassTLS || !strings.Contains(o.Err, "certificate required") {
		t.Errorf("got %+v", o)
	}
}

func TestTLSTroubleHasItsClass(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn, *bufio.Reader)
		class Class
	}{
		"plain HTTP": {func(conn net.Conn, _ *bufio.Reader) { io.WriteString(conn, answer(400, "", "")) }, ClassTLS},
		"closing":    {func(conn net.Conn, _ *bufio.Reader) { conn.Read(make([]byte, 5)) }, ClassTLS},
		"hanging":    {func(conn net.Conn, _ *bufio.Reader) { io.Copy(io.Discard, conn) }, ClassTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", c.serve)
			ep := testEndpoint("https://" + r.Addr().String())
			if c.class == ClassTimeout {
				hurried(ep)
			}
			o := mustClient(t, ep).Attempt(testRequest())
			if o.Class != c.class || !strings.Contains(o.Err, "TLS") || o.Unreachable {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// resolve answers every question for an A record with address; one that is not valid becomes NXDOMAIN.
func resolve(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	return resolving(t, func(int) []netip.Addr { return []netip.Addr{address} })
}

// resolving answers the n-th question for an A record, from 1, with what answer says. Other questions have no answer.
func resolving(t *testing.T, answer func(n int) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		question := make([]byte, 512)
		asked := 0
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			// RFC 1035, section 4: header of 12 bytes, then the question: labels up to a zero byte, type, class.
			end := 12 + bytes.IndexByte(question[12:n], 0) + 5
			reply := append([]byte(nil), question[:end]...)
			reply[2], reply[3] = 0x81, 0x80 // a response, recursion desired and available
			clear(reply[6:12])
			var addresses []netip.Addr
			if reply[end-3] == 1 { // A
				asked++
				addresses = answer(asked)
			}
			for _, address := range addresses {
				if !address.IsValid() {
					reply[3] |= 3
					break
				}
				reply[7]++
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				reply = append(reply, address.AsSlice()...)
			}
			conn.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestNameThatResolvesInsideIsRefused(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(200, "", ""), false))
	_, port, _ := net.SplitHostPort(r.Addr().String())
	ep := testEndpoint("http://crm.receiver.test:" + port)
	c := mustClient(t, ep)
	c.pool.dialer.Resolver = resolve(t, netip.MustParseAddr("127.0.0.1"))
	o := c.Attempt(testRequest())
	if o.Class != ClassBlockedAddress || r.accepted.Load() != 0 {
		t.Fatalf("got %+v", o)
	}
	for _, part := range []string{"127.0.0.1", "crm.receiver.test", "loopback", "allow_private = true", `endpoint "crm"`} {
		if !strings.Contains(o.Err, part) {
			t.Errorf("error %q does not name %s", o.Err, part)
		}
	}

	ep.AllowPrivate = true
	c = mustClient(t, ep)
	c.pool.dialer.Resolver = resolve(t, netip.MustParseAddr("127.0.0.1"))
	if o = c.Attempt(testRequest()); o.Status != 200 || o.Timing.DNS == 0 || o.Timing.Connect == 0 {
		t.Errorf("allowed: got %+v", o)
	}
	c = mustClient(t, ep)
	c.pool.dialer.Resolver = resolve(t, netip.MustParseAddr("169.254.169.254"))
	if o = c.Attempt(testRequest()); o.Class != ClassBlockedAddress || !strings.Contains(o.Err, "no setting allows it") {
		t.Errorf("metadata: got %+v", o)
	}
}

func TestLookupFailureTellsWhoseItIs(t *testing.T) {
	dial := func(err error) *net.Resolver {
		return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, c := range map[string]struct {
		resolver    *net.Resolver
		unreachable bool
	}{
		"no such host": {resolve(t, netip.Addr{}), false},
		"no route":     {dial(&net.OpError{Op: "dial", Err: syscall.ENETUNREACH}), true},
		"silent": {&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", silent.LocalAddr().String())
		}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			ep := testEndpoint("http://crm.receiver.test/secret-path?secret-query")
			if name == "silent" {
				hurried(ep)
			}
			client := mustClient(t, ep)
			client.pool.dialer.Resolver = c.resolver
			o := client.Attempt(testRequest())
			if o.Class != ClassDNS || o.Unreachable != c.unreachable {
				t.Errorf("got %+v", o)
			}
			if !strings.Contains(o.Err, "crm.receiver.test") || strings.Contains(o.Err, "secret") {
				t.Errorf("got error %q", o.Err)
			}
		})
	}
}

func TestSilentAddressIsConnectTimeout(t *testing.T) {
	c := mustClient(t, hurried(testEndpoint("http://127.0.0.1:1")))
	c.pool.dialer.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		<-ctx.Done() // as long as a connect to an address where nobody answers
		return ctx.Err()
	}
	if o := c.Attempt(testRequest()); o.Class != ClassConnectTimeout || o.Err != "connect to 127.0.0.1:1: no answer within 200ms" {
		t.Errorf("got %+v", o)
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	r := receive(t, "127.0.0.1:0", nil)
	r.Close()
	ep := testEndpoint("http://" + r.Addr().String() + "/hidden-path?key=hidden-query")
	ep.Secret = sign.NewSecret("hidden-secret")
	if o := mustClient(t, ep).Attempt(testRequest()); o.Err == "" || strings.Contains(o.Err, "hidden") {
		t.Errorf("got %q", o.Err)
	}
}
