package answer

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"
)

func init() {
	// nginx writes a client's IPv4 address so where it is connected to the relay by IPv6.
	proxyproto.V1AcceptIPv4InTCP6 = true
}

// Introduced makes a listener whose connections from proxies begin with the PROXY protocol, version 1 or 2, and have the
// client's address from then on that it names. It belongs below TLS, which begins behind it. From anybody else, and without
// Protocol, connections are as they come.
//
// The introduction is read by whoever reads first from the connection, within the time that this has: accepting waits for
// nobody. Nothing but it is taken from a proxy: guessing would let those through the proxy write it.
func Introduced(ln net.Listener, p Proxies) net.Listener {
	if !p.Protocol {
		return ln
	}
	return introducing{ln, p}
}

type introducing struct {
	net.Listener
	proxies Proxies
}

// Accept returns the next connection.
func (l introducing) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !l.proxies.has(addressOf(conn.RemoteAddr())) {
		return conn, err
	}
	return &introduced{Conn: conn}, nil
}

// introduced is a connection of a proxy. It is read by one goroutine at a time.
type introduced struct {
	net.Conn
	client atomic.Pointer[net.TCPAddr] // nil while it is not known, or the proxy speaks for itself
	heard  bool
	failed error
	ahead  *bufio.Reader // what was read beyond the introduction; nil when there is nothing
}

// introductionBytes are read at a time while the introduction is: more than one has that names two addresses.
const introductionBytes = 256

const badIntroduction disagreement = "server.proxy_protocol asks trusted_proxies to begin each connection with the PROXY protocol, and this one does not"

// Read reads what comes behind the introduction.
func (c *introduced) Read(p []byte) (int, error) {
	if !c.heard {
		c.heard = true
		c.failed = c.hear()
	}
	if c.failed != nil {
		return 0, c.failed
	}
	if c.ahead == nil {
		return c.Conn.Read(p)
	}
	n, err := c.ahead.Read(p)
	if c.ahead.Buffered() == 0 {
		c.ahead = nil
	}
	return n, err
}

func (c *introduced) hear() error {
	from := bufio.NewReaderSize(c.Conn, introductionBytes)
	if _, err := from.Peek(1); err != nil {
		return err // it only came and went
	}
	header, err := proxyproto.Read(from)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return timeout
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case err != nil:
		return badIntroduction
	}
	if from.Buffered() > 0 {
		c.ahead = from
	}
	if client, _, ok := header.TCPAddrs(); ok && header.Command.IsProxy() {
		c.client.Store(client)
	}
	return nil
}

// RemoteAddr is the client's address once that is known, and until then the proxy's. It waits for nothing.
func (c *introduced) RemoteAddr() net.Addr {
	if client := c.client.Load(); client != nil {
		return client
	}
	return c.Conn.RemoteAddr()
}

// CloseWrite ends what is written.
func (c *introduced) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return io.ErrClosedPipe
}

var errAddressFull = errors.New("the client's address has as many connections as one may have")

// introduce counts a connection whose PROXY protocol has been read, or why it could not be, for the client that it names.
func (c *counted) introduce(err error) error {
	if errors.Is(err, badIntroduction) {
		c.at.share.Refused.note(RefusedProxy, c.origin)
		return nil // the reader has it already
	}
	c.origin = addressOf(c.Conn.RemoteAddr())
	c.client, c.ofProxy = c.origin, c.at.share.Proxies.has(c.origin)
	if c.ofProxy {
		return nil
	}
	address, refused := Group(c.origin), ""
	c.at.mu.Lock()
	begins := c.at.beginLocked(c, address)
	c.at.mu.Unlock()
	switch {
	case !begins:
		refused = RefusedPace
	case !c.at.count(c, address):
		refused = RefusedAddress
	default:
		return nil
	}
	c.at.share.Refused.note(refused, c.origin)
	return errAddressFull
}

// begin finds out who sent a request that came from a proxy, and counts the connection for that client until end. It
// reports false when the request was answered: nobody can tell, or the client has as many as one may have.
func (c *counted) begin(ctx *fasthttp.RequestCtx) bool {
	client, wrong := c.at.share.Proxies.client(&ctx.Request.Header, c.origin)
	if wrong != "" {
		c.client = c.origin
		ctx.SetConnectionClose()
		refused(ctx)
		Error(ctx, 400, "bad_request", wrong)
		return false
	}
	c.client = client
	if c.at.share.Proxies.has(client) || string(ctx.Path()) == "/health" {
		return true // nobody's share
	}
	if !c.at.count(c, Group(client)) {
		c.at.share.Refused.note(RefusedAddress, client)
		ctx.SetConnectionClose()
		refused(ctx)
		addressFull(ctx)
		return false
	}
	return true
}

// end has the connection, which waits for what the proxy sends next, count for nobody.
func (c *counted) end() { c.at.count(c, netip.Addr{}) }

func addressFull(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	Error(ctx, 503, "unavailable", "the relay has too many connections from this address")
}
