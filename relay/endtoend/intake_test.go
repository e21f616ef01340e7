package endtoend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestABadEventIsAnsweredInTheDocumentedShapeAndNotStored(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	config := strings.Replace(preamble, "[admin]", "max_body = \"4KiB\"\n[admin]", 1)
	r := start(t, config+endpoint("crm", crm.url))
	const jsonType, lines = "application/json", "application/x-ndjson"
	zero, two := 0, 2
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
		code                                  string
		index                                 *int
	}{
		{"no JSON", "POST", "/events", jsonType, `{"id":`, 400, "invalid_json", nil},
		{"nothing", "POST", "/events", jsonType, ``, 400, "invalid_json", nil},
		{"text behind it", "POST", "/events", jsonType, event("a") + "x", 400, "invalid_json", nil},
		{"no UTF-8", "POST", "/events", jsonType, `{"id":"a","type":"test","data":{"a":"` + "\xff" + `"}}`, 400, "invalid_json", nil},
		{"a member twice", "POST", "/events", jsonType, `{"id":"a","type":"test","data":{"a":1,"a":2}}`, 400, "", nil},
		{"an id twice", "POST", "/events", jsonType, `{"id":"a","id":"b","type":"test","data":{}}`, 400, "", nil},
		{"too deep", "POST", "/events", jsonType, `{"id":"a","type":"test","data":{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`, 400, "", nil},
		{"no object", "POST", "/events", jsonType, `"event"`, 400, "invalid_event", nil},
		{"no type", "POST", "/events", jsonType, `{"id":"a","data":{}}`, 400, "invalid_event", nil},
		{"a bad type", "POST", "/events", jsonType, `{"id":"a","type":"Lead Created","data":{}}`, 400, "invalid_event", nil},
		{"a bad id", "POST", "/events", jsonType, `{"id":"a b","type":"test","data":{}}`, 400, "invalid_event", nil},
		{"a long id", "POST", "/events", jsonType, `{"id":"` + strings.Repeat("a", 256) + `","type":"test","data":{}}`, 400, "invalid_event", nil},
		{"a bad timestamp", "POST", "/events", jsonType, `{"id":"a","type":"test","timestamp":"2024-02-30T00:00:00Z","data":{}}`, 400, "invalid_event", nil},
		{"no data", "POST", "/events", jsonType, `{"id":"a","type":"test"}`, 400, "invalid_event", nil},
		{"data that is no object", "POST", "/events", jsonType, `{"id":"a","type":"test","data":[]}`, 400, "invalid_event", nil},
		{"the first of a batch", "POST", "/events", jsonType, `[{"id":"a"},` + event("b") + `]`, 400, "invalid_event", &zero},
		{"the third of a batch", "POST", "/events", jsonType, `[` + event("a") + `,` + event("b") + `,{"id":"c","type":"test","data":1},{}]`, 400, "invalid_event", &two},
		{"the third line", "POST", "/events", lines, event("a") + "\n" + event("b") + "\n" + `{"id":"c"}` + "\n", 400, "invalid_event", &two},
		{"a line that is no JSON", "POST", "/events", lines, `{"id":` + "\n" + event("b"), 400, "invalid_json", &zero},
		{"a form", "POST", "/events", "application/x-www-form-urlencoded", event("a"), 415, "unsupported_media_type", nil},
		{"text", "POST", "/events", "text/plain", event("a"), 415, "unsupported_media_type", nil},
		{"no content type", "POST", "/events", "", event("a"), 415, "unsupported_media_type", nil},
		{"another path", "POST", "/event", jsonType, event("a"), 404, "not_found", nil},
		{"a path below", "POST", "/events/", jsonType, event("a"), 404, "not_found", nil},
		{"looking", "GET", "/events", "", "", 405, "method_not_allowed", nil},
		{"putting", "PUT", "/events", jsonType, event("a"), 405, "method_not_allowed", nil},
		{"posting health", "POST", "/health", jsonType, event("a"), 405, "method_not_allowed", nil},
		{"too large", "POST", "/events", jsonType, `{"id":"a","type":"test","data":{"a":"` + strings.Repeat("x", 5000) + `"}}`, 413, "too_large", nil},
	} {
		a := r.intake.ask(t, c.method, c.path, c.body, "Content-Type", c.contentType)
		code, text, index := a.failure()
		if a.status != c.status || code == "" || text == "" || c.code != "" && code != c.code {
			t.Errorf("%s: answered %d %s %v; want %d and code %q", c.name, a.status, a.body, a.err, c.status, c.code)
		}
		if (index == nil) != (c.index == nil) || index != nil && *index != *c.index {
			t.Errorf("%s: the answer names another event: %s", c.name, a.body)
		}
		if c.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s: the answer does not say what is allowed", c.name)
		}
	}
	if a := r.offer(event("a"), "Content-Encoding", "br"); a.status != 415 {
		t.Errorf("a body compressed with brotli is answered %d %s", a.status, a.body)
	}
	s := r.stats()
	if s.Totals.Accepted+s.Totals.Duplicates+s.Queue.Events+s.Queue.Pending != 0 || len(crm.all()) != 0 {
		t.Errorf("something was stored: %+v", s)
	}
	for _, id := range []string{"a", "b"} {
		if a := r.admin.ask(t, "GET", "/events/"+id, ""); a.status != 404 {
			t.Errorf("event %q is there: %s", id, a.body)
		}
		if a := r.post(event(id)); !strings.Contains(a.body, "accepted") {
			t.Errorf("event %q is answered %s after it was refused", id, a.body)
		}
	}
}

