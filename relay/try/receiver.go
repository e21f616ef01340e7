package try

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/sign"
)

// seenMax is how many ids a receiver remembers to mark repeats; older ones are forgotten, so that it can run for days
// under load.
const seenMax = 1 << 16

// receiver checks and prints what is posted to it.
type receiver struct {
	secret  sign.Secret // empty: signatures are not checked
	trouble trouble
	now     func() time.Time
	colors  palette

	mu   sync.Mutex // so that events are printed whole, one after the other
	out  io.Writer
	seen seen
}

// arrival is one POST. Its strings and body are valid until the handler returns.
type arrival struct {
	at                   time.Time
	event, id            string // from the headers, else from the body
	attempt              string
	realtorBot, standard string // the signatures' headers; empty: not sent
	webhookID, timestamp string
	body                 []byte
}

// serve is the handler: any path, POST alone.
func (r *receiver) serve(ctx *fasthttp.RequestCtx) {
	if !ctx.IsPost() {
		ctx.Response.Header.Set("Allow", "POST")
		answerError(ctx, fasthttp.StatusMethodNotAllowed, "method_not_allowed", "post an event here")
		return
	}
	header := func(name string) string { return string(ctx.Request.Header.Peek(name)) }
	a := arrival{
		at:         r.now(),
		event:      header("X-RealtorBot-Event"),
		id:         header("webhook-id"),
		attempt:    header("X-RealtorBot-Attempt"),
		realtorBot: header("X-RealtorBot-Signature"),
		standard:   header("webhook-signature"),
		webhookID:  header("webhook-id"),
		timestamp:  header("webhook-timestamp"),
		body:       ctx.PostBody(),
	}
	if a.event == "" || a.id == "" {
		var named struct{ ID, Type string }
		_ = json.Unmarshal(a.body, &named) // a body that isn't an event has no names, and is shown as it is
		if a.event == "" {
			a.event = named.Type
		}
		if a.id == "" {
			a.id = named.ID
		}
	}
	finding, admitted := r.examine(a)
	status := r.trouble.decide()
	if admitted && status != 0 {
		finding += "  " + r.colors.in(yellow, fmt.Sprintf("answered %d on purpose", status))
	}
	r.print(a, finding)
	r.trouble.wait()
	switch {
	case !admitted:
		answerError(ctx, fasthttp.StatusUnauthorized, "unauthorized", "no signature matches the secret")
	case status >= 300:
		answerError(ctx, status, "rehearsed", "answered so on purpose")
	case status != 0:
		ctx.SetStatusCode(status)
	}
}

// examine checks the signatures that are there and says what came of it. admitted is false when there is a secret and
// no signature was made with it.
func (r *receiver) examine(a arrival) (finding string, admitted bool) {
	if a.realtorBot == "" && a.standard == "" {
		return r.colors.in(yellow, "unsigned"), r.secret.IsZero()
	}
	if r.secret.IsZero() {
		return r.colors.in(yellow, "signed, not checked (give -secret)"), true
	}
	var matching, failing []string
	note := func(scheme, why string) {
		if why == "" {
			matching = append(matching, scheme)
		} else {
			failing = append(failing, scheme+": "+why)
		}
	}
	if a.realtorBot != "" {
		note(sign.SchemeRealtorBot, whyRealtorBot(a.realtorBot, a.body, secrets{current: r.secret}))
	}
	if a.standard != "" {
		note(sign.SchemeStandard, whyStandard(a.standard, a.webhookID, a.timestamp, a.body, secrets{current: r.secret}, a.at))
	}
	if len(failing) == 0 {
		return r.colors.in(green, "signed ✓ "+strings.Join(matching, ", ")), true
	}
	text := "signature does NOT match: " + strings.Join(failing, "; ")
	if len(matching) > 0 {
		text += " (" + strings.Join(matching, ", ") + " matches)"
	}
	return r.colors.in(red, text), len(matching) > 0
}

// print writes the event in one piece.
func (r *receiver) print(a arrival, finding string) {
	orDash := func(text string) string {
		if text == "" {
			return "-"
		}
		return harmless(text)
	}
	parts := []string{
		a.at.Format("15:04:05.000"),
		r.colors.in(bold, orDash(a.event)),
		orDash(a.id),
		"attempt " + orDash(a.attempt),
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if a.id != "" && r.seen.before(a.id) {
		parts = append(parts, r.colors.in(yellow, "repeat"))
	}
	text := []byte(strings.Join(append(parts, finding), "  ") + "\n")
	text = appendBody(text, a.body, r.colors)
	_, _ = r.out.Write(append(text, '\n')) // when the terminal is gone there is nobody to tell
}

// seen remembers the last seenMax ids.
type seen struct {
	ids    map[string]struct{}
	oldest []string // a ring once it is full
	next   int
}

// before reports whether id was asked about before, and remembers it.
func (s *seen) before(id string) bool {
	if _, ok := s.ids[id]; ok {
		return true
	}
	if s.ids == nil {
		s.ids = make(map[string]struct{})
	}
	if len(s.oldest) < seenMax {
		s.oldest = append(s.oldest, id)
	} else {
		delete(s.ids, s.oldest[s.next])
		s.oldest[s.next] = id
		s.next = (s.next + 1) % seenMax
	}
	s.ids[id] = struct{}{}
	return false
}

// refuse answers, and prints in one line, what fasthttp couldn't read as a request. err itself isn't shown: it quotes
// headers, and one of them may be a token.
func (r *receiver) refuse(ctx *fasthttp.RequestCtx, err error) {
	status, code := fasthttp.StatusBadRequest, "bad_request"
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		status, code = fasthttp.StatusRequestEntityTooLarge, "too_large"
	case errors.As(err, &small):
		status, code = fasthttp.StatusRequestHeaderFieldsTooLarge, "headers_too_large"
	case errors.As(err, &timeout) && timeout.Timeout():
		status, code = fasthttp.StatusRequestTimeout, "timeout"
	}
	answerError(ctx, status, code, "the request could not be read")

	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%s  %s\n\n", r.now().Format("15:04:05.000"),
		r.colors.in(red, fmt.Sprintf("refused with %d %s: the request could not be read", status, code)))
}

// answerError answers in the shape that every error of the relay has. code and message are plain text of ours.
func answerError(ctx *fasthttp.RequestCtx, status int, code, message string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	fmt.Fprintf(ctx, `{"error":{"code":%q,"message":%q}}`, code, message)
}
