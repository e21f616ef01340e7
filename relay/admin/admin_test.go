package admin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/sign"
)

const (
	testToken = "example-admin-token"
	patience  = 30 * time.Second
)

// harness is an admin listener with everything behind it that it looks at.
type harness struct {
	*Admin
	t      *testing.T
	url    string
	free   atomic.Int64 // bytes of disk
	status atomic.Int64 // what the receiver answers
	crm    config.Endpoint
	log    *strings.Builder
}

func openHarness(t *testing.T, token string) *harness {
	t.Helper()
	o := &harness{t: t, log: &strings.Builder{}}
	o.free.Store(10 << 30)
	o.status.Store(200)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(o.status.Load()))
		_, _ = io.WriteString(w, "noted")
	}))
	t.Cleanup(receiver.Close)
	o.crm = config.Endpoint{
		Name: "crm", URL: config.NewURL(receiver.URL), Events: []string{"*"}, Enabled: true,
		Secret: sign.NewSecret("example-secret"), Signatures: []string{"realtorbot"},
		Delivery: config.Delivery{Timeout: 10 * time.Second, Concurrency: 4, MaxAge: 72 * time.Hour},
	}
	q, err := queue.Open(queue.Options{
		Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		MinFree: 1 << 30, Free: func() (int64, error) { return o.free.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	post, err := delivery.NewDispatcher(q, []config.Endpoint{o.crm}, 0, "1.2.3", zerolog.Nop(), client.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	intake, err := ingest.New([]config.Source{{Name: "default", Path: "/events"}}, 1<<20, q, func() ingest.Routes { return post.Routes() }, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	o.Admin = &Admin{
		Queue: q, Dispatcher: post, Intake: intake, Token: sign.NewSecret(token), Version: "1.2.3", Started: time.Now(),
		Log: zerolog.New(zerolog.SyncWriter(o.log)), Raised: func() map[string]int64 { return nil },
		UntilLow: func() (time.Duration, bool) { return time.Hour, true },
	}
	o.wrongTokens.sleep = func(time.Duration) {}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.url = "http://" + ln.Addr().String()
	proxy := answer.Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	limited := answer.Limit(ln, answer.Share{All: 56, PerAddress: 56, Proxies: proxy})
	server := answer.Server(o.Handle, answer.Limits{Body: 64 << 10, Connections: 64}, func(what any) { t.Errorf("panic: %v", what) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(limited)
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		_ = ln.Close() // which a server that was not yet serving did not do
		<-done
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		post.Stop(ended)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// ask returns status and body of an answer. headers are "Name: value"; a Host among them replaces the address.
func (o *harness) ask(method, path string, headers ...string) (int, string) {
	o.t.Helper()
	return o.askFrom(http.DefaultClient, method, path, headers...)
}

// byProxy asks from 127.0.0.2, which is believed when it says who a client is.
var byProxy = &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}

func (o *harness) askFrom(client *http.Client, method, path string, headers ...string) (int, string) {
	o.t.Helper()
	r, err := http.NewRequest(method, o.url+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	r.Close = true
	answer, err := client.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	o.mustHaveAll(answer)
	if kind := answer.Header.Get("Content-Type"); kind != "application/json" {
		o.t.Errorf("%s %s: content type %q", method, path, kind)
	}
	return answer.StatusCode, string(body)
}

// mustHaveAll looks for what all answers have that are no files.
func (o *harness) mustHaveAll(answer *http.Response) {
	o.t.Helper()
	if kept, sniffed := answer.Header.Get("Cache-Control"), answer.Header.Get("X-Content-Type-Options"); kept != "no-store" || sniffed != "nosniff" {
		o.t.Errorf("the answer %d has Cache-Control %q and X-Content-Type-Options %q", answer.StatusCode, kept, sniffed)
	}
}

// read asks for an object.
func (o *harness) read(path string) (status int, object map[string]any) {
	o.t.Helper()
	status, body := o.ask("GET", path)
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		o.t.Fatalf("%s answered %q: %v", path, body, err)
	}
	return status, object
}

func (o *harness) accept(ids ...string) {
	o.t.Helper()
	for _, id := range ids {
		body := `{"id":"` + id + `","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"note":"<b>"}}`
		events := []queue.Event{{ID: []byte(id), Type: []byte("lead.created"), Body: []byte(body), Lanes: o.Dispatcher.Route([]byte("lead.created"), []byte(body))}}
		if err := o.Queue.Append("platform", events, make([]queue.Receipt, 1)); err != nil {
			o.t.Fatal(err)
		}
	}
}

// until waits for the endpoint to be as wanted.
func (o *harness) until(what string, wanted func(delivery.Status) bool) {
	o.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		s := o.Dispatcher.Statuses()[0]
		if wanted(s) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			o.t.Fatalf("the endpoint did not come to be %s: %+v", what, s)
		}
	}
}

func code(body string) string {
	var form struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal([]byte(body), &form)
	return form.Error.Code
}

func TestTokenIsAskedFor(t *testing.T) {
	o := openHarness(t, testToken)
	for _, path := range []string{"/stats", "/events/evt_1", "/endpoints/crm/pause", "/nothing", "/stream", "/live", "/history", "/config", "/backup"} {
		for _, header := range []string{"X-None: ", "Authorization: Bearer ", "Authorization: Bearer wrong", "Authorization: " + testToken} {
			if status, body := o.ask("POST", path, header); status != 401 || code(body) != "unauthorized" {
				t.Errorf("%s with %q answered %d %s", path, header, status, body)
			}
		}
	}
	if s := o.Dispatcher.Statuses()[0]; s.State != delivery.StateUp {
		t.Errorf("a stranger changed the endpoint: %s", s.State)
	}
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer "+testToken, "Host: relay.example.com"); status != 200 {
		t.Errorf("with the token answered %d", status)
	}
	if strings.Contains(o.log.String(), testToken) {
		t.Errorf("the token is in the log: %s", o.log)
	}
}

func TestForeignPagesAreRefused(t *testing.T) {
	o := openHarness(t, "")
	own := strings.TrimPrefix(o.url, "http://")
	tests := []struct {
		method, path string
		headers      []string
		status       int
		code         string
	}{
		{"GET", "/stats", nil, 200, ""},
		{"GET", "/stats", []string{"Host: localhost:8081"}, 200, ""},
		{"GET", "/stats", []string{"Host: [::1]:8081"}, 200, ""},
		{"GET", "/stats", []string{"Host: evil.example"}, 403, "foreign_host"},
		{"GET", "/stats", []string{"Host: localhost.evil.example"}, 403, "foreign_host"},
		{"GET", "/stats", []string{"Host: 127.0.0.1.evil.example:8081"}, 403, "foreign_host"},
		{"POST", "/endpoints/crm/resume", []string{"Host: evil.example", "Origin: http://evil.example"}, 403, "foreign_host"},
		{"POST", "/endpoints/crm/resume", []string{"Origin: http://evil.example"}, 403, "foreign_origin"},
		{"POST", "/endpoints/crm/resume", []string{"Origin: null"}, 403, "foreign_origin"},
		{"POST", "/endpoints/crm/resume", []string{"Origin: http://localhost:3000"}, 403, "foreign_origin"},
		{"DELETE", "/endpoints/crm", []string{"Origin: http://evil.example"}, 403, "foreign_origin"},
		{"POST", "/endpoints/crm/resume", []string{"Origin: http://" + own}, 200, ""},
		{"POST", "/endpoints/crm/resume", nil, 200, ""},
	}
	for _, tt := range tests {
		if status, body := o.ask(tt.method, tt.path, tt.headers...); status != tt.status || code(body) != tt.code {
			t.Errorf("%s %s with %q answered %d %s, want %d %s", tt.method, tt.path, tt.headers, status, body, tt.status, tt.code)
		}
	}
}

func TestForeignOriginIsRefusedDespiteTheToken(t *testing.T) {
	o := openHarness(t, testToken)
	status, body := o.ask("POST", "/endpoints/crm/pause", "Authorization: Bearer "+testToken, "Origin: http://evil.example")
	if status != 403 || code(body) != "foreign_origin" {
		t.Errorf("answered %d %s", status, body)
	}
}

func TestUnknownPathsAndMethodsHaveTheErrorForm(t *testing.T) {
	o := openHarness(t, "")
	tests := []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/nothing", 404, "not_found"},
		{"POST", "/stats", 405, "method_not_allowed"},
		{"POST", "/health", 405, "method_not_allowed"},
		{"DELETE", "/events/evt_1", 405, "method_not_allowed"},
		{"GET", "/events/evt_1", 404, "no_event"},
		{"GET", "/events/", 404, "no_event"},
		{"GET", "/endpoints/crm/pause", 405, "method_not_allowed"},
		{"POST", "/endpoints/crm", 405, "method_not_allowed"},
		{"POST", "/endpoints/crm/explode", 404, "not_found"},
		{"POST", "/endpoints/nobody/pause", 404, "no_endpoint"},
		{"POST", "/endpoints/x%2F..%2Fcrm/pause", 404, "no_endpoint"},
		{"POST", "/endpoints/crm%2fpause", 405, "method_not_allowed"},
		{"GET", "/endpoints/x%2F..%2Fcrm", 404, "no_endpoint"},
		{"DELETE", "/endpoints/nobody", 404, "no_endpoint"},
		{"DELETE", "/endpoints/crm", 409, "configured"},
	}
	for _, tt := range tests {
		if status, body := o.ask(tt.method, tt.path); status != tt.status || code(body) != tt.code {
			t.Errorf("%s %s answered %d %s, want %d %s", tt.method, tt.path, status, body, tt.status, tt.code)
		}
	}
}

// A balancer that asks OPTIONS / unless it is told otherwise learns that the listener answers, also when no event can be
// accepted: the page says why.
func TestOptionsSayThatTheListenerAnswers(t *testing.T) {
	waits := &Waiting{Token: sign.NewSecret(testToken), Log: zerolog.Nop(), Why: func() error { return io.ErrUnexpectedEOF }}
	for of, handle := range map[string]func(*fasthttp.RequestCtx){"the relay": openHarness(t, testToken).Handle, "one without a queue": waits.Handle} {
		for target, want := range map[string]int{"/": 204, "*": 204, "/?x=1": 204, "/stats": 401, "/health": 405} {
			var ctx fasthttp.RequestCtx
			ctx.Request.Header.SetMethod("OPTIONS")
			ctx.Request.SetRequestURI(target)
			handle(&ctx)
			if got := ctx.Response.StatusCode(); got != want {
				t.Errorf("%s answers OPTIONS %s with %d %s, want %d", of, target, got, ctx.Response.Body(), want)
			}
		}
	}
}

func TestHealthSaysHowTheRelayIs(t *testing.T) {
	o := openHarness(t, "")
	expect := func(status int, word string, reasons ...string) {
		t.Helper()
		got, object := o.read("/health")
		said, _ := json.Marshal(object["reasons"])
		if got != status || object["status"] != word || len(reasons) == 0 && object["reasons"] != nil {
			t.Errorf("answered %d %v, want %d %s", got, object, status, word)
		}
		for _, reason := range reasons {
			if !strings.Contains(string(said), reason) {
				t.Errorf("reasons %s lack %q", said, reason)
			}
		}
	}
	expect(200, "ok")
	o.ask("POST", "/endpoints/crm/pause")
	expect(200, "degraded", `endpoint \"crm\" is paused: paused by the operator`)
	o.free.Store(100 << 20)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for o.Queue.Ready() == nil {
		<-tick.C // what is free is remembered for a moment
	}
	expect(503, "failing", "100 MiB of disk are free, less than the 1024 MiB that are needed (queue.min_free)", "paused by the operator")
	o.free.Store(10 << 30)
	for o.Queue.Ready() != nil {
		<-tick.C
	}
	o.ask("POST", "/endpoints/crm/resume")
	expect(200, "ok")
}

func TestHealthTellsReasonsToThoseWithTheTokenOnly(t *testing.T) {
	o := openHarness(t, testToken)
	if err := o.Dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	if status, body := o.ask("GET", "/health"); status != 200 || strings.Contains(body, "crm") || !strings.Contains(body, "degraded") {
		t.Errorf("without the token answered %d %s", status, body)
	}
	if status, body := o.ask("GET", "/health", "Authorization: Bearer "+testToken); status != 200 || !strings.Contains(body, "crm") {
		t.Errorf("with the token answered %d %s", status, body)
	}
	if status, _ := o.ask("GET", "/health", "Authorization: Bearer wrong"); status != 401 {
		t.Errorf("with a wrong token answered %d", status)
	}
}

func TestStatsHaveTheDocumentedFields(t *testing.T) {
	o := openHarness(t, "")
	o.accept("evt_1", "evt_2")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 2 && s.Pending == 0 })
	o.status.Store(500)
	o.accept("evt_3")
	o.until("through", func(s delivery.Status) bool { return s.Failed == 1 })
	status, got := o.read("/stats")
	if status != 200 || got["version"] != "1.2.3" {
		t.Fatalf("answered %d %v", status, got)
	}
	q, totals := got["queue"].(map[string]any), got["totals"].(map[string]any)
	endpoint := got["endpoints"].([]any)[0].(map[string]any)
	for _, tt := range []struct {
		in   map[string]any
		keys []string
	}{
		{got, []string{"version", "started_at", "uptime_seconds", "health", "queue", "totals", "endpoints"}},
		{q, []string{"events", "events_bytes", "disk_free_bytes", "min_free_bytes", "oldest_pending_seconds", "pending", "retrying", "failed", "damaged", "unserved_bytes", "expired"}},
		{totals, []string{"accepted", "duplicates", "delivered", "attempts"}},
		{endpoint, []string{"name", "state", "pending", "retrying", "failed", "delivered", "in_flight", "lag_seconds",
			"delivered_per_second", "success_rate", "attempt_ms", "delivery_ms", "last_success_at", "last_error", "last_error_at"}},
	} {
		for _, key := range tt.keys {
			if _, ok := tt.in[key]; !ok {
				t.Errorf("%q is missing in %v", key, tt.in)
			}
		}
	}
	if endpoint["state"] != "up" || endpoint["delivered"] != 2.0 || endpoint["failed"] != 1.0 || totals["attempts"] != 3.0 || q["failed"] != 1.0 {
		t.Errorf("endpoint %v\ntotals %v\nqueue %v", endpoint, totals, q)
	}
	if endpoint["last_error"] != "answered 500 Internal Server Error" {
		t.Errorf("last error %v", endpoint["last_error"])
	}
}

