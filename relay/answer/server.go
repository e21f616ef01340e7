package answer

import (
	"cmp"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Limits of a server.
type Limits struct {
	// Body is the most bytes that a request may announce, or send, as its body.
	Body int
	// Connections at a time; wrap the listener in Limit with a little less.
	Connections int
	// Idle is how long a connection may wait for its next request; 0 for two minutes.
	Idle time.Duration
	// Stream has the handler read bodies, from ctx.RequestBodyStream, so that memory is taken for what came and not for
	// what was announced. The handler bounds what comes in chunks, and tells Received when a body is complete.
	Stream bool
	// Refuses says of the headers of a request, before its body is read, whether the handler will refuse it by them alone.
	// Its body is then left unread and its connection closed after the handler's answer. Nil refuses none.
	Refuses func(*fasthttp.RequestHeader) bool
}

const (
	readTimeout  = 30 * time.Second // a whole request: the guard against slow senders
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute
	headerBytes  = 8 << 10 // request line and headers
	// busy is how many goroutines fasthttp may have for each connection that has a place: whose place went to another is served for a
	// moment longer, and fasthttp has no good way to say that it has nobody for one.
	busy = 2
)

// Server makes a server around a handler. What fasthttp answers by itself has our form too, and a panic of the handler
// is one failed request: panicked gets what it said. Whatever a handler answers has nosniff, and no-store unless it says else.
func Server(handle fasthttp.RequestHandler, l Limits, panicked func(any)) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			answered(ctx)
			defer complete(ctx)
			defer func() {
				if what := recover(); what != nil {
					panicked(what)
					ctx.Response.Reset()
					Error(ctx, 500, "internal", "the relay made a mistake; its log has more")
				}
			}()
			if !l.Stream {
				Received(ctx)
			}
			if c, ok := ctx.Conn().(*counted); ok && c.ofProxy {
				if !c.begin(ctx) {
					return
				}
				defer c.end()
			}
			if why := ctx.Request.Header.Peek(unreadMark); len(why) > 0 {
				turnDown(ctx, handle, string(why))
			} else {
				handle(ctx)
			}
			if ctx.Response.StatusCode() >= 400 {
				refused(ctx)
			}
		},
		ErrorHandler:                 malformed,
		HeaderReceived:               l.headerReceived,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  cmp.Or(l.Idle, idleTimeout),
		ReadBufferSize:               headerBytes,
		MaxRequestBodySize:           l.Body,
		StreamRequestBody:            l.Stream,
		Concurrency:                  busy * l.Connections,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		TCPKeepalive:                 true,
		Logger:                       silent{},
	}
}

// unreadMark is a header that stands in a request whose body was not read, with the reason as its value. It is put there
// between the headers and the handler, since fasthttp has no other way from one to the other; requests that come with it
// are refused.
const unreadMark = "Relay-Unread"

// The reasons that are no text for the client.
const (
	unreadRefused = "refused"
	unreadLarge   = "large"
)

// headerReceived decides whether the body of a request is read.
func (l Limits) headerReceived(h *fasthttp.RequestHeader) (unchanged fasthttp.RequestConfig) {
	why := framing(h)
	switch {
	case why != "":
	case h.ContentLength() == 0 || h.ContentLength() == -2:
		return unchanged // there is no body
	case l.Refuses != nil && l.Refuses(h):
		why = unreadRefused
	case h.ContentLength() > l.Body && l.Body > 0:
		why = unreadLarge
	default:
		return unchanged
	}
	h.SetContentLength(0)
	h.Del(fasthttp.HeaderExpect)
	h.SetConnectionClose()
	h.Set(unreadMark, why)
	return unchanged
}

// turnDown answers a request whose body was not read.
func turnDown(ctx *fasthttp.RequestCtx, handle fasthttp.RequestHandler, why string) {
	switch why {
	case unreadLarge:
		tooLarge(ctx)
	case unreadRefused:
		handle(ctx)
	default:
		Error(ctx, 400, "bad_request", why)
	}
}

// Unread reports whether the body of a request was left unread because the handler refuses it. A handler that has changed
// its mind since must refuse it nevertheless.
func Unread(ctx *fasthttp.RequestCtx) bool { return len(ctx.Request.Header.Peek(unreadMark)) > 0 }

// Received tells that a request is complete: from here on its answer is ours to wait for, and its connection is not one
// that may be given up for another (see Limit).
func Received(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*counted); ok {
		c.since.Store(0)
	}
}

// refused tells the connection that an answer may come before the request was read to its end.
func refused(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*counted); ok {
		c.refused.Store(true)
	}
}

// Unreadable answers a request that could not be read to its end, and closes its connection.
func Unreadable(ctx *fasthttp.RequestCtx, err error) { malformed(ctx, err) }

// malformed answers requests that never reached a handler.
func malformed(ctx *fasthttp.RequestCtx, err error) {
	defer complete(ctx)
	ctx.SetConnectionClose()
	refused(ctx)
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	var wrong disagreement
	switch {
	case errors.Is(err, errAddressFull):
		addressFull(ctx)
	case errors.As(err, &wrong) && wrong == badCount:
		answered(ctx)
		Error(ctx, 431, "headers_too_large", string(wrong))
	case errors.As(err, &wrong):
		answered(ctx)
		Error(ctx, 400, "bad_request", string(wrong))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		answered(ctx)
		tooLarge(ctx)
	case errors.As(err, &small):
		answered(ctx)
		Error(ctx, 431, "headers_too_large", "the headers are larger than 8 KiB")
	case errors.As(err, &timeout) && timeout.Timeout():
		Error(ctx, 408, "timeout", "the request did not arrive in time")
	default:
		Error(ctx, 400, "bad_request", "this is not a request that can be read")
	}
}

func tooLarge(ctx *fasthttp.RequestCtx) {
	Error(ctx, 413, "too_large", "the body is larger than server.max_body")
}

// silent drops what fasthttp would log: it quotes what strangers send.
type silent struct{}

// Printf drops a line.
func (silent) Printf(string, ...any) {}
