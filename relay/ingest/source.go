package ingest

import (
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// source is one configured source, ready to check requests.
type source struct {
	config.Source
	standard []sign.StandardKey
}

// timestampTolerance is how far a Standard Webhooks timestamp may be from now, both ways (the specification leaves the
// figure to implementations; five minutes is what its libraries use).
const timestampTolerance = 5 * time.Minute

func newSource(c config.Source) (*source, error) {
	s := &source{Source: c}
	if c.Scheme == config.SchemeStandard {
		key, err := sign.ParseStandardKey(c.Secret)
		if err != nil {
			return nil, fmt.Errorf("prepare source %q: %w", c.Name, err)
		}
		s.standard = []sign.StandardKey{key}
	}
	return s, nil
}

// refusal is why a request has no business here; empty when it has.
type refusal string

const (
	noToken     refusal = "this source asks for \"Authorization: Bearer\" with its token, which is missing or wrong"
	noSignature refusal = "this source asks for a signature of the body in X-RealtorBot-Signature, which is missing or wrong"
	noStandard  refusal = "this source asks for a Standard Webhooks signature, which is missing, wrong or too old"
)

// admit checks every credential that is configured, over the body as it came.
func (s *source) admit(r *fasthttp.Request, now time.Time) refusal {
	if !s.Token.IsZero() {
		if presented, ok := answer.Bearer(&r.Header); !ok || !s.Token.Admits(presented) {
			return noToken
		}
	}
	if s.Secret.IsZero() {
		return ""
	}
	if s.Scheme == config.SchemeStandard {
		h := &r.Header
		err := sign.VerifyStandard(string(h.Peek("Webhook-Signature")), string(h.Peek("Webhook-Id")),
			string(h.Peek("Webhook-Timestamp")), r.Body(), now, timestampTolerance, s.standard...)
		if err != nil {
			return noStandard
		}
		return ""
	}
	if sign.VerifyRealtorBot(string(r.Header.Peek("X-Realtorbot-Signature")), r.Body(), s.Secret) != nil {
		return noSignature
	}
	return ""
}
