package admin

import (
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

func TestACertificateThatEndsSoonIsAReason(t *testing.T) {
	now := time.Date(2024, 1, 15, 10, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for left, want := range map[time.Duration]string{
		15 * day: "", 14 * day: "", 14*day - time.Second: "ends in 13 days, on 2024-01-29", time.Hour: "ends in 0 days, on 2024-01-15",
		0: "has ended on 2024-01-15", -40 * day: "has ended on 2023-12-06",
	} {
		reasons := strings.Join(certificateReasons("server", now.Add(left), "", now), "\n")
		if want == "" && reasons != "" || !strings.Contains(reasons, want) {
			t.Errorf("%s before its end: %q, want %q", left, reasons, want)
		}
	}
	if reasons := certificateReasons("server", now.Add(15*day), "no such file", now); len(reasons) != 1 || !strings.HasSuffix(reasons[0], "no such file") {
		t.Errorf("with files that can't be used: %q", reasons)
	}
}

func TestStatsTellOfTheCertificate(t *testing.T) {
	o := openHarness(t, "")
	if _, body := o.ask("GET", "/stats"); strings.Contains(body, `"certificate"`) {
		t.Errorf("without TLS: %s", body)
	}
	o.Certificate = func() (time.Time, string) { return time.Now().Add(3*24*time.Hour + time.Hour), "" }
	if _, body := o.ask("GET", "/stats"); !strings.Contains(body, `"days_left": 3`) || !strings.Contains(body, "ends in 3 days") {
		t.Errorf("with TLS: %s", body)
	}
}

func TestHealthTellsOfEndpointsThatLagAreOutOfReachOrAskForLong(t *testing.T) {
	o := openHarness(t, "")
	long, lately := rfc3339.At(time.Now().Add(-delivery.ReportAfter-time.Minute)), rfc3339.At(time.Now().Add(-time.Minute))
	for _, c := range []struct {
		status delivery.Status
		want   string
	}{
		{delivery.Status{State: delivery.StateUp, LagSeconds: 960}, ""},
		{delivery.Status{State: delivery.StateUp, LagSeconds: 960, Lagging: true}, `endpoint "crm" lags: its oldest event has waited for 16m0s`},
		{delivery.Status{State: delivery.StatePaused, Reason: "by you", LagSeconds: 960, Lagging: true}, `endpoint "crm" is paused: by you`},
		{delivery.Status{State: delivery.StateOffline, Reason: "no route to host"}, `endpoint "crm" is offline: no route to host`},
		{delivery.Status{State: delivery.StateLimited, Reason: "answered 429", Since: lately}, ""},
		{delivery.Status{State: delivery.StateLimited, Reason: "answered 429", Since: long}, `endpoint "crm" is limited: answered 429`},
	} {
		c.status.Name = "crm"
		h := o.Admin.judge([]delivery.Status{c.status}, queue.Stats{FreeDisk: -1})
		if got := strings.Join(h.Reasons, "\n"); got != c.want || (h.Status == "ok") != (c.want == "") {
			t.Errorf("%+v: %s, %q, want %q", c.status, h.Status, got, c.want)
		}
	}
}

func TestHealthTellsWhatWasHeldTooLongForNobody(t *testing.T) {
	o := openHarness(t, "")
	const orphan = `endpoint "crm" is not configured any more, and its lane holds 1 pending or retrying and 7 failed deliveries`
	const remedy = ": bring the name back, or discard them with DELETE /endpoints/crm"
	for _, c := range []struct {
		status delivery.Status
		want   string
	}{
		{delivery.Status{State: delivery.StateDisabled, Pending: 5, Failed: 2}, ""},
		{delivery.Status{State: delivery.StateDisabled, Expired: 5}, ""}, // they were given up
		{delivery.Status{State: delivery.StateDisabled, Failed: 7, Expired: 5}, `endpoint "crm" is disabled, and 5 of its deliveries became failed (expired): ` +
			`they were held longer than queue.unserved_retention, or beyond queue.unserved_bytes`},
		{delivery.Status{State: delivery.StateOrphaned, Pending: 1, Failed: 7}, orphan + remedy},
		{delivery.Status{State: delivery.StateOrphaned, Pending: 1, Failed: 7, Expired: 5}, orphan +
			", of which 5 were held longer than queue.unserved_retention, or beyond queue.unserved_bytes" + remedy},
	} {
		c.status.Name = "crm"
		h := o.Admin.judge([]delivery.Status{c.status}, queue.Stats{FreeDisk: -1})
		if got := strings.Join(h.Reasons, "\n"); got != c.want {
			t.Errorf("%+v: %q, want %q", c.status, got, c.want)
		}
	}
}
