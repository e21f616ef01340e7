package delivery

import (
	"testing"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

func TestVerdictFollowsOutcomeAndSchedule(t *testing.T) {
	schedule := []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}
	answered := func(status int) client.Outcome {
		return client.Outcome{Status: status, Class: client.ClassStatus, Err: "answered"}
	}
	asking := func(status int, wait time.Duration) client.Outcome {
		o := answered(status)
		o.RetryAfter = wait
		return o
	}
	trouble := func(class client.Class) client.Outcome { return client.Outcome{Class: class, Err: "trouble"} }
	ok := client.Outcome{Status: 200}

	for name, c := range map[string]struct {
		outcome client.Outcome
		attempt int
		success config.Success
		want    Verdict
	}{
		"200":                   {outcome: ok, attempt: 1, want: Verdict{Kind: Delivered, Alive: true}},
		"299":                   {outcome: client.Outcome{Status: 299}, attempt: 1, want: Verdict{Kind: Delivered, Alive: true}},
		"200, last":             {outcome: ok, attempt: 5, want: Verdict{Kind: Delivered, Alive: true}},
		"202, only 200 is well": {outcome: answered(202), attempt: 1, success: config.SuccessCodes(200), want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"302, listed":           {outcome: client.Outcome{Status: 302}, attempt: 1, success: config.SuccessCodes(200, 302), want: Verdict{Kind: Delivered, Alive: true}},
		"410, listed":           {outcome: client.Outcome{Status: 410}, attempt: 1, success: config.SuccessCodes(410), want: Verdict{Kind: Delivered, Alive: true}},
		"410":                   {outcome: answered(410), attempt: 1, want: Verdict{Kind: Gone, Reason: "answered"}},
		"410, last":             {outcome: answered(410), attempt: 5, want: Verdict{Kind: Gone, Reason: "answered"}},
		"302":                   {outcome: answered(302), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"400":                   {outcome: answered(400), attempt: 2, want: Verdict{Kind: Retry, Alive: true, Wait: 5 * time.Second, Reason: "answered"}},
		"422, last":             {outcome: answered(422), attempt: 5, want: Verdict{Kind: Failed, Alive: true, Reason: "gave up after 5 attempts: answered"}},
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
		"503, well":             {outcome: asking(503, time.Minute), attempt: 1, success: config.SuccessCodes(503), want: Verdict{Kind: Delivered, Alive: true}},
		"attempt not counted":   {outcome: answered(500), attempt: 0, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "answered"}},
		"dns":                   {outcome: trouble(client.ClassDNS), attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"blocked":               {outcome: trouble(client.ClassBlockedAddress), attempt: 5, want: Verdict{Kind: Failed, Reason: "gave up after 5 attempts: trouble"}},
		"200 that never ends":   {outcome: client.Outcome{Status: 200, Class: client.ClassTimeout, Err: "trouble"}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"410 that never ends":   {outcome: client.Outcome{Status: 410, Class: client.ClassTimeout, Err: "trouble"}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
		"429 that never ends":   {outcome: client.Outcome{Status: 429, Class: client.ClassTimeout, Err: "trouble", RetryAfter: time.Minute}, attempt: 1, want: Verdict{Kind: Retry, Wait: time.Second, Reason: "trouble"}},
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
	for _, class := range client.Classes() {
		v := Judge(client.Outcome{Class: class, Err: "trouble"}, 1, config.Delivery{Retry: []time.Duration{time.Second}})
		if v.Kind != Retry || v.Wait != time.Second {
			t.Errorf("%s: got %+v", class, v)
		}
	}
}
