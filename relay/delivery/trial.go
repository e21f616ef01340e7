package delivery

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/sign"
)

// Trial is what an endpoint said to an event that was sent to it at once, past its lane.
type Trial struct {
	Outcome   client.Outcome
	Delivered bool    // as a verdict on it would say
	Checks    []Check // of the receiver; without conformance none
}

// Check is one thing that a receiver has to do, and whether it does.
type Check struct {
	Name    string          `json:"check"`
	Verdict string          `json:"verdict"`
	Says    string          `json:"says"` // what came, and what to fix
	Outcome *client.Outcome `json:"-"`    // of the attempt that shows it; nil when none was made
}

// The checks, in the order in which they are made.
const (
	CheckAccepts  = "accepts_signed"
	CheckFast     = "answers_fast"
	CheckRepeat   = "accepts_repeat"
	CheckWrong    = "refuses_wrong_signature"
	CheckUnsigned = "refuses_unsigned"
)

// The verdicts of a check.
const (
	Passed  = "pass"
	Missed  = "fail"
	Skipped = "skipped" // something else has to be put right first
)

// trialLimit is the longest that one attempt of a trial may take, whatever the endpoint's own timeout: somebody waits.
const trialLimit = 30 * time.Second

// Try sends an event to an endpoint at once and once, whatever state the endpoint is in. Nothing is kept, counted, retried
// or held because of it; of the clock of the endpoint note is taken. With conformance it sends it four times, rightly and wrongly signed, and judges the receiver.
// found is false when no endpoint of that name is configured. When ctx ends, what is under way is cut short.
func (p *Post) Try(ctx context.Context, name string, request client.Request, conformance bool) (trial Trial, found bool, err error) {
	lane := p.Lane(name)
	if lane == nil {
		return Trial{}, false, nil
	}
	configured := lane.endpoint()
	if configured == nil { // taken out this moment
		return Trial{}, false, nil
	}
	ep := *configured
	timeout := ep.Delivery.Timeout
	ep.Delivery.Timeout = min(timeout, trialLimit)
	post := func(ep config.Endpoint, attempt int) (*client.Outcome, error) {
		c, err := client.New(&ep, p.version, p.now, &lane.tally.skew)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, c.Close)()
		sent := request
		sent.Attempt = attempt
		o := c.Attempt(&sent)
		return &o, nil
	}
	first, err := post(ep, 1)
	if err != nil {
		return Trial{}, true, err
	}
	trial = Trial{Outcome: *first, Delivered: first.Class == client.ClassNone}
	if !conformance {
		return trial, true, nil
	}
	r := rehearsal{timeout: timeout, signed: !ep.Secret.IsZero(), chat: ep.Format == config.FormatSlack, first: first}
	if trial.Delivered {
		if r.repeat, err = post(ep, 2); err != nil {
			return trial, true, err
		}
	}
	if trial.Delivered && r.signed && !r.chat {
		wrong, unsigned := ep, ep
		wrong.Secret, wrong.PreviousSecret = strangerSecret(), sign.Secret{}
		unsigned.Secret, unsigned.PreviousSecret = sign.Secret{}, sign.Secret{}
		unsigned.Signatures = []string{config.SchemeRealtorBot} // which without a secret is none
		if r.wrong, err = post(wrong, 1); err != nil {
			return trial, true, err
		}
		if r.unsigned, err = post(unsigned, 1); err != nil {
			return trial, true, err
		}
	}
	trial.Checks = r.judge()
	return trial, true, nil
}

// strangerSecret is a key that no receiver knows, fit for both schemes.
func strangerSecret() sign.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return sign.NewSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
}

// rehearsal is what a receiver did with the test event; nil where it was not sent.
type rehearsal struct {
	timeout                        time.Duration
	signed                         bool // the endpoint has a secret
	chat                           bool // which checks no signature
	first, repeat, wrong, unsigned *client.Outcome
}

// judge has no clock and asks nobody.
func (r *rehearsal) judge() []Check {
	return []Check{r.accepts(), r.fast(), r.again(),
		r.refuses(CheckWrong, r.wrong, "signed with a secret that it can't know"),
		r.refuses(CheckUnsigned, r.unsigned, "without any signature")}
}

func (r *rehearsal) accepts() Check {
	c := Check{Name: CheckAccepts, Verdict: Passed, Says: fmt.Sprintf("it answered %d", r.first.Status), Outcome: r.first}
	if r.first.Class == client.ClassNone {
		return c
	}
	c.Verdict, c.Says = Missed, "it must answer an event with a success code: "+r.first.Err
	if r.signed && (r.first.Status == 401 || r.first.Status == 403 || r.first.Status == 400) {
		c.Says += "; if it refuses the signature, compare the secrets, and see what `realtorbot-relay verify` says"
	}
	return c
}

func (r *rehearsal) fast() Check {
	if r.repeat == nil {
		return skipped(CheckFast)
	}
	took := max(r.first.Took, r.repeat.Took)
	c := Check{Name: CheckFast, Verdict: Passed, Outcome: r.first,
		Says: fmt.Sprintf("the slower of two answers took %s; half of its timeout is %s", shortly(took), shortly(r.timeout/2))}
	if took > r.timeout/2 {
		c.Verdict = Missed
		c.Says += ": answer first and do slow work afterwards, or raise timeout"
	}
	return c
}

func (r *rehearsal) again() Check {
	if r.repeat == nil {
		return skipped(CheckRepeat)
	}
	c := Check{Name: CheckRepeat, Verdict: Passed, Outcome: r.repeat,
		Says: fmt.Sprintf("it answered %d to an event that it has already", r.repeat.Status)}
	if r.repeat.Class != client.ClassNone {
		c.Verdict = Missed
		c.Says = "deliveries come at least once: answer a success code to a webhook-id that you have already: " + r.repeat.Err
	}
	return c
}

// refuses wants an answer of its own accord: an error of the connection refuses nothing.
func (r *rehearsal) refuses(name string, o *client.Outcome, how string) Check {
	switch {
	case r.chat:
		return Check{Name: name, Verdict: Skipped, Says: "a chat's webhook checks no signature: its URL is the secret"}
	case !r.signed:
		return Check{Name: name, Verdict: Skipped, Says: "the endpoint has no secret, so nothing is signed: set secret and have the receiver check the signature"}
	case o == nil:
		return skipped(name)
	case o.Class == client.ClassNone:
		return Check{Name: name, Verdict: Missed, Outcome: o, Says: fmt.Sprintf(
			"it answered %d to an event %s: anybody can post to it; verify the signature over the raw body before anything else, and answer 401", o.Status, how)}
	case o.Status >= 400 && o.Status < 500:
		return Check{Name: name, Verdict: Passed, Outcome: o, Says: fmt.Sprintf("it answered %d to an event %s", o.Status, how)}
	}
	return Check{Name: name, Verdict: Missed, Outcome: o, Says: "it must answer an event " + how + " with 401: " + o.Err}
}

func skipped(name string) Check {
	return Check{Name: name, Verdict: Skipped, Says: "first it has to accept a signed event"}
}

func shortly(d time.Duration) time.Duration { return d.Round(max(d/1000, time.Microsecond)) }
