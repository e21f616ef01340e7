package admin

import (
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/manual"
	"realtorbot-relay/relay/rfc3339"
	"realtorbot-relay/sign"
)

// The page is small, loads nothing from elsewhere, and makes no HTML out of text.
func TestThePageIsSmallAndKeepsToItself(t *testing.T) {
	size := 0
	for at, f := range pages {
		size += len(f.body)
		if f.kind == "" {
			t.Errorf("%s has no content type", at)
		}
		text := strings.ReplaceAll(string(f.body), "http://www.w3.org/2000/svg", "")
		for _, what := range []string{"http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "<style", " style=", "onclick=",
			"from '/", `href="/`, `src="/`, "fetch('/", "EventSource"} { // it has to work below a prefix, and streams need a header

			if strings.Contains(text, what) {
				t.Errorf("%s has %q", at, what)
			}
		}
		for _, used := range regexp.MustCompile(`(?:from|href=|src=) ?["'](?:\./|page/)([^"']+)["']`).FindAllStringSubmatch(text, -1) {
			if _, ok := pages["/page/"+used[1]]; !ok {
				t.Errorf("%s uses %s, which is not there", at, used[1])
			}
		}
	}
	if entries, _ := fs.ReadDir(pageFiles, "page"); len(entries) != len(pages) || len(pages) < 5 {
		t.Errorf("%d files are served of %d", len(pages), len(entries))
	}
	if size > 150<<10 {
		t.Errorf("the page has %d bytes, more than 150 KiB", size)
	}
}

// exchange returns the whole answer; its body is read.
func (o *harness) exchange(method, path, body string, headers ...string) (*http.Response, string) {
	o.t.Helper()
	r, err := http.NewRequest(method, o.url+path, strings.NewReader(body))
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
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer, string(text)
}

func TestThePageComesWithAStrictPolicy(t *testing.T) {
	for _, token := range []string{"", testToken} {
		o := openHarness(t, token)
		for at, f := range pages {
			answer, body := o.exchange("GET", at, "")
			policy := answer.Header.Get("Content-Security-Policy")
			if answer.StatusCode != 200 || body != string(f.body) || answer.Header.Get("Content-Type") != f.kind ||
				!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %d %v", at, answer.StatusCode, answer.Header)
			}
			if again, body := o.exchange("GET", at, "", "If-None-Match: "+answer.Header.Get("ETag")); again.StatusCode != 304 || body != "" {
				t.Errorf("%s again: %d", at, again.StatusCode)
			}
		}
		if answer, _ := o.exchange("GET", "/page/none.js", ""); answer.StatusCode == 200 {
			t.Errorf("a file that is not there: %d", answer.StatusCode)
		}
		if answer, _ := o.exchange("POST", "/", ""); answer.StatusCode != 405 {
			t.Errorf("POST / is answered %d", answer.StatusCode)
		}
	}
	o := openHarness(t, "")
	for _, path := range []string{"/", "/manual/", "/manual/runbook", "/manual/none"} {
		if answer, body := o.exchange("GET", path, "", "Host: rebound.example"); answer.StatusCode != 403 || code(body) != "foreign_host" {
			t.Errorf("%s under a foreign name: %d %s", path, answer.StatusCode, body)
		}
	}
}

