package ingest

import (
	"strings"
	"testing"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestAnswersAreCountedBySourceAndOutliveAReload(t *testing.T) {
	sources := []config.Source{
		{Name: "open", Path: "/open"},
		{Name: "closed", Path: "/closed", Token: sign.NewSecret("example-token")},
	}
	c := openCounter(t, sources...)
	post := func(path, body string) { c.ask("POST", path, body, "Content-Type: application/json") }
	post("/open", `[{"id":"evt_1","type":"test","data":{}},{"id":"evt_2","type":"test","data":{}}]`)
	post("/open", `{"id":"evt_1","type":"test","data":{}}`)
	post("/open", `{}`)
	c.ask("GET", "/open", "")
	post("/closed", `{"id":"evt_3","type":"test","data":{}}`)
	post("/nowhere", `{}`)
	c.shelf.fail(queue.ErrSourceFull)
	if r, text := c.ask("POST", "/open", `{"type":"test","data":{}}`, asJSON); r.status != 503 || !strings.Contains(text, `"code":"source_full"`) || string(r.header.Peek("Retry-After")) != "60" {
		t.Errorf("a source that is full: %d %s", r.status, text)
	}
	c.shelf.fail(queue.ErrOverloaded)
	post("/open", `{"type":"test","data":{}}`)
	c.shelf.fail(nil)
	if full, other := c.Counts().SourceFull.Load(), c.Counts().Unavailable.Load(); full != 1 || other != 1 || strings.Contains(c.LastUnavailable(), "max_queued") {
		t.Errorf("%d requests found a source full, %d nothing at all: %q", full, other, c.LastUnavailable())
	}
	if err := c.SetSources([]config.Source{sources[1], sources[0], {Name: "new", Path: "/new"}}); err != nil {
		t.Fatal(err)
	}
	post("/open", `{"id":"evt_4","type":"test","data":{}}`)
	got := c.Tallies()
	if len(got) != 3 || got[0].Source != "closed" || got[1].Source != "open" || got[2].Source != "new" {
		t.Fatalf("got %+v", got)
	}
	if o := got[1]; o.Events != 3 || o.Duplicates != 1 || o.Requests["200"] != 3 || o.Requests["400"] != 1 || o.Requests["405"] != 1 || o.Requests["503"] != 2 || o.Refused["source_full"] != 1 || o.Refused["overloaded"] != 1 || o.Refused["disk"] != 0 || o.Requests["other"] != 0 {
		t.Errorf("open: %+v", o)
	}
	if o := got[0]; o.Events != 0 || o.Requests["401"] != 1 || o.Requests["200"] != 0 {
		t.Errorf("closed: %+v", o)
	}
}
