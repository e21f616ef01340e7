package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

// post sends a body and returns status and body of the answer.
func (o *harness) post(path, body string) (int, string) {
	o.t.Helper()
	answer, err := http.Post(o.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// failSome has lead events and bot events fail, and one be delivered.
func (o *harness) failSome() {
	o.t.Helper()
	o.acceptTyped("evt_well", "lead.created")
	o.until("through", func(s delivery.Status) bool { return s.Delivered == 1 })
	o.status.Store(422) // each for itself: it is not down
	for i := range 6 {
		o.acceptTyped(fmt.Sprint("evt_", i), []string{"lead.created", "bot.created"}[i%2])
	}
	o.until("through", func(s delivery.Status) bool { return s.Failed == 6 })
}

func TestFailedDeliveriesAreListedWithTheirReasons(t *testing.T) {
	o := openHarness(t, "")
	o.failSome()
	_, got := o.read("/endpoints/crm/failed?limit=2")
	line := got["deliveries"].([]any)[0].(map[string]any)
	for key, want := range map[string]any{
		"id": "evt_5", "type": "bot.created", "attempts": 1.0, "status": 422.0, "class": "status", "bin": "refused",
		"reason": "gave up after 1 attempt: answered 422 Unprocessable Entity",
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if got["failed"] != 6.0 || got["endpoint"] != "crm" || line["failed_at"] == nil || line["accepted_at"] == nil {
		t.Errorf("got %v", got)
	}
	for path, want := range map[string]string{
		"?":                            "evt_5 evt_4 evt_3 evt_2 evt_1 evt_0",
		"?limit=4":                     "evt_5 evt_4 evt_3 evt_2 evt_1 evt_0",
		"?type=lead.*":                 "evt_4 evt_2 evt_0",
		"?class=status,dns&since=1h":   "evt_5 evt_4 evt_3 evt_2 evt_1 evt_0",
		"?class=dns":                   "",
		"?bin=refused&type=bot.*":      "evt_5 evt_3 evt_1",
		"?bin=unreached":               "",
		"?bin=refused&class=dns":       "",
		"?until=1h":                    "",
		"?since=2020-01-01T00:00:00Z&": "evt_5 evt_4 evt_3 evt_2 evt_1 evt_0",
	} {
		var ids []string
		for after := ""; ; {
			_, page := o.read("/endpoints/crm/failed" + path + after)
			for _, d := range page["deliveries"].([]any) {
				ids = append(ids, d.(map[string]any)["id"].(string))
			}
			if page["next"] == nil {
				break
			}
			after = "&after=" + page["next"].(string)
		}
		if s := strings.Join(ids, " "); s != want {
			t.Errorf("%s lists %q, want %q", path, s, want)
		}
	}
	for _, path := range []string{"?class=odd", "?bin=odd", "?status=failed", "?type=x*"} {
		if status, body := o.ask("GET", "/endpoints/crm/failed"+path); status != 400 || code(body) != "invalid_query" {
			t.Errorf("%s answered %d %s", path, status, body)
		}
	}
}

func TestBinsTellWhoHasToDoSomething(t *testing.T) {
	for class, want := range map[string]string{
		"status": "refused", "dns": "unreached", "timeout": "unreached", "bad_response": "unreached", "expired": "expired", "unreadable": "unreadable",
	} {
		if got := binOf(class); got != want {
			t.Errorf("%s is in bin %s, want %s", class, got, want)
		}
	}
	var all []string
	for _, bin := range bins {
		all = append(all, classesOf(bin, nil)...)
	}
	slices.Sort(all)
	want := failedClasses()
	if slices.Sort(want); !slices.Equal(all, want) {
		t.Errorf("the bins hold %q, want each class once, %q", all, want)
	}
}

// replayDone waits until no replay runs and returns the latest.
func (o *harness) replayDone() map[string]any {
	o.t.Helper()
	o.until("done with its replays", func(s delivery.Status) bool { return len(s.Replays) == 0 })
	_, got := o.read("/endpoints/crm/replays")
	return got["replays"].([]any)[0].(map[string]any)
}

func TestAReplayOfWhatFailed(t *testing.T) {
	o := openHarness(t, "")
	o.failSome()
	status, body := o.post("/endpoints/crm/replay", `{"failed":true,"type":"lead.*","dry_run":true}`)
	if status != 200 || !strings.Contains(body, `"total": 3`) || strings.Contains(body, `"replay"`) {
		t.Fatalf("the dry run answered %d %s", status, body)
	}
	if _, got := o.read("/endpoints/crm/replays"); len(got["replays"].([]any)) != 0 {
		t.Fatalf("the dry run started something: %v", got)
	}
	o.status.Store(200)
	status, body = o.post("/endpoints/crm/replay", `{"failed":true,"type":["lead.*"]}`)
	if status != 202 || !strings.Contains(body, `"id": "rpl_`) || !strings.Contains(body, `"total": 3`) {
		t.Fatalf("answered %d %s", status, body)
	}
	done := o.replayDone()
	if done["state"] != "done" || done["delivered"] != 3.0 || done["taken_up"] != 3.0 || done["failed"] != 0.0 || done["of_failed"] != true {
		t.Errorf("the replay is %v", done)
	}
	d := o.story("evt_0")
	attempts := d["attempts"].([]any)
	last := attempts[len(attempts)-1].(map[string]any)
	if d["state"] != "delivered" || len(attempts) != 2 || last["replay"] != done["id"] || last["number"] != 1.0 {
		t.Errorf("the story is %v", d)
	}
	if s := o.Dispatcher.Statuses()[0]; s.Failed != 3 || s.Delivered != 4 {
		t.Errorf("the endpoint is %+v", s)
	}
	if !strings.Contains(o.log.String(), `"message":"replay started by the operator"`) {
		t.Errorf("the log is %s", o.log)
	}
}

func TestAReplayByIDsAndByTime(t *testing.T) {
	o := openHarness(t, "")
	o.failSome()
	o.status.Store(200)
	other := o.crm
	other.Name = "late"
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm, other}); err != nil {
		t.Fatal(err)
	}
	status, body := o.post("/endpoints/late/replay", `{"ids":["evt_0"]}`)
	if status != 200 || !strings.Contains(body, `"not_for_endpoint"`) || !strings.Contains(body, `"total": 0`) {
		t.Errorf("of events that are not for it answered %d %s", status, body)
	}
	status, body = o.post("/endpoints/crm/replay", `{"ids":["evt_well","evt_3","evt_never","evt_3"]}`)
	if status != 202 || !strings.Contains(body, `"total": 2`) || !strings.Contains(body, `"not_kept"`) {
		t.Fatalf("answered %d %s", status, body)
	}
	if done := o.replayDone(); done["delivered"] != 2.0 || done["ids"] != 2.0 {
		t.Errorf("the replay is %v", done)
	}
	status, body = o.post("/endpoints/crm/replay", `{"since":"1h","until":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`","type":"lead.created","rate":500}`)
	if status != 202 || !strings.Contains(body, `"total": 4`) {
		t.Fatalf("by time answered %d %s", status, body)
	}
	if done := o.replayDone(); done["delivered"] != 4.0 || done["rate"] != 500.0 || done["since"] == nil {
		t.Errorf("the replay is %v", done)
	}
	if s := o.Dispatcher.Statuses()[0]; s.Failed != 2 {
		t.Errorf("the endpoint is %+v", s)
	}
}

func TestAReplayIsShownAndCancelled(t *testing.T) {
	o := openHarness(t, "")
	o.failSome()
	o.ask("POST", "/endpoints/crm/pause")
	var said struct{ Replay delivery.Replay }
	for range 4 {
		status, body := o.post("/endpoints/crm/replay", `{"failed":true}`)
		if err := json.Unmarshal([]byte(body), &said); status != 202 || err != nil {
			t.Fatalf("answered %d %s", status, body)
		}
	}
	if status, body := o.post("/endpoints/crm/replay", `{"failed":true}`); status != 409 || code(body) != "too_many_replays" {
		t.Errorf("the fifth answered %d %s", status, body)
	}
	_, stats := o.read("/stats")
	if list := stats["endpoints"].([]any)[0].(map[string]any)["replays"].([]any); len(list) != 4 {
		t.Errorf("/stats shows %v", list)
	}
	if status, body := o.ask("DELETE", "/endpoints/crm/replays/"+said.Replay.ID); status != 200 || !strings.Contains(body, `"cancelled"`) {
		t.Errorf("cancelling answered %d %s", status, body)
	}
	for _, id := range []string{said.Replay.ID, "rpl_1", "x"} {
		if status, body := o.ask("DELETE", "/endpoints/crm/replays/"+id); status != 404 || code(body) != "no_replay" {
			t.Errorf("cancelling %s answered %d %s", id, status, body)
		}
	}
	if s := o.Dispatcher.Statuses()[0]; s.Failed != 6 || len(s.Replays) != 3 {
		t.Errorf("the endpoint is %+v", s)
	}
}

func TestReplaysThatMakeNoSenseAreRefused(t *testing.T) {
	o := openHarness(t, "")
	for _, body := range []string{
		``, `[]`, `{}`, `{"all":true}`, `{"failed":true} x`, `{"failed":true,"ids":["a"]}`, `{"ids":["a"],"since":"1h"}`, `{"ids":["a"],"type":"test"}`,
		`{"since":"1h","class":"dns"}`, `{"since":"soon"}`, `{"until":"soon"}`, `{"failed":true,"rate":-1}`, `{"failed":true,"bin":"odd"}`,
		`{"failed":true,"class":["odd"]}`, `{"failed":true,"type":"lead*"}`, `{"failed":true,"type":7}`,
		`{"ids":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`,
	} {
		if status, answer := o.post("/endpoints/crm/replay", body); status != 400 || code(answer) != "invalid_replay" {
			t.Errorf("%.60s answered %d %s", body, status, answer)
		}
	}
	if status, body := o.post("/endpoints/nobody/replay", `{"failed":true}`); status != 404 || code(body) != "no_endpoint" {
		t.Errorf("answered %d %s", status, body)
	}
}

// What can't be read is told in words that say what to send, and none of them is from the language the relay is written in.
func TestABodyThatCannotBeReadIsToldWhatToSend(t *testing.T) {
	o := openHarness(t, "")
	const object = `the body must be an object such as {"failed":true}`
	for body, want := range map[string]string{
		``:                               object + ": unexpected end at byte 0",
		`[]`:                             object,
		`null`:                           object,
		`{“failed”:true}`:                object + `: unexpected curly quote at byte 1: JSON has straight ones, "`,
		`{'failed':true}`:                object + `: unexpected quote that is not a double one at byte 1: JSON has double ones, "`,
		`{failed:true}`:                  object + ": unexpected text without quotes at byte 1",
		"\uFEFF{\"failed\":true}":        object + ": unexpected byte order mark at byte 0: send UTF-8 without one",
		"{\x00\"\x00f\x00":               object + ": the body is in UTF-16: send it as UTF-8",
		`{"failed":true} x`:              object + ": unexpected character at byte 16",
		`{"failed":true,"failed":false}`: object + ": duplicate member name at byte 15",
		`{"failed":"yes"}`:               `"failed" must be true or false`,
		`{"ids":"evt_1"}`:                `"ids" must be a list of texts`,
		`{"failed":true,"type":7}`:       `"type" must be a text or a list of texts`,
		`{"failed":true,"class":[7]}`:    `"class" must be a text or a list of texts`,
		`{"failed":true,"rate":"fast"}`:  `"rate" must be a number`,
		`{"failed":true,"rate":1e999}`:   `"rate" must be a number`,
		`{"since":7}`:                    `"since" must be a text`,
		`{"all":true,"zoo":1}`:           `there is no "all" here: there are ids, failed, since, until, type, class, bin, rate, dry_run`,
		`{"Failed":true}`:                `there is no "Failed" here: there are ids, failed,`,
	} {
		status, answer := o.post("/endpoints/crm/replay", body)
		var said struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(answer), &said); err != nil || status != 400 || said.Error.Code != "invalid_replay" || !strings.HasPrefix(said.Error.Message, want) {
			t.Errorf("%q answered %d %s, want %q", body, status, answer, want)
		}
	}
}

func TestFailedDeliveriesAreDiscarded(t *testing.T) {
	o := openHarness(t, "")
	o.failSome()
	if status, body := o.ask("DELETE", "/endpoints/crm/failed?type=bot.*"); status != 200 || !strings.Contains(body, `"deliveries": 3`) {
		t.Fatalf("answered %d %s", status, body)
	}
	if _, body := o.ask("GET", "/events?status=discarded&endpoint=crm"); strings.Count(body, `"state": "discarded"`) != 3 {
		t.Errorf("3 are discarded, and a search for them says %s", body)
	}
	if err := o.Dispatcher.Apply(nil); err != nil { // of an orphan as well
		t.Fatal(err)
	}
	if status, body := o.ask("DELETE", "/endpoints/crm/failed"); status != 200 || !strings.Contains(body, `"deliveries": 3`) {
		t.Fatalf("answered %d %s", status, body)
	}
	if list := o.Dispatcher.Statuses(); len(list) != 0 {
		t.Errorf("an orphan that holds nothing is listed: %+v", list)
	}
	if !strings.Contains(o.log.String(), `"deliveries":3`) || !strings.Contains(o.log.String(), "discarded failed deliveries") {
		t.Errorf("the log is %s", o.log)
	}
}
