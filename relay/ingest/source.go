package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// source is one configured source, ready to check requests. Its methods are safe for concurrent use.
type source struct {
	config.Source
	standard []sign.StandardKey
	limit    *rate.Limiter // nil without a limit
	tally    *tally
	alone    bool // there is no other
	open     bool // it asks for no credential
}

// timestampTolerance is how far a Standard Webhooks timestamp may be from now, both ways (the specification leaves the
// figure to implementations; five minutes is what its libraries use).
const timestampTolerance = 5 * time.Minute

func newSource(c config.Source) (*source, error) {
	s := &source{Source: c, tally: new(tally), open: c.Token.IsZero() && c.Secret.IsZero()}
	switch {
	case c.Secret.IsZero() || c.Scheme == sign.SchemeRealtorBot: // the secret is the key
	case c.Scheme == sign.SchemeStandard:
		for _, secret := range []sign.Secret{c.Secret, c.PreviousSecret} {
			if secret.IsZero() {
				continue
			}
			key, err := sign.ParseStandardKey(secret)
			if err != nil {
				return nil, fmt.Errorf("prepare source %q: %w", c.Name, err)
			}
			s.standard = append(s.standard, key)
		}
	default:
		return nil, fmt.Errorf("prepare source %q: no code verifies the scheme %q", c.Name, c.Scheme)
	}
	if c.Rate > 0 {
		s.limit = rate.NewLimiter(rate.Limit(c.Rate), max(1, int(math.Ceil(min(c.Rate, math.MaxInt32)))))
	}
	return s, nil
}

// refusal is why a request is answered with an error; its zero value is none.
type refusal struct {
	status     int
	code       string
	message    string
	retryAfter int    // seconds; 0 for none
	reason     string // of reasons, with 503
}

var (
	notFound    = refusal{status: 404, code: "not_found", message: "no source has this path"}
	notPosted   = refusal{status: 405, code: "method_not_allowed", message: "events are posted: use POST"}
	notAllowed  = refusal{status: 403, code: "forbidden", message: "this source takes no requests from this address"}
	notHere     = refusal{status: 403, code: "forbidden", message: "this source asks for no credential and takes requests to localhost alone, which Host is not: set its token"}
	noToken     = unauthorized("this source asks for \"Authorization: Bearer\" with its token, which is missing or wrong")
	noSignature = unauthorized("this source asks for a signature of the body in X-RealtorBot-Signature, which is missing or wrong")
	noStandard  = unauthorized("this source asks for a Standard Webhooks signature, which is missing, wrong or too old")
	noMedia     = refusal{status: 415, code: "unsupported_media_type", message: "the header Content-Type must be application/json or application/x-ndjson (with curl: -H 'Content-Type: application/json')"}
	noCoding    = refusal{status: 415, code: "unsupported_media_type", message: "the header Content-Encoding must be gzip or zstd, or be left out"}
	stopping    = unavailable("stopping", "the relay is stopping", 2)
	reloaded    = unavailable("reloaded", "the relay was reloaded while this request came", 1)
	overloaded  = unavailable("overloaded", "the relay is overloaded", 1)
	full        = refusal{status: 503, code: SourceFull, message: "the relay keeps as much of this source's events as its max_queued allows: post again later, with the same id",
		retryAfter: 60, reason: SourceFull}
	aboveShare = refusal{status: 413, code: "too_large", message: "the events of this request are, in the form in which they are kept, more than this source's max_queued: post fewer at a time"}
)

func unauthorized(message string) refusal {
	return refusal{status: 401, code: "unauthorized", message: message}
}

func unavailable(reason, why string, retryAfter int) refusal {
	return refusal{status: 503, code: "unavailable", message: why, retryAfter: retryAfter, reason: reason}
}

// tooMany is for a client that posts faster than the source's rate.
func tooMany(wait time.Duration) refusal {
	return refusal{status: 429, code: "too_many_requests", message: "this source takes no more requests for now",
		retryAfter: int(math.Ceil(wait.Seconds()))}
}

