package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	floodTime    = 4 * time.Second  // and the control's until it does harm
	floodLimit   = 20 * time.Second // at most
	flooders     = 64
	floodHeld    = 4000 // connections that all of them together keep open
	floodShare   = 0.98 // of honest posts that are answered 200 beside it
	floodLeast   = 8000 // connections that they must have begun, or the flood was none
	floodHonest  = 10 * time.Millisecond
	floodSources = 8 // addresses that they have, from 127.0.0.2 on
)

// floodResult is what honest clients got beside a flood of new connections.
type floodResult struct {
	Attack  string `json:"attack"`
	Begun   int64  `json:"connections_begun"`
	Refused uint64 `json:"connections_refused"` // since their address begins too many a second
	Posts   int64  `json:"posts"`
	Failed  int64  `json:"failed"`
}

func (r floodResult) held() bool {
	return r.Posts > 0 && float64(r.Posts-r.Failed) >= floodShare*float64(r.Posts)
}

// besiegePlaces begins connections from eight addresses as fast as it can and keeps them open without a word, beside honest
// posts. The control is the same flood from addresses that the operator trusts as proxies, which are not bounded.
func besiegePlaces(ctx context.Context, s *site, out io.Writer) error {
	bounded, err := floodRelay(ctx, s, "flood", "", false)
	if err != nil {
		return err
	}
	control, err := floodRelay(ctx, s, "flood of trusted proxies, the control", "trusted_proxies = [\"127.0.0.2/31\", \"127.0.0.4/30\", \"127.0.0.8/31\"]\n", true)
	if err != nil {
		return err
	}
	for _, r := range []floodResult{bounded, control} {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	}
	var failed error
	if !bounded.held() {
		failed = fmt.Errorf("flood: %d of %d honest posts failed", bounded.Failed, bounded.Posts)
	}
	if bounded.Begun < floodLeast || bounded.Refused == 0 {
		failed = errors.Join(failed, fmt.Errorf("flood: %d connections were begun and %d refused, which shows nothing", bounded.Begun, bounded.Refused))
	}
	if control.Failed == 0 {
		failed = errors.Join(failed, errors.New("flood: the control holds: this flood shows nothing"))
	}
	return failed
}

// floodRelay floods a relay of its own, which has more lines in its section [server], for some time or until that does harm.
func floodRelay(ctx context.Context, s *site, name, server string, untilHarm bool) (floodResult, error) {
	r := floodResult{Attack: name}
	relay, err := s.newRelay(fmt.Sprintf("flooded-%t", server != ""), nil)
	if err != nil {
		return r, err
	}
	config, err := os.ReadFile(relay.config)
	if err != nil {
		return r, err
	}
	config = append([]byte("[server]\n"+server), config[len("[server]\n"):]...)
	if err := os.WriteFile(relay.config, config, 0o600); err != nil {
		return r, err
	}
	if _, err := relay.start(ctx); err != nil {
		return r, err
	}
	defer relay.proc.kill()
	limit := floodTime
	if untilHarm {
		limit = floodLimit
	}
	flood, ebb := context.WithTimeout(ctx, limit)
	defer ebb()
	var begun, posts, failed atomic.Int64
	var all sync.WaitGroup
	for i := range flooders {
		all.Go(func() { begun.Add(beginAndKeep(flood, relay.ingest, byte(2+i%floodSources), floodHeld/flooders)) })
	}
	tick := time.NewTicker(floodHonest)
	defer tick.Stop()
	for flood.Err() == nil {
		all.Go(func() {
			posts.Add(1)
			if tell(ctx, relay.ingest, posting("/events", "", attackEvent)) != 200 {
				failed.Add(1)
				if untilHarm {
					ebb()
				}
			}
		})
		<-tick.C
	}
	all.Wait()
	r.Begun, r.Posts, r.Failed = begun.Load(), posts.Load(), failed.Load()
	refused, err := relay.metric(ctx, `relay_answer_connections_refused_total{listener="intake",reason="pace"}`)
	r.Refused = uint64(refused)
	return r, errors.Join(err, relay.alive(), ctx.Err())
}

// beginAndKeep begins connections from 127.0.0.n until the context is done, keeps the newest few of them open, and says how
// many there were.
func beginAndKeep(ctx context.Context, addr string, n byte, few int) (begun int64) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}}
	kept := make([]net.Conn, few)
	for i := 0; ctx.Err() == nil; i = (i + 1) % few {
		if kept[i] != nil {
			abort(kept[i])
		}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if kept[i] = conn; err == nil {
			begun++
		}
	}
	for _, conn := range kept {
		if conn != nil {
			abort(conn)
		}
	}
	return begun
}

// abort closes a connection without leaving its port in TIME_WAIT.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
