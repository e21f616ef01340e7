package answer

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// follow has a wire read text in pieces of so many bytes.
func follow(text string, piece int) (w wire, err error) {
	for len(text) > 0 && err == nil {
		n := min(piece, len(text))
		err = w.read([]byte(text[:n]))
		text = text[n:]
	}
	return w, err
}

func TestRequestsAreFollowedHoweverTheyCome(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"
	const chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", 5000)
	for name, tt := range map[string]struct {
		text string
		want error
		at   place
	}{
		"no body":                     {head + "\r\n", nil, inFront},
		"a body":                      {head + "Content-Length: 5\r\n\r\n\n\n\n\n\n", nil, inFront},
		"a body to come":              {head + "content-length:  5 \r\n\r\n1234", nil, inBody},
		"two requests":                {head + "Content-Length: 3\r\n\r\nabc" + head + "\r\n", nil, inFront},
		"chunks":                      {chunked + "5\r\n12345\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", nil, inFront},
		"chunks and more":             {chunked + "1\r\nx\r\n0\r\nTrailer: 1\r\n\r\n" + head + "\r\n", nil, inFront},
		"a long header":               {head + "X: " + long + "\r\n\r\n", nil, inFront},
		"a blank line":                {"\r\n" + head + "\r\n", nil, inFront},
		"blank lines":                 {strings.Repeat("\r\n", 10) + head + "\r\n", badBlank, 0},
		"request line, LF":            {"POST / HTTP/1.1\nHost: localhost\r\n\r\n", badLine, 0},
		"header, LF":                  {head + "X: 1\n\r\n", badLine, 0},
		"end of head, LF":             {head + "\n", badLine, 0},
		"size, LF":                    {chunked + "5\n12345\r\n", badLine, 0},
		"trailer, LF":                 {chunked + "0\r\nX: 1\n\r\n", badLine, 0},
		"blank behind size":           {chunked + "5 \r\n12345\r\n", badSize, 0},
		"tab before ;":                {chunked + "5\t;a\r\n12345\r\n", badSize, 0},
		"NUL behind size":             {chunked + "5\x00\r\n12345\r\n", badSize, 0},
		"NUL in extension":            {chunked + "5;a\x00\r\n12345\r\n", badSize, 0},
		"CR in extension":             {chunked + "5;a\rb\r\n12345\r\n", badSize, 0},
		"no size":                     {chunked + "\r\n12345\r\n", badSize, 0},
		"size in hex form":            {chunked + "0x5\r\n12345\r\n", badSize, 0},
		"size with a sign":            {chunked + "+5\r\n12345\r\n", badSize, 0},
		"chunk too long":              {chunked + "5\r\n1234567\r\n", badChunk, 0},
		"long extension":              {chunked + "5;" + long + "\r\n12345\r\n", badSize, 0},
		"many extensions":             {chunked + strings.Repeat("1;"+long[:900]+"\r\nx\r\n", 30), badFraming, 0},
		"long trailers":               {chunked + "0\r\n" + strings.Repeat("X: "+long+"\r\n", 4), badFraming, 0},
		"many small chunks":           {chunked + strings.Repeat("1\r\nx\r\n", 6000), badFraming, 0},
		"large chunks":                {chunked + strings.Repeat("1000\r\n"+long[:4096]+"\r\n", 100) + "0\r\n\r\n", nil, inFront},
		"head without end":            {head + strings.Repeat("X: "+long+"\r\n", 4), badHead, 0},
		"many headers":                {head + strings.Repeat("a:\r\n", mostHeaders-1) + "\r\n", nil, inFront},
		"too many headers":            {head + strings.Repeat("a:\r\n", mostHeaders) + "\r\n", badCount, 0},
		"many trailers":               {chunked + "0\r\n" + strings.Repeat("a:\r\n", mostHeaders) + "\r\n", nil, inFront},
		"too many trailers":           {chunked + "0\r\n" + strings.Repeat("a:\r\n", mostHeaders+1) + "\r\n", badCount, 0},
		"a length behind blanks":      {head + "Content-Length:" + strings.Repeat(" ", 40) + "5\r\n\r\n12345", nil, inFront},
		"a length behind many blanks": {head + "Content-Length:" + strings.Repeat(" ", 60) + "5\r\n\r\n12345", badBody, 0},
		"a length before many blanks": {head + "Content-Length: 5" + strings.Repeat(" ", 60) + "\r\n\r\n12345", badBody, 0},
		"line without end":            {"GET /" + strings.Repeat(long, 4), badHead, 0},
	} {
		for _, piece := range []int{1, 2, 3, 7, 100, 1 << 20} {
			w, err := follow(tt.text, piece)
			if err != tt.want || err == nil && w.at != tt.at {
				t.Errorf("%s, %d bytes at a time: %v at %d, want %v at %d", name, piece, err, w.at, tt.want, tt.at)
			}
			if err == nil && tt.at == inFront && w != (wire{}) {
				t.Errorf("%s, %d bytes at a time: left %+v", name, piece, w)
			}
		}
	}
}

