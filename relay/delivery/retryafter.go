package delivery

import (
	"strings"
	"time"
)

// retryAfterLimit keeps absurd values within what a Duration holds; what is done with the value is Judge's.
const retryAfterLimit = 365 * 24 * time.Hour

// The three forms of an HTTP-date, the preferred one first (RFC 9110, section 5.6.7).
var httpDateLayouts = [...]string{
	"Mon, 02 Jan 2006 15:04:05 GMT",
	"Monday, 02-Jan-06 15:04:05 GMT",
	"Mon Jan _2 15:04:05 2006",
}

// ParseRetryAfter reads the value of a Retry-After header: delta-seconds, or an HTTP-date, which is taken relative to
// the answer's own Date header (date) so that the clocks need not agree, or to now when there is no good one (RFC 9110,
// section 10.2.3). It returns 0 for a value that is missing, garbage, zero or past, and at most a year.
func ParseRetryAfter(value, date string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if seconds, ok := parseSeconds(value); ok {
		return seconds
	}
	until, ok := parseHTTPDate(value)
	if !ok {
		return 0
	}
	if sent, ok := parseHTTPDate(strings.Trim(date, " \t")); ok {
		now = sent
	}
	return min(max(until.Sub(now), 0), retryAfterLimit)
}

// parseSeconds reads digits alone: no sign, no fraction. Beyond the limit it stays at the limit.
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

func parseHTTPDate(value string) (time.Time, bool) {
	if len(value) < len("Mon Jan _2 15:04:05 2006") || len(value) > len("Wednesday, 02-Jan-06 15:04:05 GMT") {
		return time.Time{}, false
	}
	for _, layout := range httpDateLayouts {
		if t, err := time.Parse(layout, value); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
