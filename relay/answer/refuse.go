package answer

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const tooMany = `{"error":{"code":"unavailable","message":"the relay has too many connections"}}` + "\n"

const (
	// refusalTime is how long a connection that gets no place may take to ask and to read the answer, refusalBytes how much of what
	// it sends is read.
	refusalTime  = 500 * time.Millisecond
	refusalBytes = 64 << 10
	// maxRefusals of them are answered at a time, and so many of one address; more are closed without an answer.
	maxRefusals           = 64
	maxRefusalsPerAddress = 8
)

// mayRefuse reports whether one more of an address may be answered that it gets no place, and counts it. refuse has to follow.
func (l *limited) mayRefuse(address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusing >= maxRefusals || l.addresses[address].refusing >= maxRefusalsPerAddress {
		return false
	}
	l.refusing++
	l.countLocked(address, 0, 1)
	return true
}

// refuse answers a connection that gets no place: with 503, or with the relay's health if it asks for that.
func (l *limited) refuse(c *counted) {
	conn := c.Conn
	defer func() {
		_ = conn.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refusing--
		l.countLocked(c.address, 0, -1)
	}()
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	var head [512]byte
	n, _ := conn.Read(head[:]) // a client that says nothing is told as well
	status, body := 503, tooMany
	if l.share.Health != nil && asksForHealth(head[:n]) {
		status, body = l.share.Health()
	}
	out := append(Head(status, contentType, "Retry-After: 1", "Content-Length: "+strconv.Itoa(len(body))), body...)
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	if _, err := conn.Write(out); err == nil {
		linger(conn, refusalTime, refusalBytes)
	}
}

// asksForHealth reads the beginning of a request.
func asksForHealth(head []byte) bool {
	target, ok := bytes.CutPrefix(head, []byte("GET /health"))
	return ok && len(target) > 0 && (target[0] == ' ' || target[0] == '?')
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
