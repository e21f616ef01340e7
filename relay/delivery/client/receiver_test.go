package client

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

const (
	testTimeout  = 10 * time.Second       // of attempts that are to come to an end by themselves, also on a busy machine
	shortTimeout = 200 * time.Millisecond // of those that are not
)

// receiver is a real TCP listener that serves each connection with a function of the test.
type receiver struct {
	net.Listener
	accepted atomic.Int32
}

// receive starts a receiver on loopback; serve gets each connection, which is closed when it returns.
func receive(t testing.TB, address string, serve func(conn net.Conn, in *bufio.Reader)) *receiver {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{Listener: ln}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r.accepted.Add(1)
			go func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return r
}

// answering serves every request of a connection with the same bytes, and then closes it if asked to.
func answering(answer string, thenClose bool) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, in *bufio.Reader) {
		for mustSwallow(in) {
			if _, err := io.WriteString(conn, answer); err != nil || thenClose {
				return
			}
		}
	}
}

// mustSwallow reads one request; false at the end of the connection.
func mustSwallow(in *bufio.Reader) bool {
	request, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, request.Body)
	return err == nil
}

func answer(status int, headers, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d Whatever\r\n%sContent-Length: %d\r\n\r\n%s", status, headers, len(body), body)
}

func testEndpoint(url string) *config.Endpoint {
	return &config.Endpoint{
		Name: "crm", URL: config.NewURL(url), Enabled: true,
		Secret: sign.NewSecret("example-secret"), Signatures: []string{"realtorbot"},
		Delivery: config.Delivery{Timeout: testTimeout, Concurrency: 4},
	}
}

func mustClient(t testing.TB, ep *config.Endpoint) *Client {
	t.Helper()
	c, err := New(ep, "1.2.3", Machine{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// hurried gives an endpoint the short timeout.
func hurried(ep *config.Endpoint) *config.Endpoint {
	ep.Delivery.Timeout = shortTimeout
	return ep
}

// clientTo makes a client of a receiver's root.
func clientTo(t testing.TB, r *receiver) *Client {
	return mustClient(t, testEndpoint("http://"+r.Addr().String()+"/"))
}

func testRequest() *Request {
	return &Request{ID: []byte("evt_1"), Type: []byte("lead.created"), Body: []byte(`{"id":"evt_1"}`), Attempt: 1}
}
