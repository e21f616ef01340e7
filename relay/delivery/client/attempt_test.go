package client

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestOutcomeTellsWhatTheReceiverDid(t *testing.T) {
	repeat := func(conn net.Conn, text string) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
	long := strings.Repeat("long answer ", 10_000)
	cases := map[string]struct {
		serve   func(net.Conn, *bufio.Reader)
		class   Class
		status  int
		err     string // part of Outcome.Err
		excerpt string // beginning of Outcome.Excerpt
		length  int    // of Outcome.Excerpt, when not that of excerpt
	}{
		"well":                     {serve: answering(answer(200, "", "ok"), false), status: 200, excerpt: "ok"},
		"well, no body":            {serve: answering("HTTP/1.1 204 No Content\r\n\r\n", false), status: 204},
		"well, chunked":            {serve: answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false), status: 200, excerpt: "ok"},
		"well, HTTP/1.0":           {serve: answering("HTTP/1.0 200 OK\r\n\r\nok", true), status: 200, excerpt: "ok"},
		"well, after 103":          {serve: answering("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+answer(200, "", "ok"), false), status: 200, excerpt: "ok"},
		"an error":                 {serve: answering(answer(500, "", "oops"), false), class: ClassStatus, status: 500, err: "answered 500 Internal Server Error", excerpt: "oops"},
		"an unknown status":        {serve: answering(answer(799, "", ""), false), class: ClassStatus, status: 799, err: "answered 799"},
		"a redirect":               {serve: answering(answer(302, "Location: http://127.0.0.1:1/\r\n", ""), false), class: ClassStatus, status: 302, err: "answered 302 Found"},
		"a long body":              {serve: answering(answer(500, "", long), false), class: ClassStatus, status: 500, err: "answered 500", excerpt: long[:100], length: excerptLimit},
		"a long body that is well": {serve: answering(answer(200, "", long), false), status: 200, excerpt: long[:100], length: excerptLimit},
		"an endless body": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				repeat(conn, "more and more ")
			},
			status: 200, excerpt: "more and more more", length: excerptLimit,
		},
		"an endless chunked body": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 429 Slow Down\r\nTransfer-Encoding: chunked\r\n\r\n")
				repeat(conn, "5\r\nmore \r\n")
			},
			class: ClassStatus, status: 429, err: "answered 429", excerpt: "more more", length: excerptLimit,
		},
		"a body said to be enormous": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\n\r\n")
				repeat(conn, "more and more ")
			},
			status: 200, excerpt: "more and more more", length: excerptLimit,
		},
		"a dripping body": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndrip")
				io.Copy(io.Discard, in) // until the other side gives up
			},
			status: 200, excerpt: "drip",
		},
		"a body that breaks off": {serve: answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", true), status: 200, excerpt: "short"},
		"a broken chunk":         {serve: answering("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nZZ\r\n", true), status: 201, excerpt: "ok"},
		"hanging": {
			serve: func(conn net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) },
			class: ClassTimeout, err: "timed out after 200ms while waiting for an answer",
		},
		"hanging in the headers": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nServer:")
				io.Copy(io.Discard, in)
			},
			class: ClassTimeout, err: "timed out after 200ms while reading the answer", excerpt: "HTTP/1.1 200 OK\r\nServer:", length: -1,
		},
		"closing":                 {serve: func(_ net.Conn, in *bufio.Reader) { mustSwallow(in) }, class: ClassReset, err: "closed the connection while waiting for an answer"},
		"closing in the headers":  {serve: answering("HTTP/1.1 200 OK\r\nServer:", true), class: ClassReset, err: "closed the connection while reading the answer", excerpt: "HTTP/1.1 200 OK"},
		"closing after a preface": {serve: answering("HTTP/1.1 100 Continue\r\n\r\n", true), class: ClassReset, err: "closed the connection"},
		"resetting": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				conn.(*net.TCPConn).SetLinger(0)
			},
			class: ClassReset, err: "closed the connection",
		},
		"garbage":         {serve: answering("SSH-2.0-OpenSSH_9.2p1 Debian\r\n", true), class: ClassBadResponse, err: "not valid HTTP/1.1", excerpt: "SSH-2.0-OpenSSH"},
		"status 000":      {serve: answering("HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", true), class: ClassBadResponse, err: "not valid HTTP/1.1"},
		"status 0":        {serve: answering(answer(0, "", ""), true), class: ClassBadResponse, err: "not valid HTTP/1.1"},
		"garbage, hidden": {serve: answering("tls: \x1b[31m\r\n\r\n", true), class: ClassBadResponse, err: "not valid HTTP/1.1", excerpt: "tls: "},
		"endless headers": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				repeat(conn, "X-More: and more\r\n")
			},
			class: ClassBadResponse, err: "headers pass 16 KiB", excerpt: "HTTP/1.1 200 OK", length: excerptLimit,
		},
		"many headers": {
			serve: answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+strings.Repeat("a:\r\n", mostHeaders)+"\r\n", true),
			class: ClassBadResponse, err: "or 200 lines", length: -1,
		},
		"endless prefaces": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				repeat(conn, "HTTP/1.1 102 Processing\r\n\r\n")
			},
			class: ClassBadResponse, err: "no status within the first 64 KiB", length: -1,
		},
		"endless blank lines": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				repeat(conn, "\r\n\r\n\n\n")
			},
			class: ClassBadResponse, err: "no status within the first 64 KiB", length: -1,
		},
		"endless chunk extensions": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
				repeat(conn, "1;"+strings.Repeat("a", 30_000)+"\r\nx\r\n")
			},
			class: ClassStatus, status: 500, err: "answered 500", excerpt: "x", length: 2,
		},
		"endless trailers": {
			serve: func(conn net.Conn, in *bufio.Reader) {
				mustSwallow(in)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
				repeat(conn, "X-More: and more\r\n")
			},
			status: 200, excerpt: "ok",
		},
		"200 without a length, open": {serve: answering("HTTP/1.1 200 OK\r\n\r\nok", false), status: 200, excerpt: "ok"},
		"401 without a length, open": {serve: answering("HTTP/1.1 401 No\r\n\r\nwho?", false), class: ClassStatus, status: 401, err: "answered 401 Unauthorized", excerpt: "who?"},
		"410 without a length, open": {serve: answering("HTTP/1.1 410 Gone\r\n\r\n", false), class: ClassStatus, status: 410, err: "answered 410 Gone"},
		"lines that end in LF":       {serve: answering("\nHTTP/1.1 202 Fine\nX-A: b\nContent-Length: 2\n\nok", false), status: 202, excerpt: "ok"},
		"some lines that end in LF":  {serve: answering("HTTP/1.1 503 No\r\nX-A: b\nContent-Length: 2\n\r\nok", false), class: ClassStatus, status: 503, err: "answered 503", excerpt: "ok"},
		"a head of 10 KiB":           {serve: answering(answer(200, "X-Long: "+strings.Repeat("x", 10<<10)+"\r\n", "ok"), false), status: 200, excerpt: "ok"},
		"a head of 10 KiB in LF":     {serve: answering("HTTP/1.1 200 OK\nX-Long: "+strings.Repeat("x", 10<<10)+"\nContent-Length: 2\n\nok", false), status: 200, excerpt: "ok"},
		"gzip, unasked":              {serve: answering(answer(400, "Content-Encoding: gzip\r\n", zipped("what is wrong")), false), class: ClassStatus, status: 400, err: "answered 400", excerpt: "what is wrong"},
		"gzip, a bomb":               {serve: answering(answer(400, "Content-Encoding: gzip\r\n", zipped(strings.Repeat("0", 100<<20))), false), class: ClassStatus, status: 400, err: "answered 400", excerpt: "000", length: excerptLimit},
		"brotli, unasked":            {serve: answering(answer(400, "Content-Encoding: br\r\n", "\x0b\x02\x80"), false), class: ClassStatus, status: 400, err: "answered 400", excerpt: `(3 bytes compressed as "br")`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := testEndpoint("http://" + receive(t, "127.0.0.1:0", c.serve).Addr().String())
			if c.class == ClassTimeout || name == "a dripping body" {
				hurried(ep)
			}
			o := mustClient(t, ep).Attempt(testRequest())
			if o.Class != c.class || o.Status != c.status || o.Aborted || o.Unreachable {
				t.Fatalf("got class %q, status %d, want %q, %d: %+v", o.Class, o.Status, c.class, c.status, o)
			}
			if !strings.Contains(o.Err, c.err) || (c.err == "") != (o.Err == "") {
				t.Errorf("got error %q, want %q", o.Err, c.err)
			}
			length := c.length
			if length == 0 && c.class != ClassBadResponse && c.class != ClassReset {
				length = len(c.excerpt)
			}
			if length > 0 && len(o.Excerpt) != length || len(o.Excerpt) > excerptLimit {
				t.Errorf("got an excerpt of %d bytes, want %d", len(o.Excerpt), length)
			}
			if length >= 0 && !strings.HasPrefix(string(o.Excerpt), c.excerpt) {
				t.Errorf("got excerpt %.40q, want %.40q", o.Excerpt, c.excerpt)
			}
			if o.Took <= 0 || o.Took > testTimeout || o.At.IsZero() {
				t.Errorf("got At %v, Took %v", o.At, o.Took)
			}
		})
	}
}