// admitsFrom reports whether clients at this address may post here.
func (s *source) admitsFrom(address netip.Addr) bool {
	if len(s.Allow) == 0 || !address.IsValid() {
		return true
	}
	for _, network := range s.Allow {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// screen refuses by the headers alone: a wrong token, and a signature that can't be one of any body.
func (s *source) screen(h *fasthttp.RequestHeader, now time.Time) refusal {
	if !s.Token.IsZero() {
		presented, ok := answer.Bearer(h)
		current, previous := s.Token.Admits(presented), s.PreviousToken.Admits(presented) // always both
		if !ok || !current && !previous {
			return noToken
		}
	}
	// Without a key to compare with, all that a verification can say of a sound signature is that there is none.
	if !s.Secret.IsZero() && !errors.Is(s.verify(h, nil, now, false), sign.ErrNoKey) {
		return s.unsigned()
	}
	return refusal{}
}

// verify checks the signature over a body, or, without keys, whether it has the form of one.
func (s *source) verify(h *fasthttp.RequestHeader, body []byte, now time.Time, keys bool) error {
	if s.Scheme == sign.SchemeStandard {
		var with []sign.StandardKey
		if keys {
			with = s.standard
		}
		return sign.VerifyStandard(string(h.Peek("Webhook-Signature")), string(h.Peek("Webhook-Id")),
			string(h.Peek("Webhook-Timestamp")), body, now, timestampTolerance, with...)
	}
	signature := string(h.Peek("X-Realtorbot-Signature"))
	if !keys {
		return sign.VerifyRealtorBot(signature, body)
	}
	return sign.VerifyRealtorBot(signature, body, s.Secret, s.PreviousSecret)
}

func (s *source) unsigned() refusal {
	if s.Scheme == sign.SchemeStandard {
		return noStandard
	}
	return noSignature
}

// admit checks the signature over the body. What Realtor Bot's documentation signs is the body as JSON.stringify writes
// it, which a proxy on the way may have written differently: so when the bytes as they came don't match, that form is
// tried, unless that would be much work for a stranger. The error is errNoRoom.
func (s *source) admit(h *fasthttp.RequestHeader, body []byte, p *canonical.Parser, now time.Time) (refusal, error) {
	if s.verify(h, body, now, true) == nil {
		return refusal{}, nil
	}
	if s.Scheme == sign.SchemeRealtorBot && len(body) <= mostForm {
		form, err := p.Canonical(body)
		if errors.Is(err, errNoRoom) {
			return refusal{}, err
		}
		if err == nil && s.verify(h, form, now, true) == nil {
			return refusal{}, nil
		}
	}
	return s.unsigned(), nil
}

// mostForm is up to how many bytes of a body its documented form is tried as what was signed.
const mostForm = 256 << 10

// pace refuses what is more than the source's rate.
func (s *source) pace(now time.Time) refusal {
	if s.limit == nil {
		return refusal{}
	}
	r := s.limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return refusal{}
	}
	r.CancelAt(now)
	return tooMany(wait)
}

// The content types, and the ways to compress them, that bodies may have.
const (
	typeJSON = 1 + iota
	typeLines

	plain
	gzipped
	zstandard
)

// kindOf reads how a body is written; 0 for a way that nobody here knows.
func kindOf(h *fasthttp.RequestHeader) (kind, encoding int) {
	switch name := mediaType(h.ContentType()); {
	case bytes.EqualFold(name, []byte("application/json")):
		kind = typeJSON
	case bytes.EqualFold(name, []byte("application/x-ndjson")):
		kind = typeLines
	}
	switch name := h.ContentEncoding(); {
	case len(name) == 0 || bytes.EqualFold(name, []byte("identity")):
		encoding = plain
	case bytes.EqualFold(name, []byte("gzip")):
		encoding = gzipped
	case bytes.EqualFold(name, []byte("zstd")):
		encoding = zstandard
	}
	return kind, encoding
}

func mediaType(contentType []byte) []byte {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return bytes.TrimSpace(contentType)
}

// answer answers a request with a refusal.
func (r refusal) answer(ctx *fasthttp.RequestCtx) {
	switch r.status {
	case 401:
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	case 405:
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "POST")
	}
	if r.retryAfter > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(r.retryAfter))
	}
	answer.Error(ctx, r.status, r.code, r.message)
}