func TestABatchIsAnsweredInOrderAndDecidesItsOwnDuplicates(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url, "concurrency = 1"))
	r.post(event("known"))

	type results struct {
		Accepted, Duplicates int
		Results              []struct {
			ID, Status string
			Endpoints  int
		}
	}
	check := func(a answer, want string) {
		t.Helper()
		var got results
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 {
			t.Fatalf("answered %d %s %v", a.status, a.body, a.err)
		}
		line := fmt.Sprintf("%d/%d", got.Accepted, got.Duplicates)
		for _, one := range got.Results {
			line += " " + one.ID + ":" + one.Status
			if (one.Status == "accepted") != (one.Endpoints == 1) {
				t.Errorf("%q is for %d endpoints", one.ID, one.Endpoints)
			}
		}
		if line != want {
			t.Errorf("answered %s, want %s", line, want)
		}
	}
	check(r.offer("["+strings.Join([]string{event("a"), event("known"), event("b"), event("a"), event("c")}, ", ")+"]"),
		"3/2 a:accepted known:duplicate b:accepted a:duplicate c:accepted")
	check(r.offer(event("d")+"\n\n"+event("c")+"\r\n"+event("e")+"\n"+event("e"), "Content-Type", "application/x-ndjson"),
		"2/2 d:accepted c:duplicate e:accepted e:duplicate")
	check(r.offer("["+event("f")+"]"), "1/0 f:accepted")

	order := ""
	for _, a := range crm.await(7) {
		order += a.id + " "
	}
	if order != "known a b c d e f " {
		t.Errorf("arrived in order %s", order)
	}
	if s := r.stats(); s.Totals.Accepted != 7 || s.Totals.Duplicates != 4 {
		t.Errorf("stats: %+v", s.Totals)
	}
}

// TestOneOfManyEqualPostsIsAccepted posts the same event from many clients at once.
func TestOneOfManyEqualPostsIsAccepted(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url))
	const clients, rounds = 16, 20
	for round := range rounds {
		answers := make(chan answer, clients)
		for range clients {
			go func() { answers <- r.offer(event(fmt.Sprintf("evt_%d", round))) }()
		}
		accepted := 0
		for range clients {
			if a := <-answers; a.status == 200 && strings.Contains(a.body, `"accepted"`) {
				accepted++
			}
		}
		if accepted != 1 {
			t.Fatalf("of %d equal posts %d were accepted", clients, accepted)
		}
	}
	r.awaitEndpoint("crm", "has settled all", func(ep endpointStats) bool { return ep.Pending == 0 })
	if n := len(crm.all()); n != rounds {
		t.Errorf("%d arrived, want %d", n, rounds)
	}
}

func TestWhatIsLeftOutIsMade(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url))
	var got struct{ ID, Status string }
	if err := json.Unmarshal([]byte(r.post(`{"type":"lead.created","data":{}}`).body), &got); err != nil {
		t.Fatal(err)
	}
	a := crm.await(1)[0]
	var sent struct{ ID, Timestamp string }
	if err := json.Unmarshal([]byte(a.body), &sent); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.ID, "evt_") || sent.ID != got.ID || a.id != got.ID || sent.Timestamp == "" {
		t.Errorf("answered id %q, sent %s with webhook-id %q", got.ID, a.body, a.id)
	}
}
