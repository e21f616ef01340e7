package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
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
	"realtorbot-relay/relay/testca"
	"realtorbot-relay/sign"
)

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
	ca := testca.New(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, 100*24*time.Hour, "localhost", "127.0.0.1"))
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
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
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
	newer, newerKey := testca.Pair(t, ca.Leaf(-time.Hour, 3*24*time.Hour+time.Hour, "localhost", "127.0.0.1"))
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
	ca := testca.New(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, _ := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	_, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	mustWrite(t, cfg.Server.TLSCert, cert)
	mustWrite(t, cfg.Server.TLSKey, key)
	_, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{mustListen(t, "127.0.0.1:0")}, []net.Listener{mustListen(t, "127.0.0.1:0")})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("server.tls_cert %q", cfg.Server.TLSCert)) {
		t.Errorf("error %v", err)
	}
}

// The admin listener has files of its own, which are read again and judged as the intake's are.
func TestTheAdminListenerSpeaksTLS(t *testing.T) {
	ca, others := testca.New(t, "an authority"), testca.New(t, "another authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Admin.TLSCert, cfg.Admin.TLSKey, cfg.Admin.ClientCA = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "clients.pem")
	cfg.Admin.Token = sign.NewSecret("operators-token-0123456789")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, 100*24*time.Hour, "localhost", "127.0.0.1"))
	mustWrite(t, cfg.Admin.TLSCert, cert)
	mustWrite(t, cfg.Admin.TLSKey, key)
	mustWrite(t, cfg.Admin.ClientCA, ca.PEM())
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
	ask := func(from *testca.Authority) (int, string) {
		pair, err := tls.X509KeyPair(testca.Pair(t, from.Leaf(-time.Hour, time.Hour, "operator", "127.0.0.1")))
		if err != nil {
			t.Fatal(err)
		}
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), GetClientCertificate: show}}}
		question, err := http.NewRequest("GET", "https://"+adm.Addr().String()+"/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		question.Header.Set("Authorization", "Bearer operators-token-0123456789")
		answer, err := client.Do(question)
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
	// The cookie of a session that began over TLS goes nowhere without it.
	pair, err := tls.X509KeyPair(testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "operator", "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}}}
	if answer, err := client.Post("https://"+adm.Addr().String()+"/session", "application/json", strings.NewReader(`{"token":"operators-token-0123456789"}`)); err != nil {
		t.Error(err)
	} else if answer.Body.Close(); len(answer.Cookies()) != 1 || !answer.Cookies()[0].Secure {
		t.Errorf("signed in over TLS: %d, cookies %v", answer.StatusCode, answer.Cookies())
	}
	cert, key = testca.Pair(t, ca.Leaf(-time.Hour, 3*24*time.Hour+time.Hour, "localhost", "127.0.0.1"))
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
	ca := testca.New(t, "an authority")
	dir := t.TempDir()
	cfg := testConfig(t, filepath.Join(dir, "data"), "http://127.0.0.1:9/")
	cfg.Server.TLSCert, cfg.Server.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, 100*24*time.Hour, "localhost", "127.0.0.1"))
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
		over := tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
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
