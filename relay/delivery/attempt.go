package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

const (
	excerptLimit = 16 << 10 // bytes of an answer's body that are read and kept
	headerLimit  = 16 << 10 // bytes of an answer's status line and headers
	inlineLimit  = 16 << 10 // bytes of an event's body up to which it is copied behind its headers, for one write

	// firstLimit is how many bytes of an answer there is room for before any came: most answers' heads are shorter, and
	// thousands of attempts may be waiting for one.
	firstLimit = 1 << 10

	// bodyPatience is how long the body of an answer is waited for once its status is here, within the timeout: the status
	// decides, and the rest is for people to read.
	bodyPatience = time.Second

	// stillLimit is how long after its deadline an attempt may end before it says more about this process than about the
	// endpoint: it was suspended, or its machine stood still.
	stillLimit = 3 * time.Second
)

// Parcel is what one attempt carries. The Client reads it during Attempt and keeps nothing of it.
type Parcel struct {
	ID, Type []byte        // of the event
	Body     []byte        // in canonical form: sent and signed byte for byte
	Attempt  int           // number of the attempt, from 1
	Replay   string        // value of X-RealtorBot-Replay; empty leaves the header out
	Failed   *queue.Letter // of which failed delivery it is a copy; nil leaves the X-RealtorBot-Failed headers out
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

// Attempt makes one POST and says what came of it, within the endpoint's timeout from connecting to the answer's status.
// The status decides. What follows it is read for the excerpt, for bodyPatience at most.
//
// When time is up, what has come is read before it is judged. An attempt without an answer that ends long after its time,
// as when the process was suspended, is Aborted.
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
	deadline := start.Add(c.timeout)
	s := scratches.Get().(*scratch)
	s.outcome = Outcome{At: c.now()}
	c.attempt(s, p, deadline)
	if o := &s.outcome; o.Class != ClassNone && o.Status == 0 {
		if c.links.isClosed() {
			o.Aborted = true
			o.failed(fault{class: ClassReset, text: "cut short: the endpoint's connections were closed by the relay"})
		} else if late := time.Since(deadline); late > stillLimit {
			o.Aborted = true
			o.failed(fault{class: ClassTimeout, text: "cut short: the relay or its machine stood still for about " + late.Round(time.Second).String()})
		}
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
		s.end()
		if reusable {
			c.links.keep(l)
		} else {
			c.links.drop(l)
		}
	}()

	ready := time.Now()
	l.sock.left = answerLimit
	s.doing = "sending"
	if err := l.SetDeadline(deadline); err != nil {
		return false, err
	}
	sendErr := s.send(l.out, c.request, p, o.At.Unix())
	if sendErr != nil && !isBroken(sendErr) {
		return false, sendErr
	}

	// After a broken write there may still be an answer: a receiver that finds the body too large says so and closes.
	s.doing = "waiting for an answer"
	s.begin(l)
	if _, err := s.in.Peek(1); err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return l.reused && isBroken(err), err
	}
	o.Timing.FirstByte = time.Since(ready)

	s.doing = "reading the answer"
	if err := s.readStatus(o, o.At); err != nil {
		if !isTimeout(err) {
			came, _ := s.in.Peek(min(s.in.Buffered(), excerptLimit)) // instead of an answer
			c.excerpt(o, append([]byte(nil), came...), "")
		}
		return false, err
	}
	if o.Status == fasthttp.StatusRequestTimeout && l.reused && s.answer.ConnectionClose() {
		// What an idle receiver says before it closes has crossed our request (RFC 9110, section 15.5.9).
		o.Status = 0
		return true, io.EOF
	}
	if !s.bodyHasCome(o.Status) {
		if until := time.Now().Add(bodyPatience); until.Before(deadline) {
			_ = l.SetReadDeadline(until)
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

// excerpt keeps a copy of what came as a body, in the form that people may read.
func (c *Client) excerpt(o *Outcome, body []byte, encoding string) {
	if len(body) == 0 {
		return
	}
	o.Excerpt = append(make([]byte, 0, len(body)), unpacked(body, encoding)...)
	c.request.mask.apply(o.Excerpt)
}

// scratch is the memory of one attempt while it is made. What waits for an answer holds little: buffers are taken for
// sending and for reading alone.
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
	return &scratch{narrow: bufio.NewReaderSize(nil, firstLimit)}
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

// widen makes room for a head longer than came, which is all that s.in holds.
func (s *scratch) widen(came []byte) {
	s.wide = wideReaders.Get().(*bufio.Reader)
	s.wide.Reset(io.MultiReader(bytes.NewReader(append([]byte(nil), came...)), s.source))
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
func (s *scratch) send(conn net.Conn, r *request, p *Parcel, unix int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = r.append((*buf)[:0], p, unix)
	if len(p.Body) <= inlineLimit {
		*buf = append(*buf, p.Body...)
		_, err := conn.Write(*buf)
		return err
	}
	backing := append(s.pieces[:0], *buf, p.Body)
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
