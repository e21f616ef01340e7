package admin

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"realtorbot-relay/relay/delivery"
)

// example is a path that a route takes.
func (r *route) example() string {
	return strings.NewReplacer("{name}", "crm", "{id}", "r1", "{event}", "evt_1").Replace(r.path)
}

// A parameter that a route does not have, one that is given twice, and a body where none belongs are refused before anything is
// done: who misspells a dry run must not have it run.
func TestRoutesRefuseWhatDoesNotBelongToThem(t *testing.T) {
	o := openHarness(t, "")
	reloads := 0
	o.Reload = func(bool, bool) (Reload, error) { reloads++; return Reload{}, nil }
	for i := range routeTable {
		r := &routeTable[i]
		for _, query := range []string{"none=1", "none", "%00=", "Dry_run=1", "dryrun=1"} {
			if answer, body := o.exchange(r.method, r.example()+"?"+query, ""); answer.StatusCode != 400 || code(body) != "invalid_query" {
				t.Errorf("%s %s?%s: %d %s", r.method, r.path, query, answer.StatusCode, body)
			}
		}
		for _, name := range r.params {
			if answer, body := o.exchange(r.method, r.example()+"?"+name+"=1&"+name+"=0", ""); answer.StatusCode != 400 || code(body) != "invalid_query" {
				t.Errorf("%s %s with %s twice: %d %s", r.method, r.path, name, answer.StatusCode, body)
			}
		}
		if r.flags&takesBody == 0 {
			for _, length := range []int64{2, -1} { // -1: in chunks
				request, err := http.NewRequest(r.method, o.url+r.example(), io.NopCloser(strings.NewReader("{}")))
				if err != nil {
					t.Fatal(err)
				}
				request.ContentLength = length
				answer, err := http.DefaultTransport.RoundTrip(request)
				if err != nil {
					t.Fatalf("%s %s with a body: %v", r.method, r.path, err)
				}
				body, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if answer.StatusCode != 400 || code(string(body)) != "unexpected_body" {
					t.Errorf("%s %s with a body of length %d: %d %s", r.method, r.path, length, answer.StatusCode, body)
				}
			}
		}
	}
	if s := o.Dispatcher.Statuses()[0]; s.State != delivery.StateUp || reloads > 0 || s.Attempts > 0 {
		t.Errorf("something was done: %s, %d reloads, %d attempts", s.State, reloads, s.Attempts)
	}
}

func TestYesAndNoAreSpelledInOneWay(t *testing.T) {
	o := openHarness(t, "")
	var applied []bool
	o.Reload = func(apply, _ bool) (Reload, error) { applied = append(applied, apply); return Reload{}, nil }
	for query, status := range map[string]int{
		"dry_run=1": 200, "dry_run=yes": 400, "dry_run=true": 400, "dry_run=on": 400, "dry_run": 400, "dry_run=": 400, "dry_run=01": 400,
	} {
		if answer, body := o.exchange("POST", "/reload?"+query, ""); answer.StatusCode != status {
			t.Errorf("%s: %d %s", query, answer.StatusCode, body)
		}
	}
	if len(applied) != 1 || applied[0] {
		t.Errorf("reloads that were made, and whether they were applied: %v", applied)
	}
	if answer, _ := o.exchange("POST", "/reload?dry_run=0", ""); answer.StatusCode != 200 || len(applied) != 2 || !applied[1] {
		t.Errorf("dry_run=0: %d, %v", answer.StatusCode, applied)
	}
}

func TestRoutesAreFoundByTheirPaths(t *testing.T) {
	for _, tt := range []struct{ method, path, route, name, id, event string }{
		{"HEAD", "/stats", "/stats", "", "", ""},
		{"GET", "/events/evt/1", "/events/{event}", "", "", "evt/1"},
		{"GET", "/events/", "/events/{event}", "", "", ""},
		{"POST", "/endpoints/crm/pause", "/endpoints/{name}/pause", "crm", "", ""},
		{"DELETE", "/endpoints/crm/replays/r1", "/endpoints/{name}/replays/{id}", "crm", "r1", ""},
		{"DELETE", "/endpoints/crm/replays/", "", "", "", ""},
		{"DELETE", "/endpoints/crm/replays/r1/r2", "", "", "", ""},
		{"GET", "/endpoints/crm/", "", "", "", ""},
		{"GET", "/stats/", "", "", "", ""},
	} {
		r, at, _, _ := find(tt.method, tt.path)
		if r == nil && tt.route == "" {
			continue
		}
		if r == nil || r.path != tt.route || at.name != tt.name || at.id != tt.id || at.event != tt.event {
			t.Errorf("%s %s: %+v, %+v", tt.method, tt.path, r, at)
		}
	}
}
