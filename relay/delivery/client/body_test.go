package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
	"realtorbot-relay/scripts/needed"
	"realtorbot-relay/sign"
)

func requestOf(eventType, data string) *Request {
	return &Request{ID: []byte("evt_1"), Type: []byte(eventType), Body: []byte(`{"id":"evt_1","type":"` + eventType + `","data":` + data + `}`)}
}

func slackSays(t *testing.T, r *Request) string {
	t.Helper()
	var said map[string]string
	if err := json.Unmarshal(asSlack(r).Body, &said); err != nil || len(said) != 1 {
		t.Fatalf("%s: %v", asSlack(r).Body, err)
	}
	return said["text"]
}

func TestSlackTextIsForPeople(t *testing.T) {
	for _, tt := range []struct{ eventType, data, want string }{
		{"relay.endpoint.down", `{"message":"endpoint \"crm\" is down: a < b & c > d","endpoint":"crm"}`, `*relay.endpoint.down* endpoint "crm" is down: a &lt; b &amp; c &gt; d`},
		{"lead.created", `{"score":75,"note":"` + "```" + `"}`, "*lead.created* `evt_1`\n```\n{\"score\":75,\"note\":\"'''\"}\n```"},
		{"lead.created", `{"message":7}`, "*lead.created* `evt_1`\n```\n{\"message\":7}\n```"},
		{"lead.created", `{"message":"*Hi*"}`, "*lead.created* \n```\n*Hi*\n```"},
	} {
		if got := slackSays(t, requestOf(tt.eventType, tt.data)); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
	long := slackSays(t, requestOf("lead.created", `{"a":"`+strings.Repeat("é", 3000)+`"}`))
	if len(long) > 2000 || !utf8.ValidString(long) || !strings.HasSuffix(long, "…\n```") {
		t.Errorf("%d bytes, ending in %q", len(long), long[len(long)-10:])
	}
}

// Whatever a source writes into an event, a chat calls nobody for it, makes no link of it and sees no markup in it.
func TestSlackTextCallsNobodyAndLeadsNowhere(t *testing.T) {
	id := "<!channel>`@here`[x](http://evil.example)"
	typed := "@everyone @channel @here <!channel> <@U123> <https://evil.example|your bank> [your bank](https://evil.example/x) " +
		"www.evil.example mailto:x@evil.example HTTPS://EVIL.example `*loud*` ```"
	quoted := match.AppendText(nil, typed)
	for name, p := range map[string]*Request{
		"message": requestOf("https://evil.example", `{"message":`+string(quoted)+`}`),
		"data":    requestOf("www.evil.example", `{"note":`+string(quoted)+`}`),
		"alert":   requestOf("relay.endpoint.down", `{"message":`+string(quoted)+`}`),
	} {
		p.ID = []byte(id)
		said := slackSays(t, p)
		for _, live := range []string{"@everyone", "@channel", "@here", "@U123", "<", ">", "://", "www.", "mailto:", "]("} {
			if strings.Contains(strings.ToLower(said), live) {
				t.Errorf("%s says %q: %s", name, live, said)
			}
		}
		// Outside of code there are the type's own stars, and nothing else that is markup.
		outside := ""
		for i, part := range strings.Split(strings.ReplaceAll(said, "```", "`"), "`") {
			if i%2 == 0 {
				outside += part
			}
		}
		if name != "alert" && (strings.Count(outside, "*") != 2 || strings.Contains(outside, "loud") || strings.Count(said, "`")%2 != 0) {
			t.Errorf("%s has markup outside of code: %s", name, said)
		}
		if seen := strings.ReplaceAll(said, "\u200b", ""); !strings.Contains(seen, "@everyone @channel @here &lt;!channel&gt;") {
			t.Errorf("%s is not to be read any more: %s", name, said)
		}
	}
	if said := slackSays(t, requestOf("lead.created", `{"message":"from jane.roe+x@example.com, at 10:30"}`)); !strings.Contains(said, "\nfrom jane.roe+x@example.com, at 10:30\n") {
		t.Errorf("what people copy has changed: %q", said)
	}
}

// The documented receiver hashes JSON.stringify of what it parsed.
func TestSlackBodyIsAsJavaScriptWritesIt(t *testing.T) {
	text := "a \"quoted\" \\ line\n\ttab\r\b\f\x01\x1f\x7f\u2028\u2029 é 🏠 </script>"
	data, _ := json.Marshal(map[string]string{"message": text})
	body := asSlack(requestOf("test", string(data))).Body
	node := exec.Command(needed.Program(t, "node"), "-e", `process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0,'utf8'))))`)
	node.Stdin = strings.NewReader(string(body))
	out, err := node.Output()
	if err != nil || string(out) != string(body) {
		t.Errorf("%v\nNode %q\nwe   %q", err, out, body)
	}
}

func TestSlackBodyIsWhatIsSigned(t *testing.T) {
	arrived := make(chan string, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		err := sign.VerifyRealtorBot(r.Header.Get("X-RealtorBot-Signature"), body, sign.NewSecret("example-secret"))
		arrived <- fmt.Sprintf("%s %s %v", r.Header.Get("webhook-id"), body, err)
	}))
	defer receiver.Close()
	ep := testEndpoint(receiver.URL)
	ep.Format = config.FormatSlack
	if o := mustClient(t, ep).Attempt(requestOf("test", "{}")); o.Status != 200 {
		t.Fatalf("got %+v", o)
	}
	if got, want := <-arrived, "evt_1 {\"text\":\"*test* `evt_1`\\n```\\n{}\\n```\"} <nil>"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzSlackBody has any text for data: what goes out is always one JSON object of bounded size.
func FuzzSlackBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"message":"a<b"}`, `{"message":7}`, `"`, "\xff\xfe", `{"message":"` + strings.Repeat("é", 2000) + `"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		body := asSlack(requestOf("lead.created", data)).Body
		var said map[string]string
		if err := json.Unmarshal(body, &said); err != nil || len(said) != 1 || len(said["text"]) > 3*slackLimit {
			t.Errorf("%v: %q", err, body)
		}
	})
}
