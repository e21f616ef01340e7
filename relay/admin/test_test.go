package admin

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTestEventIsSentAtOnceAlsoToAPausedEndpoint(t *testing.T) {
	o := openHarness(t, "")
	o.ask("POST", "/endpoints/crm/pause")
	status, body := o.ask("POST", "/endpoints/crm/test")
	var said map[string]any
	if err := json.Unmarshal([]byte(body), &said); err != nil || status != 200 {
		t.Fatalf("answered %d %s", status, body)
	}
	if said["delivered"] != true || said["status"] != 200.0 || said["excerpt"] != "noted" || !strings.HasPrefix(said["id"].(string), "evt_test_") {
		t.Errorf("it says %s", body)
	}
	if said["duration_ms"].(float64) <= 0 || said["timing_ms"].(map[string]any)["connect"].(float64) <= 0 {
		t.Errorf("no timing in %s", body)
	}
	if _, has := said["checks"]; has {
		t.Errorf("checks that nobody asked for: %s", body)
	}
	o.status.Store(500)
	if status, body := o.ask("POST", "/endpoints/crm/test"); status != 200 || !strings.Contains(body, `"delivered": false`) || !strings.Contains(body, `"class": "status"`) {
		t.Errorf("a refusal is answered %d %s", status, body)
	}
	if status, body := o.ask("POST", "/endpoints/nobody/test"); status != 404 || code(body) != "no_endpoint" {
		t.Errorf("nobody is answered %d %s", status, body)
	}
	if events := o.Queue.Stats().Events; events != 0 {
		t.Errorf("the queue has %d events", events)
	}
}

func TestConformanceSaysWhatToFix(t *testing.T) {
	o := openHarness(t, "")
	status, body := o.ask("POST", "/endpoints/crm/test?conformance=1")
	var said struct {
		Conforms bool
		Checks   []struct {
			Check, Result, Note string
			Answer              struct{ Status int }
		}
	}
	if err := json.Unmarshal([]byte(body), &said); err != nil || status != 200 {
		t.Fatalf("answered %d %s", status, body)
	}
	// The harness's receiver takes everything.
	want := map[string]string{"accepts_signed": "pass", "answers_fast": "pass", "accepts_repeat": "pass", "refuses_wrong_signature": "fail", "refuses_unsigned": "fail"}
	for _, c := range said.Checks {
		if c.Result != want[c.Check] || c.Note == "" || c.Answer.Status != 200 {
			t.Errorf("check %+v, want %s", c, want[c.Check])
		}
		delete(want, c.Check)
	}
	if said.Conforms || len(want) > 0 {
		t.Errorf("conforms %v; not checked: %v", said.Conforms, want)
	}
}