func TestEventTellsItsStory(t *testing.T) {
	o := openHarness(t, "")
	o.accept("evt_well")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 1 && s.Pending == 0 })
	o.status.Store(500)
	o.accept("evt_fails")
	o.until("through", func(s delivery.Status) bool { return s.Failed == 1 })
	for id, want := range map[string]struct {
		state, class, reason string
		status               float64
	}{
		"evt_well":  {"delivered", "", "", 200},
		"evt_fails": {"failed", "status", "gave up after 1 attempt: answered 500 Internal Server Error", 500},
	} {
		status, got := o.read("/events/" + id)
		if status != 200 || got["id"] != id || got["type"] != "lead.created" || got["source"] != "platform" {
			t.Fatalf("%s: answered %d %v", id, status, got)
		}
		if note := got["event"].(map[string]any)["data"].(map[string]any)["note"]; note != "<b>" {
			t.Errorf("%s: event %v", id, got["event"])
		}
		d := got["deliveries"].([]any)[0].(map[string]any)
		reason, _ := d["reason"].(string)
		if d["endpoint"] != "crm" || d["state"] != want.state || reason != want.reason || len(d["attempts"].([]any)) != 1 {
			t.Fatalf("%s: delivery %v", id, d)
		}
		a := d["attempts"].([]any)[0].(map[string]any)
		class, _ := a["class"].(string)
		if a["number"] != 1.0 || a["status"] != want.status || class != want.class || a["excerpt"] != "noted" {
			t.Errorf("%s: attempt %v", id, a)
		}
	}
}

