package client

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

const (
	// answerLimit is how many bytes are read from a connection for one answer, whatever they are: interim answers, blank
	// lines, headers, chunk sizes and their extensions, trailers, TLS records. It has room for the headers and the excerpt, and
	// as much again for what is around them.
	answerLimit = 2 * (headerLimit + excerptLimit)

	// setupLimit is how many bytes are read until a connection is ready: crypto/tls takes a chain of certificates of at most
	// 256 KiB, and a proxy's answer has a limit of its own.
	setupLimit = 512 << 10
)

// errTooLong: the answer is longer than answerLimit.
var errTooLong = errors.New("the answer is too long")

// socket is the TCP connection under a connection, and does what crypto/tls and net do not: it bounds how much is read; when
// time is up it reads what has already come before it says so, since a process that was suspended finds its deadlines past and
// its answers waiting; and it says whether anything has come, without waiting. One goroutine reads at a time.
type socket struct {
	net.Conn
	raw  syscall.RawConn
	now  nowReader // reads in place of raw; nil for a connection of the system
	left int       // bytes that may still be read

	secure  bool // what comes is TLS
	records records
	noWait  bool // Read returns at once

	control func(fd uintptr) // readDescriptor, made once for readNow
	p       []byte           // argument and results of readDescriptor
	n       int
	err     error
}

// nowReader is a connection without a descriptor, which a Dial of a test makes. ReadNow reads what has come, whatever the deadline;
// when nothing has, its error is os.ErrDeadlineExceeded.
type nowReader interface{ ReadNow(p []byte) (int, error) }

func newSocket(conn net.Conn) (*socket, error) {
	s := &socket{Conn: conn, left: setupLimit}
	s.control = s.readDescriptor
	if s.now, _ = conn.(nowReader); s.now != nil {
		return s, nil
	}
	inner, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("the connection has no descriptor")
	}
	var err error
	s.raw, err = inner.SyscallConn()
	return s, err
}

// Read is net.Conn's. It returns errTooLong once all that may be read was read.
func (s *socket) Read(p []byte) (n int, err error) {
	if s.left <= 0 {
		return 0, errTooLong
	}
	p = p[:min(len(p), s.left)]
	if s.noWait {
		n, err = s.readNow(p)
	} else if n, err = s.Conn.Read(p); n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = s.readNow(p)
	}
	s.left -= n
	if s.secure {
		s.records.track(p[:n])
	}
	return n, err
}

// readNow reads what has come, whatever the deadline. When nothing has, its error is os.ErrDeadlineExceeded.
func (s *socket) readNow(p []byte) (int, error) {
	if s.now != nil {
		return s.now.ReadNow(p)
	}
	s.p = p
	if err := s.raw.Control(s.control); err != nil {
		return 0, err
	}
	s.p = nil
	return s.n, s.err
}

func (s *socket) readDescriptor(fd uintptr) {
	for {
		s.n, s.err = syscall.Read(int(fd), s.p)
		switch {
		case s.err == syscall.EINTR:
			continue
		case s.err == syscall.EAGAIN:
			s.err = os.ErrDeadlineExceeded
		case s.err != nil:
			s.err = os.NewSyscallError("read", s.err)
		case s.n == 0 && len(s.p) > 0:
			s.err = io.EOF
		}
		s.n = max(s.n, 0)
		return
	}
}

// isUsable reports whether an idle connection can carry another attempt: it has not ended, and nothing has come on it. in reads
// from s, through TLS or directly. isUsable lets TLS take in its own records, such as a ticket for the next session, but none may
// be half read. What came on an idle connection belongs to no event.
func (s *socket) isUsable(in io.Reader) bool {
	s.left, s.noWait = answerLimit, true
	var one [1]byte
	n, err := in.Read(one[:])
	s.noWait = false
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.records.atBoundary()
}

// records follows the framing of TLS (RFC 8446, section 5.1): a header of five bytes, the last two of which are the length of
// what follows.
type records struct {
	head [5]byte
	have int // bytes of head that have come
	left int // bytes of the record that are still to come
}

func (r *records) track(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(len(p), r.left)
			r.left -= n
			p = p[n:]
			continue
		}
		n := copy(r.head[r.have:], p)
		p = p[n:]
		if r.have += n; r.have == len(r.head) {
			r.have, r.left = 0, int(r.head[3])<<8|int(r.head[4])
		}
	}
}

// atBoundary reports whether no record is half read.
func (r *records) atBoundary() bool { return r.have == 0 && r.left == 0 }
