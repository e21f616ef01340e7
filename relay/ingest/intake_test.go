package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
	"realtorbot-relay/sign"
)

// shelf is a Queue in memory that fails when it is told to.
type shelf struct {
	mu     sync.Mutex
	err    error
	panics bool
	source string
	bodies []string
	ids    map[string]bool
	kept   int64 // what it says is kept, bytes
}

func (s *shelf) Usage(string) (events, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1, s.kept
}

func (s *shelf) AppendWithin(_ int64, source string, events []queue.Event, receipts []queue.Receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("the shelf broke")
	}
	if s.err != nil {
		for i := range events {
			receipts[i].Duplicate = s.ids[string(events[i].ID)]
		}
		return s.err
	}
	s.source = source
	for i := range events {
		id := string(events[i].ID)
		if receipts[i].Duplicate = s.ids[id]; !receipts[i].Duplicate {
			s.ids[id] = true
			s.bodies = append(s.bodies, string(events[i].Body))
		}
	}
	return nil
}

func (s *shelf) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// counter is an intake before a shelf, asked without a network: what a listener adds is tested beside it.
type counter struct {
	*Intake
	t      *testing.T
	shelf  *shelf
	handle fasthttp.RequestHandler
	log    *strings.Builder
}

// byType routes events by their types alone.
type byType func(eventType []byte) queue.LaneSet

func (byType) Members() *match.Members { return nil }

func (r byType) Route(eventType []byte, _ *match.Found) queue.LaneSet { return r(eventType) }

func (byType) Words(dst queue.Words, _ *match.Found) queue.Words { return dst }

func routed(r byType) func() Routes { return func() Routes { return r } }

// openCounter has sources; without any, one without a credential at /events. Events of the group lead go to two
// endpoints, all others to none.
func openCounter(t *testing.T, sources ...config.Source) *counter {
	t.Helper()
	if len(sources) == 0 {
		sources = []config.Source{{Name: "default", Path: "/events"}}
	}
	route := func(eventType []byte) queue.LaneSet {
		if bytes.HasPrefix(eventType, []byte("lead.")) {
			return queue.NewLaneSet(0, 5)
		}
		return queue.NewLaneSet()
	}
	c := &counter{t: t, shelf: &shelf{ids: map[string]bool{}}, log: &strings.Builder{}}
	in, err := New(sources, 1<<20, c.shelf, routed(route), zerolog.New(zerolog.SyncWriter(c.log)))
	if err != nil {
		t.Fatal(err)
	}
	c.Intake = in
	c.handle = answer.Server(in.Handle, answer.Limits{}, func(any) {}).Handler
	return c
}

// reply is what a request was answered.
type reply struct {
	status int
	header *fasthttp.ResponseHeader
}

// ask has a request answered and returns the line that is its body. headers are "Name: value".
func (c *counter) ask(method, path, body string, headers ...string) (reply, string) {
	c.t.Helper()
	var ctx fasthttp.RequestCtx
	var r fasthttp.Request
	r.Header.SetMethod(method)
	r.SetRequestURI(path)
	r.SetBodyString(body)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	ctx.Init(&r, nil, nil)
	c.handle(&ctx)
	line, isLine := strings.CutSuffix(string(ctx.Response.Body()), "\n")
	if !isLine {
		c.t.Errorf("answered %q, which is no line", ctx.Response.Body())
	}
	return reply{ctx.Response.StatusCode(), &ctx.Response.Header}, line
}

const (
	asJSON  = "Content-Type: application/json"
	asLines = "Content-Type: application/x-ndjson"
)

func eventText(id, eventType string) string {
	return fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2024-01-15T10:30:00Z","data":{}}`, id, eventType)
}

func refused(code, message string) string {
	return fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, code, message)
}