// zipped is text as gzip has it.
func zipped(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	io.WriteString(w, text)
	w.Close()
	return out.String()
}

func TestRefusedConnectionIsConnectRefused(t *testing.T) {
	r := receive(t, "127.0.0.1:0", nil)
	c := clientTo(t, r)
	r.Close()
	o := c.Attempt(testRequest())
	if want := "connect to " + r.Addr().String() + ": connection refused"; o.Class != ClassConnectRefused || o.Err != want {
		t.Errorf("got %q, %q, want %q", o.Class, o.Err, want)
	}
}

func TestIPv6ReceiverIsReached(t *testing.T) {
	r := receive(t, "[::1]:0", answering(answer(200, "", ""), false))
	if o := clientTo(t, r).Attempt(testRequest()); o.Class != ClassNone || o.Status != 200 {
		t.Errorf("got %+v", o)
	}
}

func TestAnswerToHalfABodyCounts(t *testing.T) {
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		io.WriteString(conn, answer(413, "Connection: close\r\n", "too large"))
		conn.(*net.TCPConn).CloseWrite()
		in.Discard(64 << 10) // then close with the rest unread, which resets
	})
	p := testRequest()
	p.Body = bytes.Repeat([]byte("x"), 32<<20)
	if o := clientTo(t, r).Attempt(p); o.Status != 413 || string(o.Excerpt) != "too large" {
		t.Errorf("got %+v", o)
	}
}

