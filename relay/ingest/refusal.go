package ingest

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
)

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

// notStored tells a client that its events were not stored, or not surely, and when to come again.
func (in *Intake) notStored(err error) refusal {
	switch {
	case errors.Is(err, queue.ErrSourceFull):
		return full
	case errors.Is(err, queue.ErrAboveShare):
		return aboveShare
	case errors.Is(err, queue.ErrDiskLow):
		return unavailable("disk", lacking(err), 10)
	case errors.Is(err, queue.ErrOverloaded):
		return overloaded
	case errors.Is(err, queue.ErrClosed):
		return stopping
	default:
		in.log.Error().Err(err).Msg("events could not be stored")
		return unavailable("failed", "the relay's storage failed", 5)
	}
}

// lacking says to a client what the relay has too little of.
func lacking(err error) string {
	var lack *queue.Shortage
	if !errors.As(err, &lack) {
		return "the relay's disk is low"
	}
	switch lack.Resource {
	case "inodes":
		return "the relay's disk has no inodes left"
	case "quota":
		return "the relay's disk quota is used up"
	case "descriptors":
		return "the relay can open no more files"
	}
	return "the relay's disk is low"
}

// refuse answers a request with a refusal, counts it, and logs what an operator may want to know of.
func (in *Intake) refuse(ctx *fasthttp.RequestCtx, s *source, why refusal) {
	said := ""
	switch why.status {
	case 401:
		in.counts.Unauthorized.Add(1)
		said = "request refused: credential is missing or wrong"
		if why == noToken && len(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) > 0 {
			ctx.SetConnectionClose() // so that each guess costs its client a connection
		}
	case 403:
		in.counts.Forbidden.Add(1)
		said = "request refused: it comes from an address that the source does not allow"
		if why == notHere {
			said = "request refused: a source without token and secret takes requests to localhost alone, and Host names another"
		}
	case 429:
		in.counts.Limited.Add(1)
		said = "request refused: the source's rate is used up"
	case 503:
		s.tally.unavailable(why.reason)
		if why.reason == SourceFull { // others are not touched
			in.counts.SourceFull.Add(1)
			break
		}
		in.counts.Unavailable.Add(1)
		in.unavailable.Store(&why.message)
	}
	if said != "" {
		answer.From(in.refused.Warn().Str("source", s.Name), answer.Client(ctx)).Msg(said)
	}
	why.answer(ctx)
}

// refuseBody answers a request whose body could not be had, or holds no events.
func (in *Intake) refuseBody(ctx *fasthttp.RequestCtx, s *source, err error) {
	var bad *canonical.Invalid
	switch {
	case errors.As(err, &bad):
		in.counts.Invalid.Add(1)
		answer.ErrorAt(ctx, bad.Status(), bad.Code(), bad.Reason, bad.Index)
	case errors.Is(err, errNoRoom):
		ctx.SetConnectionClose() // what is left of the body is not read
		in.refuse(ctx, s, overloaded)
	case errors.Is(err, errCorrupt):
		in.counts.Invalid.Add(1)
		answer.Error(ctx, 400, "invalid_encoding", errCorrupt.Error())
	default:
		answer.Unreadable(ctx, err)
	}
}