func TestAnswers(t *testing.T) {
	lead, email := eventText("evt_1", "lead.created"), eventText("evt_2", "email.sent")
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string
	}{
		{"one event", "POST", "/events", lead, []string{asJSON}, 200,
			`{"id":"evt_1","status":"accepted","endpoints":2}`},
		{"one event that nobody subscribed to", "POST", "/events", email, []string{asJSON}, 200,
			`{"id":"evt_2","status":"accepted","endpoints":0}`},
		{"content type with a parameter, in capitals", "POST", "/events", lead, []string{"Content-Type: Application/JSON ; charset=utf-8"}, 200,
			`{"id":"evt_1","status":"accepted","endpoints":2}`},
		{"query", "POST", "/events?x=1", lead, []string{asJSON}, 200,
			`{"id":"evt_1","status":"accepted","endpoints":2}`},
		{"array", "POST", "/events", "[" + lead + "," + email + "," + lead + "]", []string{asJSON}, 200,
			`{"accepted":2,"duplicates":1,"results":[{"id":"evt_1","status":"accepted","endpoints":2},` +
				`{"id":"evt_2","status":"accepted","endpoints":0},{"id":"evt_1","status":"duplicate"}]}`},
		{"array of one", "POST", "/events", "[" + lead + "]", []string{asJSON}, 200,
			`{"accepted":1,"duplicates":0,"results":[{"id":"evt_1","status":"accepted","endpoints":2}]}`},
		{"NDJSON", "POST", "/events", lead + "\n" + email + "\n", []string{asLines}, 200,
			`{"accepted":2,"duplicates":0,"results":[{"id":"evt_1","status":"accepted","endpoints":2},{"id":"evt_2","status":"accepted","endpoints":0}]}`},
		{"not JSON", "POST", "/events", "hello", []string{asJSON}, 400, `{"error":{"code":"invalid_json",`},
		{"curly quotes", "POST", "/events", `{“type”:"test","data":{}}`, []string{asJSON}, 400,
			refused("invalid_json", `unexpected curly quote at byte 1: JSON has straight ones, "`)},
		{"byte order mark", "POST", "/events", "\uFEFF" + lead, []string{asJSON}, 400,
			refused("invalid_json", "unexpected byte order mark at byte 0: send UTF-8 without one")},
		{"UTF-16", "POST", "/events", "{\x00\"\x00t\x00", []string{asJSON}, 400,
			refused("invalid_json", "the body is in UTF-16: send it as UTF-8")},
		{"empty body", "POST", "/events", "", []string{asJSON}, 400, `{"error":{"code":"invalid_json",`},
		{"empty array", "POST", "/events", "[]", []string{asJSON}, 400, `{"error":{"code":"invalid_event",`},
		{"no NDJSON line", "POST", "/events", "\n", []string{asLines}, 400, `{"error":{"code":"invalid_event",`},
		{"not an event", "POST", "/events", `{"type":"test","data":1}`, []string{asJSON}, 400,
			refused("invalid_event", "data must be an object")},
		{"bad event in an array", "POST", "/events", "[" + lead + "," + lead + "," + email + `,{"type":"test","data":1},7]`, []string{asJSON}, 400,
			`{"error":{"code":"invalid_event","message":"data must be an object","index":3}}`},
		{"bad line", "POST", "/events", lead + "\n{}", []string{asLines}, 400, `{"error":{"code":"invalid_event",`},
		{"other path", "POST", "/event", lead, []string{asJSON}, 404, refused("not_found", "no source has this path")},
		{"path that leads there", "POST", "/x/../events", lead, []string{asJSON}, 404, refused("not_found", "no source has this path")},
		{"path in escapes", "POST", "/%65vents", lead, []string{asJSON}, 404, refused("not_found", "no source has this path")},
		{"path below", "POST", "/events/", lead, []string{asJSON}, 404, refused("not_found", "no source has this path")},
		{"other method", "GET", "/events", "", nil, 405, refused("method_not_allowed", "events are posted: use POST")},
		{"put", "PUT", "/events", lead, []string{asJSON}, 405, refused("method_not_allowed", "events are posted: use POST")},
		{"form", "POST", "/events", lead, []string{"Content-Type: text/plain"}, 415,
			`{"error":{"code":"unsupported_media_type",`},
		{"no content type", "POST", "/events", lead, nil, 415,
			`{"error":{"code":"unsupported_media_type",`},
		{"compressed in another way", "POST", "/events", lead, []string{asJSON, "Content-Encoding: br"}, 415,
			refused("unsupported_media_type", "the header Content-Encoding must be gzip or zstd, or be left out")},
		{"compressed twice", "POST", "/events", lead, []string{asJSON, "Content-Encoding: gzip, gzip"}, 415,
			refused("unsupported_media_type", "the header Content-Encoding must be gzip or zstd, or be left out")},
		{"not compressed, and said so", "POST", "/events", lead, []string{asJSON, "Content-Encoding: Identity"}, 200,
			`{"id":"evt_1","status":"accepted","endpoints":2}`},
		{"not what it says", "POST", "/events", lead, []string{asJSON, "Content-Encoding: gzip"}, 400,
			refused("invalid_encoding", "the body is not what its Content-Encoding says")},
		{"health", "GET", "/health", "", nil, 200, `{"status":"ok"}`},
		{"health by POST", "POST", "/health", "", nil, 405, refused("method_not_allowed", "health is asked with GET")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := openCounter(t)
			answer, got := c.ask(tt.method, tt.path, tt.body, tt.headers...)
			if answer.status != tt.status || got != tt.want && !(strings.HasSuffix(tt.want, ",") && strings.HasPrefix(got, tt.want)) {
				t.Errorf("answered %d %s\nwant     %d %s", answer.status, got, tt.status, tt.want)
			}
			if kind := string(answer.header.Peek("Content-Type")); kind != "application/json" {
				t.Errorf("content type %q", kind)
			}
			if tt.status == 405 && string(answer.header.Peek("Allow")) == "" {
				t.Error("405 without Allow")
			}
			if tt.status != 200 && len(c.shelf.bodies) > 0 {
				t.Errorf("stored %q", c.shelf.bodies)
			}
		})
	}
}

