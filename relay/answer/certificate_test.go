package answer

import (
	"crypto/tls"
	"io"
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
	"realtorbot-relay/relay/testca"
)

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
	ca := testca.New(t, "an authority")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, 100*24*time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, nil)
	trusting := &tls.Config{RootCAs: ca.Pool()}
	first, status, err := s.shown(trusting)
	if err != nil || status != 200 {
		t.Fatalf("answered %d, %v", status, err)
	}
	if expires, trouble := s.certificate.State(); trouble != "" || time.Until(expires) < 99*24*time.Hour {
		t.Errorf("expires %s, trouble %q", expires, trouble)
	}

	// Half of a new pair is no pair: the previous one stays in use.
	newer, newerKey := testca.Pair(t, ca.Leaf(-time.Hour, 3*24*time.Hour+time.Hour, "localhost", "127.0.0.1"))
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
	third, thirdKey := testca.Pair(t, ca.Leaf(-time.Hour, 100*24*time.Hour, "localhost", "127.0.0.1"))
	mustWrite(t, s.cert, third)
	mustWrite(t, s.key, thirdKey)
	s.certificate.Reload()
	if now, _, err := s.shown(trusting); err != nil || now == second {
		t.Errorf("after a reload: shown %s, %v", now, err)
	}
}

func TestFilesAreCheckedOnlyEverySoOften(t *testing.T) {
	ca := testca.New(t, "an authority")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
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
	ca, others := testca.New(t, "an authority"), testca.New(t, "another authority")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, ca.PEM())
	of := func(a *testca.Authority, good time.Duration) *tls.Config {
		pair, err := tls.X509KeyPair(testca.Pair(t, a.Leaf(-time.Hour, good, "client", "127.0.0.1")))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever authorities the server names.
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return &tls.Config{RootCAs: ca.Pool(), GetClientCertificate: show}
	}
	if _, status, err := s.shown(of(ca, time.Hour)); err != nil || status != 200 {
		t.Errorf("with a certificate: answered %d, %v", status, err)
	}
	for name, tt := range map[string]struct {
		config *tls.Config
		reason string
	}{
		"none":                 {&tls.Config{RootCAs: ca.Pool()}, "client didn't provide a certificate"},
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
	mustWrite(t, s.clients, others.PEM())
	s.filesChanged()
	if _, status, err := s.shown(of(others, time.Hour)); err != nil || status != 200 {
		t.Errorf("of the new authority: answered %d, %v", status, err)
	}
	if _, status, err := s.shown(of(ca, time.Hour)); err == nil {
		t.Errorf("of the former authority: answered %d", status)
	}
}

func TestPlainHTTPIsToldOfTLS(t *testing.T) {
	ca := testca.New(t, "an authority")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, nil)
	answer, err := http.Get("http://" + s.listener.Addr().String() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	mustHaveAll(t, answer)
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.HasSuffix(string(text), "}\n") || answer.StatusCode != 400 || !strings.Contains(string(text), "speaks HTTPS") {
		t.Errorf("answered %d %s", answer.StatusCode, text)
	}
}

func TestNoSuiteEncryptsBlocksInAChain(t *testing.T) {
	ca := testca.New(t, "ca")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, nil)
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.SupportedVersions[0] == tls.VersionTLS13 {
			continue
		}
		_, _, err := s.shown(&tls.Config{RootCAs: ca.Pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
		isChain, isOurs := strings.Contains(suite.Name, "_CBC_"), strings.Contains(suite.Name, "ECDHE_ECDSA") && !strings.Contains(suite.Name, "_CBC_") && !suite.Insecure
		if isChain && err == nil || isOurs && err != nil {
			t.Errorf("%s: %v", suite.Name, err)
		}
	}
}

// A client that never ends its greeting is read no further than a greeting goes. The control is one that goes on for megabytes once its
// handshake is done.
func TestAHandshakeIsNotReadWithoutBound(t *testing.T) {
	ca := testca.New(t, "ca")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, nil)
	conn := dial(t, s.listener.Addr().String())
	greeting := append([]byte{1, 0, 0xff, 0xff}, make([]byte, 0xffff)...) // a client hello of 64 KiB, in records of 16
	for len(greeting) > 1 {
		record := greeting[:min(1<<14, len(greeting)-1)]
		greeting = greeting[len(record):]
		if _, err := conn.Write(append([]byte{22, 3, 1, byte(len(record) >> 8), byte(len(record))}, record...)); err != nil {
			break // it was ended
		}
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("it is waited for the end of 64 KiB of greeting")
	}
	for begun := time.Now(); !s.log.has("longer than 32 KiB"); time.Sleep(time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatal("the log does not tell of it")
		}
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}, Timeout: patience}
	for range 100 {
		answer, err := client.Post("https://"+s.listener.Addr().String()+"/", "application/json", strings.NewReader(strings.Repeat(" ", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
}
