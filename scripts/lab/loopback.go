package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The laboratory must never load a machine other than its own: every address, to listen on or to post to, passes here.

// checkLoopback accepts host:port where host is a loopback address or localhost.
func checkLoopback(hostport string) error {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return usageError(fmt.Sprintf("address %q: want host:port, such as 127.0.0.1:9000", hostport))
	}
	if host == "localhost" {
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().IsLoopback() {
		return nil
	}
	return usageError(fmt.Sprintf("address %q is not loopback: the laboratory keeps to this machine", hostport))
}

// loopbackURL takes an http URL apart into the address to dial and the path to post to.
func loopbackURL(raw string) (addr, path string, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return "", "", usageError(fmt.Sprintf("url %q: want http://127.0.0.1:PORT/path", raw))
	}
	addr = u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "80")
	}
	if err := checkLoopback(addr); err != nil {
		return "", "", err
	}
	return addr, u.RequestURI(), nil
}

// listenLoopback listens on a checked address.
func listenLoopback(hostport string) (net.Listener, error) {
	if err := checkLoopback(hostport); err != nil {
		return nil, err
	}
	return net.Listen("tcp", hostport)
}

// Ports below the range that the kernel hands to outgoing connections. A client that keeps dialling a closed port inside
// that range sooner or later gets the same port as its own and is connected to itself.
const (
	lowestPort  = 20000
	highestPort = 29999
)

// given are the addresses that were found free, so that none is given out twice.
var given sync.Map

// freeAddress finds a loopback address that nothing listens on at this moment.
func freeAddress() (string, error) {
	for range 200 {
		addr := randomAddress()
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if _, before := given.LoadOrStore(addr, true); before {
			ln.Close()
			continue
		}
		return addr, ln.Close()
	}
	return "", fmt.Errorf("find free port between %d and %d: none in 200 tries", lowestPort, highestPort)
}

func randomAddress() string {
	return fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(highestPort-lowestPort+1))
}

// closedPort is a port that refuses connections until it is opened: a socket that is bound and doesn't listen, so that
// nobody else can take the port meanwhile.
type closedPort struct {
	addr string
	fd   int
}

func newClosedPort() (*closedPort, error) {
	for range 200 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("make socket: %w", err)
		}
		addr := netip.MustParseAddrPort(randomAddress())
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
			unix.Close(fd)
			continue
		}
		return &closedPort{addr: addr.String(), fd: fd}, nil
	}
	return nil, fmt.Errorf("bind port between %d and %d: none in 200 tries", lowestPort, highestPort)
}

// open makes the port accept connections. The listener belongs to the caller; the closedPort is used up.
func (p *closedPort) open() (net.Listener, error) {
	if err := unix.Listen(p.fd, 1024); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p.addr, err)
	}
	f := os.NewFile(uintptr(p.fd), p.addr)
	p.fd = -1
	defer f.Close() // FileListener works on a duplicate
	return net.FileListener(f)
}

// close gives the port up unless it was opened.
func (p *closedPort) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}