// What package canonical takes of one batch and of one event.
const maxEvents, maxMembers = 10_000, 100_000

func TestMoreThanABatchMayHaveIsTooLarge(t *testing.T) {
	c := openCounter(t)
	one := `{"type":"a","data":{}}`
	for _, tt := range []struct {
		kind, body, message string
	}{
		{asLines, strings.Repeat(one+"\n", maxEvents+1), "a batch may have 10000 events at most"},
		{asJSON, "[" + strings.Repeat(one+",", maxEvents) + one + "]", "a batch may have 10000 events at most"},
		{asJSON, `{"type":"a","data":{"a":[` + strings.Repeat(`{"a":0},`, maxMembers-2) + `{}]}}`, "an event may have 100000 members at most"},
	} {
		answer, got := c.ask("POST", "/events", tt.body, tt.kind)
		if answer.status != 413 || !strings.HasPrefix(got, `{"error":{"code":"too_large","message":"`+tt.message) {
			t.Errorf("answered %d %s, want 413 %s", answer.status, got, tt.message)
		}
	}
	if len(c.shelf.bodies) > 0 {
		t.Errorf("%d events were kept", len(c.shelf.bodies))
	}
	if answer, got := c.ask("POST", "/events", strings.Repeat(one+"\n", maxEvents), asLines); answer.status != 200 {
		t.Errorf("as many as may be are answered %d %.200s", answer.status, got)
	}
	most := `{"type":"a","data":{"a":[` + strings.Repeat(`{"a":0},`, maxMembers-3) + `{}]}}`
	if answer, got := c.ask("POST", "/events", most, asJSON); answer.status != 200 {
		t.Errorf("as many members as may be are answered %d %.200s", answer.status, got)
	}
}

func TestRepeatIsADuplicate(t *testing.T) {
	c := openCounter(t)
	c.ask("POST", "/events", eventText("evt_1", "lead.created"), asJSON)
	answer, got := c.ask("POST", "/events", eventText("evt_1", "lead.created"), asJSON)
	if want := `{"id":"evt_1","status":"duplicate"}`; answer.status != 200 || got != want {
		t.Errorf("answered %d %s, want %s", answer.status, got, want)
	}
	if n := c.Counts(); n.Accepted.Load() != 1 || n.Duplicates.Load() != 1 {
		t.Errorf("accepted %d, duplicates %d", n.Accepted.Load(), n.Duplicates.Load())
	}
}

func TestCanonicalFormIsStoredWithWhatWasLeftOut(t *testing.T) {
	c := openCounter(t)
	before := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	_, got := c.ask("POST", "/events", "{ \"type\": \"test\",\n \"data\": { \"b\": 1.0, \"1\": \"\\u00e9\" } }", asJSON)
	id, _, _ := strings.Cut(strings.TrimPrefix(got, `{"id":"`), `"`)
	if len(id) != len("evt_")+26 || !strings.HasPrefix(id, "evt_") {
		t.Fatalf("answered %s", got)
	}
	front, back, _ := strings.Cut(c.shelf.bodies[0], `"timestamp":"`)
	if stamp, rest, _ := strings.Cut(back, `"`); front != `{"id":"`+id+`","type":"test",` || stamp < before || rest != `,"data":{"1":"é","b":1}}` {
		t.Errorf("stored %s", c.shelf.bodies[0])
	}
	if c.shelf.source != "default" {
		t.Errorf("from source %q", c.shelf.source)
	}
}

func TestMadeIDsAreInOrderOfTime(t *testing.T) {
	first := string(newID(nil))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	<-tick.C
	<-tick.C
	if second := string(newID(nil)); first >= second {
		t.Errorf("%s, then %s", first, second)
	}
}

