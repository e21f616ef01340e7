package admin

import (
	"fmt"
	"testing"

	"realtorbot-relay/relay/config"
)

// Of thousands of endpoints somebody wants the sums, or one.
func TestStatsOfFewerEndpoints(t *testing.T) {
	o := openHarness(t, "")
	off, other := o.crm, o.crm
	off.Name, off.Enabled, other.Name = "off", false, "other"
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm, off, other}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/stats":                        "<nil> [crm off other]",
		"/stats?summary=0":              "<nil> [crm off other]",
		"/stats?summary=1":              "map[disabled:1 up:2] []",
		"/stats?endpoint=other":         "<nil> [other]",
		"/stats?endpoint=off&summary=1": "map[disabled:1 up:2] [off]",
	} {
		status, s := o.read(path)
		names := []any{}
		list, _ := s["endpoints"].([]any)
		for _, one := range list {
			names = append(names, one.(map[string]any)["name"])
		}
		if got := fmt.Sprint(s["states"], " ", names); status != 200 || got != want {
			t.Errorf("%s is answered %d %s, want %s", path, status, got, want)
		}
		if s["version"] == nil || s["queue"] == nil || s["totals"] == nil {
			t.Errorf("%s lacks what is no endpoint's: %v", path, s)
		}
	}
	for _, path := range []string{"/stats?summary=yes", "/stats?endpoint=nobody", "/stats?endpoints=crm"} {
		if status, body := o.ask("GET", path); status != 400 || code(body) != "invalid_query" {
			t.Errorf("%s is answered %d %s", path, status, body)
		}
	}
}
