package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/answer"
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

// secure is a relay whose intake speaks TLS.
type secure struct {
	t                  *testing.T
	relay              *Relay
	intake, adm        net.Listener
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

func (s *syncText) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
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

func startSecure(t *testing.T, cert, key, clients []byte) *secure {
	t.Helper()
	dir := t.TempDir()
	s := &secure{t: t, intake: mustListen(t, "127.0.0.1:0"), adm: mustListen(t, "127.0.0.1:0"), log: &syncText{},
		cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	mustWrite(t, s.cert, cert)
	mustWrite(t, s.key, key)
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = s.cert, s.key
	if clients != nil {
		s.clients = filepath.Join(dir, "clients.pem")
		mustWrite(t, s.clients, clients)
		cfg.Server.ClientCA = s.clients
	}
	var err error
	if s.relay, err = Start(cfg, "1.2.3", zerolog.New(s.log), nil, []net.Listener{s.intake}, []net.Listener{s.adm}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.relay.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shown is the certificate that a client of these authorities is shown, and what its health request is answered.
func (s *secure) shown(config *tls.Config) (serial string, status int, err error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get("https://" + s.intake.Addr().String() + "/health")
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.TLS.PeerCertificates[0].SerialNumber.String(), answer.StatusCode, nil
}

func (s *secure) health() string {
	s.t.Helper()
	answer, err := http.Get("http://" + s.adm.Addr().String() + "/health")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
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
	if health := s.health(); strings.Contains(health, "certificate") {
		t.Errorf("health: %s", health)
	}

	// Half of a new pair is no pair: the old one stays.
	newer, newerKey := ca.pair("localhost", 3*24*time.Hour+time.Hour)
	mustWrite(t, s.cert, newer)
	s.relay.certificate.looked.Store(0)
	for range 3 {
		if again, _, err := s.shown(trusting); err != nil || again != first {
			t.Fatalf("with half a pair: shown %s, %v, want %s", again, err, first)
		}
	}
	if n := strings.Count(s.log.text.String(), "can't be used"); n != 1 {
		t.Errorf("the log says so %d times, want once", n)
	}
	if health := s.health(); !strings.Contains(health, `"degraded"`) || !strings.Contains(health, "changed TLS files can't be used") {
		t.Errorf("health: %s", health)
	}

	mustWrite(t, s.key, newerKey)
	s.relay.certificate.looked.Store(0)
	second, _, err := s.shown(trusting)
	if err != nil || second == first {
		t.Errorf("with the new pair: shown %s, %v", second, err)
	}
	if health := s.health(); !strings.Contains(health, "ends in 3 days") || strings.Contains(health, "can't be used") {
		t.Errorf("health: %s", health)
	}
	// A reload looks at once.
	third, thirdKey := ca.pair("localhost", 100*24*time.Hour)
	mustWrite(t, s.cert, third)
	mustWrite(t, s.key, thirdKey)
	if err := s.relay.Reload(s.relay.config); err != nil {
		t.Fatal(err)
	}
	if now, _, err := s.shown(trusting); err != nil || now == second {
		t.Errorf("after a reload: shown %s, %v", now, err)
	}
}

func TestFilesAreLookedAtOnlyEverySoOften(t *testing.T) {
	ca := newAuthority(t, "an authority")
	cert, key := ca.pair("localhost", time.Hour)
	s := startSecure(t, cert, key, nil)
	s.relay.certificate.looked.Store(time.Now().Add(-time.Second).UnixNano())
	mustWrite(t, s.cert, []byte("nothing"))
	if _, err := s.relay.certificate.forHandshake(nil); err != nil {
		t.Fatal(err)
	}
	if s.log.has("can't be used") {
		t.Error("they are looked at a second later")
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
		// Whatever authorities the relay names.
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
	s.relay.certificate.looked.Store(0)
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
	answer, err := http.Get("http://" + s.intake.Addr().String() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.HasSuffix(string(text), "}\n") || answer.StatusCode != 400 || !strings.Contains(string(text), "speaks HTTPS") {
		t.Errorf("answered %d %s", answer.StatusCode, text)
	}
}

func TestCertificateFilesThatCantBeUsedStopTheStart(t *testing.T) {
	ca := newAuthority(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, _ := ca.pair("localhost", time.Hour)
	_, key := ca.pair("localhost", time.Hour)
	mustWrite(t, cfg.Server.TLSCert, cert)
	mustWrite(t, cfg.Server.TLSKey, key)
	_, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{mustListen(t, "127.0.0.1:0")}, []net.Listener{mustListen(t, "127.0.0.1:0")})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("server.tls_cert %q", cfg.Server.TLSCert)) {
		t.Errorf("error %v", err)
	}
}

// The admin listener has files of its own, which are read again and judged as the intake's are.
func TestTheAdminListenerSpeaksTLS(t *testing.T) {
	ca, others := newAuthority(t, "an authority"), newAuthority(t, "another authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Admin.TLSCert, cfg.Admin.TLSKey, cfg.Admin.ClientCA = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "clients.pem")
	cert, key := ca.pair("localhost", 100*24*time.Hour)
	mustWrite(t, cfg.Admin.TLSCert, cert)
	mustWrite(t, cfg.Admin.TLSKey, key)
	mustWrite(t, cfg.Admin.ClientCA, ca.pem())
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ask := func(from *authority) (int, string) {
		pair, err := tls.X509KeyPair(from.pair("operator", time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: ca.pool(), GetClientCertificate: show}}}
		answer, err := client.Get("https://" + adm.Addr().String() + "/health")
		if err != nil {
			return 0, err.Error()
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	if status, text := ask(ca); status != 200 || strings.Contains(text, "tls_cert") {
		t.Errorf("answered %d %s", status, text)
	}
	if status, text := ask(others); status != 0 {
		t.Errorf("a client of another authority is answered %d %s", status, text)
	}
	if answer, err := http.Get("http://" + adm.Addr().String() + "/health"); err != nil || answer.StatusCode != 400 {
		t.Errorf("in clear text: %v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	cert, key = ca.pair("localhost", 3*24*time.Hour+time.Hour)
	mustWrite(t, cfg.Admin.TLSCert, cert)
	mustWrite(t, cfg.Admin.TLSKey, key)
	if err := r.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if status, text := ask(ca); status != 200 || !strings.Contains(text, "the certificate of admin.tls_cert ends in 3 days") {
		t.Errorf("with a new one: %d %s", status, text)
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

// A proxy that passes connections on as they are introduces them before TLS begins.
func TestTheProxyProtocolComesBeforeTLS(t *testing.T) {
	ca := newAuthority(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := ca.pair("localhost", 100*24*time.Hour)
	mustWrite(t, cfg.Server.TLSCert, cert)
	mustWrite(t, cfg.Server.TLSKey, key)
	cfg.Server.TrustedProxies, cfg.Server.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, true
	cfg.Sources[0].Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	post := func(introduction, id string) (int, error) {
		conn, err := net.Dial("tcp", intake.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, introduction); err != nil {
			return 0, err
		}
		over := tls.Client(conn, &tls.Config{RootCAs: ca.pool(), ServerName: "localhost"})
		body := `{"id":"` + id + `","type":"test","data":{}}`
		request, err := http.NewRequest("POST", "https://localhost/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer example-token-of-the-platform")
		if err := request.Write(over); err != nil {
			return 0, err
		}
		answer, err := http.ReadResponse(bufio.NewReader(over), request)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		return answer.StatusCode, nil
	}
	if status, err := post("PROXY TCP4 192.0.2.7 192.0.2.8 1 443\r\n", "evt_1"); status != 200 {
		t.Errorf("a client that is allowed is answered %d, %v", status, err)
	}
	if status, err := post("PROXY TCP4 192.0.2.9 192.0.2.8 1 443\r\n", "evt_2"); status != 403 {
		t.Errorf("a client that is not is answered %d, %v", status, err)
	}
	if status, err := post("", "evt_3"); err == nil {
		t.Errorf("without an introduction it is answered %d", status)
	}
	if counts := r.refused["intake"].Counts(); counts[answer.RefusedProxy] != 1 {
		t.Errorf("counted: %v", counts)
	}
}
