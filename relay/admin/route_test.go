package admin

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

func TestRouteSaysWhereAnEventWouldGo(t *testing.T) {
	o := openHarness(t, "")
	acct, bots := o.crm, o.crm
	acct.Name, acct.Match = "acct", match.Rule{{Path: "data.accountId", Values: []match.Value{match.Text("acct_42")}}}
	bots.Name, bots.Events = "bots", []string{"bot.*"}
	if err := o.Dispatcher.Apply([]config.Endpoint{o.crm, acct, bots}); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"id":"evt_1","type":"lead.created","data":{"accountId":"acct_7"}}`: `{"events":[{"id":"evt_1","type":"lead.created","endpoints":["crm"],"unmatched":[` +
			`{"endpoint":"acct","reason":"not_matched","note":"data.accountId is acct_7, not acct_42"},{"endpoint":"bots","reason":"not_subscribed","note":"it subscribes to bot.*"}]}]}`,
		`[{"type":"bot.created","data":{"accountId":"\u0061cct_42"}}]`: `{"events":[{"id":"evt_without_id","type":"bot.created","endpoints":["crm","acct","bots"],"unmatched":[]}]}`,
	} {
		status, text := o.post("/route", body)
		var got bytes.Buffer
		if err := json.Compact(&got, []byte(text)); err != nil || status != 200 || strings.TrimSpace(got.String()) != want {
			t.Errorf("%s is answered %d %s, want %s", body, status, text, want)
		}
	}
	for _, body := range []string{"", "{", `{"type":"lead.created","data":7}`, `[` + strings.Repeat(`{"type":"a","data":{}},`, 10) + `{"type":"a","data":{}}]`} {
		if status, text := o.post("/route", body); status != 400 || code(text) != "invalid_event" {
			t.Errorf("%s is answered %d %s", body, status, text)
		}
	}
	if n := o.Queue.Stats().Events; n != 0 {
		t.Errorf("%d events are in the queue", n)
	}
}
