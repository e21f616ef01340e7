package main

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestOnlyLoopbackIsAllowed(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:80", "127.8.9.1:1", "[::1]:80", "localhost:9000", "[::ffff:127.0.0.1]:1"} {
		if err := checkLoopback(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"", ":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.com:80", "localhost.example.com:80", "127.0.0.1", "169.254.169.254:80"} {
		var usage usageError
		if err := checkLoopback(addr); !errors.As(err, &usage) {
			t.Errorf("%s: allowed (%v)", addr, err)
		}
	}
	for _, raw := range []string{"https://127.0.0.1/", "http://user@10.0.0.1:80/", "http://127.0.0.1@10.0.0.1/", "ftp://127.0.0.1/", "127.0.0.1:80", "http:///events"} {
		if addr, _, err := loopbackURL(raw); err == nil {
			t.Errorf("%s: allowed as %s", raw, addr)
		}
	}
	if addr, path, err := loopbackURL("http://127.0.0.1:8080/events?x=1"); err != nil || addr != "127.0.0.1:8080" || path != "/events?x=1" {
		t.Errorf("got %q %q %v", addr, path, err)
	}
}

func TestClosedPortRefusesUntilItIsOpened(t *testing.T) {
	p, err := newClosedPort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := net.DialTimeout("tcp", p.addr, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial before: %v", err)
	}
	if ln, err := net.Listen("tcp", p.addr); err == nil {
		ln.Close()
		t.Error("somebody else could take the port")
	}
	ln, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	conn, err := net.DialTimeout("tcp", p.addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); string(text) != "hello" {
		t.Errorf("read %q, %v", text, err)
	}
}