func TestRefusalOfTheQueueIsUnavailable(t *testing.T) {
	tests := []struct {
		err       error
		after     string
		want      string
		isMention bool // in the log
	}{
		{queue.ErrDiskLow, "10", "the relay's disk is low", false},
		{&queue.Shortage{Resource: "inodes"}, "10", "the relay's disk has no inodes left", false},
		{&queue.Shortage{Resource: "quota"}, "10", "the relay's disk quota is used up", false},
		{&queue.Shortage{Resource: "descriptors"}, "10", "the relay can open no more files", false},
		{&queue.Shortage{Resource: "bytes"}, "10", "the relay's disk is low", false},
		{queue.ErrOverloaded, "1", "the relay is overloaded", false},
		{queue.ErrClosed, "2", "the relay is stopping", false},
		{fmt.Errorf("%w: %w", queue.ErrFailed, errors.New("input/output error")), "5", "the relay's storage failed", true},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			c := openCounter(t)
			c.shelf.fail(tt.err)
			answer, got := c.ask("POST", "/events", eventText("evt_1", "test"), asJSON)
			if answer.status != 503 || string(answer.header.Peek("Retry-After")) != tt.after || got != refused("unavailable", tt.want) {
				t.Errorf("answered %d, Retry-After %q, %s", answer.status, string(answer.header.Peek("Retry-After")), got)
			}
			if c.Counts().Unavailable.Load() != 1 || strings.Contains(c.log.String(), "input/output error") != tt.isMention {
				t.Errorf("unavailable %d, log %s", c.Counts().Unavailable.Load(), c.log)
			}
			if answer, got = c.ask("GET", "/health", ""); answer.status != 503 || got != `{"status":"failing"}` {
				t.Errorf("health answered %d %s", answer.status, got)
			}
			if !errors.Is(c.Ready(), tt.err) || c.LastUnavailable() != tt.want {
				t.Errorf("ready says %v, and the last refusal was for %q", c.Ready(), c.LastUnavailable())
			}
			c.shelf.fail(nil)
			if answer, _ = c.ask("POST", "/events", eventText("evt_1", "test"), asJSON); answer.status != 200 {
				t.Errorf("afterwards answered %d", answer.status)
			}
		})
	}
}

func TestClosingIntakeRefusesEverything(t *testing.T) {
	c := openCounter(t)
	c.Close()
	answer, got := c.ask("POST", "/events", eventText("evt_1", "test"), asJSON)
	if answer.status != 503 || string(answer.header.Peek("Retry-After")) == "" || got != refused("unavailable", "the relay is stopping") {
		t.Errorf("answered %d %s", answer.status, got)
	}
	if answer, got = c.ask("GET", "/health", ""); answer.status != 503 || got != `{"status":"failing"}` {
		t.Errorf("health answered %d %s", answer.status, got)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	c := openCounter(t)
	c.shelf.panics = true
	answer, got := c.ask("POST", "/events", eventText("evt_1", "test"), asJSON)
	if answer.status != 500 || !strings.HasPrefix(got, `{"error":{"code":"internal",`) {
		t.Errorf("answered %d %s", answer.status, got)
	}
	c.shelf.mu.Lock()
	c.shelf.panics = false
	c.shelf.mu.Unlock()
	if answer, got = c.ask("POST", "/events", eventText("evt_1", "test"), asJSON); answer.status != 200 {
		t.Errorf("afterwards answered %d %s", answer.status, got)
	}
}

func TestSourcesAreReplacedAtOnce(t *testing.T) {
	c := openCounter(t)
	if err := c.SetSources([]config.Source{{Name: "platform", Path: "/platform", Token: sign.NewSecret("example-token")}}); err != nil {
		t.Fatal(err)
	}
	if answer, _ := c.ask("POST", "/events", eventText("evt_1", "test"), asJSON); answer.status != 404 {
		t.Errorf("the old path answered %d", answer.status)
	}
	if answer, _ := c.ask("POST", "/platform", eventText("evt_1", "test"), asJSON); answer.status != 401 {
		t.Errorf("the new path answered %d", answer.status)
	}
}

func TestManyPostAtOnceAndGetTheirOwnAnswers(t *testing.T) {
	c := openCounter(t)
	var posting sync.WaitGroup
	for i := range 32 {
		posting.Go(func() {
			for j := range 64 {
				id := fmt.Sprintf("evt_%d_%d", i, j)
				want := fmt.Sprintf(`{"id":%q,"status":"accepted","endpoints":2}`, id)
				if _, got := c.ask("POST", "/events", eventText(id, "lead.created"), asJSON); got != want {
					t.Errorf("answered %s, want %s", got, want)
				}
			}
		})
	}
	posting.Wait()
}