// The manual is for all, with the page's policy: HTML for a browser, plain text for curl.
func TestTheManualIsServed(t *testing.T) {
	for _, token := range []string{"", testToken} {
		o := openHarness(t, token)
		for _, name := range append([]string{""}, manual.Names()...) {
			document, _ := manual.HTML(name)
			text, _ := manual.Text(name, manualColumns, false)
			for accept, want := range map[string]string{"text/html,application/xhtml+xml,*/*;q=0.8": document, "*/*": text, "": text} {
				kind := "text/plain; charset=utf-8"
				if want == document {
					kind = "text/html; charset=utf-8"
				}
				answer, body := o.exchange("GET", "/manual/"+name, "", "Accept: "+accept)
				policy := answer.Header.Get("Content-Security-Policy")
				if answer.StatusCode != 200 || body != want || answer.Header.Get("Content-Type") != kind || !strings.Contains(answer.Header.Get("Vary"), "Accept") ||
					!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("/manual/%s for %q: %d %v %.80q", name, accept, answer.StatusCode, answer.Header, body)
				}
				if again, body := o.exchange("GET", "/manual/"+name, "", "Accept: "+accept, "If-None-Match: "+answer.Header.Get("ETag")); again.StatusCode != 304 || body != "" {
					t.Errorf("/manual/%s for %q again: %d", name, accept, again.StatusCode)
				}
			}
			for _, used := range regexp.MustCompile(`href="\.\.(/page/[^"]+)"`).FindAllStringSubmatch(document, -1) {
				if _, ok := pages[used[1]]; !ok {
					t.Errorf("/manual/%s uses %s, which is not there", name, used[1])
				}
			}
		}
		if answer, body := o.exchange("GET", "/manual/none", ""); answer.StatusCode != 404 || code(body) != "not_found" {
			t.Errorf("a page that is not there: %d %s", answer.StatusCode, body)
		}
		if answer, _ := o.exchange("POST", "/manual/runbook", ""); answer.StatusCode != 405 {
			t.Errorf("POST is answered %d", answer.StatusCode)
		}
	}
	if !strings.Contains(string(pages["/"].body), `href="manual/"`) {
		t.Error("the page does not lead to the manual")
	}
	leads := 0
	for at, f := range pages {
		for _, to := range regexp.MustCompile(`href: 'manual/([a-z]*)#?([a-z0-9-]*)'`).FindAllStringSubmatch(string(f.body), -1) {
			leads++
			if document, ok := manual.HTML(to[1]); !ok || to[2] != "" && !strings.Contains(document, `id="`+to[2]+`"`) {
				t.Errorf("%s leads to %s, which is not there", at, to[0])
			}
		}
	}
	if leads < 2 {
		t.Errorf("%d places of the page lead to a page of the manual", leads)
	}
}

// The manual lists every route, with every parameter that is not a filter, and no other; its page names all with their parameters.
func TestTheManualListsTheRoutes(t *testing.T) {
	text, _ := manual.Page("routes")
	names, _ := manual.Page("names")
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ [^`]+)` \\| (.*) \\|$").FindAllStringSubmatch(text, -1) {
		listed[row[1]] = row[2]
	}
	for i := range routes {
		r := &routes[i]
		path := strings.ReplaceAll(r.path, "{event}", "{id}")
		if path == "/manual/{id}" {
			path = "/manual/{page}"
		}
		says, ok := listed[r.method+" "+path]
		if !ok || len(says) < 10 {
			t.Errorf("the manual does not list %s %s", r.method, path)
		}
		delete(listed, r.method+" "+path)
		params := "none"
		if len(r.params) > 0 {
			params = "`" + strings.Join(r.params, "`, `") + "`"
		}
		if row := "| `" + r.method + " " + path + "` | " + params + " |"; !strings.Contains(names, row) {
			t.Errorf("the page names lacks %s", row)
		}
		for _, name := range r.params {
			if !regexp.MustCompile(`\b`+name+`\b`).MatchString(says) && !strings.Contains(says, "ilters") && !regexp.MustCompile("(?m)^[^|].*\\?"+name+"=").MatchString(text) {
				t.Errorf("the manual does not say that %s %s takes %s", r.method, path, name)
			}
		}
	}
	for at, f := range map[string]string{"GET /": "/", "GET /page/…": "/page/main.js"} {
		if _, ok := pages[f]; ok && listed[at] != "" {
			delete(listed, at)
		}
	}
	if len(listed) > 0 || len(routes) < 20 {
		t.Errorf("of %d routes, these are in the manual alone: %q", len(routes), listed)
	}
}