func TestPauseHoldsUntilResume(t *testing.T) {
	o := openHarness(t, "")
	if status, body := o.ask("POST", "/endpoints/crm/pause"); status != 200 || !strings.Contains(body, `"paused"`) {
		t.Fatalf("answered %d %s", status, body)
	}
	o.accept("evt_1")
	if s := o.Dispatcher.Statuses()[0]; s.State != delivery.StatePaused || s.Pending != 1 || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	if status, _ := o.ask("POST", "/endpoints/crm/resume"); status != 200 {
		t.Fatalf("answered %d", status)
	}
	o.until("settled", func(s delivery.Status) bool { return s.State == delivery.StateUp && s.Delivered == 1 && s.Pending == 0 })
}

func TestWhatIsLeftOfAnEndpointCanBeGivenUp(t *testing.T) {
	o := openHarness(t, "")
	o.ask("POST", "/endpoints/crm/pause")
	o.accept("evt_1", "evt_2")
	if err := o.Dispatcher.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if _, health := o.read("/health"); health["status"] != "degraded" {
		t.Errorf("health %v", health)
	}
	if status, body := o.ask("DELETE", "/endpoints/crm"); status != 200 || !strings.Contains(body, `"discarded"`) {
		t.Fatalf("answered %d %s", status, body)
	}
	if statuses := o.Dispatcher.Statuses(); len(statuses) != 0 {
		t.Errorf("statuses %+v", statuses)
	}
	if !slices.ContainsFunc(strings.Split(o.log.String(), "\n"), func(line string) bool {
		return strings.Contains(line, `"pending":2`) && strings.Contains(line, `"endpoint":"crm"`)
	}) {
		t.Errorf("the log does not tell what was given up: %s", o.log)
	}
	if status, _ := o.ask("DELETE", "/endpoints/crm"); status != 404 {
		t.Errorf("the second time answered %d", status)
	}
}
