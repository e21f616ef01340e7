package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	answerEvents   = 4        // for each endpoint that answers without end
	answerBytes    = 96 << 10 // that the relay may read of one of their answers: 64 KiB, and what it reads for itself
	answerRoom     = 8 << 20  // that it may read beside them: files, requests, the neighbour's answers
	answerControl  = 8 << 20  // that somebody reads of each who reads all that comes
	answerPatience = time.Minute
	neighbourPosts = 40
)

// endless are answers that never end: what comes once, and what comes over and over.
var endless = [...]struct{ name, first, then string }{
	{"chunk extensions", chunkedAnswer, "1;" + strings.Repeat("a", 30_000) + "\r\nx\r\n"},
	{"one chunk extension", chunkedAnswer + "1;", strings.Repeat("a", 30_000)},
	{"the size of a chunk", chunkedAnswer, strings.Repeat("0", 30_000)},
	{"chunks of a byte", chunkedAnswer, strings.Repeat("1\r\nx\r\n", 5_000)},
	{"trailers", chunkedAnswer + "0\r\n", strings.Repeat("X: y\r\n", 5_000)},
	{"headers", "HTTP/1.1 200 OK\r\n", strings.Repeat("X: y\r\n", 5_000)},
	{"one header", "HTTP/1.1 200 OK\r\nX: ", strings.Repeat("a", 30_000)},
	{"a status line", "HTTP/1.1 200 ", strings.Repeat("O", 30_000)},
	{"interim answers", "", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1_200)},
	{"early hints", "", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 700)},
	{"blank lines", "", strings.Repeat("\r\n", 15_000)},
	{"a body of a length", "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", strings.Repeat("x", 30_000)},
	{"a body without one", "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 30_000)},
}

const chunkedAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// answerEndlessly answers every request on the listener so, until that is closed, and counts the connections.
func answerEndlessly(ln net.Listener, first, then string, asked *atomic.Uint64) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() { // until the other side is gone
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				if line, err := in.ReadString('\n'); err != nil {
					return
				} else if line == "\r\n" {
					break
				}
			}
			asked.Add(1)
			if _, err := io.WriteString(conn, first); err != nil {
				return
			}
			for {
				if _, err := io.WriteString(conn, then); err != nil {
					return
				}
			}
		}()
	}
}

// besiegeReceivers has endpoints answer without end, in as many ways as there are, and counts what the relay reads of that. A
// neighbour that is well has to get all that is due to it meanwhile. The control reads of each what the relay must not.
func besiegeReceivers(ctx context.Context, s *site, out io.Writer) error {
	well := newReceiver()
	addr, err := startReceiver(well)
	if err != nil {
		return err
	}
	defer well.close()
	endpoints := []endpoint{{name: "well", url: "http://" + addr + "/events", events: []string{"lead.*"}}}
	asked := make([]atomic.Uint64, len(endless))
	for i, way := range endless {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		ln, err := listenLoopback(addr)
		if err != nil {
			return err
		}
		defer ln.Close()
		go answerEndlessly(ln, way.first, way.then, &asked[i])
		if err := readAll(ctx, addr); err != nil {
			return fmt.Errorf("receivers: the control, %s: %w", way.name, err)
		}
		asked[i].Store(0)
		endpoints = append(endpoints, endpoint{name: fmt.Sprint("endless", i), url: "http://" + addr + "/", events: []string{"bot.*"}, once: true, timeout: "5s"})
	}
	relay, err := s.newRelay("answered", endpoints)
	if err != nil {
		return err
	}
	if _, err := relay.start(ctx); err != nil {
		return err
	}
	defer relay.proc.kill()
	before, err := bytesRead(relay.proc.pid())
	if err != nil {
		return err
	}
	for range answerEvents {
		if got := tell(ctx, relay.ingest, posting("/events", "", `{"type":"bot.created","data":{}}`)); got != 200 {
			return fmt.Errorf("receivers: a post is answered %d", got)
		}
	}
	for range neighbourPosts {
		if got := tell(ctx, relay.ingest, posting("/events", "", `{"type":"lead.created","data":{}}`)); got != 200 {
			return fmt.Errorf("receivers: a post is answered %d", got)
		}
	}
	attempts := func() (n uint64) {
		for i := range asked {
			n += asked[i].Load()
		}
		return n
	}
	done := func() bool {
		for i := range asked {
			if asked[i].Load() == 0 {
				return false
			}
		}
		return well.received.Load() >= neighbourPosts
	}
	progress := func() uint64 { return attempts() + well.received.Load() }
	if err := waitUntil(ctx, answerPatience, answerPatience, progress, done); err != nil {
		return fmt.Errorf("receivers: %d attempts at the endless ones, %d of %d events at their neighbour: %w", attempts(), well.received.Load(), neighbourPosts, err)
	}
	// Until it reads nothing more of them.
	read, last := uint64(0), time.Now()
	for deadline := time.Now().Add(answerPatience); time.Since(last) < time.Second && time.Now().Before(deadline); pause(ctx, pollInterval) {
		now, err := bytesRead(relay.proc.pid())
		if err != nil {
			return errors.Join(err, relay.alive())
		}
		if now > read+answerBytes {
			read, last = now, time.Now()
		}
	}
	read -= before
	most := attempts()*answerBytes + answerRoom
	result := map[string]any{"attack": "receivers", "ways": len(endless), "attempts": attempts(), "read_bytes": read, "most_bytes": most, "neighbour": well.received.Load()}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	if read > most {
		return fmt.Errorf("receivers: the relay read %d bytes of %d answers and for itself, not %d at most", read, attempts(), most)
	}
	return errors.Join(relay.alive(), ctx.Err())
}

// readAll asks and reads far more of an answer than the relay may.
func readAll(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerPatience))
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return err
	}
	n, err := io.CopyN(io.Discard, conn, answerControl)
	if err != nil {
		return fmt.Errorf("ends after %d bytes: %w", n, err)
	}
	return nil
}

// bytesRead is how many bytes a process has read, of files and connections.
func bytesRead(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	rest, found := strings.CutPrefix(string(text), "rchar: ")
	if !found {
		return 0, errors.New("/proc/PID/io has no rchar")
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseUint(line, 10, 64)
}
