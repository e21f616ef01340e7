package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/sign"
)

// acceptTyped stores one event of a type.
func (o *harness) acceptTyped(id, kind string) {
	o.t.Helper()
	events := []queue.Event{{ID: []byte(id), Type: []byte(kind), Body: []byte(`{"id":"` + id + `"}`), Lanes: o.Dispatcher.Route([]byte(kind), nil)}}
	if err := o.Queue.Append("platform", events, make([]queue.Receipt, 1)); err != nil {
		o.t.Fatal(err)
	}
}

// findIDs returns the ids on all pages.
func (o *harness) findIDs(path string) (ids []string) {
	o.t.Helper()
	for after := ""; ; {
		status, body := o.ask("GET", path+after)
		var page struct {
			Events []struct{ ID string }
			Next   string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
			o.t.Fatalf("%s answered %d %s", path, status, body)
		}
		for _, ev := range page.Events {
			ids = append(ids, ev.ID)
		}
		if page.Next == "" {
			return ids
		}
		after = "&after=" + page.Next
	}
}

func TestEventsAreFoundByTypeStatusEndpointAndTime(t *testing.T) {
	o := openHarness(t, "")
	o.acceptTyped("evt_1", "lead.created")
	o.acceptTyped("evt_2", "lead.scored")
	o.acceptTyped("evt_3", "bot.created")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 3 })
	o.status.Store(500)
	o.acceptTyped("evt_4", "lead.created")
	o.until("through", func(s delivery.Status) bool { return s.Failed == 1 })
	o.ask("POST", "/endpoints/crm/pause")
	o.acceptTyped("evt_5", "lead.created")
	now := time.Now()
	for path, want := range map[string]string{
		"/events?":                                   "evt_5 evt_4 evt_3 evt_2 evt_1",
		"/events?limit=2":                            "evt_5 evt_4 evt_3 evt_2 evt_1",
		"/events?type=lead.created":                  "evt_5 evt_4 evt_1",
		"/events?type=lead.*":                        "evt_5 evt_4 evt_2 evt_1",
		"/events?type=lead.scored,bot.created":       "evt_3 evt_2",
		"/events?status=pending":                     "evt_5",
		"/events?status=failed&endpoint=crm":         "evt_4",
		"/events?status=delivered&type=lead.created": "evt_1",
		"/events?status=retrying":                    "",
		"/events?source=platform&type=bot.*":         "evt_3",
		"/events?source=nobody":                      "",
		"/events?since=1h&limit=1":                   "evt_5 evt_4 evt_3 evt_2 evt_1",
		"/events?until=1h":                           "",
		"/events?since=" + url.QueryEscape(now.Add(-time.Hour).Format(time.RFC3339)): "evt_5 evt_4 evt_3 evt_2 evt_1",
		"/events?since=" + url.QueryEscape(now.Add(time.Hour).Format(time.RFC3339)):  "",
	} {
		if got := strings.Join(o.findIDs(path), " "); got != want {
			t.Errorf("%s found %q, want %q", path, got, want)
		}
	}
	_, page := o.read("/events?limit=1&status=failed")
	line := page["events"].([]any)[0].(map[string]any)
	for _, key := range []string{"id", "type", "source", "accepted_at", "body_bytes", "deliveries"} {
		if _, ok := line[key]; !ok {
			t.Errorf("%q is missing in %v", key, line)
		}
	}
	if d := fmt.Sprint(line["deliveries"]); d != "[map[endpoint:crm state:failed]]" {
		t.Errorf("deliveries are %s", d)
	}
}

func TestMisspelledFiltersAreRefused(t *testing.T) {
	o := openHarness(t, "")
	for _, path := range []string{
		"/events?types=lead.created", "/events?status=gone", "/events?endpoint=nobody", "/events?since=yesterday", "/events?until=-1h",
		"/events?limit=0", "/events?limit=1001", "/events?limit=x", "/events?after=x", "/events?after=0", "/events?type=lead*", "/events?type=a,,b",
	} {
		if status, body := o.ask("GET", path); status != 400 || code(body) != "invalid_query" {
			t.Errorf("%s answered %d %s", path, status, body)
		}
	}
}

func TestEventTellsWhomItIsNotForAndWhatComesNext(t *testing.T) {
	o := openHarness(t, "")
	other := o.crm
	other.Name, other.Events = "bots", []string{"bot.*"}
	off := o.crm
	off.Name, off.Enabled = "off", false
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm, other, off}); err != nil {
		t.Fatal(err)
	}
	o.ask("POST", "/endpoints/crm/pause")
	o.acceptTyped("evt_1", "lead.created")
	late := o.crm
	late.Name = "late"
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm, other, off, late}); err != nil {
		t.Fatal(err)
	}
	_, got := o.read("/events/evt_1")
	var reasons []string
	for _, u := range got["unmatched"].([]any) {
		u := u.(map[string]any)
		reasons = append(reasons, fmt.Sprint(u["endpoint"], " ", u["reason"]))
	}
	if want := []string{"bots not_subscribed", "off disabled", "late added_later"}; !slices.Equal(reasons, want) {
		t.Errorf("unmatched %q, want %q", reasons, want)
	}
	next := func() string { return o.story("evt_1")["note"].(string) }
	if s := next(); s != "held until the endpoint is resumed: paused by the operator" {
		t.Errorf("next is %q", s)
	}
	o.status.Store(500)
	o.ask("POST", "/endpoints/crm/resume")
	o.until("through", func(s delivery.Status) bool { return s.Failed == 1 })
	if s := next(); !strings.HasPrefix(s, "nothing, unless it is replayed") {
		t.Errorf("next is %q", s)
	}
}

// story is an event's first delivery.
func (o *harness) story(id string) map[string]any {
	o.t.Helper()
	_, got := o.read("/events/" + id)
	return got["deliveries"].([]any)[0].(map[string]any)
}

func TestEndpointsShowTheirConfigurationWithoutSecrets(t *testing.T) {
	o := openHarness(t, "")
	o.crm.URL = config.NewURL(o.crm.URL.Reveal() + "/hook?key=hidden-in-query")
	o.crm.Headers = map[string]sign.Secret{"X-Key": sign.NewSecret("hidden-in-header")}
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/endpoints", "/endpoints/crm"} {
		status, body := o.ask("GET", path)
		if status != 200 || strings.Contains(body, "hidden") || strings.Contains(body, "example-secret") {
			t.Errorf("%s answered %d %s", path, status, body)
		}
		for _, part := range []string{`"name": "crm"`, `"state": "up"`, `"pending": 0`, `"events": [`, `"secret": "********"`, `"X-Key": "********"`,
			`/hook?********"`, `"timeout": "10s"`, `"retry": []`, `"success": "2xx"`} {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %s: %s", path, part, body)
			}
		}
	}
	o.ask("POST", "/endpoints/crm/pause")
	o.accept("evt_1")
	if err := o.Dispatcher.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if status, got := o.read("/endpoints/crm"); status != 200 || got["state"] != "orphaned" || got["config"] != nil || got["pending"] != 1.0 {
		t.Errorf("the orphan is %d %v", status, got)
	}
	if status, body := o.ask("GET", "/endpoints/nobody"); status != 404 || code(body) != "no_endpoint" {
		t.Errorf("nobody is %d %s", status, body)
	}
}
