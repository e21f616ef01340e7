package endtoend

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// of is the text of an event whose data has these members.
func of(id, members string) string {
	return fmt.Sprintf(`{"id":%q,"type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{%s}}`, id, members)
}

// failedDelivery is what the tests look at of a failed delivery.
type failedDelivery struct {
	ID, Class, Bin, Reason string
	Attempts               int
}

func (r *relay) failed(name string) []failedDelivery {
	r.t.Helper()
	var page struct{ Deliveries []failedDelivery }
	r.get("/endpoints/"+name+"/failed", &page)
	return page.Deliveries
}

// TestAnEndpointGetsTheEventsOfItsAccountAlone: however a member is spelled, wherever it stands, posted alone, as a batch or in lines.
func TestAnEndpointGetsTheEventsOfItsAccountAlone(t *testing.T) {
	t.Parallel()
	rules := map[string]string{
		"everybody": ``,
		"acct":      `match = { "data.accountId" = "acct_42" }`,
		"several":   `match = { "data.accountId" = ["acct_42", "acct_43", 7, false] }`,
		"whole":     `match = { "data.accountId" = 7 }`,
		"text":      `match = { "data.accountId" = "7" }`,
		"part":      `match = { "data.accountId" = -0.5 }`,
		"long":      `match = { "data.accountId" = 9007199254740993 }`,
		"yes":       `match = { "data.accountId" = true }`,
		"there":     `match = { "data.accountId" = { exists = true } }`,
		"absent":    `match = { "data.accountId" = { exists = false } }`,
		"both":      `match = { "data.accountId" = "acct_42", "data.contact.region" = ["eu", "uk"], "data.test" = { exists = false } }`,
		"self":      `match = { id = "evt_text" }`,
		"nobody":    `match = { "data.accountId" = "acct_4" }`,
		"other":     "match = { \"data.accountId\" = \"acct_42\" }\nenabled = false",
	}
	// The members of each event's data, and which endpoints it is for, beside everybody.
	events := []struct{ id, members, to string }{
		{"evt_text", `"accountId":"acct_42"`, "acct several there self"},
		{"evt_spelled", `"accountId" : "\u0061cct\u005f42"`, "acct several there"},
		{"evt_name", `"\u0061ccountId":"acct_42"`, "acct several there"},
		{"evt_late", `"a":{"accountId":"acct_7"},"b":["accountId",{"accountId":1}],"accountId":"acct_42","z":1`, "acct several there"},
		{"evt_second", `"accountId":"acct_43"`, "several there"},
		{"evt_case", `"accountId":"ACCT_42"`, "there"},
		{"evt_space", `"accountId":"acct_42 "`, "there"},
		{"evt_7", `"accountId":7`, "several whole there"},
		{"evt_7_0", `"accountId":7.0`, "several whole there"},
		{"evt_7e0", `"accountId":0.7e1`, "several whole there"},
		{"evt_7_text", `"accountId":"7"`, "text there"},
		{"evt_half", `"accountId":-5e-1`, "part there"},
		{"evt_long", `"accountId":9007199254740993`, "long there"},
		{"evt_not_long", `"accountId":9007199254740992`, "there"},
		{"evt_true", `"accountId":true`, "yes there"},
		{"evt_true_text", `"accountId":"true"`, "there"},
		{"evt_false", `"accountId":false`, "several there"},
		{"evt_null", `"accountId":null`, "there"},
		{"evt_list", `"accountId":["acct_42"]`, "there"},
		{"evt_object", `"accountId":{"accountId":"acct_42"}`, "there"},
		{"evt_none", `"account":"acct_42"`, "absent"},
		{"evt_elsewhere", `"a":{"accountId":"acct_42"}`, "absent"},
		{"evt_empty", ``, "absent"},
		{"evt_both", `"contact":{"region":"uk"},"accountId":"acct_42"`, "acct both several there"},
		{"evt_test", `"contact":{"region":"uk"},"accountId":"acct_42","test":null`, "acct several there"},
		{"evt_region", `"contact":{"region":"us"},"accountId":"acct_42"`, "acct several there"},
		{"evt_no_region", `"contact":"eu","accountId":"acct_42"`, "acct several there"},
	}
	receivers, config := map[string]*receiver{}, preamble
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		receivers[name] = receive(t, well)
		config += endpoint(name, receivers[name].url, rules[name])
	}
	r := start(t, config)
	wanted := map[string][]string{}
	var bodies []string
	for _, e := range events {
		bodies = append(bodies, of(e.id, e.members))
		for _, name := range append(strings.Fields(e.to), "everybody") {
			for _, how := range []string{"", "_batch", "_line"} {
				if name != "self" || how == "" {
					wanted[name] = append(wanted[name], e.id+how)
				}
			}
		}
	}
	for i, e := range events {
		if a, want := r.post(bodies[i]), fmt.Sprintf(`"endpoints":%d}`, 1+len(strings.Fields(e.to))); !strings.Contains(a.body, want) {
			t.Errorf("%s is answered %s, want %s", bodies[i], a.body, want)
		}
	}
	named := func(how, between string) string {
		return strings.ReplaceAll(strings.Join(bodies, between), `","type"`, how+`","type"`)
	}
	r.post("[" + named("_batch", ",") + "]")
	if a := r.offer(named("_line", "\n"), "Content-Type", "application/x-ndjson"); a.status != 200 {
		t.Fatalf("lines are answered %d %s", a.status, a.body)
	}
	for name, receiver := range receivers {
		r.awaitEndpoint(name, "has settled all", func(ep endpointStats) bool {
			return ep.Pending+ep.Retrying == 0 && int(ep.Delivered) == len(wanted[name])
		})
		var got []string
		for _, a := range receiver.all() {
			got = append(got, a.id)
		}
		slices.Sort(got)
		slices.Sort(wanted[name])
		if !slices.Equal(got, wanted[name]) {
			t.Errorf("%s got %v, want %v", name, got, wanted[name])
		}
	}
}

