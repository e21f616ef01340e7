package endtoend

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/sign"
)

// oddIDs are ids that mean something to what stands between the source that gave them and people who look for them.
var oddIDs = []string{
	`"`, `a"b"`, `\`, `C:\new\table`, `\u0041`, "/", "a/b", "a//b", "a/../b", "../../stats", ".", "..", "msg.1", "?x=1", "#top", "%", "%2F", "%2e%2e", "100%", "a+b",
	"<script>alert(1)</script>", "&amp;", "a&limit=1", "'", "`id`", "$(id)", "-h", "--", "_1", "a,b", "a;b", "urn:evt:1", "*", "@here", "null", "0",
	strings.Repeat("x", 255), strings.Repeat(`"`, 255),
}

// An id is the same wherever it passes: posted, answered, delivered, signed, looked for, listed, streamed, replayed.
func TestAnIDIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	crm, mail := receive(t, well), receive(t, codes(400))
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	const odd = "Urn:lead/x.created"
	r, operate := operated(t, "[events]\ncustom = [\""+odd+"\"]\n"+
		endpoint("crm", crm.url, `secret = "`+secret+`"`, `signatures = ["realtorbot", "standard"]`)+
		strings.Replace(endpoint("mail", mail.url, "retry = []"), `"*"`, `"Urn:lead/x.*"`, 1)+
		"[[source]]\nname = \"open\"\npath = \"/events\"\n[[source]]\nname = \"standard\"\npath = \"/standard\"\nscheme = \"standard\"\nsecret = \""+secret+"\"\n")
	key, err := sign.ParseStandardKey(sign.NewSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	token := ""
	for _, e := range r.cmd.Env {
		if value, ok := strings.CutPrefix(e, "THE_TOKEN="); ok {
			token = value
		}
	}
	authorized := []string{"Authorization", "Bearer " + token}
	quoted := func(id string) string { text, _ := json.Marshal(id); return string(text) }

	// Half of them come in the body, half as the signed id of an event without one.
	for i, id := range oddIDs {
		for _, status := range []string{"accepted", "duplicate"} {
			var a answer
			if i%2 == 0 {
				a = r.post(`{"id":` + quoted(id) + `,"type":"` + odd + `","data":{}}`)
			} else {
				body := []byte(`{"type":"` + odd + `","data":{}}`)
				now := time.Now().Unix()
				a = r.intake.ask(t, "POST", "/standard", string(body), "Content-Type", "application/json", "webhook-id", id,
					"webhook-timestamp", fmt.Sprint(now), "webhook-signature", string(sign.Standard(nil, []sign.StandardKey{key}, id, now, body)))
			}
			var said struct{ ID, Status string }
			if err := json.Unmarshal([]byte(a.body), &said); err != nil || said.ID != id || said.Status != status {
				t.Errorf("%q is answered %d %s (%v), want %s", id, a.status, a.body, err, status)
			}
		}
	}

	for _, a := range crm.await(len(oddIDs)) {
		var named struct{ ID, Type string }
		if err := json.Unmarshal([]byte(a.body), &named); err != nil || named.ID != a.id || named.Type != odd || a.header.Get("X-RealtorBot-Event") != odd {
			t.Errorf("%q was delivered as %s with %q", a.id, a.body, a.header)
		}
		if err := sign.VerifyStandard(a.header.Get("webhook-signature"), a.id, a.header.Get("webhook-timestamp"), []byte(a.body), time.Now(), time.Minute, key); err != nil {
			t.Errorf("%q: %v", a.id, err)
		}
	}
	same := func(what string, got []string) {
		t.Helper()
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(oddIDs)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", what, got, want)
		}
	}
	counts := crm.counts()
	var got []string
	for id := range counts {
		got = append(got, id)
	}
	same("the endpoint", got)
	eventually(t, "all have failed at the other", func() bool {
		return len(mail.all()) == len(oddIDs) && strings.Contains(operate(0, "status"), fmt.Sprint(len(oddIDs), "       "))
	})

	read := func(path string, v any) {
		t.Helper()
		a := r.admin.ask(t, "GET", path, "", authorized...)
		if err := json.Unmarshal([]byte(a.body), v); err != nil || a.status != 200 {
			t.Fatalf("GET %s: %d %s (%v)", path, a.status, a.body, err)
		}
	}
	// Lists, page by page.
	for _, path := range []string{"/events?limit=7&type=" + url.QueryEscape(odd), "/events?limit=7&type=" + url.QueryEscape("Urn:lead/x.*"), "/endpoints/mail/failed?limit=7"} {
		var all []string
		for after := ""; ; {
			var page struct {
				Events, Deliveries []struct{ ID string }
				Next               string
			}
			read(path+after, &page)
			for _, one := range append(page.Events, page.Deliveries...) {
				all = append(all, one.ID)
			}
			if page.Next == "" {
				break
			}
			after = "&after=" + page.Next
		}
		same(path, all)
	}
	// The story of one: as the path has it, as the query has it, and as the command asks.
	for _, id := range oddIDs {
		paths := []string{"/events/" + url.PathEscape(id), "/events/?id=" + url.QueryEscape(id)}
		if !strings.ContainsAny(id, "?#%") { // who does not escape it
			paths = append(paths, "/events/"+strings.ReplaceAll(url.PathEscape(id), "%2F", "/"))
		}
		for _, path := range paths {
			var told struct{ ID, Type string }
			if read(path, &told); told.ID != id || told.Type != odd {
				t.Errorf("GET %s tells of %q, %q", path, told.ID, told.Type)
			}
		}
	}
	tell := func(id string) (told struct{ ID string }) {
		t.Helper()
		cmd := command(r.dir, "events", "-config", "config.toml", "--", id)
		cmd.Env = r.cmd.Env
		code, stdout, stderr := end(t, cmd)
		if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != 0 {
			t.Errorf("events %q ends with %d: %s%s (%v)", id, code, stdout, stderr, err)
		}
		return told
	}
	for _, id := range []string{`a"b"`, `C:\new\table`, "..", "a//b", "%2F", "-h", "--", "#top", "?x=1"} {
		if told := tell(id); told.ID != id {
			t.Errorf("events %q tells of %q", id, told.ID)
		}
	}
	listed := operate(0, "failed", "mail")
	for _, id := range oddIDs {
		mustHave(t, listed, "  "+id+"  ")
	}

	// The stream, from the first event that is kept, of these types alone.
	stream, err := http.NewRequest("GET", "http://relay/stream?last_event_id=0&type="+url.QueryEscape("Urn:lead/x.*,test"), nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Authorization", "Bearer "+token)
	response, err := r.admin.client.Do(stream)
	if err != nil || response.StatusCode != 200 {
		t.Fatal(response, err)
	}
	got = nil
	for lines := bufio.NewScanner(response.Body); len(got) < len(oddIDs) && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var named struct{ ID string }
			if err := json.Unmarshal([]byte(data), &named); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			got = append(got, named.ID)
		}
	}
	_ = response.Body.Close()
	same("the stream", got)

	// A replay by ids, over HTTP and as a command.
	text, _ := json.Marshal(map[string]any{"ids": oddIDs[:20]})
	if a := r.admin.ask(t, "POST", "/endpoints/crm/replay", string(text), authorized...); a.status != 202 || !strings.Contains(a.body, `"skipped": []`) && !strings.Contains(a.body, `"skipped":[]`) {
		t.Errorf("replay: %d %s", a.status, a.body)
	}
	cmd := command(r.dir, append([]string{"replay", "-config", "config.toml", "crm", "--"}, oddIDs[20:]...)...)
	cmd.Env = r.cmd.Env
	if code, stdout, stderr := end(t, cmd); code != 0 || !strings.Contains(stdout, fmt.Sprint(len(oddIDs)-20, " deliveries go to crm again")) || strings.Contains(stdout, "left out") {
		t.Errorf("replay of ids ends with %d: %s%s", code, stdout, stderr)
	}
	crm.await(2 * len(oddIDs))
	for _, id := range oddIDs {
		if n := crm.counts()[id]; n != 2 {
			t.Errorf("%q came %d times, want 2", id, n)
		}
	}
}
