package simulate

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one side of a connection.
type conn struct {
	net           *network
	host          *host // the side that was dialled
	of            *life // whose side this is; nil for those of the world
	peer          *conn
	local, remote net.Addr
	in, out       *stream
	latency       time.Duration
	lost          atomic.Bool
}

// Read is net.Conn's.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p, true) }

// ReadNow is Read without waiting.
func (c *conn) ReadNow(p []byte) (int, error) { return c.in.read(p, false) }

// Write is net.Conn's. It never waits.
func (c *conn) Write(p []byte) (int, error) {
	if c.lost.Load() || c.peer.lost.Load() {
		if c.of != nil && c.host.failed != nil {
			c.net.failed(c.host, time.Now(), perhaps)
		}
		return len(p), nil
	}
	return c.out.write(p, time.Now().Add(c.latency))
}

// Close is net.Conn's.
func (c *conn) Close() error {
	if !c.lost.Load() && !c.peer.lost.Load() {
		c.out.end(io.EOF, time.Now().Add(c.latency))
	}
	c.in.end(net.ErrClosed, time.Time{})
	c.net.mu.Lock()
	delete(c.net.open, c)
	c.net.mu.Unlock()
	return nil
}

// CloseWrite ends what is written.
func (c *conn) CloseWrite() error {
	c.out.end(io.EOF, time.Now().Add(c.latency))
	return nil
}

// reset breaks both sides at once.
func (c *conn) reset() {
	for _, side := range []*conn{c, c.peer} {
		side.in.end(os.NewSyscallError("read", syscall.ECONNRESET), time.Time{})
		side.net.mu.Lock()
		delete(side.net.open, side)
		side.net.mu.Unlock()
	}
}

// LocalAddr is net.Conn's.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is net.Conn's.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is net.Conn's.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline is net.Conn's.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

// SetWriteDeadline is net.Conn's.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// stream is what one side sends and the other reads.
type stream struct {
	mu       sync.Mutex
	pieces   []piece
	over     error     // behind the pieces; at once unless it is io.EOF
	overAt   time.Time // when it arrives
	deadline time.Time
	changed  chan struct{} // holds a token when something of the above has changed
}

type piece struct {
	at  time.Time // when it arrives
	raw []byte
}

func newStream() *stream { return &stream{changed: make(chan struct{}, 1)} }

func (s *stream) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *stream) write(p []byte, at time.Time) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	}
	s.pieces = append(s.pieces, piece{at, append([]byte(nil), p...)})
	s.wake()
	return len(p), nil
}

func (s *stream) end(why error, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil || s.over == io.EOF && why != io.EOF {
		s.over, s.overAt = why, at
	}
	s.wake()
}

func (s *stream) setDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.wake()
}

// read takes what has come; with wait it waits for that, until the deadline.
func (s *stream) read(p []byte, wait bool) (int, error) {
	for {
		s.mu.Lock()
		now := time.Now()
		var next time.Time
		switch {
		case s.over != nil && s.over != io.EOF:
			defer s.mu.Unlock()
			return 0, s.over
		case wait && !s.deadline.IsZero() && !s.deadline.After(now):
			defer s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(s.pieces) > 0 && !s.pieces[0].at.After(now):
			defer s.mu.Unlock()
			first := &s.pieces[0]
			n := copy(p, first.raw)
			if first.raw = first.raw[n:]; len(first.raw) == 0 {
				s.pieces = s.pieces[1:]
			}
			return n, nil
		case len(s.pieces) > 0:
			next = s.pieces[0].at
		case s.over == io.EOF && !s.overAt.After(now):
			defer s.mu.Unlock()
			return 0, io.EOF
		case s.over == io.EOF:
			next = s.overAt
		}
		deadline := s.deadline
		s.mu.Unlock()
		if !wait {
			return 0, os.ErrDeadlineExceeded
		}
		if next.IsZero() || !deadline.IsZero() && deadline.Before(next) {
			next = deadline
		}
		if next.IsZero() {
			<-s.changed
			continue
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-s.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}
