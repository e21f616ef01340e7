package ingest

import (
	"strings"
	"testing"
	"time"

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

// One large request that was refused makes no source full for days in which it is accepted.
func TestASourceIsFullAsLongAsItIsRefused(t *testing.T) {
	c := openCounter(t, config.Source{Name: "one", Path: "/one", MaxQueued: 1 << 20})
	now := time.Unix(1_700_000_000, 0)
	c.now = func() time.Time { return now }
	post := func(id string, size int) {
		t.Helper()
		c.ask("POST", "/one", `{"id":"`+id+`","type":"test","data":{"x":"`+strings.Repeat("x", size)+`"}}`, asJSON)
	}
	is := func(when string, want bool) {
		t.Helper()
		if got := c.Tallies()[0].Full; got != want {
			t.Errorf("%s: full %v, want %v", when, got, want)
		}
	}
	c.shelf.kept = 1<<20 - 64<<10
	is("at first", false)
	post("small", 100)
	c.shelf.fail(queue.ErrSourceFull)
	post("large", 100<<10)
	is("a large one was refused", true)
	c.shelf.fail(nil)
	post("other", 100)
	is("a small one was stored at once", true)
	now = now.Add(time.Hour)
	is("nothing came", true)
	post("small", 100)
	is("a repeat came", true)
	post("third", 100)
	is("a small one was stored", false)
	c.shelf.fail(queue.ErrSourceFull)
	c.ask("POST", "/one", `[{"id":"other","type":"test","data":{"x":"`+strings.Repeat("x", 100<<10)+`"}},{"id":"new","type":"test","data":{}}]`, asJSON)
	is("what is new of a large batch has room by now", false)
}
