package client

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/testca"
)

// named issues a certificate whose names are as a template has them.
func named(a *testca.Authority, template x509.Certificate) tls.Certificate {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	return a.As(template)
}

// with sends the certificates of authorities, too.
func with(pair tls.Certificate, authorities ...*testca.Authority) *tls.Config {
	pair.Certificate = slices.Clone(pair.Certificate)
	for _, a := range authorities {
		pair.Certificate = append(pair.Certificate, a.Cert.Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// What is wrong with a chain, a name or a handshake is told with who has to do what, and not in the words of Go's packages.
func TestEveryFailureOfAChainSaysWhoHasToDoWhat(t *testing.T) {
	ours, namesake := testca.New(t, "Our Authority"), testca.New(t, "Our Authority")
	middle := ours.Below("Middle", -time.Hour, time.Hour)
	old, early := ours.Below("Old Middle", -48*time.Hour, -24*time.Hour), ours.Below("Early Middle", 24*time.Hour, 48*time.Hour)
	oldRoot := (&testca.Authority{T: t}).Below("Old Root", -48*time.Hour, -24*time.Hour)
	oldFile := oldRoot.File()
	trusting := "ca_file = \"" + ours.File() + "\""
	address := net.IPv4(127, 0, 0, 1)
	for name, c := range map[string]struct {
		server *tls.Config
		lines  string
		want   string
	}{
		"well, with what is between": {with(middle.Leaf(-time.Hour, time.Hour), middle), trusting, ""},
		"what is between is not sent": {with(middle.Leaf(-time.Hour, time.Hour)), trusting,
			`issued by "CN=Middle", and not by an authority in ca_file; or, if that is an intermediate authority, let the receiver send its certificate too (fullchain.pem)`},
		"what is between expired": {with(old.Leaf(-time.Hour, time.Hour), old), trusting,
			`the certificate of the authority "CN=Old Middle", which it sends, expired on ` + time.Now().Add(-24*time.Hour).UTC().Format("2006-01-02T")},
		"what is between begins later": {with(early.Leaf(-time.Hour, time.Hour), early), trusting,
			`the certificate of the authority "CN=Early Middle", which it sends, is valid from `},
		"what is in ca_file expired": {with(oldRoot.Leaf(-time.Hour, time.Hour)), "ca_file = \"" + oldFile + "\"",
			`the certificate of the authority "CN=Old Root" in ca_file expired on ` + time.Now().Add(-24*time.Hour).UTC().Format("2006-01-02T")},
		"another of the same name": {with(namesake.Leaf(-time.Hour, time.Hour)), trusting,
			`issued by "CN=Our Authority", and ca_file has another authority of that name`},
		"a chain of others": {with(testca.New(t, "Others").Below("Between", -time.Hour, time.Hour).Leaf(-time.Hour, time.Hour)), trusting,
			`issued by "CN=Between", and not by an authority in ca_file`},
		"an address among the hosts": {with(named(ours, x509.Certificate{DNSNames: []string{"127.0.0.1"}})), trusting,
			"has 127.0.0.1 among its host names, where addresses don't count: the receiver must have one with IP:127.0.0.1 in subjectAltName"},
		"a common name alone": {with(named(ours, x509.Certificate{Subject: pkix.Name{CommonName: "127.0.0.1"}})), trusting,
			"has 127.0.0.1 only as its common name, which clients ignore today: the receiver must have one with IP:127.0.0.1"},
		"a common name alone, of a host": {with(named(ours, x509.Certificate{Subject: pkix.Name{CommonName: "crm.test"}})), trusting + "\nserver_name = \"crm.test\"",
			"must have one with DNS:crm.test in subjectAltName"},
		"a certificate of clients": {with(named(ours, x509.Certificate{IPAddresses: []net.IP{address}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})), trusting,
			"is not for a server (extended key usage)"},
		"no such host": {&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}, trusting, "it refused: "},
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
			if o.Class != ClassTLS || !strings.Contains(o.Err, c.want) || strings.Contains(o.Err, "x509:") || strings.Contains(o.Err, "tls:") {
				t.Errorf("got %+v, want %q", o, c.want)
			}
		})
	}
}

// A receiver that ends the connection in the handshake said nothing; "EOF" says less.
func TestAConnectionThatEndsInTheHandshakeIsToldAsThat(t *testing.T) {
	r := receive(t, "127.0.0.1:0", func(_ net.Conn, in *bufio.Reader) { _, _ = in.ReadByte() })
	o := mustClient(t, configured(t, "https://"+r.Addr().String())).Attempt(testRequest())
	if o.Class != ClassTLS || !strings.Contains(o.Err, `it closed the connection during the handshake: does TLS begin there, and does it know the host "127.0.0.1"?`) {
		t.Errorf("got %+v", o)
	}
}

// The authorities of a system are read once in a process, so that one without any is another process.
func TestASystemThatTrustsNobodyIsToldAsThat(t *testing.T) {
	const inside = "WITHOUT_AUTHORITIES"
	if os.Getenv(inside) == "" {
		none := filepath.Join(t.TempDir(), "none")
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1", "SSL_CERT_FILE="+none, "SSL_CERT_DIR="+none)
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	server := with(testca.New(t, "Our Authority").Leaf(-time.Hour, time.Hour))
	r := receiveTLS(t, func() *tls.Config { return server }, func(tls.ConnectionState) {})
	o := mustClient(t, configured(t, "https://"+r.Addr().String())).Attempt(testRequest())
	if o.Class != ClassTLS || !strings.Contains(o.Err, "this system trusts no authority at all: install its ca-certificates, or set ca_file") {
		t.Errorf("got %+v", o)
	}
}
