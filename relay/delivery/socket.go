package delivery

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

const (
	// answerLimit is how many bytes are read from a connection for one answer, whatever they are: interim answers, blank
	// lines, headers, chunk sizes and their extensions, trailers, the records of TLS. It holds the headers and the excerpt,
	// and as much again for what is around them.
	answerLimit = 2 * (headerLimit + excerptLimit)

	// greetingLimit is how many may be read until a connection is ready: the chain of certificates that crypto/tls takes
	// is at most 256 KiB long, and a proxy's answer bounds itself.
	greetingLimit = 512 << 10
)

// errTooLong is more of an answer than is read of one.
var errTooLong = errors.New("the answer passes what is read of one")

// socket is the TCP connection under a link, with what TLS does not show of it. It counts what is read; when time is up it
// takes what has come before it says so, as a process that was suspended finds its deadlines past and its answers waiting;
// and it can be asked whether anything has come, without waiting. It has one reader at a time.
type socket struct {
	net.Conn
	raw  syscall.RawConn
	left int // bytes that may still be read

	secure  bool // what comes is TLS
	records records
	probing bool // Read doesn't wait

	look func(fd uintptr) // readNow's, made once
	p    []byte           // arguments and results of look
	n    int
	err  error
}

func newSocket(conn net.Conn) (*socket, error) {
	s := &socket{Conn: conn, left: greetingLimit}
	s.look = s.readDescriptor
	inner, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("the connection has no descriptor")
	}
	var err error
	s.raw, err = inner.SyscallConn()
	return s, err
}

// Read is net.Conn's. It ends in errTooLong when all that may be read was read.
func (s *socket) Read(p []byte) (n int, err error) {
	if s.left <= 0 {
		return 0, errTooLong
	}
	p = p[:min(len(p), s.left)]
	if s.probing {
		n, err = s.readNow(p)
	} else if n, err = s.Conn.Read(p); n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = s.readNow(p)
	}
	s.left -= n
	if s.secure {
		s.records.pass(p[:n])
	}
	return n, err
}

// readNow reads what is there, past any deadline. With nothing there its error is os.ErrDeadlineExceeded.
func (s *socket) readNow(p []byte) (int, error) {
	s.p = p
	if err := s.raw.Control(s.look); err != nil {
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

// isQuiet reports whether nothing has come on an idle connection: no byte for in, which reads from s by way of TLS or
// straight, and none that TLS has begun to read. What TLS has to say for itself, such as a ticket for the next session, is
// taken in. A connection that isn't quiet, or has ended, must not be used again: what came belongs to no event.
func (s *socket) isQuiet(in io.Reader) bool {
	s.left, s.probing = answerLimit, true
	var one [1]byte
	n, err := in.Read(one[:])
	s.probing = false
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.records.whole()
}

// records follows the framing of TLS (RFC 8446, section 5.1): a header of five bytes, whose last two tell the length of
// what comes behind it.
type records struct {
	head [5]byte
	have int // bytes of head
	rest int // bytes of the record that are still to come
}

func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.rest > 0 {
			n := min(len(p), r.rest)
			r.rest -= n
			p = p[n:]
			continue
		}
		n := copy(r.head[r.have:], p)
		p = p[n:]
		if r.have += n; r.have == len(r.head) {
			r.have, r.rest = 0, int(r.head[3])<<8|int(r.head[4])
		}
	}
}

// whole reports that no record is half read.
func (r *records) whole() bool { return r.have == 0 && r.rest == 0 }
