package answer

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestTooManyConnectionsAreAnsweredInOurForm(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := Server(func(ctx *fasthttp.RequestCtx) { close(entered); <-leave; welcome(ctx) }, Limits{Body: 1 << 10, Connections: 1}, func(any) {})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	go func() { _ = s.Serve(Limit(ln, 1)) }()
	defer func() { _ = s.Shutdown() }()
	conn, _ := net.Dial("tcp", address)
	defer conn.Close()
	conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	<-entered
	<-time.After(10 * time.Millisecond)
	defer close(leave)
	answer, body := exchange(t, address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" || !strings.HasPrefix(body, `{"error":`) {
		t.Errorf("answered %d %q", answer.StatusCode, body)
	}
}

// Most clients write a whole request before they read: an answer given halfway must not be lost to a reset.
func TestARefusalReachesAClientThatWritesFirst(t *testing.T) {
	s := Server(welcome, Limits{Body: 1 << 10, Connections: 8}, func(any) {})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(Limit(ln, 8)) }()
	defer func() { _ = s.Shutdown() }()
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n" + strings.Repeat("x", 8<<20),
		"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatalf("the request could not be written: %v", err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if answer.StatusCode != 413 && answer.StatusCode != 431 {
			t.Errorf("answered %d", answer.StatusCode)
		}
		conn.Close()
	}
}
