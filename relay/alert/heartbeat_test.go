package alert

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestHeartbeatCallsWhileAllIsWell(t *testing.T) {
	calls := make(chan string, 100)
	var status atomic.Int64
	status.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls <- r.Method + " " + r.URL.Path + " " + r.UserAgent()
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	var well atomic.Bool
	well.Store(true)
	log := &strings.Builder{}
	beat := config.Heartbeat{URL: sign.NewSecret(server.URL + "/example-secret-path"), Every: 5 * time.Millisecond}
	h := NewHeartbeat(beat, well.Load, "1.2.3", zerolog.New(log))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	call := func() string {
		t.Helper()
		select {
		case got := <-calls:
			return got
		case <-time.After(patience):
			t.Fatal("no call")
			return ""
		}
	}
	for range 3 {
		if got := call(); got != "GET /example-secret-path RealtorBot-Relay/1.2.3" {
			t.Errorf("called with %q", got)
		}
	}
	status.Store(302) // a redirect is not followed, and no success
	for range 3 {
		if got := call(); strings.Contains(got, "elsewhere") {
			t.Errorf("it was followed: %q", got)
		}
	}
	status.Store(204)
	for range 3 {
		call()
	}
	h.Set(config.Heartbeat{Every: time.Hour}) // none
	cancel()
	<-ended
	if n := strings.Count(log.String(), "could not be called"); n != 1 || !strings.Contains(log.String(), "answered 302") || !strings.Contains(log.String(), "can be called again") {
		t.Errorf("the log tells %d times: %s", n, log)
	}
	if strings.Contains(log.String(), "example-secret-path") {
		t.Errorf("the URL is in the log: %s", log)
	}
}

func TestHeartbeatStopsWhenItIsNotWell(t *testing.T) {
	asked := make(chan struct{}, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	defer server.Close()
	h := NewHeartbeat(config.Heartbeat{URL: sign.NewSecret(server.URL), Every: time.Millisecond}, func() bool {
		asked <- struct{}{}
		return false
	}, "1.2.3", zerolog.Nop())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	for range 5 {
		<-asked
	}
	cancel()
	<-ended
}

func TestHeartbeatObeysTheAddressGuard(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	h := NewHeartbeat(config.Heartbeat{}, nil, "1.2.3", zerolog.Nop())
	for address, says := range map[string]string{
		"http://169.254.169.254/":      "no setting allows it",
		"http://0.0.0.0:" + port + "/": "no setting allows it",
	} {
		err := h.beat(context.Background(), &config.Heartbeat{URL: sign.NewSecret(address)})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
