package answer

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

const patience = 30 * time.Second

// serve starts a server and returns its address.
func serve(t *testing.T, s *fasthttp.Server) string {
	t.Helper()
	return serveOn(t, s, Share{})
}

// serveOn starts a server whose connections have limits, or none.
func serveOn(t *testing.T, s *fasthttp.Server, limits Share) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if limits.All > 0 {
		ln = Limit(ln, limits)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
	return ln.Addr().String()
}

func welcome(ctx *fasthttp.RequestCtx) { JSON(ctx, 200, []byte(`{"status":"ok"}`)) }

func smallServer(panicked func(any)) *fasthttp.Server {
	return Server(func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/panic" {
			ctx.Response.Header.Set("X-Half", "done")
			ctx.WriteString("half an answer")
			panic("a mistake")
		}
		welcome(ctx)
	}, Limits{Body: 1 << 10, Connections: 8}, panicked)
}

// exchange writes raw bytes and reads one answer.
func exchange(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, request) }() // what is too large is not read to its end
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err == nil && answer.StatusCode == http.StatusContinue {
		answer, err = http.ReadResponse(in, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	mustHaveAll(t, answer)
	return answer, string(body)
}

// mustHaveAll looks for what all answers have.
func mustHaveAll(t *testing.T, answer *http.Response) {
	t.Helper()
	if kept, sniffed := answer.Header.Get("Cache-Control"), answer.Header.Get("X-Content-Type-Options"); kept != "no-store" || sniffed != "nosniff" {
		t.Errorf("the answer %d has Cache-Control %q and X-Content-Type-Options %q", answer.StatusCode, kept, sniffed)
	}
}

// A handler need not think of what all answers have, and can't take it away; it may say how long its own is good.
func TestNoHandlerCanForgetWhatAllAnswersHave(t *testing.T) {
	address := serve(t, Server(func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/nothing":
		case "/text":
			_, _ = ctx.WriteString("text")
		case "/redirect":
			ctx.Redirect("/text", 308)
		case "/error":
			ctx.Error("in words of fasthttp", 500)
		case "/reset":
			ctx.Response.Header.Set("X-Content-Type-Options", "none")
			ctx.Response.Reset()
		case "/other":
			ctx.Response.Header.Set("X-Content-Type-Options", "none")
		case "/stream":
			ctx.SetBodyStream(strings.NewReader("text"), -1)
		case "/panic":
			panic("a mistake")
		case "/kept":
			ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-cache")
		}
	}, Limits{Body: 1 << 10, Connections: 8}, func(any) {}))
	for _, path := range []string{"/nothing", "/text", "/redirect", "/error", "/reset", "/other", "/stream", "/panic"} {
		t.Run(path, func(t *testing.T) {
			exchange(t, address, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		})
	}
	answer, err := http.Get("http://" + address + "/kept")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if h := answer.Header; h.Get("Cache-Control") != "no-cache" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("with words of its own the answer has %v", h)
	}
}

func TestWhatReachesNoHandlerIsAnsweredInOurForm(t *testing.T) {
	s := smallServer(func(any) {})
	s.ReadTimeout = 100 * time.Millisecond
	address := serve(t, s)
	const head = "POST /events HTTP/1.1\r\nHost: localhost\r\n"
	tests := []struct {
		name, request string
		status        int
		code          string
	}{
		{"body too large", head + "Content-Length: 1025\r\n\r\n" + strings.Repeat("x", 1025), 413, "too_large"},
		{"body too large, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n401\r\n" + strings.Repeat("x", 1025) + "\r\n0\r\n\r\n", 413, "too_large"},
		{"body too large, announced", head + "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413, "too_large"},
		{"headers too large", head + "X-Long: " + strings.Repeat("x", headerBytes) + "\r\n\r\n", 431, "headers_too_large"},
		{"path too long", "GET /" + strings.Repeat("x", headerBytes) + " HTTP/1.1\r\n\r\n", 431, "headers_too_large"},
		{"headers do not end", head + "X-Slow: ", 408, "timeout"},
		{"body does not end", head + "Content-Length: 10\r\n\r\n12345", 408, "timeout"},
		{"not HTTP", "hello there\r\n\r\n", 400, "bad_request"},
		{"bad length", head + "Content-Length: many\r\n\r\n", 400, "bad_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, body := exchange(t, address, tt.request)
			var form struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(body), &form); err != nil {
				t.Fatalf("answered %d %q: %v", answer.StatusCode, body, err)
			}
			if answer.StatusCode != tt.status || form.Error.Code != tt.code || form.Error.Message == "" {
				t.Errorf("answered %d %s, want %d %s", answer.StatusCode, body, tt.status, tt.code)
			}
			if !answer.Close || answer.Header.Get("Server") != "" {
				t.Errorf("close %v, headers %v", answer.Close, answer.Header)
			}
		})
	}
}

