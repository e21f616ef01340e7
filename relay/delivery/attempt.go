package delivery

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/config"
)

const (
	excerptLimit = 16 << 10 // bytes of an answer's body that are read and kept
	headerLimit  = 16 << 10 // bytes of an answer's status line and headers
	inlineLimit  = 16 << 10 // bytes of an event's body up to which it is copied behind its headers, for one write
)

// Parcel is what one attempt carries. The Client reads it during Attempt and keeps nothing of it.
type Parcel struct {
	ID, Type []byte // of the event
	Body     []byte // in canonical form: sent and signed byte for byte
	Attempt  int    // number of the attempt, from 1
	Replay   string // value of X-RealtorBot-Replay; empty leaves the header out
}

// Client makes the attempts for one endpoint, as it was configured when the Client was made. Safe for concurrent use; it
// opens as many connections as there are attempts at a time, keeps them for the next ones, and has no goroutine of its
// own. HTTP/1.1, no redirect; no proxy but the configured one. Close it when the endpoint goes or its configuration changes.
type Client struct {
	request *request
	links   *links
	timeout time.Duration
	success config.Success
	now     func() time.Time
	clock   *skew // nil where nobody asks
	slack   bool  // the endpoint's format
	rounded bool  // numbers are sent as JavaScript writes them
}

// NewClient prepares the attempts for ep, whose fields it copies or only reads. version goes into User-Agent; now tells
// the time of day for timestamps (time.Now when nil). Errors name the endpoint and show none of its secrets.
func NewClient(ep *config.Endpoint, version string, now func() time.Time) (*Client, error) {
	r, err := newRequest(ep, version)
	if err != nil {
		return nil, err
	}
	t, err := newTrust(ep, r)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	return &Client{
		request: r,
		links:   newLinks(ep, r, t, newDetour(ep, r, version)),
		timeout: ep.Delivery.Timeout,
		success: ep.Delivery.Success,
		now:     now,
		slack:   ep.Format == config.FormatSlack,
		rounded: ep.Delivery.Numbers == config.NumbersJavaScript,
	}, nil
}

// Certificates tells when the certificate that the receiver last showed ends, and when the relay's own for this endpoint
// does. Either is zero when there is none, and the receiver's until the first handshake.
func (c *Client) Certificates() (receiver, own time.Time) {
	if c.links.trust == nil {
		return time.Time{}, time.Time{}
	}
	return c.links.trust.certificateExpires(), c.links.trust.own
}

// Close ends what is under way at once, attempts and dials, and closes all connections. Attempts that it cuts short, and
// those made after it, are Aborted.
func (c *Client) Close() { c.links.close() }

// retire closes what is idle, and what is under way when it ends. The Client is to be closed all the same.
func (c *Client) retire() { c.links.retire() }

// Attempt makes one POST and says what came of it, within the endpoint's timeout from connecting to the last byte.
//
// When the connection is a kept-alive one that turns out to be broken before a byte of an answer, the POST is made once
// more on a new connection: receivers close idle connections as they like, and that must not cost the delivery an attempt.
// Should the receiver have taken the event before it broke the connection, it gets it twice, with the same webhook-id.
func (c *Client) Attempt(p *Parcel) Outcome {
	switch {
	case c.slack:
		p = slacken(p)
	case c.rounded:
		p = rounded(p)
	}
	start := time.Now()
	s := scratches.Get().(*scratch)
	s.outcome = Outcome{At: c.now()}
	c.attempt(s, p, start.Add(c.timeout))
	if s.outcome.Class != ClassNone && s.outcome.Class != ClassStatus && c.links.isClosed() {
		s.outcome.Aborted = true
		s.outcome.failed(fault{class: ClassReset, text: "cut short: the endpoint's connections were closed by the relay"})
	}
	s.outcome.Took = time.Since(start)
	if s.outcome.Status != 0 && c.clock != nil {
		c.clock.note(&s.answer.Header, s.outcome.At, s.outcome.Took)
	}
	o := s.outcome
	s.release()
	return o
}

func (c *Client) attempt(s *scratch, p *Parcel, deadline time.Time) {
	o := &s.outcome
	l, err := c.links.take(deadline, false, &o.Timing)
	if err == nil {
		var stale bool
		if stale, err = c.exchange(s, l, p, deadline); stale {
			c.links.dropIdle()
			if l, err = c.links.take(deadline, true, &o.Timing); err == nil {
				o.Resent = true
				_, err = c.exchange(s, l, p, deadline)
			}
		}
	}
	var dial *dialError
	if errors.As(err, &dial) {
		o.Local = dial.isLocal(c.links)
	} else if l != nil {
		o.Local = isOwn(l.RemoteAddr(), l.LocalAddr())
	}
	switch {
	case errors.As(err, &dial):
		o.failed(c.links.fault(dial, c.timeout))
	case err != nil:
		o.failed(exchangeFault(err, s.doing, c.request.address, c.timeout, c.links.trust))
	case !c.success.Has(o.Status):
		o.failed(statusFault(o.Status))
	}
}

// exchange sends p and reads the answer on l, which it keeps or drops. stale tells that l broke as kept-alive connections
// do, so that another try is due.
func (c *Client) exchange(s *scratch, l *link, p *Parcel, deadline time.Time) (stale bool, err error) {
	o := &s.outcome
	reusable := false
	defer func() {
		s.reader.Reset(nil)
		if reusable {
			c.links.keep(l)
		} else {
			c.links.drop(l)
		}
	}()

	ready := time.Now()
	s.doing = "sending"
	if err := l.SetDeadline(deadline); err != nil {
		return false, err
	}
	sendErr := s.send(l.Conn, c.request, p, o.At.Unix())
	if sendErr != nil && !isBroken(sendErr) {
		return false, sendErr
	}

	// After a broken write there may still be an answer: a receiver that finds the body too large says so and closes.
	s.doing = "waiting for an answer"
	s.reader.Reset(l.Conn)
	if _, err := s.reader.Peek(1); err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return l.reused && isBroken(err), err
	}
	o.Timing.FirstByte = time.Since(ready)

	s.doing = "reading the answer"
	body, fit, err := s.readAnswer(o, o.At)
	if err != nil && o.Status == 0 && !isTimeout(err) {
		body, _ = s.reader.Peek(min(s.reader.Buffered(), excerptLimit)) // what came instead of an answer
		body = append(s.buf[:0], body...)
		s.buf = body
	}
	if len(body) > 0 {
		c.request.mask.apply(body)
		o.Excerpt = append(make([]byte, 0, len(body)), body...)
	}
	reusable = fit && err == nil && sendErr == nil
	return false, err
}

// scratch is the memory of one attempt while it is made.
type scratch struct {
	outcome Outcome
	buf     []byte // the request, then the excerpt
	pieces  net.Buffers
	reader  *bufio.Reader
	answer  fasthttp.Response
	doing   string // what an error interrupted
}

var scratches = sync.Pool{New: func() any {
	return &scratch{reader: bufio.NewReaderSize(nil, headerLimit)}
}}

// send writes the request. A small body goes out with its headers in one write, a large one is not copied.
func (s *scratch) send(conn net.Conn, r *request, p *Parcel, unix int64) error {
	s.buf = r.append(s.buf[:0], p, unix)
	if len(p.Body) <= inlineLimit {
		s.buf = append(s.buf, p.Body...)
		_, err := conn.Write(s.buf)
		return err
	}
	backing := append(s.pieces[:0], s.buf, p.Body)
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
