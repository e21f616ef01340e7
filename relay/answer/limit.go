package answer

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limit makes a listener that lets so many connections be open at a time. One more is told so, in our form and with
// Retry-After, and closed; fasthttp's own limit would answer it in plain text.
func Limit(ln net.Listener, connections int) net.Listener {
	return &limited{Listener: ln, most: int64(connections)}
}

type limited struct {
	net.Listener
	most    int64
	open    atomic.Int64
	turning atomic.Int64 // connections that are being told
}

const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n" +
	"Content-Length: 81\r\n\r\n" + `{"error":{"code":"unavailable","message":"the relay has too many connections"}}` + "\r\n"

const (
	// turnAwayTime is how long a connection too many may take to hear so.
	turnAwayTime  = 500 * time.Millisecond
	turnAwayBytes = 64 << 10
	// maxTurning of them are told at a time; more are closed without a word.
	maxTurning = 64
	// refusedTime and refusedBytes bound what is still read of a request that was refused halfway: enough for a client to
	// finish a body somewhat too large and find the answer.
	refusedTime  = time.Second
	refusedBytes = 32 << 20
)

// Accept returns the next connection within the limit.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &counted{Conn: conn, open: &l.open}, nil
		}
		l.open.Add(-1)
		if l.turning.Add(1) > maxTurning {
			l.turning.Add(-1)
			_ = conn.Close()
			continue
		}
		go l.turnAway(conn) // ends by itself within turnAwayTime
	}
}

func (l *limited) turnAway(conn net.Conn) {
	defer l.turning.Add(-1)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(turnAwayTime))
	if _, err := conn.Write([]byte(tooMany)); err == nil {
		linger(conn, turnAwayTime, turnAwayBytes)
	}
}

// linger reads what a client still sends after its answer is written: closing with bytes unread resets the connection,
// and a reset takes back an answer that the client has not read yet. It ends after wait, or after so many bytes.
func linger(conn net.Conn, wait time.Duration, most int64) {
	_ = conn.SetDeadline(time.Now().Add(wait))
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, most)
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	open    *atomic.Int64
	once    sync.Once
	refused atomic.Bool // its last request was answered before it was read to its end
}

// Close closes the connection.
func (c *counted) Close() error {
	c.once.Do(func() {
		if c.refused.Load() {
			linger(c.Conn, refusedTime, refusedBytes)
		}
		c.open.Add(-1)
	})
	return c.Conn.Close()
}