func TestTheLastHourIsKeptAndNoMore(t *testing.T) {
	var h history
	began := time.Date(2024, 1, 15, 10, 0, 0, 0, time.UTC)
	status := func(delivered, attempts int64) delivery.Status {
		s := delivery.Status{Name: "crm", State: delivery.StateUp, Delivered: delivered, Attempts: attempts}
		if attempts > 0 {
			s.AttemptMS = &delivery.Quantiles{P50: 1, P99: 2}
		}
		return s
	}
	for i := range historyLength + 10 {
		n := int64(i) * 30 // two a second
		if i >= historyLength {
			n = (historyLength - 1) * 30 // and then none
		}
		h.take([]delivery.Status{status(1000+n, n)}, began.Add(time.Duration(i)*historyStep))
	}
	tracks, round := h.latest(historyLength)
	if len(tracks) != 1 || len(tracks[0].Samples) != historyLength || round != historyLength+10 {
		t.Fatalf("%d endpoints, round %d", len(tracks), round)
	}
	samples := tracks[0].Samples
	if first := samples[0]; first.Delivered != 2 || first.P50 == nil || first.At != rfc3339.At(began.Add(10*historyStep)) {
		t.Errorf("the first sample is %+v", first)
	}
	if last := samples[len(samples)-1]; last.Delivered != 0 || last.P50 != nil {
		t.Errorf("nothing was attempted, and the last sample is %+v", last)
	}
	h.take([]delivery.Status{{Name: "other"}}, began)
	if tracks, _ := h.latest(1); len(tracks) != 1 || tracks[0].Name != "other" || len(tracks[0].Samples) != 1 {
		t.Errorf("an endpoint that is gone is still told of: %+v", tracks)
	}
	var many []delivery.Status
	for i := range historyEndpoints + 10 {
		many = append(many, delivery.Status{Name: string(rune('a' + i))})
	}
	if h.take(many, began); len(h.tracks) > historyEndpoints {
		t.Errorf("%d endpoints are kept", len(h.tracks))
	}
}

func TestThePageHearsHowTheRelayIs(t *testing.T) {
	o := openHarness(t, "")
	o.Open()
	defer o.Close(t.Context())
	r := o.open("/live", "")
	for range 2 {
		_, event, data, ok := r.next()
		if event == "sample" {
			_, event, data, ok = r.next()
		}
		if !ok || event != "stats" || !strings.Contains(data, `"endpoints":[{"name":"crm"`) {
			t.Fatalf("heard %q %q", event, data)
		}
	}
	o.history.take(o.Dispatcher.Statuses(), time.Now())
	for {
		_, event, data, ok := r.next()
		if event == "sample" && strings.Contains(data, `"name":"crm"`) {
			break
		}
		if !ok {
			t.Fatal("a sample never comes")
		}
	}
	if _, body := o.exchange("GET", "/history", ""); !strings.Contains(body, `"step_seconds": 15`) || !strings.Contains(body, `"crm"`) {
		t.Errorf("history: %s", body)
	}
}

// While there is no queue the page is there all the same, so that it can say so.
func TestThePageIsThereBeforeTheQueue(t *testing.T) {
	for _, token := range []string{"", testToken} {
		w := &Waiting{Token: sign.NewSecret(token), Log: zerolog.Nop(), Why: func() error { return io.ErrUnexpectedEOF }}
		for path, want := range map[string]int{"/": 200, "/page/main.js": 200, "/session": 503, "/manual/": 200, "/manual/damage": 200, "/manual/none": 404} {
			var ctx fasthttp.RequestCtx
			ctx.Request.SetRequestURI(path)
			ctx.Request.Header.SetHost("127.0.0.1:8081")
			if w.Handle(&ctx); ctx.Response.StatusCode() != want {
				t.Errorf("%s is answered %d %s", path, ctx.Response.StatusCode(), ctx.Response.Body())
			}
		}
	}
}
