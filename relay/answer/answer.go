package answer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/valyala/fasthttp"
)

const contentType = "application/json"

// JSON answers with a body that is JSON already and ends in a newline, for those who read it on a terminal. The body is
// copied.
func JSON(ctx *fasthttp.RequestCtx, status int, body []byte) {
	begin(ctx, status)
	ctx.Response.SetBody(body)
}

// Stream answers with a body of so many bytes that is JSON already, which is read while it is sent, and closed after that.
func Stream(ctx *fasthttp.RequestCtx, status int, body io.ReadCloser, size int) {
	begin(ctx, status)
	ctx.Response.SetBodyStream(body, size)
}

var (
	cacheControl, noStore = []byte("Cache-Control"), []byte("no-store")
	typeOptions, noSniff  = []byte("X-Content-Type-Options"), []byte("nosniff")
)

func begin(ctx *fasthttp.RequestCtx, status int) {
	ctx.Response.Header.SetContentType(contentType)
	ctx.Response.SetStatusCode(status)
}

// complete adds what all answers have: nobody takes them for something else than they say they are, and they are of this moment, but
// for those that say themselves how long they are good.
func complete(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetCanonical(typeOptions, noSniff)
	if len(h.PeekBytes(cacheControl)) == 0 {
		h.SetCanonical(cacheControl, noStore)
	}
}

// Head begins an answer that is written past fasthttp, and has what all answers have. lines are more of its headers, "Name: value". It
// is the last answer of its connection.
func Head(status int, kind string, lines ...string) []byte {
	head := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n%s: %s\r\n%s: %s\r\nConnection: close\r\n", status, fasthttp.StatusMessage(status), kind,
		cacheControl, noStore, typeOptions, noSniff)
	for _, line := range lines {
		head = append(append(head, line...), "\r\n"...)
	}
	return append(head, "\r\n"...)
}

// Value answers with v as indented JSON, for those who read it with curl. All of it is in memory.
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
	JSON(ctx, status, failure(code, message, index))
}

// Failure is the body of an error, for an answer that is written past fasthttp.
func Failure(code, message string) []byte { return failure(code, message, -1) }

func failure(code, message string, index int) []byte {
	out := append([]byte(`{"error":{"code":`), strconv.Quote(code)...)
	out = append(out, `,"message":`...)
	text, _ := json.Marshal(message) // a string always marshals
	out = append(out, text...)
	if index >= 0 {
		out = append(out, `,"index":`...)
		out = strconv.AppendInt(out, int64(index), 10)
	}
	return append(out, "}}\n"...)
}

// Bearer returns the credential of an Authorization header whose scheme is Bearer, in any case (RFC 9110, section 11.1).
func Bearer(h *fasthttp.RequestHeader) (credential []byte, ok bool) {
	scheme, credential, ok := bytes.Cut(h.Peek(fasthttp.HeaderAuthorization), []byte(" "))
	return credential, ok && bytes.EqualFold(scheme, []byte("Bearer"))
}
