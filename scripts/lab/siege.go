// siege tries to break the promise that strangers keep no honest source out: slow clients in three ways.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	siegeLimit   = 250 * time.Millisecond // within which an honest client wants its answer
	siegeShare   = 0.999
	siegeRate    = 100             // honest posts a second, each on a connection of its own
	musterTime   = 4 * time.Second // until the slow clients are all there, or turned away
	dripInterval = time.Second
	besiegers    = 8 // loopback addresses that the slow clients have
)

// weapon is one way to keep a server waiting: what a slow client says at once, and what it then says over and over.
type weapon struct{ name, first, drip string }

const ask = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

var weapons = []weapon{
	{"headers that never end", "POST /events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "x"},
	{"bodies that never end", "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat(" ", 9<<10), " "},
	{"answers that nobody reads", strings.Repeat(ask, 256), strings.Repeat(ask, 4)},
}

// siegeResult is what honest clients got during one attack.
type siegeResult struct {
	Server   string  `json:"server"`
	Attack   string  `json:"attack"`
	Clients  int     `json:"clients"` // slow connections, as many as the server lets there be
	Posts    uint64  `json:"posts"`
	Unserved uint64  `json:"unserved"` // not answered 200
	Late     uint64  `json:"late"`     // answered 200, but after siegeLimit
	P50ms    float64 `json:"p50_ms"`
	P999ms   float64 `json:"p999_ms"`
	MemoryMB float64 `json:"memory_mib,omitempty"` // anonymous, at most
}

func (r siegeResult) held() bool {
	return r.Posts > 0 && float64(r.Posts-r.Unserved-r.Late) >= siegeShare*float64(r.Posts)
}

func runSiege(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("siege", fmt.Sprintf("Attacks a relay with slow clients in %d ways, one after the other, while honest ones post. Then does the same to a server\n"+
		"as fasthttp comes, with room for 256 connections, which has to fall. Exit code 1 when less than %g %% of the honest posts\n"+
		"to the relay are answered 200 within %s, or when the other server holds.", len(weapons), 100*siegeShare, siegeLimit))
	var s site
	s.flags(fs)
	n := fs.Int("n", 1000, "slow `connections`")
	d := fs.Duration("d", 10*time.Second, "how long each attack takes")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *n < 1 || *n > 8000 || *d <= 0 || *d > serveLimit {
		return usageError("-n must be 1 to 8000, -d more than 0 and at most an hour")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	log.SetOutput(io.Discard) // net/http tells of every refusal that comes before a request
	relay, err := s.newRelay("besieged", nil)
	if err != nil {
		return err
	}
	if _, err := relay.start(ctx); err != nil {
		return err
	}
	defer relay.proc.kill()
	fell := 0
	var failed error
	for _, w := range weapons {
		var memory memoryMeter
		memory.watch(relay.proc.pid())
		r := besiege(ctx, "relay", relay.ingest, w, *n, *d)
		memory.stop()
		r.MemoryMB = memory.max()
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
		if err := relay.alive(); err != nil {
			return err
		}
		if !r.held() {
			failed = errors.Join(failed, fmt.Errorf("%s: %d of %d honest posts were not answered, %d late", w.name, r.Unserved, r.Posts, r.Late))
		}
	}
	for _, w := range weapons[:2] { // which hold a place for as long as they like, also where nothing is written
		r, err := besiegeUnguarded(ctx, w, *n, min(*d, 3*time.Second))
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
		if !r.held() {
			fell++
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fell < 2 {
		failed = errors.Join(failed, errors.New("the control holds: this attack shows nothing"))
	}
	if failed == nil {
		fmt.Fprintf(out, "under %d slow clients %g %% of honest posts were answered within %s; the control fell\n", *n, 100*siegeShare, siegeLimit)
	}
	return failed
}

// besiegeUnguarded attacks a server that has what fasthttp comes with and nothing else.
func besiegeUnguarded(ctx context.Context, w weapon, n int, d time.Duration) (siegeResult, error) {
	addr, err := freeAddress()
	if err != nil {
		return siegeResult{}, err
	}
	ln, err := listenLoopback(addr)
	if err != nil {
		return siegeResult{}, err
	}
	server := newServer(yardstickHandler(func([]byte) error { return nil }))
	server.Concurrency, server.Logger = 256, quiet{}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- serve(ctx, server, ln, serveLimit) }()
	r := besiege(ctx, "control", addr, w, n, d)
	cancel()
	return r, <-served
}

// quiet drops what a server says of its clients.
type quiet struct{}

// Printf drops a line.
func (quiet) Printf(string, ...any) {}

// besiege has n slow clients attack a server, waits until they have taken what they can, and measures honest ones.
func besiege(ctx context.Context, server, addr string, w weapon, n int, d time.Duration) siegeResult {
	attack, retreat := context.WithCancel(ctx)
	var slow sync.WaitGroup
	var holding atomic.Int64
	for i := range n {
		slow.Go(func() { keepWaiting(attack, addr, w, dialsFrom(byte(2+i%besiegers), false), &holding) })
	}
	pause(ctx, musterTime)
	r := siegeResult{Server: server, Attack: w.name}
	var h histogram
	var honest sync.WaitGroup
	var unserved, late atomic.Uint64
	tick := time.NewTicker(time.Second / siegeRate)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; <-tick.C {
		r.Posts++
		honest.Go(func() {
			began := time.Now()
			ok := postOnce(ctx, addr)
			took := time.Since(began)
			h.record(took)
			switch {
			case !ok:
				unserved.Add(1)
			case took > siegeLimit:
				late.Add(1)
			}
		})
	}
	r.Clients = int(holding.Load())
	honest.Wait()
	retreat()
	slow.Wait()
	r.Unserved, r.Late = unserved.Load(), late.Load()
	r.P50ms, r.P999ms = float64(h.quantile(0.5).Microseconds())/1000, float64(h.quantile(siegeShare).Microseconds())/1000
	return r
}

// keepWaiting holds a connection for as long as the server lets it, again and again.
func keepWaiting(ctx context.Context, addr string, w weapon, by dials, holding *atomic.Int64) {
	for ctx.Err() == nil {
		conn, err := by.DialContext(ctx, "tcp", addr)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		_ = tcpOf(conn).SetReadBuffer(4 << 10) // so that few answers fit in between
		holding.Add(1)
		drip(ctx, conn, w)
		holding.Add(-1)
		_ = conn.Close()
		pause(ctx, 100*time.Millisecond)
	}
}

// drip says a weapon's words until the connection is gone.
func drip(ctx context.Context, conn net.Conn, w weapon) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := io.WriteString(conn, w.first); err != nil {
		return
	}
	for ctx.Err() == nil {
		if _, err := io.WriteString(conn, w.drip); err != nil {
			return
		}
		pause(ctx, dripInterval)
	}
}

// postOnce posts one event on a connection of its own.
func postOnce(ctx context.Context, addr string) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/events", strings.NewReader(`{"type":"test","data":{}}`))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err == nil && answer.StatusCode == fasthttp.StatusOK
}
