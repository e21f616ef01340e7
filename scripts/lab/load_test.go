package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// mustReceive starts a receiver that ends with the test.
func mustReceive(t *testing.T) (*receiver, string) {
	t.Helper()
	r := newReceiver()
	addr, err := startReceiver(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r, addr
}

func mustLoad(t *testing.T, plan loadPlan) *load {
	t.Helper()
	l, err := newLoad(plan, newRun())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEveryPostedEventIsReceivedOnce(t *testing.T) {
	r, addr := mustReceive(t)
	l := mustLoad(t, loadPlan{addr: addr, path: "/events", conns: 8, count: 1000, keep: true})
	result := l.post(t.Context())
	if result.Sent != 1000 || result.OK != 1000 || len(result.Errors) != 0 || result.P50us == 0 {
		t.Errorf("load: %+v", result)
	}
	if c := r.counts(); c.Received != 1000 || c.Unique != 1000 || c.Repeats != 0 || c.P99us == 0 {
		t.Errorf("receiver: %+v", c)
	}
	if c := l.ledger.compare(r.ids()); c != (comparison{Acknowledged: 1000}) {
		t.Errorf("compared: %+v", c)
	}
}

func TestRepeatsAreToldByWebhookID(t *testing.T) {
	r, addr := mustReceive(t)
	for _, id := range []string{"evt_1", "evt_2", "evt_1"} {
		req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		req.SetRequestURI("http://" + addr + "/")
		req.Header.SetMethod("POST")
		req.Header.Set("webhook-id", id)
		req.SetBodyString(`{"id":"evt_of_the_body"}`)
		if err := fasthttp.Do(req, res); err != nil {
			t.Fatal(err)
		}
	}
	if c := r.counts(); c.Received != 3 || c.Unique != 2 || c.Repeats != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestRefusedEventsAreUnknown(t *testing.T) {
	r, addr := mustReceive(t)
	r.failPercent, r.failStatus = 100, 503
	l := mustLoad(t, loadPlan{addr: addr, path: "/events", conns: 2, count: 10, keep: true})
	result := l.post(t.Context())
	if result.OK != 0 || result.Errors["503"] != 10 || len(l.ledger.unknown) != 10 {
		t.Errorf("got %+v, %d unknown", result, len(l.ledger.unknown))
	}
	if c := r.counts(); c.Unique != 0 || c.Refused != 10 {
		t.Errorf("receiver: %+v", c)
	}
}

func TestLostConnectionIsMadeAgainAndItsEventIsUnknown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var connections atomic.Int64
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			first := connections.Add(1) == 1
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for served := 0; ; served++ {
					var req fasthttp.Request
					if req.Read(in) != nil || first && served == 2 {
						return // the third event of the first connection is read and never answered
					}
					conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
				}
			}()
		}
	}()
	l := mustLoad(t, loadPlan{addr: ln.Addr().String(), path: "/events", conns: 1, count: 6, keep: true})
	result := l.post(t.Context())
	if result.OK != 5 || result.Errors["unanswered"] != 1 {
		t.Errorf("got %+v", result)
	}
	if len(l.ledger.unknown) != 1 || l.ledger.unknown[0] != 2 || len(l.ledger.acked) != 5 {
		t.Errorf("ledger: %+v", l.ledger)
	}
}

func TestPacedLoadDoesNotPassItsRate(t *testing.T) {
	_, addr := mustReceive(t)
	result := mustLoad(t, loadPlan{addr: addr, path: "/events", conns: 4, rate: 200, duration: 500 * time.Millisecond}).post(t.Context())
	if most := 200*result.Seconds + 2; result.OK == 0 || float64(result.OK) > most {
		t.Errorf("%d events in %.3f seconds at 200 a second", result.OK, result.Seconds)
	}
}

func TestLoadEndsWithItsContextWhileNobodyListens(t *testing.T) {
	p, err := newClosedPort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if result := mustLoad(t, loadPlan{addr: p.addr, path: "/", conns: 4, count: 10}).post(ctx); result.Sent != 0 {
		t.Errorf("an id was spent on a relay that is away: %+v", result)
	}
}

func TestImpossibleLoadIsRefused(t *testing.T) {
	for name, plan := range map[string]loadPlan{
		"elsewhere":        {addr: "10.0.0.1:80", conns: 1},
		"no connections":   {addr: "127.0.0.1:1"},
		"uneven batches":   {addr: "127.0.0.1:1", conns: 1, count: 10, batch: 3},
		"batch too large":  {addr: "127.0.0.1:1", conns: 1, batch: 10_000},
		"event too small":  {addr: "127.0.0.1:1", conns: 1, size: 10},
		"more than can be": {addr: "127.0.0.1:1", conns: 1, count: 1e9},
	} {
		var usage usageError
		if _, err := newLoad(plan, 1); !errors.As(err, &usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBareLogHoldsWhatItAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bare.log")
	log, err := openBareLog(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(yardstickHandler(log.append))
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listenLoopback(addr)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	result := mustLoad(t, loadPlan{addr: addr, path: "/events", conns: 16, count: 200}).post(t.Context())
	if err := srv.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); result.OK != 200 || lines != 200 || len(text) != 200*251 {
		t.Errorf("%d answered, %d lines and %d bytes in the file", result.OK, lines, len(text))
	}
}
