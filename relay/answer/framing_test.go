package answer

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	address := serve(t, smallServer(func(any) {}))
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"
	tests := []struct{ name, request, why string }{
		{"length and chunks", head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", badLength},
		{"chunks and length", head + "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", badLength},
		{"identity and length", head + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n12345", badTransfer},
		{"identity", head + "Transfer-Encoding: identity\r\n\r\n", badTransfer},
		{"folded header", head + "X-One: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", badFold},
		{"folded with a tab", head + "X-One: 1\r\n\t2\r\n\r\n", badFold},
		{"version to come", "POST / HTTP/9.9\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", badVersion},
		{"version 1.2", "POST / HTTP/1.2\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", badVersion},
		{"absolute target", "POST http://localhost/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", badTarget},
		{"absolute target of another", "GET http://192.0.2.1/health HTTP/1.1\r\nHost: localhost\r\n\r\n", badTarget},
		{"authority", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", badTarget},
		{"our own mark", head + "relay-unread: large\r\nContent-Length: 0\r\n\r\n", badMark},
		{"two lengths", head + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", ""},
		{"length with a sign", head + "Content-Length: +5\r\n\r\n12345", ""},
		{"another encoding", head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ""},
		{"space before the colon", head + "Content-Length : 0\r\n\r\n", ""},
		{"space in a name", head + "X Y: 1\r\nContent-Length: 0\r\n\r\n", ""},
		{"user in the host", "POST / HTTP/1.1\r\nHost: x@localhost\r\nContent-Length: 0\r\n\r\n", badHost},
		{"parameters", "GET /?" + strings.Repeat("a&", mostPairs) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", badPairs},
		{"cookies", head + "Cookie: " + strings.Repeat("a;", mostPairs) + "\r\nContent-Length: 0\r\n\r\n", badPairs},
		{"list of hosts", "POST / HTTP/1.1\r\nHost: a, b\r\nContent-Length: 0\r\n\r\n", ""},
		{"no host", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, body := exchange(t, address, tt.request)
			if answer.StatusCode != 400 || !answer.Close || !strings.HasPrefix(body, `{"error":{"code":"bad_request",`) || !strings.Contains(body, tt.why) {
				t.Errorf("answered %d %s, want 400 because %s", answer.StatusCode, body, tt.why)
			}
		})
	}
	for name, request := range map[string]string{
		"chunks":      head + "Transfer-Encoding: Chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
		"length":      head + "Content-Length: 5\r\nTransfers: 1\r\nContents: 2\r\n\r\n12345",
		"parameters":  "GET /?" + strings.Repeat("a&", mostPairs-1) + " HTTP/1.1\r\nHost: localhost\r\nCookie: " + strings.Repeat("a;", mostPairs-1) + "\r\n\r\n",
		"old version": "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n12345",
	} {
		if answer, body := exchange(t, address, request); answer.StatusCode != 200 {
			t.Errorf("%s: answered %d %s", name, answer.StatusCode, body)
		}
	}
}

// dial opens a connection on which nothing waits for ever.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// refusing is a server whose handler refuses what does not say please.
func refusing(l Limits) *fasthttp.Server {
	rude := func(h *fasthttp.RequestHeader) bool { return len(h.Peek("Please")) == 0 }
	l.Refuses = rude
	return Server(func(ctx *fasthttp.RequestCtx) {
		if rude(&ctx.Request.Header) {
			Error(ctx, 401, "unauthorized", "say please")
			return
		}
		if l.Stream {
			_, _ = io.Copy(io.Discard, ctx.RequestBodyStream())
		}
		welcome(ctx)
	}, l, func(any) {})
}

// Nothing but the headers is sent, and the answer comes; what may follow is no request.
func TestHeadersAloneAreRefused(t *testing.T) {
	for name, l := range map[string]Limits{"read": {Body: 1 << 10, Connections: 8}, "streamed": {Body: 1 << 10, Connections: 8, Stream: true}} {
		address := serve(t, refusing(l))
		const smuggled = "GET / HTTP/1.1\r\nHost: localhost\r\nPlease: yes\r\n\r\n"
		for framed, status := range map[string]int{
			"Content-Length: 100\r\n\r\n":                                         401,
			"Content-Length: 100\r\n\r\n" + smuggled:                              401,
			"Transfer-Encoding: chunked\r\n\r\n":                                  401,
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled:              401,
			"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n":                 401,
			"Please: yes\r\nContent-Length: 1025\r\n\r\n" + smuggled:              413,
			"Please: yes\r\nExpect: 100-continue\r\nContent-Length: 1025\r\n\r\n": 413,
		} {
			conn := dial(t, address)
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\n"+framed); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s, %q: %v", name, framed, err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			if answer.StatusCode != status || !answer.Close {
				t.Errorf("%s, %q: answered %d, close %v", name, framed, answer.StatusCode, answer.Close)
			}
			if rest, _ := io.ReadAll(in); len(rest) > 0 {
				t.Errorf("%s, %q: more was answered: %q", name, framed, rest)
			}
		}
		// The control: what is not refused is read, and the connection goes on.
		conn := dial(t, address)
		in := bufio.NewReader(conn)
		for range 3 {
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nPlease: yes\r\nContent-Length: 5\r\n\r\n12345"); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(in, nil)
			if err != nil || answer.StatusCode != 200 {
				t.Fatalf("%s: %v, %v", name, answer, err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
		}
	}
}

// A request without a body that is refused keeps its connection.
func TestARefusalWithoutABodyKeepsItsConnection(t *testing.T) {
	conn := dial(t, serve(t, refusing(Limits{Body: 1 << 10, Connections: 8})))
	in := bufio.NewReader(conn)
	for range 2 {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil || answer.StatusCode != 401 || answer.Close {
			t.Fatalf("%v, %v", answer, err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

// FuzzFramingIsOneThingToAll: what passes here, net/http either refuses or reads in the same way. Otherwise two programs
// on a request's path could see different requests.
func FuzzFramingIsOneThingToAll(f *testing.F) {
	const head = "POST /events HTTP/1.1\r\nHost: localhost\r\n"
	for _, seed := range []string{
		head + "Content-Length: 5\r\n\r\n12345", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
		head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", head + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n12345",
		head + "X-One: 1\r\n Content-Length: 5\r\n\r\n", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345", head + "Content-Length: 05\r\n\r\n12345",
		"POST /events HTTP/1.0\r\nContent-Length: 5\r\n\r\n12345", "POST /events HTTP/9.9\r\n\r\n", "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /events HTTP/1.1\nHost: localhost\nContent-Length: 5\n\n12345", head + "Transfer-Encoding: \tchunked\r\n\r\n0\r\n\r\n", head + "Transfer-Encoding\x00: chunked\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h fasthttp.RequestHeader
		if err := h.Read(bufio.NewReader(bytes.NewReader(raw))); err != nil || framing(&h) != "" {
			return
		}
		length := max(int64(h.ContentLength()), -1)
		if h.ContentLength() == -2 {
			length = 0
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			if strings.Contains(err.Error(), "Content-Length") || strings.Contains(err.Error(), "transfer encoding") {
				t.Errorf("net/http refuses its framing: %v\n%q", err, raw)
			}
			return
		}
		if r.ContentLength != length || r.Method != string(h.Method()) || r.RequestURI != string(h.RequestURI()) {
			t.Errorf("read as %s %s with %d bytes, by net/http as %s %s with %d\n%q",
				h.Method(), h.RequestURI(), length, r.Method, r.RequestURI, r.ContentLength, raw)
		}
	})
}
