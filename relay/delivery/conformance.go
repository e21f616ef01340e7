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

// TestResult is what came of an event that was sent to an endpoint at once, past its lane.
type TestResult struct {
	Outcome   client.Outcome
	Delivered bool    // the verdict on it would be Delivered
	Checks    []Check // of the receiver; none without checks
}

// Check is one thing that a receiver has to do, and whether it does it.
type Check struct {
	Name    string          `json:"check"`
	Result  string          `json:"result"`
	Note    string          `json:"note"` // what it did, and what to fix
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

// The results of a check.
const (
	Passed  = "pass"
	Missed  = "fail"
	Skipped = "skipped" // something else has to be fixed first
)

// testLimit is how long one attempt of a test may take, whatever the endpoint's own timeout: somebody waits for it.
const testLimit = 30 * time.Second

// SendTest sends an event to an endpoint once, now, whatever state the endpoint is in. Nothing is stored, counted, retried or held
// because of it; only the endpoint's clock is read from the answer. With checks it sends the event up to four times, signed rightly,
// wrongly and not at all, and judges the receiver. found is false when no endpoint of that name is configured. SendTest waits for the
// receiver, for 30 s at most with each attempt; when ctx ends, the attempt under way is cut short. It takes no lock.
func (d *Dispatcher) SendTest(ctx context.Context, name string, request client.Request, checks bool) (result TestResult, found bool, err error) {
	lane := d.Lane(name)
	if lane == nil {
		return TestResult{}, false, nil
	}
	configured := lane.endpoint()
	if configured == nil { // removed just now
		return TestResult{}, false, nil
	}
	ep := *configured
	timeout := ep.Delivery.Timeout
	ep.Delivery.Timeout = min(timeout, testLimit)
	post := func(ep config.Endpoint, attempt int) (*client.Outcome, error) {
		c, err := client.New(&ep, d.version, d.machine, &lane.tally.skew)
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
		return TestResult{}, true, err
	}
	result = TestResult{Outcome: *first, Delivered: first.Class == client.ClassNone}
	if !checks {
		return result, true, nil
	}
	r := conformance{timeout: timeout, signed: !ep.Secret.IsZero(), chat: ep.Format == config.FormatSlack, first: first}
	if result.Delivered {
		if r.repeat, err = post(ep, 2); err != nil {
			return result, true, err
		}
	}
	if result.Delivered && r.signed && !r.chat {
		wrong, unsigned := ep, ep
		wrong.Secret, wrong.PreviousSecret = unknownSecret(), sign.Secret{}
		unsigned.Secret, unsigned.PreviousSecret = sign.Secret{}, sign.Secret{}
		unsigned.Signatures = []string{sign.SchemeRealtorBot} // this scheme adds no header without a secret
		if r.wrong, err = post(wrong, 1); err != nil {
			return result, true, err
		}
		if r.unsigned, err = post(unsigned, 1); err != nil {
			return result, true, err
		}
	}
	result.Checks = r.judge()
	return result, true, nil
}

// unknownSecret is a key that no receiver knows, for both schemes.
func unknownSecret() sign.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return sign.NewSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
}

// conformance is how a receiver answered the test event; nil where it was not sent.
type conformance struct {
	timeout                        time.Duration
	signed                         bool // the endpoint has a secret
	chat                           bool // chats check no signature
	first, repeat, wrong, unsigned *client.Outcome
}

// judge is a pure function of the outcomes.
func (r *conformance) judge() []Check {
	return []Check{r.accepts(), r.fast(), r.acceptsRepeat(),
		r.refuses(CheckWrong, r.wrong, "signed with a secret that it can't know"),
		r.refuses(CheckUnsigned, r.unsigned, "without any signature")}
}

func (r *conformance) accepts() Check {
	c := Check{Name: CheckAccepts, Result: Passed, Note: fmt.Sprintf("it answered %d", r.first.Status), Outcome: r.first}
	if r.first.Class == client.ClassNone {
		return c
	}
	c.Result, c.Note = Missed, "it must answer an event with a success code: "+r.first.Err
	if r.signed && (r.first.Status == 401 || r.first.Status == 403 || r.first.Status == 400) {
		c.Note += "; if it refuses the signature, compare the secrets, and see what `realtorbot-relay verify` says"
	}
	return c
}

func (r *conformance) fast() Check {
	if r.repeat == nil {
		return skipped(CheckFast)
	}
	took := max(r.first.Took, r.repeat.Took)
	c := Check{Name: CheckFast, Result: Passed, Outcome: r.first,
		Note: fmt.Sprintf("the slower of two answers took %s; half of its timeout is %s", rounded(took), rounded(r.timeout/2))}
	if took > r.timeout/2 {
		c.Result = Missed
		c.Note += ": answer first and do slow work afterwards, or raise timeout"
	}
	return c
}

func (r *conformance) acceptsRepeat() Check {
	if r.repeat == nil {
		return skipped(CheckRepeat)
	}
	c := Check{Name: CheckRepeat, Result: Passed, Outcome: r.repeat,
		Note: fmt.Sprintf("it answered %d to an event that it has already", r.repeat.Status)}
	if r.repeat.Class != client.ClassNone {
		c.Result = Missed
		c.Note = "deliveries come at least once: answer a success code to a webhook-id that you have already: " + r.repeat.Err
	}
	return c
}

// refuses needs an answer: an error of the connection is no refusal.
func (r *conformance) refuses(name string, o *client.Outcome, how string) Check {
	switch {
	case r.chat:
		return Check{Name: name, Result: Skipped, Note: "a chat's webhook checks no signature: its URL is the secret"}
	case !r.signed:
		return Check{Name: name, Result: Skipped, Note: "the endpoint has no secret, so nothing is signed: set secret and have the receiver check the signature"}
	case o == nil:
		return skipped(name)
	case o.Class == client.ClassNone:
		return Check{Name: name, Result: Missed, Outcome: o, Note: fmt.Sprintf(
			"it answered %d to an event %s: anybody can post to it; verify the signature over the raw body before anything else, and answer 401", o.Status, how)}
	case o.Status >= 400 && o.Status < 500:
		return Check{Name: name, Result: Passed, Outcome: o, Note: fmt.Sprintf("it answered %d to an event %s", o.Status, how)}
	}
	return Check{Name: name, Result: Missed, Outcome: o, Note: "it must answer an event " + how + " with 401: " + o.Err}
}

func skipped(name string) Check {
	return Check{Name: name, Result: Skipped, Note: "first it has to accept a signed event"}
}

func rounded(d time.Duration) time.Duration { return d.Round(max(d/1000, time.Microsecond)) }
