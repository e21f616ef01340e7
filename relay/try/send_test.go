package try

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
)

// startIntake stands in for a relay's intake: it answers with what the test wants to see reported.
func startIntake(t *testing.T, handler fasthttp.RequestHandler) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{Handler: handler, Logger: silent{}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = listener.Close()
		<-served
	})
	return "http://" + listener.Addr().String() + "/events"
}

func TestSendReportsTheAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		answer string
		code   int
		want   string
	}{
		{"accepted", 200, `{"id":"evt_1","status":"accepted","endpoints":2}`, 0, "accepted evt_1: for 2 endpoints\n"},
		{"accepted by one", 200, `{"id":"evt_1","status":"accepted","endpoints":1}`, 0, "accepted evt_1: for 1 endpoint\n"},
		{"accepted by none", 200, `{"id":"evt_1","status":"accepted","endpoints":0}`, 0, "accepted evt_1: kept, but no endpoint subscribes to lead.created\n"},
		{"duplicate", 200, `{"id":"evt_1","status":"duplicate"}`, 0, "duplicate evt_1: accepted before, so it is not delivered again\n"},
		{"refused", 400, `{"error":{"code":"invalid_event","message":"data must be an object"}}`, 1, "send: refused with 400 invalid_event: data must be an object\n"},
		{"unauthorized", 401, `{"error":{"code":"unauthorized","message":"bearer token missing"}}`, 1, "send: refused with 401 unauthorized: bearer token missing\n"},
		{"unavailable", 503, `{"error":{"code":"unavailable","message":"disk low"}}`, 1, "send: refused with 503 unavailable: disk low (try again in 7 s)\n"},
		{"escapes in the answer", 400, `{"error":{"code":"x","message":"\u001b[2J\n"}}`, 1, "send: refused with 400 x: \\u001b[2J\\u000a\n"},
		{"not a relay", 200, `<html>`, 1, "send: answered 200, but not as a relay does: is -url the relay's intake?\n"},
		{"a redirect", 302, ``, 1, "send: answered 302 Found, and not as a relay does: is -url the relay's intake?\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := startIntake(t, func(ctx *fasthttp.RequestCtx) {
				ctx.SetStatusCode(c.status)
				ctx.SetBodyString(c.answer)
				if c.status == 503 {
					ctx.Response.Header.Set("Retry-After", "7")
				}
			})
			code, stdout, stderr := runSend(t, "", "-type", "lead.created", "-url", url)
			if code != c.code || stdout+stderr != c.want || (stdout == "") == (code == 0) {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d, %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
}

