package try

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// runFollow has listen follow until done says so, and returns what it showed.
func runFollow(t *testing.T, done string, args ...string) (code int, shown, complaints string) {
	t.Helper()
	out, stderr := newScreen(), newScreen()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- Listen(ctx, args, out, stderr) }()
	if done != "" {
		out.await(t, done)
		cancel()
	}
	code = <-ended
	return code, out.String(), stderr.String()
}

// tape is a relay's stream that ends after each event, so that the next one has to be asked for by what was seen.
func tape(t *testing.T, token string, events []string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/relay/stream" || r.URL.Query().Get("type") != "lead.*" || r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"code":"unauthorized","message":"this listener asks for a token"}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		last := 0
		_, _ = fmt.Sscan(r.Header.Get("Last-Event-ID"), &last)
		_, _ = io.WriteString(w, "retry: 2000\n\n:\n\n")
		if last == 1 {
			_, _ = io.WriteString(w, "event: missed\ndata: {\"events\":7}\n\n")
		}
		if last < len(events) {
			_, _ = fmt.Fprintf(w, "id: %d\ndata: %s\n\n", last+1, events[last])
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s
}

func TestListenFollowsARelayAndForwards(t *testing.T) {
	long := `{"id":"evt_2","type":"lead.scored","data":{"text":"` + strings.Repeat("x", 100<<10) + `"}}`
	events := []string{testEvent, long, `{"id":"evt_3","type":"lead.created","data":{}}`}
	relay := tape(t, "example-admin-token", events)
	var mu sync.Mutex
	var got []string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		h := r.Header
		if why := whyRealtorBot(h.Get("X-RealtorBot-Signature"), body, secrets{current: sign.NewSecret(testSecret)}); why != "" {
			t.Errorf("X-RealtorBot-Signature: %s", why)
		}
		if h.Get("webhook-signature") == "" || h.Get("X-RealtorBot-Attempt") != "1" || h.Get("webhook-id") == "" {
			t.Errorf("headers %v", h)
		}
		if got = append(got, string(body)); len(got) == 2 {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "no \x1b[2Jcoffee")
		}
	}))
	defer receiver.Close()
	code, shown, complaints := runFollow(t, `evt_3  attempt 1  → 200`, "-from", relay.URL+"/relay/", "-types", "lead.*",
		"-token", "example-admin-token", "-forward", receiver.URL, "-secret", testSecret)
	if code != exit.Well || complaints != "" {
		t.Errorf("exit %d, %s", code, complaints)
	}
	if strings.Join(got, "\n") != strings.Join(events, "\n") {
		t.Errorf("forwarded %.300q", got)
	}
	for _, want := range []string{
		"lead.created  evt_abc123  attempt 1  → 200 OK in ", `"score": 75`, "→ 418 I'm a teapot in ", `no \u001b[2Jcoffee`,
		"the relay is gone (it closed the connection); trying again", "connected again", "7 events are not kept any more",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q isn't shown in:\n%s", want, shown)
		}
	}
	if strings.Contains(shown, testSecret) || strings.Contains(shown, "example-admin-token") {
		t.Error("a secret is shown")
	}
}

func TestListenSaysWhyItCantFollow(t *testing.T) {
	relay := tape(t, "right", nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-from", relay.URL + "/relay", "-types", "lead.*", "-token", "wrong"}, exit.Failed, "refuses with 401 unauthorized: this listener asks"},
		{[]string{"-from", gone.URL}, exit.Failed, "is -from the relay's admin.listen?"},
		{[]string{"-from", "ftp://example.com"}, exit.Usage, "-from must be http://"},
		{[]string{"-from", "http://u:hidden@example.com"}, exit.Usage, "without a user name"},
		{[]string{"-from", gone.URL, "-forward", "localhost:3000"}, exit.Usage, "-forward must be http://"},
		{[]string{"-from", gone.URL, "-status", "503"}, exit.Usage, "-status is for a receiver of its own"},
		{[]string{"-forward", gone.URL}, exit.Usage, "name that with -from"},
		{[]string{"-all"}, exit.Usage, "name that with -from"},
		{[]string{"-status", "99"}, exit.Usage, "-status 99 is not between"},
		{[]string{"-fail", "101%"}, exit.Usage, "is not a share as in 30%"},
		{[]string{"-fail", "NaN"}, exit.Usage, "is not a share as in 30%"},
		{[]string{"-delay", "-1s"}, exit.Usage, "-delay -1s is not between"},
	} {
		code, _, complaints := runFollow(t, "", c.args...)
		if code != c.code || !strings.Contains(complaints, c.want) || strings.Contains(complaints, "hidden") {
			t.Errorf("%v: exit %d, %q", c.args, code, complaints)
		}
	}
}