// limitedServer serves behind Limit, with bodies streamed.
func limitedServer(t *testing.T) string {
	t.Helper()
	s := Server(func(ctx *fasthttp.RequestCtx) {
		if _, err := io.Copy(io.Discard, ctx.RequestBodyStream()); err != nil {
			Unreadable(ctx, err)
			return
		}
		welcome(ctx)
	}, Limits{Body: 1 << 20, Connections: 8, Stream: true}, func(any) {})
	return serveOn(t, s, Share{All: 8, PerAddress: 8})
}

// metered counts what is read of its connections.
type metered struct {
	net.Listener
	read atomic.Int64
}

func (m *metered) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &meteredConn{TCPConn: conn.(*net.TCPConn), read: &m.read}, nil
}

type meteredConn struct {
	*net.TCPConn
	read *atomic.Int64
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// A stranger's chunks of one byte have extensions of 30,000: what is read of them is not more than a line, and of what the
// stranger goes on sending no more than lets an honest client find its answer. The control is a body that is too large and
// well framed, of which more is read.
func TestChunkExtensionsAreNotReadWithoutBound(t *testing.T) {
	for _, c := range []struct {
		name, head, piece string
		status            int
		least, most       int64 // bytes that are read
	}{
		{"extensions", "Transfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("a", 30_000) + "\r\nx\r\n", 400, 1, unclearBytes + 64<<10},
		{"control", "Content-Length: 900000000\r\n\r\n", strings.Repeat("a", 30_000), 413, unclearBytes + 64<<10 + 1, refusedBytes + 64<<10},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			m := &metered{Listener: ln}
			h := openHallOn(t, m, Share{All: 8, PerAddress: 8}, welcome, time.Now)
			conn := h.enter(1, "POST / HTTP/1.1\r\nHost: localhost\r\n"+c.head)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for range 30_000 { // 900 MB
					if _, err := io.WriteString(conn, c.piece); err != nil {
						return
					}
				}
			}()
			if status, _ := h.status(conn); status != c.status {
				t.Errorf("answered %d", status)
			}
			<-sent // the relay has closed the connection
			if n := m.read.Load(); n < c.least || n > c.most {
				t.Errorf("%d bytes were read, not %d to %d", n, c.least, c.most)
			}
		})
	}
}

func TestWhatFasthttpWouldTakeIsRefused(t *testing.T) {
	address := limitedServer(t)
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"
	for name, request := range map[string]string{
		"LF":                "POST / HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n",
		"blank behind size": head + "Transfer-Encoding: chunked\r\n\r\n5 \r\n12345\r\n0\r\n\r\n",
		"NUL in extension":  head + "Transfer-Encoding: chunked\r\n\r\n5;\x00\r\n12345\r\n0\r\n\r\n",
		"space in a name":   head + "X Y: 1\r\nContent-Length: 0\r\n\r\n",
	} {
		if answer, body := exchange(t, address, request); answer.StatusCode != 400 || !strings.HasPrefix(body, `{"error":{"code":"bad_request",`) {
			t.Errorf("%s: answered %d %s", name, answer.StatusCode, body)
		}
	}
	answer, body := exchange(t, address, head+"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n12345\r\n0\r\nX: 1\r\n\r\n")
	if answer.StatusCode != 200 || answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("answered %d %s %v", answer.StatusCode, body, answer.Header)
	}
}

// FuzzRequestsEndWhereFasthttpReadsTheirEnd: what follows the bytes of a connection and what reads them agree on where each request
// ends, as long as both take it. Else a stranger could have the first take a request for a body that never ends.
func FuzzRequestsEndWhereFasthttpReadsTheirEnd(f *testing.F) {
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"
	for _, seed := range []string{
		head + "\r\n" + head + "\r\n", head + "Content-Length: 5\r\n\r\n12345" + head + "\r\n", head + "Content-Length:" + strings.Repeat(" ", 60) + "5\r\n\r\n12345" + head + "\r\n",
		head + "Content-Length: 0005 \t\r\n\r\n12345GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", head + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n12345\r\n0\r\nA: b\r\n\r\n" + head + "\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" + head + "\r\n", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
		"POST / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n12" + head + "\r\n", "\r\n" + head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n12",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var w wire
		ends, understood := map[int]bool{}, len(raw)
		for i := range raw {
			if w.read(raw[i:i+1]) != nil {
				understood = i
				break
			}
			ends[i+1] = w == wire{}
		}
		in := bytes.NewReader(raw[:understood])
		r := bufio.NewReaderSize(in, headerBytes)
		var request fasthttp.Request
		for {
			if request.Header.Read(r) != nil || framing(&request.Header) != "" || request.ContinueReadBody(r, 1<<20, false) != nil {
				return
			}
			if at := understood - in.Len() - r.Buffered(); !ends[at] {
				t.Fatalf("fasthttp reads a request to byte %d, and wire sees no end there: %q", at, raw)
			}
			request.Reset()
		}
	})
}