func TestLargeBodyArrivesWhole(t *testing.T) {
	p := testRequest()
	p.Body = bytes.Repeat([]byte("0123456789"), 100_000)
	got := make(chan []byte, 1)
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		_, body := mustRequest(t, in)
		got <- body
		io.WriteString(conn, answer(200, "", ""))
	})
	if o := clientTo(t, r).Attempt(p); o.Status != 200 {
		t.Fatalf("got %+v", o)
	}
	if body := <-got; !bytes.Equal(body, p.Body) {
		t.Errorf("got %d bytes, want %d", len(body), len(p.Body))
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for headers, want := range map[string]time.Duration{
		"Retry-After: 7\r\n":                             7 * time.Second,
		"retry-after: Fri, 02 Jan 2026 03:05:05 GMT\r\n": time.Minute,
		"Date: Fri, 02 Jan 2026 03:05:00 GMT\r\nRetry-After: Fri, 02 Jan 2026 03:05:05 GMT\r\n": 5 * time.Second,
		"Retry-After: soon\r\n": 0,
		"":                      0,
	} {
		r := receive(t, "127.0.0.1:0", answering(answer(503, headers, ""), false))
		c := clientTo(t, r)
		c.now = func() time.Time { return now }
		if o := c.Attempt(testRequest()); o.RetryAfter != want || o.Status != 503 || o.At != now {
			t.Errorf("%q: got %v, want %v (%+v)", headers, o.RetryAfter, want, o)
		}
	}
}

