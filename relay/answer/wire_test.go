package answer

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

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
		"no body":           {head + "\r\n", nil, inFront},
		"a body":            {head + "Content-Length: 5\r\n\r\n\n\n\n\n\n", nil, inFront},
		"a body to come":    {head + "content-length:  5 \r\n\r\n1234", nil, inBody},
		"two requests":      {head + "Content-Length: 3\r\n\r\nabc" + head + "\r\n", nil, inFront},
		"chunks":            {chunked + "5\r\n12345\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", nil, inFront},
		"chunks and more":   {chunked + "1\r\nx\r\n0\r\nTrailer: 1\r\n\r\n" + head + "\r\n", nil, inFront},
		"a long header":     {head + "X: " + long + "\r\n\r\n", nil, inFront},
		"a blank line":      {"\r\n" + head + "\r\n", nil, inFront},
		"blank lines":       {strings.Repeat("\r\n", 10) + head + "\r\n", badBlank, 0},
		"request line, LF":  {"POST / HTTP/1.1\nHost: localhost\r\n\r\n", badLine, 0},
		"header, LF":        {head + "X: 1\n\r\n", badLine, 0},
		"end of head, LF":   {head + "\n", badLine, 0},
		"size, LF":          {chunked + "5\n12345\r\n", badLine, 0},
		"trailer, LF":       {chunked + "0\r\nX: 1\n\r\n", badLine, 0},
		"blank behind size": {chunked + "5 \r\n12345\r\n", badSize, 0},
		"tab before ;":      {chunked + "5\t;a\r\n12345\r\n", badSize, 0},
		"NUL behind size":   {chunked + "5\x00\r\n12345\r\n", badSize, 0},
		"NUL in extension":  {chunked + "5;a\x00\r\n12345\r\n", badSize, 0},
		"CR in extension":   {chunked + "5;a\rb\r\n12345\r\n", badSize, 0},
		"no size":           {chunked + "\r\n12345\r\n", badSize, 0},
		"size in hex form":  {chunked + "0x5\r\n12345\r\n", badSize, 0},
		"size with a sign":  {chunked + "+5\r\n12345\r\n", badSize, 0},
		"chunk too long":    {chunked + "5\r\n1234567\r\n", badChunk, 0},
		"long extension":    {chunked + "5;" + long + "\r\n12345\r\n", badSize, 0},
		"many extensions":   {chunked + strings.Repeat("1;"+long[:900]+"\r\nx\r\n", 30), badFraming, 0},
		"long trailers":     {chunked + "0\r\n" + strings.Repeat("X: "+long+"\r\n", 4), badFraming, 0},
		"many small chunks": {chunked + strings.Repeat("1\r\nx\r\n", 6000), badFraming, 0},
		"large chunks":      {chunked + strings.Repeat("1000\r\n"+long[:4096]+"\r\n", 100) + "0\r\n\r\n", nil, inFront},
		"head without end":  {head + strings.Repeat("X: "+long+"\r\n", 4), badHead, 0},
		"line without end":  {"GET /" + strings.Repeat(long, 4), badHead, 0},
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

// A stranger's chunks of one byte have extensions of 30,000: what is read of them is not more than a line.
func TestChunkExtensionsAreNotReadWithoutBound(t *testing.T) {
	address := limitedServer(t)
	conn := dial(t, address)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() {
		chunk := "1;" + strings.Repeat("a", 30_000) + "\r\nx\r\n"
		for range 30_000 { // 900 MB
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != 400 || !answer.Close {
		t.Errorf("answered %v %v", answer, err)
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
