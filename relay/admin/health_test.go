package admin

import (
	"strings"
	"testing"
	"time"
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
	o := openOffice(t, "")
	if _, body := o.ask("GET", "/stats"); strings.Contains(body, `"certificate"`) {
		t.Errorf("without TLS: %s", body)
	}
	o.Certificate = func() (time.Time, string) { return time.Now().Add(3*24*time.Hour + time.Hour), "" }
	if _, body := o.ask("GET", "/stats"); !strings.Contains(body, `"days_left": 3`) || !strings.Contains(body, "ends in 3 days") {
		t.Errorf("with TLS: %s", body)
	}
}
