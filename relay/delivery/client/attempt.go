package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	excerptLimit = 16 << 10 // bytes of an answer's body that are read and kept
	headerLimit  = 16 << 10 // bytes of an answer's status line and headers
	mostHeaders  = 200      // lines of them: fasthttp keeps some 70 bytes for each, and 16 KiB have room for four thousand
	inlineLimit  = 16 << 10 // bytes of an event's body up to which it is copied behind its headers, for one write

	// initialBuffer is how many bytes of an answer an attempt has room for before any came: most answers' heads are shorter,
	// and thousands of attempts may be waiting for one.
	initialBuffer = 1 << 10

	// bodyTimeout is how long an attempt waits for the body of an answer once the status has come, within its timeout: the
	// status decides, and the rest is for people to read.
	bodyTimeout = time.Second

	// suspendedAfter is how long after its deadline an attempt may end before that says more about this process than about
	// the endpoint: the process was suspended, or its machine stood still.
	suspendedAfter = 3 * time.Second
)

func (c *Client) attempt(s *scratch, r *Request, deadline time.Time) {
	o := &s.outcome
	conn, err := c.pool.get(deadline, false, &o.Timing)
	if err == nil {
		var stale bool
		if stale, err = c.exchange(s, conn, r, deadline); stale {
			c.pool.closeIdle()
			if conn, err = c.pool.get(deadline, true, &o.Timing); err == nil {
				o.Resent = true
				_, err = c.exchange(s, conn, r, deadline)
			}
		}
	}
	var dial *dialError
	if errors.As(err, &dial) {
		o.Local = dial.isLocal(c.pool)
	} else if conn != nil {
		o.Local = staysLocal(conn.RemoteAddr(), conn.LocalAddr())
	}
	switch {
	case errors.As(err, &dial):
		o.failed(c.pool.dialFailure(dial, c.timeout))
	case err != nil:
		o.failed(exchangeFailure(err, s.doing, c.template.address, c.timeout, c.pool.trust))
	case !c.success.Has(o.Status):
		o.failed(statusFailure(o.Status))
	}
}

// exchange sends r and reads the answer on conn, which it gives back to the pool or drops. stale reports that conn broke as
// kept-alive connections do, so that a second try is due.
func (c *Client) exchange(s *scratch, conn *connection, r *Request, deadline time.Time) (stale bool, err error) {
	o := &s.outcome
	reusable := false
	defer func() {
		s.end()
		if reusable {
			c.pool.put(conn)
		} else {
			c.pool.drop(conn)
		}
	}()

	ready := time.Now()
	conn.sock.left = answerLimit
	s.doing = "sending"
	if err := conn.SetDeadline(deadline); err != nil {
		return false, err
	}
	sendErr := s.send(conn.out, c.template, r, o.At.Unix())
	if sendErr != nil && !isBroken(sendErr) {
		return false, sendErr
	}

	// After a broken write there may still be an answer: a receiver that finds the body too large says so and closes.
	s.doing = "waiting for an answer"
	s.begin(conn)
	if _, err := s.in.Peek(1); err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return conn.reused && isBroken(err), err
	}
	o.Timing.FirstByte = time.Since(ready)

	s.doing = "reading the answer"
	if err := s.readStatus(o, o.At); err != nil {
		if !isTimeout(err) {
			got, _ := s.in.Peek(min(s.in.Buffered(), excerptLimit)) // instead of an answer
			c.excerpt(o, append([]byte(nil), got...), "")
		}
		return false, err
	}
	if o.Status == fasthttp.StatusRequestTimeout && conn.reused && s.answer.ConnectionClose() {
		// An idle receiver says this before it closes; it has crossed our request (RFC 9110, section 15.5.9).
		o.Status = 0
		return true, io.EOF
	}
	if !s.bodyArrived(o.Status) {
		if until := time.Now().Add(bodyTimeout); until.Before(deadline) {
			_ = conn.SetReadDeadline(until)
		}
	}
	buf := buffers.Get().(*[]byte)
	body, fit := s.readBody(o, *buf)
	c.excerpt(o, body, string(s.answer.Header.ContentEncoding()))
	*buf = body
	buffers.Put(buf)
	reusable = fit && sendErr == nil
	return false, nil
}

// scratch is the memory of one attempt while it is made. An attempt that waits for an answer holds little: it takes buffers
// only to send and to read.
type scratch struct {
	outcome Outcome
	pieces  net.Buffers
	in      *bufio.Reader // of the answer: narrow, or wide once its head proves to be long
	narrow  *bufio.Reader
	wide    *bufio.Reader
	source  io.Reader // what in reads from
	answer  fasthttp.Response
	doing   string // what an error interrupted
}

var scratches = sync.Pool{New: func() any {
	return &scratch{narrow: bufio.NewReaderSize(nil, initialBuffer)}
}}

// buffers are for a request with its body, or for an excerpt.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// wideReaders hold the longest head that is read.
var wideReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headerLimit) }}

// begin gets ready to read an answer from r.
func (s *scratch) begin(r io.Reader) {
	s.narrow.Reset(r)
	s.in, s.source = s.narrow, r
}

// widen makes room for a head longer than got, which is all that s.in holds.
func (s *scratch) widen(got []byte) {
	s.wide = wideReaders.Get().(*bufio.Reader)
	s.wide.Reset(io.MultiReader(bytes.NewReader(append([]byte(nil), got...)), s.source))
	s.in = s.wide
}

// end forgets the connection that was read from.
func (s *scratch) end() {
	s.narrow.Reset(nil)
	if s.wide != nil {
		s.wide.Reset(nil)
		wideReaders.Put(s.wide)
	}
	s.in, s.wide, s.source = nil, nil, nil
}

// send writes the request. A small body goes out with its headers in one write, a large one is not copied.
func (s *scratch) send(conn net.Conn, t *template, r *Request, unix int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = t.append((*buf)[:0], r, unix)
	if len(r.Body) <= inlineLimit {
		*buf = append(*buf, r.Body...)
		_, err := conn.Write(*buf)
		return err
	}
	backing := append(s.pieces[:0], *buf, r.Body)
	s.pieces = backing
	_, err := s.pieces.WriteTo(conn) // cuts off s.pieces what it has written
	clear(backing)                   // what a failed write has left
	s.pieces = backing[:0]
	return err
}

func (s *scratch) release() {
	s.answer.Reset()
	s.outcome = Outcome{}
	scratches.Put(s)
}
