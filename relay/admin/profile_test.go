package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/sign"
)

// fetched is an answer of any type.
func (o *harness) fetched(method, path, token string) (status int, kind, body string) {
	o.t.Helper()
	r, err := http.NewRequest(method, o.url+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(text)
}

// isGzip reports whether a profile is whole.
func isGzip(profile string) bool {
	r, err := gzip.NewReader(strings.NewReader(profile))
	if err != nil {
		return false
	}
	n, err := io.Copy(io.Discard, r)
	return err == nil && n > 0
}

func TestProfilesNeedTheToken(t *testing.T) {
	o := openHarness(t, testToken)
	for _, path := range []string{"/debug/pprof", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/none"} {
		for _, token := range []string{"", "wrong"} {
			if status, _, body := o.fetched("GET", path, token); status != 401 || code(body) != "unauthorized" {
				t.Errorf("%s with the token %q: %d %s", path, token, status, body)
			}
		}
	}
	if status, _, body := o.fetched("GET", "/debug/pprof", testToken); status != 200 || !strings.Contains(body, `"goroutine"`) {
		t.Errorf("with the token: %d %s", status, body)
	}
	for _, name := range []string{"allocs", "goroutine", "heap", "threadcreate", "profile?seconds=1"} {
		if status, kind, body := o.fetched("GET", "/debug/pprof/"+name, testToken); status != 200 || kind != "application/octet-stream" || !isGzip(body) {
			t.Errorf("%s: %d %s, %d bytes", name, status, kind, len(body))
		}
	}
	for _, debug := range []string{"1", "2"} {
		if status, kind, body := o.fetched("GET", "/debug/pprof/goroutine?debug="+debug, testToken); status != 200 || kind != "text/plain; charset=utf-8" ||
			!strings.Contains(body, "profile_test.go") {
			t.Errorf("the stacks with debug=%s: %d %s %.300s", debug, status, kind, body)
		}
	}
	if status, _, body := o.fetched("HEAD", "/debug/pprof/profile?seconds=30", testToken); status != 200 || body != "" {
		t.Errorf("HEAD: %d %s", status, body)
	}
	for path, want := range map[string]string{
		"/debug/pprof/none": "no_profile", "/debug/pprof/cmdline": "no_profile", "/debug/pprof/mutex": "no_profile",
		"/debug/pprof/profile?seconds=31": "invalid_query", "/debug/pprof/profile?seconds=0": "invalid_query",
		"/debug/pprof/profile?seconds=x": "invalid_query", "/debug/pprof/profile?debug=1": "invalid_query",
		"/debug/pprof/heap?seconds=1": "invalid_query", "/debug/pprof/heap?debug=3": "invalid_query",
	} {
		if status, _, body := o.fetched("GET", path, testToken); status < 400 || code(body) != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
}

// Without a token whoever can connect would have the relay work for them: there is nothing then, whatever profile it is, but
// for those who may do everything.
func TestWithoutATokenThereAreNoProfiles(t *testing.T) {
	o := openHarness(t, "")
	for _, path := range []string{"", "/heap", "/goroutine?debug=2", "/profile", "/profile?seconds=30", "/none"} {
		status, body := o.ask("GET", "/debug/pprof"+path)
		if _, elsewhere := o.ask("GET", "/nothing"); status != 404 || body != elsewhere {
			t.Errorf("/debug/pprof%s: %d %s, and elsewhere %s", path, status, body, elsewhere)
		}
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI("/debug/pprof/heap")
	Trust(&ctx)
	if o.Handle(&ctx); ctx.Response.StatusCode() != 200 {
		t.Errorf("at the control socket: %d %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
}

func TestOneProfileOfTheProcessorAtATime(t *testing.T) {
	o := openHarness(t, testToken)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	if status, _, body := o.fetched("GET", "/debug/pprof/profile?seconds=1", testToken); status != 409 || code(body) != "profile_running" {
		t.Errorf("beside another one: %d %s", status, body)
	}
}

// A stop does not wait for a profile: what there is of it is one.
func TestAProfileEndsWithTheRelay(t *testing.T) {
	out := &bytes.Buffer{}
	if err := pprof.StartCPUProfile(out); err != nil {
		t.Fatal(err)
	}
	stopping, stop := context.WithCancel(t.Context())
	stop()
	profileUntil(stopping.Done(), 1000*time.Hour)
	if !isGzip(out.String()) {
		t.Errorf("the profile that was cut short is none: %d bytes", out.Len())
	}
}

// What holds up a start is found by the same means.
func TestProfilesAreThereBeforeTheQueue(t *testing.T) {
	for token, want := range map[string]int{"": 404, testToken: 200} {
		w := &Waiting{Token: sign.NewSecret(token), Log: zerolog.Nop(), Why: func() error { return io.ErrUnexpectedEOF }}
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/debug/pprof/goroutine?debug=2")
		ctx.Request.Header.SetHost("127.0.0.1:8081")
		ctx.Request.Header.Set("Authorization", "Bearer "+testToken)
		if w.Handle(&ctx); ctx.Response.StatusCode() != want {
			t.Errorf("with the token %q: %d %s", token, ctx.Response.StatusCode(), ctx.Response.Body())
		}
	}
}
