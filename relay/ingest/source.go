package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
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

// known reports whether a request that was screened has shown its credential, by its headers.
func (s *source) known() bool { return s.Secret.IsZero() || !s.Token.IsZero() }

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
// it, which a proxy on the way may have written differently: so when the bytes as they came don't match, or are known not to
// (failed), that form is tried, unless that would be much work for a stranger. Each is hashed once, and the form only where it is
// another text: no hash of one says anything of the other. The error is errNoRoom.
func (s *source) admit(h *fasthttp.RequestHeader, body []byte, p *canonical.Parser, failed bool, now time.Time) (refusal, error) {
	if !failed && s.verify(h, body, now, true) == nil {
		return refusal{}, nil
	}
	if s.hasForm(body) {
		form, err := p.Canonical(body)
		if errors.Is(err, errNoRoom) {
			return refusal{}, err
		}
		if err == nil && !bytes.Equal(form, body) && s.verify(h, form, now, true) == nil {
			return refusal{}, nil
		}
	}
	return s.unsigned(), nil
}

// hasForm reports whether a body may have been signed in another form than that in which it came.
func (s *source) hasForm(body []byte) bool {
	return s.Scheme == sign.SchemeRealtorBot && len(body) <= mostForm
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
