package endtoend

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// alerts is what an endpoint got of the relay's own alerts: types, in the order of arrival.
func alerts(r *receiver) (kinds []string) {
	for _, a := range r.all() {
		if kind := a.header.Get("X-RealtorBot-Event"); strings.HasPrefix(kind, "relay.") {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// TestTroubleIsToldToWhomSubscribedToIt: as an event, signed, and as a text for a chat; and "*" is not told.
func TestTroubleIsToldToWhomSubscribedToIt(t *testing.T) {
	t.Parallel()
	crm, ops, chat := receive(t, codes(500)), receive(t, well), receive(t, well)
	secret := newSecret()
	r := start(t, preamble+endpoint("crm", crm.url, "retry = []")+
		strings.Replace(endpoint("ops", ops.url, `secret = "`+secret+`"`), `"*"`, `"relay.*"`, 1)+
		strings.Replace(endpoint("chat", chat.url, `format = "slack"`), `"*"`, `"relay.endpoint.down"`, 1))
	for _, id := range []string{"evt_1", "evt_2", "evt_3", "evt_4", "evt_5"} {
		r.post(event(id))
	}
	r.awaitEndpoint("crm", "is down", func(ep endpointStats) bool { return ep.State == "down" }) // a pause holds what is not attempted yet
	r.turn("POST", "/endpoints/crm/pause")
	eventually(t, "ops is told", func() bool {
		kinds := alerts(ops)
		return slices.Contains(kinds, "relay.endpoint.down") && slices.Contains(kinds, "relay.delivery.failed") && slices.Contains(kinds, "relay.endpoint.paused")
	})
	for _, a := range ops.all() {
		var said struct {
			ID, Type, Timestamp string
			Data                struct{ Message, Endpoint string }
		}
		if err := json.Unmarshal([]byte(a.body), &said); err != nil || said.Data.Endpoint != "crm" || said.Data.Message == "" || said.ID != a.id || a.header.Get("X-RealtorBot-Signature") == "" {
			t.Errorf("%v: %s", err, a.body)
		}
	}
	said := chat.await(1)[0]
	var slack map[string]string
	if err := json.Unmarshal([]byte(said.body), &slack); err != nil || len(slack) != 1 || !strings.HasPrefix(slack["text"], `*relay.endpoint.down* endpoint "crm" is down: `) {
		t.Errorf("%v: %s", err, said.body)
	}
	if kinds := alerts(crm); len(kinds) != 0 {
		t.Errorf("the endpoint for everything was told of %v", kinds)
	}
	if s := r.awaitState(said.id, "chat", "delivered"); len(s.Attempts) != 1 {
		t.Errorf("the alert's story: %+v", s)
	}
}

// TestAFailingAlertRaisesNone: else one would beget another for ever.
func TestAFailingAlertRaisesNone(t *testing.T) {
	t.Parallel()
	crm, chat := receive(t, codes(410)), receive(t, codes(500))
	r := start(t, preamble+endpoint("crm", crm.url)+strings.Replace(endpoint("chat", chat.url, "retry = []"), `"*"`, `"relay.*"`, 1))
	for i := range 6 { // each a 410, an alert, and a resume
		r.post(`{"type":"lead.created","data":{}}`)
		r.awaitEndpoint("crm", "is paused", func(ep endpointStats) bool { return ep.State == "paused" })
		r.awaitEndpoint("chat", "has the alert", func(ep endpointStats) bool { return ep.Pending+ep.Failed > int64(i) && ep.InFlight == 0 })
		r.turn("POST", "/endpoints/crm/resume")
	}
	r.awaitEndpoint("chat", "is down", func(ep endpointStats) bool { return ep.State == "down" })
	r.turn("POST", "/endpoints/crm/pause") // one more alert: whatever was raised before it has its count by then
	var metrics string
	eventually(t, "the pauses are counted", func() bool {
		metrics = r.admin.ask(t, "GET", "/metrics", "").body
		return strings.Contains(metrics, "relay_alert_raised_total{type=\"relay.endpoint.paused\"} 7\n")
	})
	for _, kind := range []string{"relay.endpoint.down", "relay.delivery.failed", "relay.endpoint.recovered"} {
		if !strings.Contains(metrics, "relay_alert_raised_total{type=\""+kind+"\"} 0\n") {
			t.Errorf("%s was raised", kind)
		}
	}
}

func TestTheHeartbeatIsCalledWhileEventsAreAccepted(t *testing.T) {
	t.Parallel()
	pulse := receive(t, func(w http.ResponseWriter, request *http.Request, _ attempt) {
		if request.Method != "GET" {
			w.WriteHeader(405)
		}
	})
	secret := newSecret()
	config := preamble + quiet()
	r := start(t, config)
	r.reload(config + "[heartbeat]\nurl = \"" + pulse.url + "/" + secret + "\"\nevery = \"1s\"\n")
	pulse.await(2)
	if r.stderr.has("could not be called") {
		t.Error("a call failed")
	}
}
