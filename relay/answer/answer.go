// Package answer has the form of the relay's answers over HTTP, which is the same on both listeners, and the limits of the
// servers behind them.
//
// Every error is {"error":{"code":…,"message":…}}, for one event of a batch with its "index". Codes are stable; messages
// are for people.
package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

const contentType = "application/json"

// JSON answers with a body that is JSON already and ends in a newline, for those who read it on a terminal. The body is
// copied.
func JSON(ctx *fasthttp.RequestCtx, status int, body []byte) {
	ctx.Response.Header.SetContentType(contentType)
	ctx.Response.SetStatusCode(status)
	ctx.Response.SetBody(body)
}

// Value answers with v as indented JSON, for those who read it with curl.
func Value(ctx *fasthttp.RequestCtx, status int, v any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // it is no page, and people compare it with what they posted
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		Error(ctx, 500, "internal", "the answer could not be written")
		return
	}
	JSON(ctx, status, body.Bytes())
}

// Error answers with an error.
func Error(ctx *fasthttp.RequestCtx, status int, code, message string) {
	ErrorAt(ctx, status, code, message, -1)
}

// ErrorAt answers with an error that concerns one event of a batch; -1 for none.
func ErrorAt(ctx *fasthttp.RequestCtx, status int, code, message string, index int) {
	out := append([]byte(`{"error":{"code":`), strconv.Quote(code)...)
	out = append(out, `,"message":`...)
	text, _ := json.Marshal(message) // a string always marshals
	out = append(out, text...)
	if index >= 0 {
		out = append(out, `,"index":`...)
		out = strconv.AppendInt(out, int64(index), 10)
	}
	out = append(out, "}}\n"...)
	JSON(ctx, status, out)
}

// Bearer returns the credential of an Authorization header whose scheme is Bearer, in any case (RFC 9110, section 11.1).
func Bearer(h *fasthttp.RequestHeader) (credential []byte, ok bool) {
	scheme, credential, ok := bytes.Cut(h.Peek(fasthttp.HeaderAuthorization), []byte(" "))
	return credential, ok && bytes.EqualFold(scheme, []byte("Bearer"))
}

// Limits of a server.
type Limits struct {
	Body        int // bytes
	Connections int // at a time; wrap the listener in Limit with a little less
}

const (
	readTimeout  = 30 * time.Second // a whole request: the guard against slow senders
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute
	headerBytes  = 8 << 10 // request line and headers
)

// Server makes a server around a handler. What fasthttp answers by itself has our form too, and a panic of the handler
// is one failed request: panicked gets what it said.
func Server(handle fasthttp.RequestHandler, l Limits, panicked func(any)) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			defer func() {
				if what := recover(); what != nil {
					panicked(what)
					ctx.Response.Reset()
					Error(ctx, 500, "internal", "the relay made a mistake; its log has more")
				}
			}()
			handle(ctx)
		},
		ErrorHandler:                 malformed,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		ReadBufferSize:               headerBytes,
		MaxRequestBodySize:           l.Body,
		Concurrency:                  l.Connections,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		TCPKeepalive:                 true,
		Logger:                       silent{},
	}
}

// malformed answers requests that never reached a handler.
func malformed(ctx *fasthttp.RequestCtx, err error) {
	ctx.SetConnectionClose()
	if c, ok := ctx.Conn().(*counted); ok {
		c.refused.Store(true)
	}
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		Error(ctx, 413, "too_large", "the body is larger than server.max_body")
	case errors.As(err, &small):
		Error(ctx, 431, "headers_too_large", "the headers are larger than 8 KiB")
	case errors.As(err, &timeout) && timeout.Timeout():
		Error(ctx, 408, "timeout", "the request did not arrive in time")
	default:
		Error(ctx, 400, "bad_request", "this is not a request that can be read")
	}
}

// silent drops what fasthttp would log: it quotes what strangers send.
type silent struct{}

// Printf drops a line.
func (silent) Printf(string, ...any) {}
