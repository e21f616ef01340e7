package endtoend

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// misbehaving is a receiver that reads each request, and then does with the connection what it likes.
type misbehaving struct {
	url  string
	most atomic.Int64 // bytes that one connection has taken from it
}

// misbehave starts one. answers writes to the connection, which counts, until that fails or it has said all.
func misbehave(t *testing.T, answers func(w io.Writer) error) *misbehaving {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	m := &misbehaving{url: "http://" + ln.Addr().String() + "/webhooks"}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				out := &counting{conn: conn}
				_ = answers(out) // it ends when the relay has had enough
				for most := m.most.Load(); out.n > most && !m.most.CompareAndSwap(most, out.n); most = m.most.Load() {
				}
			}()
		}
	}()
	return m
}

// counting counts what the far side has taken, or the kernel on its behalf.
type counting struct {
	conn net.Conn
	n    int64
}

func (c *counting) Write(text []byte) (int, error) {
	n, err := c.conn.Write(text)
	c.n += int64(n)
	return n, err
}

// endless says begin, and then more until nobody takes it.
func endless(begin, more string) func(io.Writer) error {
	block := []byte(strings.Repeat(more, 1+(64<<10)/len(more)))
	return func(w io.Writer) error {
		_, err := io.WriteString(w, begin)
		for err == nil {
			_, err = w.Write(block)
		}
		return err
	}
}

// dripping says begin at once, and then of rest a byte a second.
func dripping(begin, rest string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, begin)
		for i := 0; err == nil && i < len(rest); i++ {
			time.Sleep(time.Second)
			_, err = io.WriteString(w, rest[i:i+1])
		}
		return err
	}
}

// TestReceiversThatMisbehaveGetTheirVerdictAndDisturbNobody has one relay deliver to all of them and to a good one. What
// the relay takes from an endless answer is what it looks at, and what the kernel's buffers hold.
func TestReceiversThatMisbehaveGetTheirVerdictAndDisturbNobody(t *testing.T) {
	t.Parallel()
	const own, short = `timeout = "5m"`, `timeout = "500ms"`
	const slow = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Padding: more and more and more\r\n\r\nok"
	cases := []struct {
		name, timeout string
		answers       func(io.Writer) error
		state, class  string
		status        int
		says          string
	}{
		{"endless-headers", own, endless("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"), "failed", "bad_response", 0, "headers pass 16 KiB"},
		{"endless-header", own, endless("HTTP/1.1 200 OK\r\nX-More: ", "and more "), "failed", "bad_response", 0, "headers pass 16 KiB"},
		{"endless-body", own, endless("HTTP/1.1 200 OK\r\n\r\n", "and more "), "delivered", "", 200, ""},
		{"endless-chunks", own, endless("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nand more \r\n"), "failed", "status", 500, "answered 500"},
		{"endless-extensions", own, endless("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("a", 30_000)+"\r\nx\r\n"), "failed", "status", 500, "answered 500"},
		{"endless-prefaces", own, endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"), "failed", "bad_response", 0, "no status within the first 64 KiB"},
		{"garbage", own, endless("", "\x00\xff\x1b[31m\r\r\r"), "failed", "bad_response", 0, ""},
		{"compressed", own, endless("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00"), "delivered", "", 200, ""},
		{"a-byte-a-second", short, dripping(slow[:5], slow[5:]), "failed", "timeout", 0, "timed out after 500ms while reading the answer"},
		{"a-byte-of-body-a-second", short, dripping(slow[:len(slow)-2], "ok"), "delivered", "", 200, ""},
		{"nothing", short, func(io.Writer) error { time.Sleep(5 * time.Second); return nil }, "failed", "timeout", 0, "timed out after 500ms while waiting for an answer"},
	}
	config := preamble
	bad := map[string]*misbehaving{}
	for _, c := range cases {
		bad[c.name] = misbehave(t, c.answers)
		config += endpoint(c.name, bad[c.name].url, c.timeout, "retry = []")
	}
	good := receive(t, well)
	r := start(t, config+endpoint("good", good.url))
	before := anonymous(t, r.cmd.Process.Pid)
	most := before

	const events = 200
	for i := range events {
		r.post(event(fmt.Sprintf("evt_%d", i)))
		if i%10 == 0 {
			most = max(most, anonymous(t, r.cmd.Process.Pid))
		}
	}
	good.await(events)
	for _, c := range cases {
		s := r.awaitTold("evt_0", c.name, c.state)
		most = max(most, anonymous(t, r.cmd.Process.Pid))
		if len(s.Attempts) != 1 || s.Attempts[0].Class != c.class || s.Attempts[0].Status != c.status || !strings.Contains(s.Attempts[0].Error, c.says) {
			t.Errorf("%s: the event is told of as %+v", c.name, s)
		}
		if strings.ContainsAny(r.endpoint(c.name).LastError, "\x1b\r\n") {
			t.Errorf("%s: its last error is %q", c.name, r.endpoint(c.name).LastError)
		}
		// Loopback's buffers hold up to 10 MiB of a connection by default.
		if n := bad[c.name].most.Load(); n > 32<<20 {
			t.Errorf("%s: %d MiB were taken of one answer", c.name, n>>20)
		}
	}
	if counts := good.counts(); len(counts) != events || len(good.all()) != events {
		t.Errorf("the good one got %d events in %d attempts", len(counts), len(good.all()))
	}
	t.Logf("anonymous memory: %d MiB before, %d MiB at most", before>>20, most>>20)
	if most-before > 128<<20 {
		t.Errorf("anonymous memory grew by %d MiB", (most-before)>>20)
	}
}

// anonymous is the anonymous memory of a process in bytes.
func anonymous(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("RssAnon:"))
	fields := strings.Fields(string(rest[:min(len(rest), 40)]))
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
