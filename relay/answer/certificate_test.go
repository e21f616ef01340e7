package answer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/config"
)

// authority signs certificates for localhost, each with the key of its own.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// pair is a certificate and its key, as PEM, good for so long.
func (a *authority) pair(name string, good time.Duration) (cert, key []byte) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(good),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// secureServer is a server that speaks TLS, with files that a test may change.
type secureServer struct {
	t                  *testing.T
	listener           net.Listener
	certificate        *Certificate
	cert, key, clients string // the files
	log                *syncText
}

type syncText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *syncText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *syncText) has(text string) bool { return s.count(text) > 0 }

func (s *syncText) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), text)
}

func mustWrite(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// startSecure serves with this certificate; clients, unless nil, are the authorities of those who may connect.
func startSecure(t *testing.T, cert, key, clients []byte) *secureServer {
	t.Helper()
	dir := t.TempDir()
	s := &secureServer{t: t, log: &syncText{}, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	mustWrite(t, s.cert, cert)
	mustWrite(t, s.key, key)
	if clients != nil {
		s.clients = filepath.Join(dir, "clients.pem")
		mustWrite(t, s.clients, clients)
	}
	var err error
	if s.certificate, err = NewCertificate(config.TLSFiles{Section: "server", Cert: s.cert, Key: s.key, ClientCA: s.clients}, zerolog.New(s.log)); err != nil {
		t.Fatal(err)
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	secured := []net.Listener{s.listener}
	s.certificate.Secure(secured)
	server := Server(func(ctx *fasthttp.RequestCtx) { JSON(ctx, 200, []byte("{}\n")) }, Limits{Body: 1 << 10, Connections: 64}, func(what any) { t.Error(what) })
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(secured[0]) }()
	t.Cleanup(func() {
		_ = s.listener.Close() // which a server that has not begun yet would not know of
		_ = server.Shutdown()
		<-ended
	})
	return s
}

// filesChanged has the next handshake check the files, however soon it comes.
func (s *secureServer) filesChanged() { s.certificate.checkedUnixNS.Store(0) }

// shown is the certificate that a client of these authorities is shown, and the status of an answer.
func (s *secureServer) shown(config *tls.Config) (serial string, status int, err error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get("https://" + s.listener.Addr().String() + "/health")
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.TLS.PeerCertificates[0].SerialNumber.String(), answer.StatusCode, nil
}

func TestTheCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	ca := newAuthority(t, "an authority")
	cert, key := ca.pair("localhost", 100*24*time.Hour)
	s := startSecure(t, cert, key, nil)
	trusting := &tls.Config{RootCAs: ca.pool()}
	first, status, err := s.shown(trusting)
	if err != nil || status != 200 {
		t.Fatalf("answered %d, %v", status, err)
	}
	if expires, trouble := s.certificate.State(); trouble != "" || time.Until(expires) < 99*24*time.Hour {
		t.Errorf("expires %s, trouble %q", expires, trouble)
	}

	// Half of a new pair is no pair: the previous one stays in use.
	newer, newerKey := ca.pair("localhost", 3*24*time.Hour+time.Hour)
	mustWrite(t, s.cert, newer)
	s.filesChanged()
	for range 3 {
		if again, _, err := s.shown(trusting); err != nil || again != first {
			t.Fatalf("with half a pair: shown %s, %v, want %s", again, err, first)
		}
	}
	if n := s.log.count("can't be used"); n != 1 {
		t.Errorf("the log says so %d times, want once", n)
	}
	if expires, trouble := s.certificate.State(); trouble == "" || time.Until(expires) < 99*24*time.Hour {
		t.Errorf("with half a pair: expires %s, trouble %q", expires, trouble)
	}

	mustWrite(t, s.key, newerKey)
	s.filesChanged()
	second, _, err := s.shown(trusting)
	if err != nil || second == first {
		t.Errorf("with the new pair: shown %s, %v", second, err)
	}
	if expires, trouble := s.certificate.State(); trouble != "" || time.Until(expires) > 4*24*time.Hour {
		t.Errorf("with the new pair: expires %s, trouble %q", expires, trouble)
	}

	// Reload reads them at once.
	third, thirdKey := ca.pair("localhost", 100*24*time.Hour)
	mustWrite(t, s.cert, third)
	mustWrite(t, s.key, thirdKey)
	s.certificate.Reload()
	if now, _, err := s.shown(trusting); err != nil || now == second {
		t.Errorf("after a reload: shown %s, %v", now, err)
	}
}

func TestFilesAreCheckedOnlyEverySoOften(t *testing.T) {
	ca := newAuthority(t, "an authority")
	cert, key := ca.pair("localhost", time.Hour)
	s := startSecure(t, cert, key, nil)
	s.certificate.checkedUnixNS.Store(time.Now().Add(-time.Second).UnixNano())
	mustWrite(t, s.cert, []byte("nothing"))
	if _, err := s.certificate.forHandshake(nil); err != nil {
		t.Fatal(err)
	}
	if s.log.has("can't be used") {
		t.Error("they are checked a second later")
	}
}

func TestClientsNeedACertificateWhereOneIsAskedFor(t *testing.T) {
	ca, others := newAuthority(t, "an authority"), newAuthority(t, "another authority")
	cert, key := ca.pair("localhost", time.Hour)
	s := startSecure(t, cert, key, ca.pem())
	of := func(a *authority, good time.Duration) *tls.Config {
		pair, err := tls.X509KeyPair(a.pair("client", good))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever authorities the server names.
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return &tls.Config{RootCAs: ca.pool(), GetClientCertificate: show}
	}
	if _, status, err := s.shown(of(ca, time.Hour)); err != nil || status != 200 {
		t.Errorf("with a certificate: answered %d, %v", status, err)
	}
	for name, tt := range map[string]struct {
		config *tls.Config
		reason string
	}{
		"none":                 {&tls.Config{RootCAs: ca.pool()}, "client didn't provide a certificate"},
		"of another authority": {of(others, time.Hour), "certificate signed by unknown authority"},
		"expired":              {of(ca, -time.Minute), "certificate has expired"},
	} {
		if _, status, err := s.shown(tt.config); err == nil {
			t.Errorf("%s: answered %d", name, status)
		}
		for deadline := time.Now().Add(patience); !s.log.has(tt.reason); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log does not say %q", name, tt.reason)
			}
		}
	}
	// The authorities are read again, too.
	mustWrite(t, s.clients, others.pem())
	s.filesChanged()
	if _, status, err := s.shown(of(others, time.Hour)); err != nil || status != 200 {
		t.Errorf("of the new authority: answered %d, %v", status, err)
	}
	if _, status, err := s.shown(of(ca, time.Hour)); err == nil {
		t.Errorf("of the former authority: answered %d", status)
	}
}

func TestPlainHTTPIsToldOfTLS(t *testing.T) {
	ca := newAuthority(t, "an authority")
	cert, key := ca.pair("localhost", time.Hour)
	s := startSecure(t, cert, key, nil)
	answer, err := http.Get("http://" + s.listener.Addr().String() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.HasSuffix(string(text), "}\n") || answer.StatusCode != 400 || !strings.Contains(string(text), "speaks HTTPS") {
		t.Errorf("answered %d %s", answer.StatusCode, text)
	}
}

func TestNoSuiteEncryptsBlocksInAChain(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.pair("localhost", time.Hour)
	s := startSecure(t, cert, key, nil)
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.SupportedVersions[0] == tls.VersionTLS13 {
			continue
		}
		_, _, err := s.shown(&tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
		isChain, isOurs := strings.Contains(suite.Name, "_CBC_"), strings.Contains(suite.Name, "ECDHE_ECDSA") && !strings.Contains(suite.Name, "_CBC_") && !suite.Insecure
		if isChain && err == nil || isOurs && err != nil {
			t.Errorf("%s: %v", suite.Name, err)
		}
	}
}
