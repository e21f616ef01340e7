package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

func TestCertificatesThatEndSoonMakeItDegraded(t *testing.T) {
	o := openHarness(t, "")
	if status, text := o.ask("GET", "/health"); status != 200 || !strings.Contains(text, `"ok"`) {
		t.Errorf("got %d %s", status, text)
	}
	in := func(days int) rfc3339.Time {
		return rfc3339.At(time.Now().Add(time.Duration(days)*24*time.Hour + time.Hour).UTC().Truncate(time.Second))
	}
	soon, over := in(13), in(-2)
	h := o.judge([]delivery.Status{
		{Name: "late", State: delivery.StateUp, CertificateExpires: in(14), ClientCertificateExpires: in(90)},
		{Name: "soon", State: delivery.StateUp, CertificateExpires: soon, ClientCertificateExpires: over},
		{Name: "none", State: delivery.StateUp},
	}, queue.Stats{})
	want := []string{
		`endpoint "soon": its receiver's certificate ends on ` + soon.Format(time.RFC3339) + ": have it renewed",
		`endpoint "soon": client_cert ends on ` + over.Format(time.RFC3339) + ": have it renewed",
	}
	if h.Status != "degraded" || !slices.Equal(h.Reasons, want) {
		t.Errorf("got %s, %q, want %q", h.Status, h.Reasons, want)
	}
}
