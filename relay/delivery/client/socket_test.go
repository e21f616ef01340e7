package client

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/relay/testca"
)

// asServer makes what a receiver's connection is read and written by.
type asServer func(net.Conn) net.Conn

// ways are plain connections and those over TLS; lines are the endpoint's, beside its URL.
func ways(t *testing.T) map[string]struct {
	scheme, lines string
	serve         asServer
} {
	ours := testca.New(t, "Our Authority")
	leaf := ours.Leaf(-time.Hour, time.Hour)
	over := func(version uint16) asServer {
		config := &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version}
		return func(conn net.Conn) net.Conn { return tls.Server(conn, config) }
	}
	ca := fmt.Sprintf("ca_file = %q", ours.File())
	return map[string]struct {
		scheme, lines string
		serve         asServer
	}{
		"plain":   {"http", "", func(conn net.Conn) net.Conn { return conn }},
		"TLS 1.2": {"https", ca, over(tls.VersionTLS12)},
		"TLS 1.3": {"https", ca, over(tls.VersionTLS13)},
	}
}

// gathering collects the connections of a receiver, and the ids of the events that were read from them.
type gathering struct {
	mu    sync.Mutex
	conns []net.Conn
	ids   map[string]bool
}

// answerAll makes a receiver whose connections stay open, as many as attempts are made at a time: each request waits
// until so many are there.
func (g *gathering) answerAll(t *testing.T, serve asServer, together int) *receiver {
	g.ids = map[string]bool{}
	var here sync.WaitGroup
	here.Add(together)
	return receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
		conn = serve(conn)
		in := bufio.NewReader(conn)
		for i := 0; ; i++ {
			request := nextRequest(in)
			if request == nil {
				return
			}
			g.mu.Lock()
			g.ids[request.Header.Get("webhook-id")] = true
			if i == 0 {
				g.conns = append(g.conns, conn)
			}
			n := len(g.conns)
			g.mu.Unlock()
			if i == 0 && n <= together {
				here.Done()
				here.Wait()
			}
			io.WriteString(conn, answer(200, "", "ok"))
		}
	})
}

// What comes on a connection while it is idle belongs to no event: it must not be taken for the answer to the next one.
// The control is the same without anything that comes: the connections are used again.
func TestStrayAnswerIsNoAnswer(t *testing.T) {
	const together = 3
	for name, way := range ways(t) {
		for what, stray := range map[string]string{
			"nothing": "", "a 200": answer(200, "", "stray"), "a 408": answer(408, "Connection: close\r\n", ""), "one byte": "H",
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				var g gathering
				r := g.answerAll(t, way.serve, together)
				client := mustClient(t, configured(t, way.scheme+"://"+r.Addr().String()+"/", way.lines))
				attemptAll(t, client, "first", together)
				g.mu.Lock()
				for _, conn := range g.conns[:together] {
					io.WriteString(conn, stray)
				}
				g.mu.Unlock()
				if stray != "" {
					client.mustHear(t, together)
				}
				attemptAll(t, client, "second", together)
				g.mu.Lock()
				defer g.mu.Unlock()
				for i := range together {
					if id := fmt.Sprint("second", i); !g.ids[id] {
						t.Errorf("%s counts as delivered, and nobody has read it", id)
					}
				}
				if used := r.accepted.Load() == together; used != (stray == "") {
					t.Errorf("%d connections", r.accepted.Load())
				}
			})
		}
	}
}

// attemptAll makes so many attempts at a time, which all must be answered 200.
func attemptAll(t *testing.T, c *Client, prefix string, n int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			p := testRequest()
			p.ID = fmt.Append(nil, prefix, i)
			if o := c.Attempt(p); o.Status != 200 || string(o.Excerpt) != "ok" {
				t.Errorf("%s: got %+v", p.ID, o)
			}
		})
	}
	all.Wait()
}

// mustHear waits until something has come on all idle connections, without taking it.
func (c *Client) mustHear(t *testing.T, n int) {
	t.Helper()
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if len(c.pool.idle) != n {
		t.Fatalf("%d idle connections, want %d", len(c.pool.idle), n)
	}
	for _, l := range c.pool.idle {
		mustBeReadable(t, l.sock)
	}
}