// TestAStoryTellsWhoseItIsNot: each endpoint that an event is not for says what decided.
func TestAStoryTellsWhoseItIsNot(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("everybody", crm.url)+
		endpoint("other", crm.url, `match = { "data.accountId" = "acct_42" }`)+
		endpoint("number", crm.url, `match = { "data.accountId" = [7, 8] }`)+
		endpoint("absent", crm.url, `match = { "data.accountId" = { exists = false } }`)+
		endpoint("region", crm.url, `match = { "data.region" = { exists = true } }`)+
		endpoint("off", crm.url, `match = { "data.accountId" = "acct_7" }`, "enabled = false"))
	r.post(of("evt_1", `"accountId":"acct_7"`))
	var told struct {
		Deliveries []struct{ Endpoint string }
		Unmatched  []struct{ Endpoint, Reason, Note string }
	}
	r.get("/events/evt_1", &told)
	if len(told.Deliveries) != 1 || told.Deliveries[0].Endpoint != "everybody" {
		t.Errorf("it went to %+v", told.Deliveries)
	}
	notes := map[string]string{}
	for _, u := range told.Unmatched {
		notes[u.Endpoint] = u.Reason + ": " + u.Note
	}
	want := map[string]string{
		"other":  "not_matched: data.accountId is acct_7, not acct_42",
		"number": "not_matched: data.accountId is acct_7, not 7 or 8",
		"absent": "not_matched: data.accountId is acct_7, not missing",
		"region": "not_matched: data.region is missing, not there",
		"off":    "disabled: it is disabled: events accepted meanwhile are not for it",
	}
	if !maps.Equal(notes, want) {
		t.Errorf("the story says %q, want %q", notes, want)
	}
}

