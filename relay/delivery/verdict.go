package delivery

import (
	"strconv"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// Kind is what becomes of a delivery after an attempt.
type Kind uint8

// The kinds.
const (
	Delivered Kind = iota + 1 // done
	Retry                     // another attempt after Verdict.Wait and the endpoint's jitter
	Failed                    // no more attempts; goes to the endpoint's failed list
	Gone                      // 410: the endpoint is to be paused; the delivery is held, and this attempt is not charged to it
	Later                     // the endpoint asked to wait; so does the delivery, and this attempt is not charged to it
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
	case Later:
		return "later"
	}
	return "unknown"
}

// holdLimit is the longest that an answer's Retry-After can hold an endpoint.
const holdLimit = time.Hour

// Verdict is what an attempt's outcome means.
type Verdict struct {
	Kind Kind

	// Alive is set when the outcome shows that the receiver is alive, even if it refuses this one event.
	Alive bool

	// Wait is the time before the next attempt of this delivery that the schedule says, for Retry alone.
	Wait time.Duration

	// Hold is how long the whole endpoint asked to wait, at most an hour, for Later alone; 0 when it named no time.
	Hold time.Duration

	// Reason is one line for operators, free of secrets; empty for Delivered.
	Reason string
}

// Judge says what o means under policy p. attempt is the number of the attempt just made, from 1, not counting those
// that were not charged. o must not be Aborted. Judge does not know how the endpoint was before, nor whether this machine is
// offline: the gate does, and may leave an attempt uncharged whatever its verdict.
//
// The success codes come first, also when they name 410 or a redirect. The status decides, whatever became of the body behind it.
func Judge(o client.Outcome, attempt int, p config.Delivery) Verdict {
	answered := o.Class == client.ClassNone || o.Class == client.ClassStatus
	if answered && p.Success.Has(o.Status) {
		return Verdict{Kind: Delivered, Alive: true}
	}
	v := Verdict{Kind: Failed, Reason: o.Err}
	if answered && v.Reason == "" {
		v.Reason = client.StatusText(o.Status)
	}
	switch {
	case !answered:
	case o.Status == 410:
		v.Kind = Gone
		return v
	case o.Status == 429, o.Status == 503 && o.RetryAfter > 0:
		v.Kind, v.Hold = Later, min(max(o.RetryAfter, 0), holdLimit)
		return v
	default:
		v.Alive = refusesTheEvent(o.Status)
	}
	attempt = max(attempt, 1)
	if attempt > len(p.Retry) {
		v.Reason = "gave up after " + strconv.Itoa(attempt) + plural(attempt, " attempt") + ": " + v.Reason
		return v
	}
	v.Kind, v.Wait = Retry, p.Retry[attempt-1]
	return v
}

// refusesTheEvent reports whether an answer says that the receiver is alive and refuses this one event. The other codes of 4xx may
// be meant for every event: a credential, a proxy, a route that is missing, a receiver that is not ready.
func refusesTheEvent(status int) bool {
	switch status {
	case 401, 403, 404, 407, 408, 410, 425, 429:
		return false
	}
	return status >= 400 && status < 500
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
