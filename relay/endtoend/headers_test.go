package endtoend

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lacks says what an answer of a relay lacks of what all must have: nobody may take it for something else than it says it is, nor keep it.
// The files of the page and of the manual are kept and asked for again, by their tag.
func lacks(h http.Header) string {
	kept := h.Get("Cache-Control")
	switch {
	case h.Get("X-Content-Type-Options") != "nosniff":
		return "nosniff"
	case kept != "no-store" && (kept != "no-cache" || h.Get("Etag") == ""):
		return "no-store"
	}
	return ""
}

// exchangeRaw writes bytes to an address and returns the status and headers of what is answered.
func exchangeRaw(t *testing.T, address, request string) (int, http.Header) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, request) }() // which may be answered before it is whole
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.80q: %v", request, err)
	}
	return answer.StatusCode, answer.Header
}

// Every answer of both listeners, of what handlers answer and what they never see. Other tests look at each answer that they get, too
// (ask); a panic, HTTP at a listener
// of TLS and what only a full listener answers are looked at in relay/answer and relay/admin.
func TestAllAnswersAreOfThisMomentAndWhatTheySayTheyAre(t *testing.T) {
	t.Parallel()
	token, secret := newSecret(), newSecret()
	r := start(t, strings.Replace(preamble, "[admin]", fmt.Sprintf("max_body = \"64KiB\"\n[admin]\ntoken = %q", token), 1)+
		source("open", "/events")+source("limited", "/limited", "rate = 0.001")+source("full", "/full", `max_queued = "1MiB"`)+source("far", "/far", `allow = ["192.0.2.0/24"]`)+
		source("known", "/known", fmt.Sprintf("token = %q", token))+source("signed", "/signed", fmt.Sprintf("secret = %q", secret))+
		endpoint("crm", "http://127.0.0.1:1/", "retry = []"))
	post := func(path, headers, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
	}
	const head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	large := func(id int) string {
		return fmt.Sprintf(`{"id":"evt_large_%d","type":"test","data":{"x":%q}}`, id, strings.Repeat("x", 40_000))
	}
	type asked struct {
		name, request string
		status        int
	}
	walk := func(listener, address string, all []asked) {
		t.Helper()
		for _, a := range all {
			status, header := exchangeRaw(t, address, a.request)
			if status != a.status {
				t.Errorf("%s, %s: answered %d, want %d", listener, a.name, status, a.status)
			}
			if what := lacks(header); what != "" {
				t.Errorf("%s, %s: the answer %d lacks %s: %v", listener, a.name, status, what, header)
			}
		}
	}
	parsed := []asked{
		{"no request", "hello there\r\n\r\n", 400}, {"a version of before", "GET /health HTTP/0.9\r\n\r\n", 400}, {"a version to come", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		{"a bare LF", "GET /health HTTP/1.1\nHost: localhost\n\n", 400}, {"two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"a space in a name", "GET /health HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\n\r\n", 400}, {"no length", head + "Content-Length: many\r\n\r\n", 400},
		{"an absolute target", "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400}, {"CONNECT", "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		{"long headers", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 10_000) + "\r\n\r\n", 431},
		{"many headers", "GET /health HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", 431},
		{"many parameters", "GET /health?" + strings.Repeat("a&", 200) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		{"length and chunks", head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"health", "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 200}, {"health, HEAD", "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
		{"health, of HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 200}, {"nothing", "GET /nothing?a=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404}, {"a body too large", head + "Content-Length: 9999999\r\n\r\n", 413},
	}
	intake := append([]asked{
		{"an event", post("/events", "", event("evt_1")), 200}, {"a repeat", post("/events", "", event("evt_1")), 200}, {"a batch", post("/events", "", "["+event("evt_2")+"]"), 200},
		{"no event", post("/events", "", "{}"), 400}, {"no JSON", post("/events", "", "{"), 400}, {"no gzip", post("/events", "Content-Encoding: gzip\r\n", "{}"), 400},
		{"chunks that are none", head + "Transfer-Encoding: chunked\r\n\r\nxx\r\n", 400}, {"too large, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat(" ", 0x20000) + "\r\n0\r\n\r\n", 413},
		{"no token", post("/known", "", event("evt_4")), 401}, {"a wrong token", post("/known", "Authorization: Bearer guessed\r\n", event("evt_4")), 401},
		{"no signature", post("/signed", "", event("evt_4")), 401}, {"a wrong signature", post("/signed", "X-RealtorBot-Signature: "+realtorBot("another", "")+"\r\n", event("evt_4")), 401},
		{"from elsewhere", post("/far", "", event("evt_4")), 403}, {"another host", strings.Replace(post("/events", "", event("evt_4")), "localhost", "rebound.example", 1), 403},
		{"GET of events", "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", 405}, {"DELETE of health", "DELETE /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		{"a form", strings.Replace(post("/events", "", event("evt_4")), "application/json", "text/plain", 1), 415}, {"a coding", post("/events", "Content-Encoding: br\r\n", event("evt_4")), 415},
		{"OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200}, {"within the rate", post("/limited", "", event("evt_5")), 200}, {"beyond the rate", post("/limited", "", event("evt_6")), 429},
		{"beyond what may be kept", post("/full", "", large(99)), 503},
	}, parsed...)
	for n := 0; r.intake.ask(t, "POST", "/full", large(n), "Content-Type", "application/json").status == 200; n++ {
		if n > 50 {
			t.Fatal("a source is never full")
		}
	}
	walk("intake", r.intake.address, intake)

	bearer := "Authorization: Bearer " + token + "\r\n"
	admin := append([]asked{
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204}, {"a redirect", "GET /manual HTTP/1.1\r\nHost: localhost\r\n\r\n", 308},
		{"no page of the manual", "GET /manual/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
		{"another origin", "POST /reload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n" + bearer + "\r\n", 403},
		{"no JSON at the sign-in", "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{", 400},
		{"a wrong sign-in", "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"token\":\"nope\"}", 400},
		{"the sign-in", fmt.Sprintf("POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{\"token\":%q}", len(token)+len(`{"token":""}`), token), 200},
	}, parsed...)
	for i, a := range admin {
		if a.status == 404 {
			admin[i].request = strings.Replace(a.request, "\r\n\r\n", "\r\n"+bearer+"\r\n", 1)
		}
	}
	walk("admin", r.admin.address, admin)

	// All routes, with the token and without, by each method, as they are and as somebody asks who has the tag of what he has.
	values := strings.NewReplacer("{name}", "crm", "{id}", "1", "{page}", "routes", "…", "app.js")
	paths := map[string]bool{"/endpoints/nobody": true}
	for route := range rowsOf("Routes") {
		if _, path, isRoute := strings.Cut(route, " "); isRoute {
			paths[values.Replace(path)] = true
		}
	}
	statuses := map[int]int{}
	for path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
			for _, credential := range []string{bearer, ""} {
				request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s", method, path, credential)
				status, header := exchangeRaw(t, r.admin.address, request+"\r\n")
				statuses[status]++
				if what := lacks(header); what != "" {
					t.Errorf("admin, %s %s: the answer %d lacks %s: %v", method, path, status, what, header)
				}
				if tag := header.Get("Etag"); tag != "" && method == "GET" {
					status, header = exchangeRaw(t, r.admin.address, request+"If-None-Match: "+tag+"\r\n\r\n")
					statuses[status]++
					if what := lacks(header); what != "" || status != 304 {
						t.Errorf("admin, %s %s again: the answer %d lacks %s: %v", method, path, status, what, header)
					}
				}
			}
		}
	}
	for _, status := range []int{200, 304, 308, 401, 404, 405} {
		if statuses[status] == 0 {
			t.Errorf("none of the routes was answered %d: %v", status, statuses)
		}
	}
	// Of so many wrong tokens at once most are too many.
	var tooMany atomic.Int64
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			wrong := r.admin.ask(t, "GET", "/stats", "", "Authorization", "Bearer guessed") // which looks at the headers
			if wrong.status == 429 {
				tooMany.Add(1)
			}
		})
	}
	if all.Wait(); tooMany.Load() == 0 {
		t.Error("wrong tokens were never too many")
	}
}

// source is a table of the configuration; more are further lines of it.
func source(name, path string, more ...string) string {
	return fmt.Sprintf("[[source]]\nname = %q\npath = %q\n%s\n", name, path, strings.Join(more, "\n"))
}
