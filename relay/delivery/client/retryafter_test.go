package client

import (
	"testing"
	"time"
)

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const later = "Fri, 02 Jan 2026 03:05:05 GMT"
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{"\t 120 ", "", 2 * time.Minute},
		{"007", "", 7 * time.Second},
		{"99999999999999999999999999", "", retryAfterLimit},
		{later, "", time.Minute},
		{later, "Fri, 02 Jan 2026 03:05:00 GMT", 5 * time.Second},
		{later, "not a date", time.Minute},
		{later, "Fri, 02 Jan 2026 04:00:00 GMT", 0},
		{"Friday, 02-Jan-26 03:05:05 GMT", "", time.Minute},
		{"Fri Jan  2 03:05:05 2026", "", time.Minute},
		{"Thu, 01 Jan 1970 00:00:00 GMT", "", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", retryAfterLimit},
		{"", "", 0},
		{"-1", "", 0},
		{"+1", "", 0},
		{"1.5", "", 0},
		{"1e3", "", 0},
		{"1 2", "", 0},
		{"٣", "", 0},
		{"soon", "", 0},
		{"2026-01-02T03:05:05Z", "", 0},
		{"Fri, 02 Jan 2026 03:05:05 PST", "", 0},
	} {
		if got := parseRetryAfter(c.value, c.date, now); got != c.want {
			t.Errorf("%q, Date %q: got %v, want %v", c.value, c.date, got, c.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:05:00 GMT")
	f.Add("Friday, 02-Jan-26 03:05:05 GMT", "Fri Jan  2 03:05:05 2026")
	f.Add("99999999999999999999", "-1")
	f.Fuzz(func(t *testing.T, value, date string) {
		got := parseRetryAfter(value, date, time.Unix(1767323045, 0))
		if got < 0 || got > retryAfterLimit {
			t.Errorf("%q, Date %q: got %v", value, date, got)
		}
	})
}
