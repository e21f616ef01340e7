package client

import (
	"net/http"
	"strings"
	"time"
)

// retryAfterLimit keeps absurd values within what a Duration can hold. How long an endpoint is really held is for the verdict
// to say.
const retryAfterLimit = 365 * 24 * time.Hour

// parseRetryAfter reads the value of a Retry-After header (RFC 9110, section 10.2.3): seconds, or an HTTP date. It takes a date
// relative to date, the answer's own Date header, so that the clocks need not agree, or to now when there is no good one. It
// returns 0 for a value that is missing, malformed, zero or past, and at most a year.
func parseRetryAfter(value, date string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if seconds, ok := parseSeconds(value); ok {
		return seconds
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(strings.Trim(date, " \t")); err == nil {
		now = sent
	}
	return min(max(until.Sub(now), 0), retryAfterLimit)
}

// parseSeconds reads digits only: no sign, no fraction. It returns at most retryAfterLimit.
func parseSeconds(value string) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	var sum time.Duration
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return 0, false
		}
		sum = min(sum*10+time.Duration(c-'0')*time.Second, retryAfterLimit)
	}
	return sum, true
}
