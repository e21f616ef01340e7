// neighbours tries to break the promise that endpoints do not disturb each other: one beside one that hangs and one
// that refuses.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// neighboursResult is what the neighbours command prints.
type neighboursResult struct {
	Alone  trickleResult `json:"alone"`
	Beside trickleResult `json:"beside"` // one that hangs and one that refuses connections
}

func runNeighbours(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("neighbours", fmt.Sprintf("Measures an endpoint's latency at %d events a second: alone, then beside one endpoint that accepts connections and never\n"+
		"answers and one that refuses connections, all subscribed to the same events. Exit code 1 when one of its events is missing.", trickleRate))
	var s site
	s.flags(fs)
	d := fs.Duration("d", 20*time.Second, "how long to measure, each time")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *d <= 0 || *d > serveLimit {
		return usageError("-d must be more than 0 and at most an hour")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()

	well := newReceiver()
	wellAddr, err := startReceiver(well)
	if err != nil {
		return err
	}
	defer well.close()
	hangingAddr, err := freeAddress()
	if err != nil {
		return err
	}
	hanging, err := newHangingPort(hangingAddr)
	if err != nil {
		return err
	}
	defer hanging.Close()
	refusing, err := newClosedPort()
	if err != nil {
		return err
	}
	defer refusing.close()

	one := []endpoint{{name: "well", url: "http://" + wellAddr + "/events", events: []string{"lead.*"}}}
	three := append(one[:1:1],
		endpoint{name: "hangs", url: "http://" + hanging.Addr().String() + "/events", events: []string{"lead.*"}},
		endpoint{name: "refuses", url: "http://" + refusing.addr + "/events", events: []string{"lead.*"}})
	var result neighboursResult
	if result.Alone, err = measureWell(ctx, &s, "alone", one, well, *d); err != nil {
		return err
	}
	if result.Beside, err = measureWell(ctx, &s, "beside", three, well, *d); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	fmt.Fprintf(out, "accepted to received, p50/p99: alone %s, beside bad neighbours %s\n", inMs(result.Alone.Accepted), inMs(result.Beside.Accepted))
	if missing := result.Alone.Missing + result.Beside.Missing; missing > 0 {
		return fmt.Errorf("measure neighbours: %d events of the endpoint that is well are missing", missing)
	}
	return nil
}

func inMs(q quantiles) string {
	return fmt.Sprintf("%.2f/%.2f ms", float64(q.P50us)/1000, float64(q.P99us)/1000)
}

// measureWell runs a trickle through a relay of its own to the receiver r.
func measureWell(ctx context.Context, s *site, name string, endpoints []endpoint, r *receiver, d time.Duration) (trickleResult, error) {
	relay, err := s.newRelay(name, endpoints)
	if err != nil {
		return trickleResult{}, err
	}
	if _, err := relay.start(ctx); err != nil {
		return trickleResult{}, err
	}
	defer func() { relay.proc.kill() }()
	warm, err := newTrickle(relay.ingest, "/events", "lead.created", r)
	if err != nil {
		return trickleResult{}, err
	}
	if _, err := warm.measure(ctx, time.Second); err != nil {
		return trickleResult{}, err
	}
	t, err := newTrickle(relay.ingest, "/events", "lead.created", r)
	if err != nil {
		return trickleResult{}, err
	}
	return t.measure(ctx, d)
}

// hangingPort is an endpoint that accepts connections, reads, and never answers.
type hangingPort struct {
	net.Listener
	now, most atomic.Int64 // connections
}

// newHangingPort listens. Closing it ends that; the connections end with the process.
func newHangingPort(addr string) (*hangingPort, error) {
	ln, err := listenLoopback(addr)
	if err != nil {
		return nil, err
	}
	p := &hangingPort{Listener: ln}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			now := p.now.Add(1)
			p.most.Store(max(p.most.Load(), now)) // this goroutine alone
			go func() {
				defer p.now.Add(-1)
				defer conn.Close()
				io.Copy(io.Discard, conn) // until the other side gives up
			}()
		}
	}()
	return p, nil
}
