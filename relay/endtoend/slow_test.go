package endtoend

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"
)

// from is a door for a client at another loopback address, each request on a connection of its own.
func (d *door) from(ip net.IP) *door {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).DialContext(ctx, d.network, d.address)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return &door{network: d.network, address: d.address, client: &http.Client{Transport: transport, Timeout: patience}}
}

// crowd opens so many connections from an address, each of which begins a request and never ends it.
func crowd(t *testing.T, address string, ip net.IP, connections int) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}, Timeout: patience}
	for range connections {
		conn, err := dialer.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "POST /events HTTP/1.1\r\nHost: local"); err != nil {
			t.Fatal(err)
		}
	}
}

// More connections than one address may have, and than the admin listener has at all: others are served, and so is, a
// moment later, the very address that they come from. That the limits are there shows in the crowd that is turned away.
func TestSlowClientsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	r := start(t, preamble+quiet())
	crowded := net.IPv4(127, 0, 0, 2)
	crowd(t, r.intake.address, crowded, 1024)
	for _, from := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 3)} {
		honest := r.intake.from(from)
		for range 20 {
			if a := honest.ask(t, "POST", "/events", `{"type":"test","data":{}}`, "Content-Type", "application/json"); a.status != 200 {
				t.Fatalf("%s is answered %d %s %v", from, a.status, a.body, a.err)
			}
		}
	}
	same := r.intake.from(crowded)
	if a := same.ask(t, "GET", "/health", ""); a.status != 200 {
		t.Errorf("health, asked from the crowd, is answered %d %s %v", a.status, a.body, a.err)
	}
	eventually(t, "the slowest of its address make room for an honest client", func() bool {
		return same.ask(t, "POST", "/events", `{"type":"test","data":{}}`, "Content-Type", "application/json").status == 200
	})

	for last := byte(2); last < 8; last++ {
		crowd(t, r.admin.address, net.IPv4(127, 0, 0, last), 64)
	}
	eventually(t, "the admin listener answers", func() bool {
		return r.admin.from(net.IPv4(127, 0, 0, 9)).ask(t, "GET", "/stats", "").status == 200
	})
}

// A process with few descriptors keeps enough of them for its queue, whoever takes the rest.
func TestFewDescriptorsAreNotUsedUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crm := receive(t, well)
	writeConfig(t, dir, preamble+endpoint("crm", crm.url))
	cmd := exec.Command("/bin/sh", "-c", `ulimit -n 256; exec "$0" -config config.toml`, binary)
	cmd.Dir = dir
	r := &relay{process: launch(t, cmd), dir: dir}
	r.awaitServing()
	for last := byte(2); last < 12; last++ {
		crowd(t, r.intake.address, net.IPv4(127, 0, 0, last), 40)
		crowd(t, r.admin.address, net.IPv4(127, 0, 0, last), 4)
	}
	honest := r.intake.from(net.IPv4(127, 0, 0, 100))
	eventually(t, "an honest client is answered", func() bool {
		return honest.ask(t, "POST", "/events", event("evt_1"), "Content-Type", "application/json").status == 200
	})
	crm.await(1)
	r.stop()
}
