package answer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// stingyConn gives what it has in pieces of a size, then times out, and counts what was taken of it.
type stingyConn struct {
	net.Conn
	rest  string
	piece int
	taken int
}

func (c *stingyConn) Read(p []byte) (int, error) {
	if c.rest == "" {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, c.rest[:min(c.piece, len(c.rest))])
	c.rest, c.taken = c.rest[n:], c.taken+n
	return n, nil
}

func (c *stingyConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)} }

// longest introductions there are, with n bytes beyond.
func longV1(n int) string {
	return "PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0007 2001:0db8:0000:0000:0000:0000:0000:0008 65535 65535" + strings.Repeat(" ", n) + "\r\n"
}

func longV2(t *testing.T, bytes int) string {
	const addresses = "c0000207 c0000208 0001 0050"
	return v2(t, fmt.Sprintf("21 11 %04x %s", bytes, addresses)) + strings.Repeat("\x04", bytes-12)
}

// Whoever can connect as a proxy can have so much of an introduction read and no more, whatever it announces.
func TestAnIntroductionIsReadWithinItsBounds(t *testing.T) {
	const behind = "GET / HTTP/1.1\r\n"
	for _, c := range []struct {
		name, text string
		piece      int
		most       int // bytes that are taken of the connection, with what is asked behind a good one
		good       bool
	}{
		{"the longest line of version 1", longV1(0) + behind, 1 << 20, 256, true},
		{"a line that does not end", "PROXY " + strings.Repeat("x", 1<<20), 1 << 20, 256, false},
		{"a line that comes a byte at a time", longV1(0), 1, 256, false},
		{"a line with more than one may have", longV1(10), 1 << 20, 256, false},
		{"no introduction", strings.Repeat("G", 1<<20), 1 << 20, 256, false},
		{"the longest of version 2", longV2(t, 4096) + behind, 1 << 20, 16 + 4096 + 256, true},
		{"the longest of version 2, a byte at a time", longV2(t, 4096) + behind, 1, 16 + 4096 + len(behind), true},
		{"one more byte", longV2(t, 4097) + behind, 1 << 20, 256, false},
		{"all that can be announced", longV2(t, 65535) + behind, 1 << 20, 256, false},
		{"all that can be announced of the proxy's own", v2(t, "20 00 ffff") + strings.Repeat("x", 65535), 1 << 20, 256, false},
	} {
		conn := &stingyConn{rest: c.text, piece: c.piece}
		in := &introduced{Conn: conn}
		var got []byte
		var err error
		for err == nil && len(got) < len(behind) {
			room := make([]byte, len(behind)-len(got))
			var n int
			n, err = in.Read(room)
			got = append(got, room[:n]...)
		}
		if c.good && (string(got) != behind || in.RemoteAddr().String() == conn.RemoteAddr().String()) {
			t.Errorf("%s: behind it comes %q, %v, from %s", c.name, got, err, in.RemoteAddr())
		}
		if !c.good && (!errors.Is(err, badIntroduction) || len(got) > 0 || in.RemoteAddr().String() != conn.RemoteAddr().String()) {
			t.Errorf("%s: %q, %v, from %s", c.name, got, err, in.RemoteAddr())
		}
		if conn.taken > c.most {
			t.Errorf("%s: %d bytes are taken, want at most %d", c.name, conn.taken, c.most)
		}
		if again, err := in.Read(make([]byte, 1)); !c.good && (again > 0 || !errors.Is(err, badIntroduction)) {
			t.Errorf("%s: read again, %d bytes, %v", c.name, again, err)
		}
	}
}

// An introduction that stops in its middle ends with the time that its reader has, wherever it stops, and is no fault of the
// configuration's.
func TestAnIntroductionThatStopsIsATimeoutWhereverItStops(t *testing.T) {
	for _, whole := range []string{v2(t, "21 11 000c c0000207 c0000208 0001 0050"), longV2(t, 64)} {
		for n := range len(whole) {
			in := &introduced{Conn: &stingyConn{rest: whole[:n], piece: 7}}
			got, err := in.Read(make([]byte, 64))
			var timeout net.Error
			if got > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("after %d of %d bytes: %d, %v", n, len(whole), got, err)
			}
		}
	}
}

// Those that say half of an introduction give their places up to others, as slow senders do; and are told to nobody as
// proxies that don't speak the protocol.
func TestHalfAnIntroductionKeepsNoPlace(t *testing.T) {
	refused := NewRefusals("intake", zerolog.Nop())
	h := introducedHall(t, Share{All: 4, PerAddress: 4, Proxies: twoProxies, Refused: refused})
	for range 4 {
		h.enter(2, v2(t, "21 11 000c c0000207"))
	}
	for deadline := time.Now().Add(patience); h.open() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d have a place", h.open())
		}
	}
	ask := func() int {
		conn := h.enter(2, "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"+asked())
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	h.ahead.Store(int64(2 * grace))
	if status := ask(); status != 200 {
		t.Errorf("who introduces itself is answered %d", status)
	}
	if counts := refused.Counts(); counts[RefusedProxy] != 0 {
		t.Errorf("counted: %v", counts)
	}
}
