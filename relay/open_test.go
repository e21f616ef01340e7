package relay

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// askHealth returns status and body of /health at a listener.
func askHealth(t *testing.T, ln net.Listener) (int, string) {
	t.Helper()
	return ask(t, ln, "/health")
}

func ask(t *testing.T, ln net.Listener, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+ln.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
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

func TestStartedOnAFullDiskItServesHealthAndOpensWhenThereIsRoom(t *testing.T) {
	arrived := make(chan string, 8)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("webhook-id") }))
	defer receiver.Close()
	var free atomic.Int64
	free.Store(47 << 20)
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), receiver.URL)
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	r := &Relay{startConfig: cfg, version: "1.2.3", log: zerolog.Nop(), free: func() (int64, error) { return free.Load(), nil }}
	if err := r.start([]net.Listener{intake}, []net.Listener{adm}); err != nil {
		t.Fatal(err)
	}
	defer r.Stop(context.Background())
	if status, _ := askHealth(t, intake); status != 503 {
		t.Errorf("health of the intake is answered %d", status)
	}
	if status, text := askHealth(t, adm); status != 503 || !strings.Contains(text, "47 MiB are free") {
		t.Errorf("health is answered %d %s", status, text)
	}
	if status, text := post(t, intake, "example-token-of-the-platform", "evt_1"); status != 503 || !strings.Contains(text, "unavailable") {
		t.Errorf("an event is answered %d %s", status, text)
	}
	if status, text := ask(t, adm, "/metrics"); status != 200 || !strings.Contains(text, "\nrelay_health_status{status=\"failing\"} 1\n") ||
		!strings.Contains(text, "\nrelay_queue_disk_free_bytes 4.9283072e+07\n") || !strings.Contains(text, "\nrelay_queue_min_free_bytes 1.17440512e+08\n") {
		t.Errorf("metrics are answered %d, and the alert rules see nothing:\n%s", status, text)
	}
	if status, text := ask(t, adm, "/stats"); status != 503 || !strings.Contains(text, "47 MiB are free") {
		t.Errorf("whoever may know more is told %d %s", status, text)
	}
	if r.Stalled() != 0 {
		t.Error("waiting counts as a stall")
	}
	if err := r.Reload(testConfig(t, cfg.Queue.Dir, receiver.URL+"/moved")); err != nil {
		t.Errorf("reload says %v", err)
	}
	free.Store(1 << 30)
	for deadline := time.Now().Add(patience); r.Waiting() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the queue was not opened")
		}
	}
	if status, text := post(t, intake, "example-token-of-the-platform", "evt_1"); status != 200 {
		t.Fatalf("an event is answered %d %s", status, text)
	}
	if id := <-arrived; id != "evt_1" {
		t.Errorf("%q arrived", id)
	}
	if r.dispatcher.Lane("crm") == nil || r.current.Load().Endpoints[0].URL.Reveal() != receiver.URL+"/moved" {
		t.Error("the queue was opened with the configuration of before the reload")
	}
	if status, text := askHealth(t, adm); status != 200 {
		t.Errorf("health is answered %d %s", status, text)
	}
}

func TestARelayThatWaitsForItsDiskCanBeStopped(t *testing.T) {
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), "http://127.0.0.1:1/")
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	r := &Relay{startConfig: cfg, version: "1.2.3", log: zerolog.Nop(), free: func() (int64, error) { return 0, nil }}
	if err := r.start([]net.Listener{intake}, []net.Listener{adm}); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(context.Background()); err != nil {
		t.Errorf("stop says %v", err)
	}
}
