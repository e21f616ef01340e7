package delivery

import (
	"strconv"
	"time"

	"realtorbot-relay/relay/config"
)

// Kind is what becomes of a delivery after an attempt.
type Kind uint8

// The kinds.
const (
	Delivered Kind = iota + 1 // done
	Retry                     // another attempt after Verdict.Wait
	Failed                    // given up; goes to the endpoint's failed list
	Gone                      // 410: the endpoint is to be paused; the delivery is held, and this attempt is not charged to it
)

// String is the kind's name in logs.
func (k Kind) String() string {
	switch k {
	case Delivered:
		return "delivered"
	case Retry:
		return "retry"
	case Failed:
		return "failed"
	case Gone:
		return "gone"
	}
	return "unknown"
}

// holdLimit is the longest that an answer's Retry-After can hold an endpoint.
const holdLimit = time.Hour

// Verdict is what an attempt's outcome means.
type Verdict struct {
	Kind Kind

	// Wait is the time before the next attempt of this delivery, for Retry alone. It is never less than the schedule
	// says, nor less than HoldEndpoint.
	Wait time.Duration

	// HoldEndpoint, when not 0, is how long the whole endpoint is to be left alone, at most an hour: it answered 429 or
	// 503 with Retry-After. It may come with Failed as well.
	HoldEndpoint time.Duration

	// Reason is one line for operators, free of secrets; empty for Delivered.
	Reason string
}

// Judge says what o means under policy p. attempt is the number of the attempt just made, from 1, not counting those
// that were not charged. o must not be Aborted. Judge knows nothing of the machine's being offline: whoever has seen all
// endpoints Unreachable doesn't ask.
//
// The success codes come first, also when they name 410 or a redirect. An answer that did not end in time is a timeout
// whatever its status.
func Judge(o Outcome, attempt int, p config.Delivery) Verdict {
	answered := o.Class == ClassNone || o.Class == ClassStatus
	if answered && p.Success.Has(o.Status) {
		return Verdict{Kind: Delivered}
	}
	reason := o.Err
	if answered && reason == "" {
		reason = statusFault(o.Status).text
	}
	if answered && o.Status == 410 {
		return Verdict{Kind: Gone, Reason: reason}
	}

	v := Verdict{Kind: Failed, Reason: reason}
	if answered && (o.Status == 429 || o.Status == 503) {
		v.HoldEndpoint = min(max(o.RetryAfter, 0), holdLimit)
	}
	attempt = max(attempt, 1)
	if attempt > len(p.Retry) {
		v.Reason = "gave up after " + strconv.Itoa(attempt) + plural(attempt, " attempt") + ": " + reason
		return v
	}
	v.Kind = Retry
	v.Wait = max(p.Retry[attempt-1], v.HoldEndpoint)
	return v
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
