package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

const patience = 30 * time.Second

// testConfig has one source with a token, and one endpoint.
func testConfig(t *testing.T, dir, endpoint string) *config.Config {
	t.Helper()
	c, err := config.Parse("test.toml", []byte(fmt.Sprintf(`
[queue]
dir = %q
min_free = "0B"
[[source]]
name = "platform"
path = "/events"
token = "example-token-of-the-platform"
[[endpoint]]
name = "crm"
url = %q
events = ["*"]
secret = "example-secret-of-the-crm"
`, dir, endpoint)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustListen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := answer.Listen("server.listen", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// post sends one event and returns status and body of the answer.
func post(t *testing.T, ln net.Listener, token, id string) (int, string) {
	t.Helper()
	body := strings.NewReader(`{"id":"` + id + `","type":"test","data":{}}`)
	r, err := http.NewRequest("POST", "http://"+ln.Addr().String()+"/events", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestEventGoesFromPostToEndpoint(t *testing.T) {
	before := goleak.IgnoreCurrent()
	arrived := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.Header.Get("webhook-id") + " " + r.Header.Get("User-Agent")
	}))
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), receiver.URL)
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := post(t, intake, "example-token-of-the-platform", "evt_1"); status != 200 {
		t.Fatalf("answered %d %s", status, body)
	}
	select {
	case got := <-arrived:
		if got != "evt_1 RealtorBot-Relay/1.2.3" {
			t.Errorf("%s arrived", got)
		}
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}

	for _, ln := range []net.Listener{intake, adm} {
		answer, err := http.Head("http://" + ln.Addr().String() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(answer.Body); answer.StatusCode != 200 || len(text) > 0 || err != nil {
			t.Errorf("HEAD of health is answered %d %q, %v", answer.StatusCode, text, err)
		}
		answer.Body.Close()
	}
	if status, body := post(t, intake, "example-token-of-the-platform", strings.Repeat("x", int(cfg.Server.MaxBody))); status != 413 {
		t.Errorf("a body that is too large is answered %d %s", status, body)
	}

	changed := testConfig(t, cfg.Queue.Dir, receiver.URL)
	changed.Sources[0].Token = sign.NewSecret("example-token-of-tomorrow")
	if err := r.Reload(changed); err != nil {
		t.Fatal(err)
	}
	if status, _ := post(t, intake, "example-token-of-the-platform", "evt_2"); status != 401 {
		t.Errorf("after the reload the old token is answered %d", status)
	}
	if status, _ := post(t, intake, "example-token-of-tomorrow", "evt_2"); status != 200 {
		t.Errorf("after the reload the new token is answered %d", status)
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	for _, ln := range []net.Listener{intake, adm} {
		if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			conn.Close()
			t.Errorf("%s still listens", ln.Addr())
		}
	}
	receiver.Close()
	http.DefaultClient.CloseIdleConnections()
	// fasthttp's own clock and sweepers end by themselves, later or never.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

func TestStartThatFailsLeavesNothingOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	_, err := Start(testConfig(t, dir, "http://127.0.0.1:1/"), "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if _, err := intake.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the intake still listens: %v", err)
	}
	goleak.VerifyNone(t, before)
}

// What a small machine has for the filters of ids is what the queue has by default, and where there is more, more ids are
// told without reading; nobody knows how much there is: the queue's default.
func TestTheFiltersOfIDsHaveAnEighthOfTheMemory(t *testing.T) {
	for available, want := range map[uint64]int64{256 << 20: 32 << 20, 1 << 30: 128 << 20, 0: 0} {
		if got := filterBytes(available); got != want {
			t.Errorf("of %d bytes %d, want %d", available, got, want)
		}
	}
}