func TestEchoedHeadersAreMasked(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(401, "", `bad token "s3cret-token": Bearer s3cret-token; pin 12`), false))
	ep := testEndpoint("http://" + r.Addr().String())
	ep.Headers = map[string]sign.Secret{"Authorization": sign.NewSecret("Bearer s3cret-token"), "X-Pin": sign.NewSecret("12")}
	o := mustClient(t, ep).Attempt(testRequest())
	if want := `bad token "************": *******************; pin 12`; string(o.Excerpt) != want {
		t.Errorf("got %q, want %q", o.Excerpt, want)
	}
}

func TestCloseCutsAttemptsShort(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	begun := make(chan struct{}, 4)
	r := receive(t, "127.0.0.1:0", func(_ net.Conn, in *bufio.Reader) {
		mustSwallow(in)
		begun <- struct{}{}
		io.Copy(io.Discard, in)
	})
	defer r.Close()
	ep := testEndpoint("http://" + r.Addr().String())
	ep.Delivery.Timeout = time.Minute
	c, err := New(ep, "1", Machine{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan Outcome, 4)
	for range cap(outcomes) {
		go func() { outcomes <- c.Attempt(testRequest()) }()
	}
	for range cap(outcomes) {
		<-begun
	}
	c.Close()
	c.Close()
	for range cap(outcomes) {
		if o := <-outcomes; !o.Aborted || o.Status != 0 || o.Took > ep.Delivery.Timeout/2 {
			t.Errorf("got %+v", o)
		}
	}
	if o := c.Attempt(testRequest()); !o.Aborted {
		t.Errorf("after Close: got %+v", o)
	}
}

func TestAttemptsShareAClient(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(200, "", "ok"), false))
	c := clientTo(t, r)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				if o := c.Attempt(testRequest()); o.Status != 200 || string(o.Excerpt) != "ok" {
					t.Errorf("got %+v", o)
				}
			}
		})
	}
	all.Wait()
	if n := r.accepted.Load(); n > 16 {
		t.Errorf("got %d connections for 16 attempts at a time", n)
	}
}

func TestSuccessCodesDecideTheClass(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(202, "", ""), false))
	ep := testEndpoint("http://" + r.Addr().String())
	ep.Delivery.Success = config.SuccessCodes(200)
	if o := mustClient(t, ep).Attempt(testRequest()); o.Class != ClassStatus || o.Err != "answered 202 Accepted" {
		t.Errorf("got %+v", o)
	}
}

func TestBadEndpointIsRefusedWithoutItsSecrets(t *testing.T) {
	for _, change := range []func(*config.Endpoint){
		func(ep *config.Endpoint) { ep.URL = config.NewURL("ftp://user:hidden@host/hidden") },
		func(ep *config.Endpoint) { ep.URL = config.NewURL("http://ho st/hidden") },
		func(ep *config.Endpoint) { ep.URL = config.NewURL("http:///hidden") },
		func(ep *config.Endpoint) { ep.Signatures, ep.Secret = []string{"standard"}, sign.NewSecret("hidden") },
	} {
		ep := testEndpoint("http://127.0.0.1")
		change(ep)
		_, err := New(ep, "1", Machine{}, nil)
		var named *endpointError
		if !errors.As(err, &named) || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), `"crm"`) {
			t.Errorf("%s: got %v", ep.URL, err)
		}
	}
}

func TestAttemptsTellWhetherTheReceiverIsOnThisMachine(t *testing.T) {
	r := receive(t, "127.0.0.1:0", answering(answer(200, "", "ok"), false))
	if o := clientTo(t, r).Attempt(testRequest()); o.Status != 200 || !o.Local {
		t.Errorf("got %+v", o)
	}
	if o := mustClient(t, testEndpoint("http://127.0.0.1:1/")).Attempt(testRequest()); o.Class != ClassConnectRefused || !o.Local {
		t.Errorf("got %+v", o)
	}
}