// TestAnAccountThatAReloadSwapsGetsNothingOfTheOther: what waits for its first attempt, for a retry, or is replayed, is judged by the
// file as it is now, by the relay that was reloaded and by one that was started again.
func TestAnAccountThatAReloadSwapsGetsNothingOfTheOther(t *testing.T) {
	t.Parallel()
	for name, follow := range map[string]func(r *relay, config string) *relay{
		"reload": func(r *relay, config string) *relay { r.reload(config); return r },
		"kill": func(r *relay, config string) *relay {
			r.kill()
			return startIn(t, r.dir, config)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ofA, ofB := receive(t, codes(500, 200)), receive(t, well)
			config := func(one, oneURL, two, twoURL string) string {
				return preamble + endpoint("one", oneURL, fmt.Sprintf(`match = { "data.accountId" = %q }`, one), `retry = ["10m"]`) +
					endpoint("two", twoURL, fmt.Sprintf(`match = { "data.accountId" = %q }`, two))
			}
			before, after := config("acct_a", ofA.url, "acct_b", ofB.url), config("acct_b", ofB.url, "acct_a", ofA.url)
			r := start(t, before)
			r.post(of("evt_retried", `"accountId":"acct_a"`))
			r.awaitState("evt_retried", "one", "retrying")
			for _, name := range []string{"one", "two"} {
				r.turn("POST", "/endpoints/"+name+"/pause")
			}
			r.post(of("evt_a1", `"accountId":"acct_a"`))
			r.post(of("evt_a2", `"accountId":"acct_a"`))
			r.post(of("evt_b", `"accountId":"acct_b"`))
			writeConfig(t, r.dir, after)
			plan := r.admin.ask(t, "POST", "/reload?dry_run=1", "")
			for _, text := range []string{
				"2 pending, 1 retrying held until it is resumed; 2 pending, 1 retrying are not this account's: they will not be sent, and become failed (unmatched)",
				"1 pending held until it is resumed; 1 pending are not this account's: they will not be sent, and become failed (unmatched)",
			} {
				if !strings.Contains(plan.body, text) {
					t.Errorf("the plan does not say %q: %s", text, plan.body)
				}
			}
			r = follow(r, after)
			for _, name := range []string{"one", "two"} {
				r.turn("POST", "/endpoints/"+name+"/resume")
			}
			unmatched := func(name string, want map[string]int) {
				t.Helper()
				r.awaitEndpoint(name, "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 && int(ep.Failed) == len(want) })
				got := map[string]int{}
				for _, f := range r.failed(name) {
					got[f.ID] = f.Attempts
					if f.Class != "unmatched" || f.Bin != "unmatched" || f.Reason != "data.accountId is not what the endpoint's match asks for" {
						t.Errorf("%s of %s is %+v", f.ID, name, f)
					}
				}
				if !maps.Equal(got, want) {
					t.Errorf("the failed deliveries of %s, with their attempts, are %v, want %v", name, got, want)
				}
			}
			unmatched("one", map[string]int{"evt_retried": 1, "evt_a1": 0, "evt_a2": 0})
			unmatched("two", map[string]int{"evt_b": 0})
			const note = "data.accountId is acct_b, not acct_a: nothing, unless it is replayed, which judges it again; it is kept for queue.failed_retention"
			if s := r.story("evt_b", "two"); s.State != "failed" || len(s.Attempts) != 0 || s.Reason != "data.accountId is not what the endpoint's match asks for" || s.Note != note {
				t.Errorf("its story is %+v", s)
			}

			// A replay is judged, too. What is not the endpoint's own is failed again, and its attempts are counted anew.
			replay := func(name, body string) {
				t.Helper()
				if a := r.admin.ask(t, "POST", "/endpoints/"+name+"/replay", body); a.status != 202 {
					t.Fatalf("the replay is answered %d %s", a.status, a.body)
				}
				eventually(t, "the replay is over", func() bool {
					a := r.admin.ask(t, "GET", "/endpoints/"+name+"/replays", "")
					return a.status == 200 && !strings.Contains(a.body, "running")
				})
			}
			replay("one", `{"failed":true}`)
			replay("two", `{"ids":["evt_b"]}`)
			unmatched("one", map[string]int{"evt_retried": 0, "evt_a1": 0, "evt_a2": 0})
			unmatched("two", map[string]int{"evt_b": 0})
			if n, m := len(ofA.all()), len(ofB.all()); n != 1 || m != 0 {
				t.Errorf("the receiver of acct_a got %d attempts, want that before the swap; that of acct_b %d", n, m)
			}

			// The control: once they are the endpoints' own again, replays deliver them, each to its own receiver.
			r.reload(before)
			replay("one", `{"failed":true}`)
			replay("two", `{"failed":true}`)
			ofA.await(4)
			ofB.await(1)
			for _, name := range []string{"one", "two"} {
				r.awaitEndpoint(name, "has delivered all", func(ep endpointStats) bool { return ep.Failed+ep.Pending+ep.Retrying == 0 })
			}
			if got, want := ofA.counts(), map[string]int{"evt_retried": 2, "evt_a1": 1, "evt_a2": 1}; !maps.Equal(got, want) {
				t.Errorf("the receiver of acct_a got %v, want %v", got, want)
			}
			if got, want := ofB.counts(), map[string]int{"evt_b": 1}; !maps.Equal(got, want) {
				t.Errorf("the receiver of acct_b got %v, want %v", got, want)
			}
		})
	}
}

