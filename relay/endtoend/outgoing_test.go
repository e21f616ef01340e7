package endtoend

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/relay/testca"
)

// TestTLSOfAnEndpointIsReadAgainAtAReload has a receiver of a private authority that wants to know who calls.
func TestTLSOfAnEndpointIsReadAgainAtAReload(t *testing.T) {
	t.Parallel()
	ours, other := testca.New(t, "An Authority"), testca.New(t, "An Authority")
	server, own := ours.Leaf(-time.Hour, 10*24*time.Hour), ours.Leaf(-time.Hour, 90*24*time.Hour)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	crm := receiveOn(t, tls.NewListener(ln, &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool(),
	}), func(w http.ResponseWriter, request *http.Request, _ attempt) {
		if !request.TLS.PeerCertificates[0].Equal(own.Leaf) {
			w.WriteHeader(403)
		}
	})

	dir := t.TempDir()
	cert, key := testca.Pair(t, own)
	seen.keep(strings.Split(string(key), "\n")[1]) // its first line in base64
	for name, text := range map[string][]byte{"ca.pem": other.PEM(), "own.pem": cert, "own-key.pem": key} {
		mustWrite(t, filepath.Join(dir, name), text)
	}
	config := preamble + endpoint("crm", strings.Replace(crm.url, "http:", "https:", 1), `retry = ["200ms", "200ms", "200ms", "10m"]`,
		`ca_file = "ca.pem"`, `client_cert = "own.pem"`, `client_key = "own-key.pem"`)
	r := startIn(t, dir, config)
	r.post(event("evt_1"))
	ep := r.awaitEndpoint("crm", "has attempted in vain", func(ep endpointStats) bool { return ep.Attempts >= 2 })
	if !strings.Contains(ep.LastError, "ca_file has another authority of that name") {
		t.Errorf("its last error is %q", ep.LastError)
	}
	mustWrite(t, filepath.Join(dir, "ca.pem"), ours.PEM())
	r.reload(config)
	r.post(event("evt_2"))
	r.awaitState("evt_2", "crm", "delivered")

	// Its certificate ends in ten days.
	if s := r.stats(); s.Health.Status != "degraded" || !strings.Contains(strings.Join(s.Health.Reasons, "\n"), "certificate ends on "+server.Leaf.NotAfter.UTC().Format(time.RFC3339)) {
		t.Errorf("health: %+v", s.Health)
	}
	var stats struct {
		Endpoints []struct {
			Theirs time.Time `json:"certificate_expires_at"`
			Own    time.Time `json:"client_certificate_expires_at"`
		}
	}
	r.get("/stats", &stats)
	if got := stats.Endpoints[0]; !got.Theirs.Equal(server.Leaf.NotAfter) || !got.Own.Equal(own.Leaf.NotAfter) {
		t.Errorf("certificates end %v and %v, want %v and %v", got.Theirs, got.Own, server.Leaf.NotAfter, own.Leaf.NotAfter)
	}
}

func mustWrite(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// forwardProxy is an HTTP proxy that lets those in who know the password, and brings all of them to one place.
func forwardProxy(t *testing.T, to, password string) (address string, refused, served *atomic.Int64) {
	t.Helper()
	refused, served = &atomic.Int64{}, &atomic.Int64{}
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("relay:"+password)); request.Header.Get("Proxy-Authorization") != want {
			refused.Add(1)
			w.WriteHeader(http.StatusProxyAuthRequired)
			fmt.Fprintf(w, "you said %s", request.Header.Get("Proxy-Authorization"))
			return
		}
		served.Add(1)
		if request.Method == http.MethodConnect {
			tunnel(w, target.Host)
			return
		}
		request.URL.Host, request.RequestURI = target.Host, ""
		request.Header.Del("Proxy-Authorization")
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	t.Cleanup(proxy.Close)
	return strings.TrimPrefix(proxy.URL, "http://"), refused, served
}

func tunnel(w http.ResponseWriter, host string) {
	conn, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	behind, err := net.Dial("tcp", host)
	if err != nil {
		return
	}
	defer behind.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func(in *bufio.Reader) {
		_, _ = io.Copy(behind, in)
		_ = behind.(*net.TCPConn).CloseWrite()
	}(in.Reader)
	_, _ = io.Copy(conn, behind)
}

// TestProxyPasswordOpensTheWayAndIsShownNowhere has the whole URL of the proxy in a variable. That it is shown nowhere is
// for the witness to say, when all is over; the proxy itself echoes it.
func TestProxyPasswordOpensTheWayAndIsShownNowhere(t *testing.T) {
	t.Parallel()
	password, wrong, query := newSecret(), newSecret(), newSecret()
	seen.keep(base64.StdEncoding.EncodeToString([]byte("relay:" + password)))
	seen.keep(base64.StdEncoding.EncodeToString([]byte("relay:" + wrong)))
	crm := receive(t, func(w http.ResponseWriter, request *http.Request, _ attempt) { fmt.Fprint(w, request.URL.RawQuery) })
	proxy, refused, served := forwardProxy(t, crm.url, password)
	config := preamble + "[delivery]\nproxy = \"env:RELAY_PROXY\"\nretry = []\n" +
		endpoint("plain", "http://10.255.255.1:8080/in?key="+query) + endpoint("secure", "https://10.255.255.1/in")

	r := startIn(t, t.TempDir(), config, "RELAY_PROXY=http://relay:"+wrong+"@"+proxy)
	r.post(event("evt_1"))
	if s := r.awaitTold("evt_1", "plain", "failed"); s.Attempts[0].Status != 407 || !strings.Contains(s.Attempts[0].Excerpt, "you said ***") {
		t.Errorf("plain: %+v", s)
	}
	if s := r.awaitTold("evt_1", "secure", "failed"); s.Attempts[0].Class != "connect_refused" || !strings.Contains(s.Attempts[0].Error, "user and password that proxy has") {
		t.Errorf("secure: %+v", s)
	}
	r.admin.ask(t, "GET", "/endpoints", "")
	r.admin.ask(t, "GET", "/endpoints/plain", "")
	r.stop()
	if refused.Load() != 2 || served.Load() != 0 {
		t.Errorf("the proxy refused %d and served %d", refused.Load(), served.Load())
	}

	env := "RELAY_PROXY=http://relay:" + password + "@" + proxy
	r = startIn(t, r.dir, config, env)
	r.post(event("evt_2"))
	if s := r.awaitTold("evt_2", "plain", "delivered"); !strings.Contains(s.Attempts[0].Excerpt, "key=***") && !strings.Contains(s.Attempts[0].Excerpt, "****") {
		t.Errorf("plain: %+v", s)
	}
	// Behind the tunnel nobody speaks TLS.
	if s := r.awaitTold("evt_2", "secure", "failed"); s.Attempts[0].Class != "tls" || !strings.Contains(s.Attempts[0].Error, "speaks no TLS") {
		t.Errorf("secure: %+v", s)
	}
	if all := crm.all(); len(all) != 1 || all[0].id != "evt_2" {
		t.Errorf("the receiver got %d", len(all))
	}
	check := command(r.dir, "check", "-config", "config.toml")
	check.Env = append(os.Environ(), env)
	if code, stdout, _ := end(t, check); code != 0 || !strings.Contains(stdout, "proxy http://********@"+proxy) {
		t.Errorf("check ends with %d and says\n%s", code, stdout)
	}
}