func TestSendPostsOneSignedEvent(t *testing.T) {
	type got struct{ body, auth, signature, contentType string }
	requests := make(chan got, 8)
	url := startIntake(t, func(ctx *fasthttp.RequestCtx) {
		header := func(name string) string { return string(ctx.Request.Header.Peek(name)) }
		requests <- got{string(ctx.PostBody()), header("Authorization"), header("X-RealtorBot-Signature"), header("Content-Type")}
		ctx.SetBodyString(`{"id":"evt_1","status":"accepted","endpoints":1}`)
	})
	path := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(path, []byte("{ \"a\": \"<é>\" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RELAY_TOKEN", "hunter2")

	for _, c := range []struct {
		name, stdin string
		args        []string
		want        got
	}{
		{"bare", "", nil, got{`{"type":"test","data":{"message":"This is a test webhook"}}`, "", "", "application/json"}},
		{"id and token", "", []string{"-id", "evt_9", "-token", "env:RELAY_TOKEN"},
			got{`{"id":"evt_9","type":"test","data":{"message":"This is a test webhook"}}`, "Bearer hunter2", "", "application/json"}},
		{"from a file", "", []string{"-data", "@" + path}, got{`{"type":"test","data":{"a":"<é>"}}`, "", "", "application/json"}},
		{"from stdin, signed", `{"score":1.0}`, []string{"-data", "-", "-secret", testSecret},
			got{`{"type":"test","data":{"score":1.0}}`, "", realtorBotHeader(testSecret, `{"type":"test","data":{"score":1.0}}`), "application/json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runSend(t, c.stdin, append([]string{"-type", "test", "-url", url}, c.args...)...)
			if code != exit.Well {
				t.Fatalf("exit %d: %s%s", code, stdout, stderr)
			}
			if request := <-requests; request != c.want {
				t.Errorf("got %+v, want %+v", request, c.want)
			}
			if len(requests) > 0 {
				t.Error("posted more than once")
			}
		})
	}
}

func TestSendToNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	code, stdout, stderr := runSend(t, "", "-type", "test", "-url", "http://"+address+"/events")
	want := "send: nothing listens on " + address + ": start the relay, or say where it is with -url\n"
	if code != exit.Failed || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestSendWithoutFileSaysSo(t *testing.T) {
	code, _, stderr := runSend(t, "", "-type", "test", "-data", "@/nonexistent.json")
	if code != exit.Failed || !strings.Contains(stderr, "/nonexistent.json") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestSendStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	url := startIntake(t, func(*fasthttp.RequestCtx) {
		cancel()
		<-release
	})
	var stdout, stderr bytes.Buffer
	code := Send(ctx, []string{"-type", "test", "-url", url}, strings.NewReader(""), &stdout, &stderr)
	if code != exit.Failed || !strings.Contains(stderr.String(), "may have been accepted") {
		t.Errorf("exit %d, stderr %q", code, &stderr)
	}
}

func TestSentEventReachesListen(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0", "-secret", testSecret)
	// listen is no relay: send says so, and the event is shown as signed all the same.
	code, _, _ := runSend(t, "", "-type", "lead.created", "-id", "evt_5", "-secret", testSecret, "-url", l.url)
	if code != exit.Failed {
		t.Errorf("exit %d", code)
	}
	l.screen.await(t, `lead\.created  evt_5  attempt -  signed ✓ realtorbot\n`)
}

func FuzzEventBodyIsJSON(f *testing.F) {
	f.Add("evt_1", "lead.created", []byte(`{"a":"<\u2028>"}`))
	f.Add("\"\x00", "\xff", []byte("[1e400]"))
	f.Fuzz(func(t *testing.T, id, eventType string, data []byte) {
		if !json.Valid(data) {
			return
		}
		body, err := eventBody(id, eventType, data)
		if err != nil || !json.Valid(body) || bytes.ContainsAny(body, "\n") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

// TestSendHasASampleOfEachType: the documentation's own word for word, the rest marked as ours.
func TestSendHasASampleOfEachType(t *testing.T) {
	documented := map[string]string{
		"lead.created":          `{"leadId":"lead_xyz789","firstName":"John","lastName":"Doe","email":"john@example.com","phone":"+1234567890","source":"website_form","score":75}`,
		"appointment.scheduled": `{"appointmentId":"appt_123","contactId":"contact_456","propertyId":"prop_789","date":"2024-01-20","time":"14:00","duration":60,"type":"showing"}`,
		"test":                  `{"message":"This is a test webhook"}`,
	}
	bodies := make(chan string, 1)
	url := startIntake(t, func(ctx *fasthttp.RequestCtx) {
		bodies <- string(ctx.PostBody())
		ctx.SetBodyString(`{"id":"evt_1","status":"accepted","endpoints":1}`)
	})
	sent := func(args ...string) string {
		t.Helper()
		if code, _, stderr := runSend(t, "", append(args, "-url", url)...); code != 0 {
			t.Fatalf("%q: exit %d, %s", args, code, stderr)
		}
		return <-bodies
	}
	for _, kind := range config.Types() {
		body := sent("-type", kind)
		var event struct {
			Type string
			Data json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &event); err != nil || event.Type != kind {
			t.Errorf("%s: %v: %s", kind, err, body)
		}
		want, isTheirs := documented[kind]
		if isTheirs && string(event.Data) != want || !isTheirs && !strings.HasPrefix(string(event.Data), `{"sample":"made by the relay`) {
			t.Errorf("%s has %s", kind, event.Data)
		}
	}
	if body := sent("-type", "of.mine"); !strings.HasSuffix(body, `"data":{}}`) {
		t.Errorf("a type of one's own has %s", body)
	}
	if body := sent("-type", "lead.created", "-data", "{}"); !strings.HasSuffix(body, `"data":{}}`) {
		t.Errorf("with data of one's own it has %s", body)
	}
}
