package answer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// cipherSuites are those of TLS 1.2 that the relay accepts, all with authenticated encryption: padding oracles have broken block
// ciphers in CBC mode more than once. TLS 1.3 has no others.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Secure replaces listeners by ones that speak TLS with the certificate; without one it leaves them as they are.
func (c *Certificate) Secure(listeners []net.Listener) {
	if c == nil {
		return
	}
	for i := range listeners {
		listeners[i] = tlsListener{listeners[i], c}
	}
}

type tlsListener struct {
	net.Listener
	certificate *Certificate
}

// Accept returns the next connection. Whoever reads from it first makes its handshake.
func (l tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{GetConfigForClient: l.certificate.forHandshake, MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites}
	below := &handshaking{Conn: conn}
	below.left.Store(handshakeBytes)
	return &tlsConn{Conn: tls.Server(below, config), below: below, certificate: l.certificate}, nil
}

// handshakeBytes is how much a client may send before its handshake is done: what it presents, its chain of certificates included, has
// a few thousand. TLS itself would keep 64 KiB of a greeting, and 256 of certificates, for each connection of whoever sends no more.
const handshakeBytes = 32 << 10

var errLongHandshake = fmt.Errorf("it is longer than %d KiB", handshakeBytes>>10)

// handshaking is a connection of which so much may be read until its handshake is done.
type handshaking struct {
	net.Conn
	left atomic.Int64
}

// Read reads what the client sends.
func (h *handshaking) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if h.left.Add(-int64(n)) < 0 {
		return 0, errLongHandshake
	}
	return n, err
}

// tlsConn is a connection that logs why its handshake failed.
type tlsConn struct {
	*tls.Conn
	below       *handshaking
	certificate *Certificate
	once        sync.Once
}

// Read reads what the client sends, after the handshake.
func (c *tlsConn) Read(p []byte) (int, error) {
	c.once.Do(func() {
		if err := c.Handshake(); err != nil {
			c.failed(err)
		}
		c.below.left.Store(math.MaxInt64)
	})
	return c.Conn.Read(p)
}

const plainHTTP = `{"error":{"code":"bad_request","message":"this listener speaks HTTPS, not HTTP"}}` + "\n"

// IsTLS reports whether a request came over TLS that this process ended: fasthttp's own answer is no for a connection of Limit's.
func IsTLS(ctx *fasthttp.RequestCtx) bool {
	conn := ctx.Conn()
	if c, ok := conn.(*counted); ok {
		conn = c.Conn
	}
	_, is := conn.(*tlsConn)
	return is
}

// failed logs a handshake that failed, and answers a client that speaks plain HTTP. It says nothing of clients that connect and
// leave.
func (c *tlsConn) failed(err error) {
	var timeout net.Error
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout():
		return
	case errors.As(err, &record) && record.Conn != nil && isHTTP(record.RecordHeader):
		_ = record.Conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = record.Conn.Write(append(Head(400, contentType, "Content-Length: "+strconv.Itoa(len(plainHTTP))), plainHTTP...))
	}
	from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	c.certificate.handshakeLog.Warn().Err(err).Str("from", from).Msg("TLS handshake failed")
}

// isHTTP reports whether five bytes that are no TLS record begin an HTTP request.
func isHTTP(head [5]byte) bool {
	for _, b := range head {
		if (b < 'A' || b > 'Z') && b != ' ' && b != '/' {
			return false
		}
	}
	return true
}
