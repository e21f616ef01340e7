package client

import (
	"time"

	"realtorbot-relay/relay/config"
)

// Client makes the attempts for one endpoint, as it was configured when the Client was made. It speaks HTTP/1.1, follows no
// redirect and uses no proxy but the configured one. It opens as many connections as there are attempts at a time and keeps
// them for the next ones. It has no goroutine of its own and is safe for concurrent use. Its owner closes it when the
// endpoint goes or its configuration changes.
type Client struct {
	template *template
	pool     *pool
	timeout  time.Duration
	success  config.Success
	now      func() time.Time
	skew     *Skew // nil where nobody asks
	slack    bool  // the endpoint's format
	rounded  bool  // numbers are sent as JavaScript writes them
}

// Machine is what clients have of the machine that they run on. The zero value is the machine itself; tests have another.
type Machine struct {
	Now  func() time.Time // the time of day, for timestamps; nil: time.Now
	Dial Dial             // nil: a net.Dialer's
}

// New prepares the attempts for ep, whose fields it copies or only reads. version goes into User-Agent; skew, unless nil, learns
// from each answer how far the endpoint's clock is off. New neither connects nor reads from disk. Its errors name the endpoint and
// show none of its secrets.
func New(ep *config.Endpoint, version string, m Machine, skew *Skew) (*Client, error) {
	r, err := newTemplate(ep, version)
	if err != nil {
		return nil, err
	}
	t, err := newTrust(ep, r)
	if err != nil {
		return nil, err
	}
	if m.Now == nil {
		m.Now = time.Now
	}
	return &Client{
		template: r,
		pool:     newPool(ep, r, t, newProxy(ep, r, version), m.Dial),
		timeout:  ep.Delivery.Timeout,
		success:  ep.Delivery.Success,
		now:      m.Now,
		skew:     skew,
		slack:    ep.Format == config.FormatSlack,
		rounded:  ep.Delivery.Numbers == config.NumbersJavaScript,
	}, nil
}

// Certificates returns when the certificate that the receiver last showed expires, and when the relay's own for this
// endpoint does. Either is zero when there is none, and the receiver's until the first handshake.
func (c *Client) Certificates() (receiver, own time.Time) {
	if c.pool.trust == nil {
		return time.Time{}, time.Time{}
	}
	return c.pool.trust.certificateExpires(), c.pool.trust.own
}

// Close cuts short all attempts and dials under way and closes all connections, at once. The attempts that it cuts short,
// and those made after it, are Aborted. It may be called more than once.
func (c *Client) Close() { c.pool.close() }

// Drain closes idle connections at once, and each of the others as its attempt ends. The Client has to be closed all the
// same.
func (c *Client) Drain() { c.pool.drain() }

// Attempt makes one POST and says what came of it. It blocks for at most the endpoint's timeout, from connecting to the
// answer's status, and bodyTimeout for the body behind it, of which it keeps an excerpt. The status decides the outcome.
//
// When time is up, Attempt still reads what has come before it judges. An attempt that gets no answer and ends long after
// its time, because the process was suspended, is Aborted.
//
// When a kept-alive connection turns out to be broken before a byte of an answer has come, Attempt makes the POST once more on
// a new connection: receivers close idle connections as they like, and that must not cost the delivery an attempt. A receiver
// that took the event before it broke the connection gets it twice, with the same webhook-id.
func (c *Client) Attempt(r *Request) Outcome {
	switch {
	case c.slack:
		r = asSlack(r)
	case c.rounded:
		r = asJavaScript(r)
	}
	start := time.Now()
	deadline := start.Add(c.timeout)
	s := scratches.Get().(*scratch)
	s.outcome = Outcome{At: c.now()}
	c.attempt(s, r, deadline)
	if o := &s.outcome; o.Class != ClassNone && o.Status == 0 {
		if c.pool.isClosed() {
			o.Aborted = true
			o.failed(failure{class: ClassReset, text: "cut short: the endpoint's connections were closed by the relay"})
		} else if late := time.Since(deadline); late > suspendedAfter {
			o.Aborted = true
			o.failed(failure{class: ClassTimeout, text: "cut short: the relay or its machine stood still for about " + late.Round(time.Second).String()})
		}
	}
	s.outcome.Took = time.Since(start)
	if s.outcome.Status != 0 && c.skew != nil {
		c.skew.learn(&s.answer.Header, s.outcome.At, s.outcome.Took)
	}
	o := s.outcome
	s.release()
	return o
}
