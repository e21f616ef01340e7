package client

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

func TestKeptAliveConnectionIsUsedAgain(t *testing.T) {
	for name, a := range map[string]string{
		"length":  answer(200, "", "ok"),
		"empty":   answer(200, "", ""),
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"full":    answer(500, "", strings.Repeat("x", excerptLimit)),
		"204":     "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", answering(a, false))
			c := clientTo(t, r)
			first, second := c.Attempt(testRequest()), c.Attempt(testRequest())
			if first.Status == 0 || second.Status != first.Status || r.accepted.Load() != 1 {
				t.Fatalf("got %d connections, %+v, %+v", r.accepted.Load(), first, second)
			}
			if first.Timing.Connect == 0 || second.Timing.Connect != 0 || second.Timing.FirstByte == 0 {
				t.Errorf("got timings %+v, %+v", first.Timing, second.Timing)
			}
		})
	}
}

func TestUnfitConnectionIsNotUsedAgain(t *testing.T) {
	for name, a := range map[string]string{
		"said to close":          answer(200, "Connection: close\r\n", ""),
		"body too long":          answer(200, "", strings.Repeat("x", excerptLimit+1)),
		"bytes after the answer": answer(200, "", "") + answer(500, "", ""),
		"body after 204":         "HTTP/1.1 204 No Content\r\n\r\nbody",
		"upgrade":                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.0":               "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", answering(a, false))
			c := clientTo(t, r)
			first, second := c.Attempt(testRequest()), c.Attempt(testRequest())
			if first.Status == 0 || second.Status != first.Status || r.accepted.Load() != 2 {
				t.Errorf("got %d connections, %+v, %+v", r.accepted.Load(), first, second)
			}
		})
	}
}

// A receiver that closes a connection after an answer without saying so, as one that restarts does: once the close is here
// the connection isn't used again, and when it comes across the next request, that is made again on a new one.
func TestStaleConnectionCostsNoAttempt(t *testing.T) {
	for name, linger := range map[string]int{"closed": -1, "reset": 0} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, answer(200, "", ""))
				in.Peek(1) // of the next request
				conn.(*net.TCPConn).SetLinger(linger)
			})
			c := clientTo(t, r)
			for i := range 3 {
				if o := c.Attempt(testRequest()); o.Status != 200 || o.Resent != (i > 0) {
					t.Fatalf("attempt %d: got %+v", i, o)
				}
			}
			if n := r.accepted.Load(); n != 3 {
				t.Errorf("got %d connections, want 3", n)
			}
		})
	}
}

func TestNoSecondTryWhereTheFirstMayHaveCounted(t *testing.T) {
	cases := map[string]func(net.Conn, *bufio.Reader){
		"fresh connection broke": func(_ net.Conn, in *bufio.Reader) { mustSwallow(in) },
		"kept-alive connection broke in the answer": func(conn net.Conn, in *bufio.Reader) {
			mustSwallow(in)
			io.WriteString(conn, answer(200, "", ""))
			mustSwallow(in)
			io.WriteString(conn, "HTTP/1.1 2")
		},
		"kept-alive connection timed out": func(conn net.Conn, in *bufio.Reader) {
			mustSwallow(in)
			io.WriteString(conn, answer(200, "", ""))
			io.Copy(io.Discard, in)
		},
	}
	for name, serve := range cases {
		t.Run(name, func(t *testing.T) {
			r := receive(t, "127.0.0.1:0", serve)
			c := mustClient(t, hurried(testEndpoint("http://"+r.Addr().String())))
			o := c.Attempt(testRequest())
			if o.Status == 200 {
				o = c.Attempt(testRequest())
			}
			if (o.Class != ClassReset && o.Class != ClassTimeout) || o.Resent || r.accepted.Load() != 1 {
				t.Errorf("got %d connections, %+v", r.accepted.Load(), o)
			}
		})
	}
}
