package delivery

import (
	"testing"
	"time"

	"realtorbot-relay/relay/config"
)

func TestVerdictFollowsOutcomeAndSchedule(t *testing.T) {
	schedule := []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}
	answered := func(status int) Outcome { return Outcome{Status: status, Class: ClassStatus, Err: "answered"} }
	asking := func(status int, wait time.Duration) Outcome {
		o := answered(status)
		o.RetryAfter = wait
		return o
	}
	trouble := func(class Class) Outcome { return Outcome{Class: class, Err: "trouble"} }
	ok := Outcome{Status: 200}

	for name, c := range map[string]struct {
		outcome Outcome
		attempt int
		success config.Success
		want    Verdict
	}{
		"200":                   {outcome: ok, attempt: 1, want: Verdict{Kind: Delivered, Lives: true}},
		"299":                   {outcome: Outcome{Status: 299}, attempt: 1, want: Verdict{Kind: Delivered, Lives: true}},
		"200, last":             {outcome: ok, attempt: 5, want: Verdict{Kind: Delivered, Lives: true}},
		"202, only 200 is well": {outcome: answered(202), attempt: 1, success: config.SuccessCodes(200), want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"302, listed":           {outcome: Outcome{Status: 302}, attempt: 1, success: config.SuccessCodes(200, 302), want: Verdict{Kind: Delivered, Lives: true}},
		"410, listed":           {outcome: Outcome{Status: 410}, attempt: 1, success: config.SuccessCodes(410), want: Verdict{Kind: Delivered, Lives: true}},
		"410":                   {outcome: answered(410), attempt: 1, want: Verdict{Kind: Gone, Reason: "answered"}},
		"410, last":             {outcome: answered(410), attempt: 5, want: Verdict{Kind: Gone, Reason: "answered"}},
		"302":                   {outcome: answered(302), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"400":                   {outcome: answered(400), attempt: 2, want: Verdict{Kind: Retry, Lives: true, Wait: 5 * time.Second, Reason: "answered"}},
		"422, last":             {outcome: answered(422), attempt: 5, want: Verdict{Kind: Failed, Lives: true, Reason: "gave up after 5 attempts: answered"}},
		"401":                   {outcome: answered(401), attempt: 2, want: Verdict{Kind: Retry, Wait: 5 * time.Second, Reason: "answered"}},
		"500":                   {outcome: answered(500), attempt: 3, want: Verdict{Kind: Retry, Wait: 30 * time.Second, Reason: "answered"}},
		"500, fourth":           {outcome: answered(500), attempt: 4, want: Verdict{Kind: Retry, Wait: 5 * time.Minute, Reason: "answered"}},
		"500, last":             {outcome: answered(500), attempt: 5, want: Verdict{Kind: Failed, Reason: "gave up after 5 attempts: answered"}},
		"500, beyond":           {outcome: answered(500), attempt: 9, want: Verdict{Kind: Failed, Reason: "gave up after 9 attempts: answered"}},
		"429, plain":            {outcome: answered(429), attempt: 1, want: Verdict{Kind: Later, Reason: "answered"}},
		"503, plain":            {outcome: answered(503), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"429, asking more":      {outcome: asking(429, 10*time.Second), attempt: 1, want: Verdict{Kind: Later, Hold: 10 * time.Second, Reason: "answered"}},
		"503, asking less":      {outcome: asking(503, 10*time.Second), attempt: 4, want: Verdict{Kind: Later, Hold: 10 * time.Second, Reason: "answered"}},
		"503, asking a day":     {outcome: asking(503, 24*time.Hour), attempt: 1, want: Verdict{Kind: Later, Hold: time.Hour, Reason: "answered"}},
		"503, last":             {outcome: asking(503, time.Minute), attempt: 5, want: Verdict{Kind: Later, Hold: time.Minute, Reason: "answered"}},
		"500, asking":           {outcome: asking(500, time.Minute), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"503, well":             {outcome: asking(503, time.Minute), attempt: 1, success: config.SuccessCodes(503), want: Verdict{Kind: Delivered, Lives: true}},
		"attempt not counted":   {outcome: answered(500), attempt: 0, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"dns":                   {outcome: trouble(ClassDNS), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"blocked":               {outcome: trouble(ClassBlockedAddress), attempt: 5, want: Verdict{Kind: Failed, Reason: "gave up after 5 attempts: trouble"}},
		"200 that never ends":   {outcome: Outcome{Status: 200, Class: ClassTimeout, Err: "trouble"}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"410 that never ends":   {outcome: Outcome{Status: 410, Class: ClassTimeout, Err: "trouble"}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"429 that never ends":   {outcome: Outcome{Status: 429, Class: ClassTimeout, Err: "trouble", RetryAfter: time.Minute}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
	} {
		if got := Judge(c.outcome, c.attempt, config.Delivery{Retry: schedule, Success: c.success}); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}

	want := Verdict{Kind: Failed, Reason: "gave up after 1 attempt: answered"}
	if got := Judge(answered(500), 1, config.Delivery{}); got != want {
		t.Errorf("without retries: got %+v, want %+v", got, want)
	}
}

func TestEveryFailureClassIsRetried(t *testing.T) {
	for _, class := range Classes() {
		v := Judge(Outcome{Class: class, Err: "trouble"}, 1, config.Delivery{Retry: []time.Duration{time.Second}})
		if v.Kind != Retry || v.Wait != time.Second {
			t.Errorf("%s: got %+v", class, v)
		}
	}
}

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
		if got := ParseRetryAfter(c.value, c.date, now); got != c.want {
			t.Errorf("%q, Date %q: got %v, want %v", c.value, c.date, got, c.want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:05:00 GMT")
	f.Add("Friday, 02-Jan-26 03:05:05 GMT", "Fri Jan  2 03:05:05 2026")
	f.Add("99999999999999999999", "-1")
	f.Fuzz(func(t *testing.T, value, date string) {
		got := ParseRetryAfter(value, date, time.Unix(1767323045, 0))
		if got < 0 || got > retryAfterLimit {
			t.Errorf("%q, Date %q: got %v", value, date, got)
		}
	})
}
