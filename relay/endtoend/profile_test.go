package endtoend

import (
	"strings"
	"syscall"
	"testing"
)

// The profiles are behind the admin token, at no intake, and hold no stop up.
func TestProfilesAreForTheOperatorAndHoldNoStopUp(t *testing.T) {
	t.Parallel()
	token := newSecret()
	config := "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"" + token + "\"\n[queue]\nmin_free = \"0B\"\n" +
		endpoint("crm", "http://127.0.0.1:1/")
	r := start(t, config)
	bearer := []string{"Authorization", "Bearer " + token}
	if a := r.intake.ask(t, "GET", "/debug/pprof/heap", "", bearer...); a.status != 404 {
		t.Errorf("the intake answers %d %s", a.status, a.body)
	}
	if a := r.admin.ask(t, "GET", "/debug/pprof/heap", "", "Authorization", "Bearer wrong"); a.status != 401 {
		t.Errorf("a wrong token is answered %d %s", a.status, a.body)
	}
	if a := r.admin.ask(t, "GET", "/debug/pprof/goroutine?debug=2", "", bearer...); a.status != 200 || !strings.Contains(a.body, "delivery.(*Lane)") {
		t.Errorf("the stacks: %d %.300s", a.status, a.body)
	}
	long := make(chan answer, 1)
	go func() { long <- r.admin.ask(t, "GET", "/debug/pprof/profile?seconds=30", "", bearer...) }()
	eventually(t, "the processor is profiled", func() bool {
		select {
		case a := <-long:
			t.Fatalf("the profile was answered before its time: %d %.300s", a.status, a.body)
		default:
		}
		// A profile that is in its place for a moment makes the long one a conflict: look without taking it.
		a := r.admin.ask(t, "GET", "/debug/pprof/goroutine?debug=2", "", bearer...)
		return strings.Contains(a.body, "admin.profileUntil")
	})
	if a := r.admin.ask(t, "GET", "/debug/pprof/profile?seconds=1", "", bearer...); a.status != 409 {
		t.Errorf("a second one is answered %d %.300s", a.status, a.body)
	}
	r.signal(syscall.SIGTERM)
	if code := r.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if a := <-long; a.status != 200 || a.body == "" {
		t.Errorf("the profile that the stop cut short: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
}
