package client

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/relay/testca"
)

// receiveTLS starts a receiver that shakes hands as current says at that moment, and answers 200.
func receiveTLS(t *testing.T, current func() *tls.Config, met func(tls.ConnectionState)) *receiver {
	t.Helper()
	return receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
		secure := tls.Server(conn, current())
		if mustSwallow(bufio.NewReader(secure)) {
			met(secure.ConnectionState())
			io.WriteString(secure, answer(200, "Connection: close\r\n", ""))
		}
	})
}

func TestTLSFailuresNameWhatHelps(t *testing.T) {
	ours, other := testca.New(t, "Our Authority"), testca.New(t, "Another Authority")
	good := ours.Leaf(-time.Hour, time.Hour)
	strangerCert, strangerKey := testca.Files(t, other.Leaf(-time.Hour, time.Hour))
	self := (&testca.Authority{T: t}).Leaf(-time.Hour, time.Hour)
	trusting, strange := "ca_file = \""+ours.File()+"\"", "client_cert = \""+strangerCert+"\"\nclient_key = \""+strangerKey+"\""
	for name, c := range map[string]struct {
		server *tls.Config
		lines  string
		want   string // empty: it goes well
	}{
		"well":               {&tls.Config{Certificates: []tls.Certificate{good}}, trusting, ""},
		"well, another name": {&tls.Config{Certificates: []tls.Certificate{ours.Leaf(-time.Hour, time.Hour, "crm.test")}}, trusting + "\nserver_name = \"crm.test\"", ""},
		"unknown authority": {&tls.Config{Certificates: []tls.Certificate{good}}, "",
			`issued by "CN=Our Authority", which this system does not trust: set ca_file`},
		"not in ca_file": {&tls.Config{Certificates: []tls.Certificate{other.Leaf(-time.Hour, time.Hour)}}, trusting,
			`issued by "CN=Another Authority", and not by an authority in ca_file`},
		"self-signed": {&tls.Config{Certificates: []tls.Certificate{self}}, "", `issued by itself, "CN=leaf"`},
		"expired": {&tls.Config{Certificates: []tls.Certificate{ours.Leaf(-48*time.Hour, -24*time.Hour)}}, trusting,
			"its certificate expired on " + time.Now().Add(-24*time.Hour).UTC().Format("2006-01-02T")},
		"not yet valid": {&tls.Config{Certificates: []tls.Certificate{ours.Leaf(24*time.Hour, 48*time.Hour)}}, trusting,
			"is valid from " + time.Now().Add(24*time.Hour).UTC().Format("2006-01-02T")},
		"wrong name": {&tls.Config{Certificates: []tls.Certificate{ours.Leaf(-time.Hour, time.Hour, "a.test", "b.test")}}, trusting,
			"is for a.test, b.test and not for 127.0.0.1: correct url, or set server_name"},
		"wrong server_name": {&tls.Config{Certificates: []tls.Certificate{good}}, trusting + "\nserver_name = \"crm.test\"",
			"is for 127.0.0.1 and not for crm.test"},
		"many names": {&tls.Config{Certificates: []tls.Certificate{ours.Leaf(-time.Hour, time.Hour, "a.test", "b.test", "c.test", "d.test")}}, trusting,
			"for a.test, b.test, c.test and 1 more and not"},
		"TLS 1.1": {&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11}, trusting, "protocol version"},
		"asking who calls": {&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}, trusting,
			"certificate required: set client_cert and client_key"},
		"asking who calls, TLS 1.2": {&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, trusting,
			"it may ask for client_cert and client_key"},
		"not knowing who calls": {&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()}, trusting + "\n" + strange,
			"it does not accept client_cert"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receiveTLS(t, func() *tls.Config { return c.server }, func(tls.ConnectionState) {})
			o := mustClient(t, configured(t, "https://"+r.Addr().String(), c.lines)).Attempt(testRequest())
			if c.want == "" {
				if o.Status != 200 {
					t.Errorf("got %+v", o)
				}
				return
			}
			if o.Class != ClassTLS || !strings.Contains(o.Err, c.want) || strings.Contains(o.Err, "\n") || o.Unreachable {
				t.Errorf("got %+v, want %q", o, c.want)
			}
		})
	}
}

func TestClientCertificateTellsWhoCalls(t *testing.T) {
	ours := testca.New(t, "Our Authority")
	server := &tls.Config{Certificates: []tls.Certificate{ours.Leaf(-time.Hour, time.Hour)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()}
	var caller atomic.Pointer[x509.Certificate]
	r := receiveTLS(t, func() *tls.Config { return server }, func(state tls.ConnectionState) { caller.Store(state.PeerCertificates[0]) })
	own := ours.Leaf(-time.Hour, time.Hour, "relay.test")
	cert, key := testca.Files(t, own)
	c := mustClient(t, configured(t, "https://"+r.Addr().String(), fmt.Sprintf("ca_file = %q\nclient_cert = %q\nclient_key = %q", ours.File(), cert, key)))
	for range 2 { // the second time it is a resumed session
		if o := c.Attempt(testRequest()); o.Status != 200 || !caller.Swap(nil).Equal(own.Leaf) {
			t.Fatalf("got %+v", o)
		}
	}
	if theirs, ends := c.Certificates(); !theirs.Equal(server.Certificates[0].Leaf.NotAfter) || !ends.Equal(own.Leaf.NotAfter) {
		t.Errorf("certificates end at %v and %v", theirs, ends)
	}
}

// A session that goes on shows the certificate of its beginning, also when the receiver has a new one.
func TestCertificateAboutToEndIsAskedForAgain(t *testing.T) {
	ours := testca.New(t, "Our Authority")
	const soon, late = 13 * 24 * time.Hour, 90 * 24 * time.Hour
	old, renewed := ours.Leaf(-time.Hour, soon), ours.Leaf(-time.Hour, late)
	var current atomic.Pointer[tls.Certificate]
	current.Store(&old)
	server := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }}
	resumed := make(chan bool, 1)
	r := receiveTLS(t, func() *tls.Config { return server }, func(state tls.ConnectionState) { resumed <- state.DidResume })
	c := mustClient(t, configured(t, "https://"+r.Addr().String(), fmt.Sprintf("ca_file = %q", ours.File())))
	if theirs, own := c.Certificates(); !theirs.IsZero() || !own.IsZero() {
		t.Errorf("before any handshake: %v, %v", theirs, own)
	}
	meet := func(resumes bool, ends time.Time) {
		t.Helper()
		if o := c.Attempt(testRequest()); o.Status != 200 {
			t.Fatalf("got %+v", o)
		}
		if got := <-resumed; got != resumes {
			t.Errorf("session resumed %v, want %v", got, resumes)
		}
		if theirs, _ := c.Certificates(); !theirs.Equal(ends) {
			t.Errorf("certificate ends %v, want %v", theirs, ends)
		}
	}
	meet(false, old.Leaf.NotAfter)
	meet(false, old.Leaf.NotAfter)
	current.Store(&renewed)
	meet(false, renewed.Leaf.NotAfter)
	meet(true, renewed.Leaf.NotAfter)
}
