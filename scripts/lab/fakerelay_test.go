package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/valyala/fasthttp"
)

// The laboratory's runs start a binary. In tests that binary is the test itself, which then plays a relay of the simplest
// kind: one file of events, written before the answer (kill -9 doesn't need a sync), and after a start everything once
// more from the beginning. With a number in LAB_FAKE_RELAY_FORGETS it skips every so many deliveries of
// leads; never of the trickle, which would be waited for.
const (
	fakeRelay   = "LAB_FAKE_RELAY"
	fakeForgets = "LAB_FAKE_RELAY_FORGETS"
)

func TestMain(m *testing.M) {
	if os.Getenv(fakeRelay) != "" && len(os.Args) == 4 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, "fake relay:", playRelay(os.Args[3]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// mustFakeRelay makes relays that this test starts play instead of serve.
func mustFakeRelay(t *testing.T, forgets string) site {
	t.Helper()
	bin, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeRelay, "1")
	t.Setenv(fakeForgets, forgets)
	s := site{bin: bin, parent: t.TempDir()}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// playedRelay is the fake's state.
type playedRelay struct {
	forgets uint64
	mu      sync.Mutex
	more    *sync.Cond
	log     *os.File
	events  [][]byte
}

// playedLane is one endpoint; its numbers are guarded by the relay's mutex.
type playedLane struct {
	name, url string
	prefixes  []string
	cursor    int
	left      uint64 // matching events that are not settled
	delivered uint64
}

func playRelay(path string) error {
	var config struct {
		Server   struct{ Listen string }
		Admin    struct{ Listen string }
		Queue    struct{ Dir string }
		Endpoint []struct {
			Name, URL string
			Events    []string
		}
	}
	if _, err := toml.DecodeFile(path, &config); err != nil {
		return err
	}
	p := &playedRelay{}
	p.more = sync.NewCond(&p.mu)
	fmt.Sscan(os.Getenv(fakeForgets), &p.forgets)
	var lanes []*playedLane
	for _, e := range config.Endpoint {
		l := &playedLane{name: e.Name, url: e.URL}
		for _, pattern := range e.Events {
			l.prefixes = append(l.prefixes, `"type":"`+strings.TrimSuffix(pattern, "*"))
		}
		lanes = append(lanes, l)
	}
	if err := os.MkdirAll(config.Queue.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(config.Queue.Dir, "log"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return err
	}
	kept, err := io.ReadAll(p.log)
	if err != nil {
		return err
	}
	p.add(lanes, kept)
	for _, l := range lanes {
		for range 8 {
			go p.deliver(l)
		}
	}

	intake := http.NewServeMux()
	intake.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"ok"}`) })
	intake.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			body = append(bytes.TrimSpace(body), '\n')
			p.mu.Lock()
			_, err = p.log.Write(body)
			p.mu.Unlock()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		p.add(lanes, body)
		fmt.Fprint(w, `{"status":"accepted"}`)
	})
	admin := http.NewServeMux()
	admin.HandleFunc("POST /endpoints/{name}/pause", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	admin.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		var stats struct {
			Endpoints []endpointStats `json:"endpoints"`
		}
		p.mu.Lock()
		for _, l := range lanes {
			stats.Endpoints = append(stats.Endpoints, endpointStats{Name: l.name, State: "up", Pending: l.left, Delivered: l.delivered})
		}
		p.mu.Unlock()
		json.NewEncoder(w).Encode(stats)
	})
	ended := make(chan error, 2)
	go func() { ended <- http.ListenAndServe(config.Server.Listen, intake) }()
	go func() { ended <- http.ListenAndServe(config.Admin.Listen, admin) }()
	return <-ended
}

func (l *playedLane) wants(event []byte) bool {
	return slices.ContainsFunc(l.prefixes, func(prefix string) bool { return bytes.Contains(event, []byte(prefix)) })
}

// add takes events, one a line.
func (p *playedRelay) add(lanes []*playedLane, lines []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for event := range bytes.Lines(lines) {
		p.events = append(p.events, bytes.TrimSpace(event))
		for _, l := range lanes {
			if l.wants(event) {
				l.left++
			}
		}
	}
	p.more.Broadcast()
}

// deliver is one of a lane's senders.
func (p *playedRelay) deliver(l *playedLane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for l.cursor == len(p.events) {
			p.more.Wait()
		}
		at := l.cursor
		l.cursor++
		event := p.events[at]
		if !l.wants(event) {
			continue
		}
		p.mu.Unlock()
		if p.forgets == 0 || uint64(at+1)%p.forgets != 0 || !bytes.Contains(event, []byte("lead.created")) {
			for !postFake(l.url, event) {
				time.Sleep(20 * time.Millisecond)
			}
		}
		p.mu.Lock()
		l.left--
		l.delivered++
	}
}

func postFake(url string, body []byte) (delivered bool) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI(url)
	req.Header.SetMethod("POST")
	req.Header.Set("webhook-id", string(eventID(body)))
	req.SetBody(body)
	return fasthttp.Do(req, res) == nil && res.StatusCode() == 200
}

func TestRelayThatDiesAtStartIsQuotedInTheError(t *testing.T) {
	s := mustFakeRelay(t, "")
	r, err := s.newRelay("relay", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 1; it said last: fake relay: toml:") {
		t.Errorf("got %v", err)
	}
}