// TestRouteSaysWhereAnEventWouldGo: as the relay itself would have it, without one, and with secrets that only the service has.
func TestRouteSaysWhereAnEventWouldGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := "http://127.0.0.1:9/webhooks"
	writeConfig(t, dir, preamble+endpoint("mail", url, `secret = "env:NOBODY_HAS_THIS"`)+
		endpoint("acct-42", url, `match = { "data.accountId" = "acct_42" }`)+
		endpoint("acct-7", url, `match = { "data.accountId" = "acct_7" }`)+
		endpoint("off", url, "enabled = false")+
		strings.Replace(endpoint("leads", url), `["*"]`, `["email.*", "test"]`, 1))
	route := func(code int, body string) (stdout, stderr string) {
		t.Helper()
		cmd := command(dir, "route", "-config", "config.toml")
		cmd.Stdin = strings.NewReader(body)
		got, stdout, stderr := end(t, cmd)
		if got != code {
			t.Errorf("route of %s ends with %d, want %d: %s%s", body, got, code, stdout, stderr)
		}
		return stdout, stderr
	}
	want := `evt_1 of type lead.created goes to 2 of 5 endpoints
  mail     yes
  acct-7   yes
  acct-42  no: data.accountId is acct_7, not acct_42
  off      no: it is disabled: events accepted meanwhile are not for it
  leads    no: it subscribes to email.*, test
`
	if said, errors := route(0, of("evt_1", `"accountId":"\u0061cct_7"`)); said != want || errors != "" {
		t.Errorf("it says %q, %q, want %q", said, errors, want)
	}
	said, _ := route(0, `[`+of("evt_1", `"accountId":7`)+`,{"type":"email.sent","data":{}}]`)
	mustHave(t, said, "evt_1 of type lead.created goes to 1 of 5 endpoints\n", "acct-7   no: data.accountId is 7, not acct_7\n",
		"evt_without_id of type email.sent goes to 2 of 5 endpoints\n", "leads    yes\n", "data.accountId is missing, not acct_42\n")
	if said, errors := route(1, `{"type":"lead.created","data":7}`); said != "" || !strings.Contains(errors, "data must be an object") {
		t.Errorf("of what is no event it says %q, %q", said, errors)
	}
	writeConfig(t, dir, preamble+endpoint("mail", url, "colour = 1"))
	if said, errors := route(2, of("evt_1", "")); said != "" || !strings.Contains(errors, "unknown key") {
		t.Errorf("of a file that is bad it says %q, %q", said, errors)
	}
}

// TestAnAccountsEventsAreFound: by the member that match of an endpoint names and by others, over HTTP and by the command, also those of
// before the configuration asked for it, and after a restart.
func TestAnAccountsEventsAreFound(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	everybody := preamble + endpoint("everybody", crm.url)
	accounts := everybody + endpoint("acct", crm.url, `match = { "data.accountId" = ["acct_42", 7] }`)
	r := start(t, everybody)
	r.post(of("evt_before", `"accountId":"acct_42","region":"eu"`))
	r.reload(accounts)
	for _, e := range [][2]string{
		{"evt_1", `"accountId":"acct_42","region":"us"`}, {"evt_2", `"accountId":"acct_43","region":"eu"`}, {"evt_7", `"accountId":7`},
		{"evt_text", `"accountId":"7"`}, {"evt_3", `"accountId":"\u0061cct_42"`}, {"evt_none", `"region":"eu"`}, {"evt_long", `"accountId":"` + strings.Repeat("x", 200) + `1"`},
	} {
		r.post(of(e[0], e[1]))
	}
	for _, restarts := range []bool{false, true} {
		if restarts {
			r.awaitEndpoint("everybody", "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
			r.kill()
			r = startIn(t, r.dir, accounts)
		}
		for query, want := range map[string]string{
			"match=data.accountId=acct_42":                                "evt_3 evt_1 evt_before",
			"match=data.accountId=acct_42&limit=1":                        "evt_3 evt_1 evt_before",
			"match=data.accountId=acct_42&type=bot.*":                     "",
			"match=data.accountId=acct_42&endpoint=acct":                  "evt_3 evt_1",
			"match=data.accountId=acct_42&status=delivered&endpoint=acct": "evt_3 evt_1",
			"match=data.accountId=7":                                      "evt_text evt_7",
			"match=data.accountId=%227%22":                                "evt_text",
			"match=data.region=eu":                                        "evt_none evt_2 evt_before",
			"match=data.accountId=" + strings.Repeat("x", 200) + "1":      "evt_long",
			"match=data.accountId=" + strings.Repeat("x", 200) + "2":      "",
			"match=data.accountId=nobody":                                 "",
			"match=id=evt_2":                                              "evt_2",
		} {
			if strings.Contains(query, "status=") {
				r.awaitEndpoint("acct", "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
			}
			var ids []string
			for after := ""; ; {
				var page struct {
					Events []struct{ ID string }
					Next   string
				}
				r.get("/events?"+query+after, &page)
				for _, e := range page.Events {
					ids = append(ids, e.ID)
				}
				if page.Next == "" {
					break
				}
				after = "&after=" + page.Next
			}
			if got := strings.Join(ids, " "); got != want {
				t.Errorf("restarted %v: %s finds %q, want %q", restarts, query, got, want)
			}
		}
	}
	if a := r.admin.ask(t, "GET", "/events?match=data.accountId", ""); a.status != 400 || !strings.Contains(a.body, "must be a member and its value") {
		t.Errorf("what names no value is answered %d %s", a.status, a.body)
	}
}
