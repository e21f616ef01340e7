package simulate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// network joins the hosts of a world. It stands where the relay has the network's dialer and listeners, and keeps count of what is
// open and of who could not be reached.
type network struct {
	mu        sync.Mutex
	names     map[string]*host // by name
	listeners map[netip.AddrPort]*listener
	open      map[*conn]struct{}
	forbidden []string // connections that no guard may allow
	down      trouble  // of everybody: none, offline or failingName
	upSince   time.Time
}

// host is a name of the world's DNS and where it leads. Its fields say what goes wrong now.
type host struct {
	name    string
	address netip.Addr
	latency time.Duration
	trouble trouble
	dials   []dial // attempts that came to nothing before they were requests
	failed  func(blame)
}

// dial is one that failed.
type dial struct {
	at, end time.Time
	blame   blame
}

// blame says who may be to blame.
type blame int

const (
	theirs  blame = iota
	perhaps       // this machine, by what it can know
	ours
)

// trouble is what keeps connections to a host from being made.
type trouble int

const (
	none        trouble = iota
	refusing            // nobody listens
	silent              // whatever is sent there is lost
	unknownName         // the name does not exist
	failingName         // the name server does not answer
	lyingName           // the name leads to this machine's network
	offline             // this machine has no network
)

func newNetwork() *network {
	return &network{names: map[string]*host{}, listeners: map[netip.AddrPort]*listener{}, open: map[*conn]struct{}{}}
}

// addHost makes a host with a public address.
func (n *network) addHost(name string, latency time.Duration) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{name: name, address: netip.AddrFrom4([4]byte{93, 184, 216, byte(len(n.names) + 1)}), latency: latency}
	n.names[name] = h
	return h
}

// set changes what is wrong with a host. What is under way to a host that falls silent is lost.
func (n *network) set(h *host, t trouble) {
	n.mu.Lock()
	h.trouble = t
	n.mu.Unlock()
	n.apply()
}

// setDown takes the network, or the name server, from the machines, or gives it back.
func (n *network) setDown(t trouble) {
	n.mu.Lock()
	n.down, n.upSince = t, time.Now()
	n.mu.Unlock()
	n.apply()
}

// apply has open connections follow.
func (n *network) apply() {
	n.mu.Lock()
	var broken []*conn
	for c := range n.open {
		if c.host.failed == nil {
			continue // of a source, which is not far away
		}
		c.lost.Store(c.host.trouble == silent || n.down == offline)
		if c.host.trouble == refusing {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.reset()
	}
}

// dialFrom is a Dial of package client, for one life of a relay.
func (n *network) dialFrom(l *life) func(context.Context, string, string, func(context.Context, string, string, syscall.RawConn) error) (net.Conn, error) {
	return func(ctx context.Context, _, address string, guard func(context.Context, string, string, syscall.RawConn) error) (net.Conn, error) {
		name, _, _ := net.SplitHostPort(address)
		n.mu.Lock()
		h := n.names[name]
		t, who := h.trouble, theirs
		switch {
		case n.down != none:
			t, who = n.down, ours
		case t == failingName:
			who = perhaps
		}
		n.mu.Unlock()
		at := time.Now()
		c, err := n.connect(ctx, h, t, l, guard)
		if err != nil {
			if !l.dead.Load() {
				n.failed(h, at, who)
			}
			return nil, err
		}
		return c, nil
	}
}

// failed notes an attempt that came to nothing before it was a request.
func (n *network) failed(h *host, at time.Time, who blame) {
	n.mu.Lock()
	h.dials = append(h.dials, dial{at, time.Now(), who})
	n.mu.Unlock()
	if h.failed != nil {
		h.failed(who)
	}
}

func (n *network) connect(ctx context.Context, h *host, t trouble, l *life, guard func(context.Context, string, string, syscall.RawConn) error) (net.Conn, error) {
	fail := func(at net.Addr, err error) error { return &net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: err} }
	switch t {
	case unknownName:
		return nil, fail(nil, &net.DNSError{Err: "no such host", Name: h.name, IsNotFound: true})
	case failingName:
		return nil, fail(nil, &net.DNSError{Err: "server misbehaving", Name: h.name, IsTemporary: true})
	}
	target := netip.AddrPortFrom(h.address, 80)
	if t == lyingName {
		target = netip.AddrPortFrom(netip.MustParseAddr("169.254.169.254"), 80)
	}
	to := net.TCPAddrFromAddrPort(target)
	if err := guard(ctx, "tcp4", target.String(), nil); err != nil {
		return nil, fail(to, err)
	}
	if t == lyingName {
		n.mu.Lock()
		n.forbidden = append(n.forbidden, target.String())
		n.mu.Unlock()
	}
	if t == offline || l.dead.Load() {
		return nil, fail(to, os.NewSyscallError("connect", syscall.ENETUNREACH))
	}
	wait := 2 * h.latency
	if t == silent {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, fail(to, ctx.Err())
	}
	n.mu.Lock()
	ln := n.listeners[target]
	n.mu.Unlock()
	if t == refusing || ln == nil {
		return nil, fail(to, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	return n.join(ln, h, l)
}

// join makes a connection to a listener, from a relay or, with nil, from elsewhere.
func (n *network) join(ln *listener, h *host, l *life) (*conn, error) {
	here := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40000}
	near, far := &conn{net: n, host: h, of: l, local: here, remote: ln.address, in: newStream(), out: newStream()}, &conn{}
	*far = conn{net: n, host: h, of: ln.of, local: near.remote, remote: near.local, in: near.out, out: near.in}
	near.latency, far.latency = h.latency, h.latency
	near.peer, far.peer = far, near
	n.mu.Lock()
	n.open[near], n.open[far] = struct{}{}, struct{}{}
	n.mu.Unlock()
	select {
	case ln.accepted <- far:
		return near, nil
	case <-ln.closed:
		near.reset()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: ln.address, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
}

// listener is a net.Listener in memory.
type listener struct {
	net      *network
	address  *net.TCPAddr
	of       *life // nil for those of the world
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (n *network) listen(at netip.AddrPort, of *life) *listener {
	l := &listener{net: n, of: of, address: net.TCPAddrFromAddrPort(at), accepted: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	n.listeners[at] = l
	n.mu.Unlock()
	return l
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if at := l.address.AddrPort(); l.net.listeners[at] == l {
			delete(l.net.listeners, at)
		}
	})
	return nil
}

// Addr is net.Listener's.
func (l *listener) Addr() net.Addr { return l.address }

// cutOff resets every connection of a relay that died.
func (n *network) cutOff(l *life) {
	n.mu.Lock()
	var list []*conn
	for c := range n.open {
		if c.of == l || c.peer.of == l {
			list = append(list, c)
		}
	}
	n.mu.Unlock()
	for _, c := range list {
		c.reset()
	}
}

// closeAll breaks what is open at the end: a side whose other side was lost would wait for ever.
func (n *network) closeAll() {
	n.mu.Lock()
	var list []*conn
	for c := range n.open {
		list = append(list, c)
	}
	n.mu.Unlock()
	for _, c := range list {
		c.reset()
	}
}

// check reports what the network saw that must never be.
func (n *network) check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, at := range n.forbidden {
		errs = append(errs, fmt.Errorf("a connection to %s, which the guard has to refuse", at))
	}
	return errors.Join(errs...)
}