func TestLargestBodyIsTaken(t *testing.T) {
	address := serve(t, smallServer(func(any) {}))
	answer, _ := exchange(t, address, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1024\r\n\r\n"+strings.Repeat("x", 1024))
	if answer.StatusCode != 200 {
		t.Errorf("answered %d", answer.StatusCode)
	}
}

func TestPanicSpoilsOneAnswerOnly(t *testing.T) {
	said := make(chan any, 1)
	address := serve(t, smallServer(func(what any) { said <- what }))
	answer, body := exchange(t, address, "GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if answer.StatusCode != 500 || answer.Header.Get("X-Half") != "" || !strings.HasPrefix(body, `{"error":{"code":"internal",`) {
		t.Errorf("answered %d %s %v", answer.StatusCode, body, answer.Header)
	}
	if what := <-said; what != "a mistake" {
		t.Errorf("told of %v", what)
	}
	if answer, _ = exchange(t, address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); answer.StatusCode != 200 {
		t.Errorf("afterwards answered %d", answer.StatusCode)
	}
}

func TestErrorsHaveOneForm(t *testing.T) {
	tests := []struct {
		index   int
		message string
		want    string
	}{
		{-1, "plain", `{"error":{"code":"some_code","message":"plain"}}`},
		{0, "plain", `{"error":{"code":"some_code","message":"plain","index":0}}`},
		{17, "with \"quotes\" and \x00", `{"error":{"code":"some_code","message":"with \"quotes\" and \u0000","index":17}}`},
	}
	for _, tt := range tests {
		var ctx fasthttp.RequestCtx
		ErrorAt(&ctx, 400, "some_code", tt.message, tt.index)
		if got := string(ctx.Response.Body()); got != tt.want+"\n" || ctx.Response.StatusCode() != 400 {
			t.Errorf("%d %s, want %s", ctx.Response.StatusCode(), got, tt.want)
		}
		if kind := string(ctx.Response.Header.ContentType()); kind != "application/json" {
			t.Errorf("content type %q", kind)
		}
	}
}

func TestValueThatCannotBeWrittenIsAnError(t *testing.T) {
	var ctx fasthttp.RequestCtx
	Value(&ctx, 200, func() {})
	if ctx.Response.StatusCode() != 500 {
		t.Errorf("answered %d", ctx.Response.StatusCode())
	}
	Value(&ctx, 200, map[string]int{"events": 1})
	if got := string(ctx.Response.Body()); got != "{\n  \"events\": 1\n}\n" || ctx.Response.StatusCode() != 200 {
		t.Errorf("answered %d %q", ctx.Response.StatusCode(), got)
	}
}

func TestSlowSendersAreLimited(t *testing.T) {
	s := smallServer(func(any) {})
	if s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.Concurrency != busy*8 || s.MaxRequestBodySize != 1<<10 {
		t.Errorf("read %v, write %v, idle %v, connections %d, body %d", s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.Concurrency, s.MaxRequestBodySize)
	}
}