// A second record of TLS that came together with the answer's lies within crypto/tls, where the descriptor doesn't show it.
func TestStrayRecordBehindTheAnswerIsNoAnswer(t *testing.T) {
	for _, name := range []string{"TLS 1.2", "TLS 1.3"} {
		for what, cut := range map[string]int{"whole": 0, "half": 20} {
			t.Run(name+", "+what, func(t *testing.T) {
				way := ways(t)[name]
				var mu sync.Mutex
				var ids []string
				r := receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
					out := &gatheredWrites{Conn: conn}
					secure := way.serve(out)
					in := bufio.NewReader(secure)
					for {
						request := nextRequest(in)
						if request == nil {
							return
						}
						mu.Lock()
						ids = append(ids, request.Header.Get("webhook-id"))
						mu.Unlock()
						out.hold = true
						io.WriteString(secure, answer(200, "", "ok"))
						io.WriteString(secure, answer(200, "", "stray"))
						out.flush(cut)
						io.Copy(io.Discard, in) // until the other side closes
					}
				})
				c := mustClient(t, configured(t, "https://"+r.Addr().String()+"/", way.lines))
				attemptAll(t, c, "first", 1)
				attemptAll(t, c, "second", 1)
				mu.Lock()
				defer mu.Unlock()
				if len(ids) != 2 || r.accepted.Load() != 2 {
					t.Errorf("%d connections, read %v", r.accepted.Load(), ids)
				}
			})
		}
	}
}

// gatheredWrites holds back what is written and sends it at once, but for so many bytes at its end.
type gatheredWrites struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gatheredWrites) Write(p []byte) (int, error) {
	if g.hold {
		g.held = append(g.held, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

func (g *gatheredWrites) flush(cut int) {
	g.hold = false
	g.Conn.Write(g.held[:len(g.held)-cut])
}

// A 408 that crosses the next request on a connection is no answer to it.
func TestLate408IsMadeAgain(t *testing.T) {
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		mustSwallow(in)
		io.WriteString(conn, answer(200, "", ""))
		if _, err := in.Peek(1); err == nil {
			io.WriteString(conn, answer(408, "Connection: close\r\n", ""))
		}
	})
	c := clientTo(t, r)
	for i := range 3 {
		if o := c.Attempt(testRequest()); o.Status != 200 || o.Resent != (i > 0) {
			t.Fatalf("attempt %d: got %+v", i, o)
		}
	}
}

// A process that was suspended finds all its deadlines past. What has come meanwhile counts.
func TestAnswerThatCameInTimeIsReadAfterTheDeadline(t *testing.T) {
	for name, way := range ways(t) {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", func(conn net.Conn, _ *bufio.Reader) {
				conn = way.serve(conn)
				for in := bufio.NewReader(conn); mustSwallow(in); {
					io.WriteString(conn, answer(200, "", "ok"))
				}
			})
			c := mustClient(t, configured(t, way.scheme+"://"+r.Addr().String()+"/", way.lines))
			var timing Timing
			l, err := c.pool.get(time.Now().Add(testTimeout), true, &timing)
			if err != nil {
				t.Fatal(err)
			}
			s := scratches.Get().(*scratch)
			defer s.release()
			l.SetDeadline(time.Now().Add(testTimeout))
			if err := s.send(l.out, c.template, testRequest(), 0); err != nil {
				t.Fatal(err)
			}
			mustBeReadable(t, l.sock)
			l.sock.left = answerLimit
			l.SetDeadline(time.Now().Add(-time.Hour))
			var o Outcome
			s.begin(l)
			if err := s.readStatus(&o, time.Now()); err != nil || o.Status != 200 {
				t.Fatalf("status %d, error %v", o.Status, err)
			}
			if body, _ := s.readBody(&o, nil); string(body) != "ok" {
				t.Errorf("body %q", body)
			}
			s.end()
			c.pool.drop(l)
		})
	}
}

// Without an answer, an attempt that ends long after its time says nothing about the endpoint.
func TestAttemptOfASuspendedProcessIsNotJudged(t *testing.T) {
	r := receive(t, "127.0.0.1:0", func(_ net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })
	c := mustClient(t, testEndpoint("http://"+r.Addr().String()))
	c.timeout = -suspendedAfter - time.Second // its deadline is so long past when it ends
	if o := c.Attempt(testRequest()); !o.Aborted || !strings.Contains(o.Err, "stood still") {
		t.Errorf("got %+v", o)
	}
	c.timeout = shortTimeout
	if o := c.Attempt(testRequest()); o.Aborted || o.Class != ClassTimeout {
		t.Errorf("control: got %+v", o)
	}
}

// mustBeReadable waits until something has come on a socket, without taking it.
func mustBeReadable(t *testing.T, s *socket) {
	t.Helper()
	s.Conn.SetReadDeadline(time.Now().Add(testTimeout))
	err := s.raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	})
	s.Conn.SetReadDeadline(time.Time{})
	if err != nil {
		t.Fatalf("nothing has come: %v", err)
	}
}

// nextRequest reads a request whole, nil at the end of the connection.
func nextRequest(in *bufio.Reader) *http.Request {
	request, err := http.ReadRequest(in)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return nil
	}
	return request
}
