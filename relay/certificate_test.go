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

func mustWrite(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Health says what is wrong with the intake's certificate, and a reload reads its files at once.
func TestHealthFollowsTheFilesOfTheCertificate(t *testing.T) {
	ca := newAuthority(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := ca.pair("localhost", 100*24*time.Hour)
	mustWrite(t, cfg.Server.TLSCert, cert)
	mustWrite(t, cfg.Server.TLSKey, key)
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
	shown := func() string {
		t.Helper()
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.pool()}}}
		answer, err := client.Get("https://" + intake.Addr().String() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		if answer.StatusCode != 200 {
			t.Errorf("health of the intake is answered %d", answer.StatusCode)
		}
		return answer.TLS.PeerCertificates[0].SerialNumber.String()
	}
	reload := func() {
		t.Helper()
		if err := r.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	first := shown()
	if _, health := askHealth(t, adm); strings.Contains(health, "certificate") {
		t.Errorf("health: %s", health)
	}
	newer, newerKey := ca.pair("localhost", 3*24*time.Hour+time.Hour)
	mustWrite(t, cfg.Server.TLSCert, newer)
	reload()
	if now := shown(); now != first {
		t.Errorf("with half a pair: shown %s, want %s", now, first)
	}
	if _, health := askHealth(t, adm); !strings.Contains(health, `"degraded"`) || !strings.Contains(health, "changed TLS files can't be used") {
		t.Errorf("health: %s", health)
	}
	mustWrite(t, cfg.Server.TLSKey, newerKey)
	reload()
	if now := shown(); now == first {
		t.Errorf("with the new pair: shown %s still", now)
	}
	if _, health := askHealth(t, adm); !strings.Contains(health, "ends in 3 days") || strings.Contains(health, "can't be used") {
		t.Errorf("health: %s", health)
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
