package ingest

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestNobodyPostsAsTheRelay(t *testing.T) {
	c := openCounter(t)
	for _, body := range []string{eventText("evt_1", "relay.endpoint.down"), `{"type":"\u0072elay.x","data":{}}`} {
		if answer, got := c.ask("POST", "/events", body, asJSON); answer.status != 400 || got != refused("invalid_event", "types that begin with relay. are the relay's own") {
			t.Errorf("%s is answered %d %s", body, answer.status, got)
		}
	}
	if answer, got := c.ask("POST", "/events", eventText("evt_1", "relayed.x"), asJSON); answer.status != 200 {
		t.Errorf("another type is answered %d %s", answer.status, got)
	}
	var p canonical.Parser
	if _, _, err := p.JSON([]byte(eventText("evt_1", "relay.endpoint.down")), canonical.Stamp{Own: true}); err != nil {
		t.Errorf("the relay's own alert: %v", err)
	}
}

// Posted twice under one signed id an event without an id is one event, also by another relay process.
func TestTheSignedIDIsTheIdempotencyKey(t *testing.T) {
	source := config.Source{Name: "standard", Path: "/events", Secret: sign.NewSecret(whsec), Scheme: sign.SchemeStandard}
	c := openCounter(t, source)
	post := func(id, kind, body string) string {
		t.Helper()
		answer, got := c.ask("POST", "/events", body, append(standardHeaders(id, time.Now(), body), kind)...)
		if answer.status != 200 {
			t.Fatalf("answered %d %s", answer.status, got)
		}
		return got
	}
	const one = `{"type":"test","data":{}}`
	if first, again := post("msg_1", asJSON, one), post("msg_1", asJSON, one); !strings.Contains(first, `"id":"msg_1","status":"accepted"`) || !strings.Contains(again, `"id":"msg_1","status":"duplicate"`) {
		t.Errorf("answered %s and %s", first, again)
	}
	if got := post("msg_2", asJSON, eventText("evt_own", "test")); !strings.Contains(got, `"id":"evt_own"`) {
		t.Errorf("an event with an id is answered %s", got)
	}
	batch := one + "\n" + eventText("evt_between", "test") + "\n" + one + "\n"
	if got := post("msg_3", asLines, batch); !strings.Contains(got, `"id":"msg_3"`) || !strings.Contains(got, `"id":"evt_`) || !strings.Contains(got, `"accepted":3`) {
		t.Errorf("a batch is answered %s", got)
	}
	if got := post("msg_3", asLines, batch); !strings.Contains(got, `"duplicates":3`) {
		t.Errorf("the same batch again is answered %s", got)
	}
	for _, id := range []string{"msg:1/a", `msg"\`, "msg.1", "..", strings.Repeat("x", 255)} {
		quoted, _ := json.Marshal(id)
		want := `"id":` + strings.ReplaceAll(string(quoted), `\u0026`, "&")
		if first, again := post(id, asJSON, one), post(id, asJSON, one); !strings.Contains(first, want+`,"status":"accepted"`) || !strings.Contains(again, want+`,"status":"duplicate"`) {
			t.Errorf("under %q: %s and %s", id, first, again)
		}
	}
	longest := strings.Repeat("y", 255) // as the others
	if got := post(longest, asLines, one+"\n"+one+"\n"); !strings.Contains(got, longest) || !strings.Contains(got, `"id":"evt_`) || !strings.Contains(got, `"accepted":2`) {
		t.Errorf("a batch under the longest id is answered %s", got)
	}
	for _, id := range []string{"msg_3_1", "msg_3_2", "msg_31"} { // messages of their own, whatever a batch before them was called
		if got := post(id, asJSON, one); !strings.Contains(got, `"id":"`+id+`","status":"accepted"`) {
			t.Errorf("behind a batch called msg_3, %s is answered %s", id, got)
		}
	}
	odd := "msg:1/" + strings.Repeat("x", 300)
	if first, again := post(odd, asJSON, one), post(odd, asJSON, one); !strings.Contains(first, `"id":"evt_`) || !strings.Contains(again, "duplicate") {
		t.Errorf("under an id that can't be an event's: %s and %s", first, again)
	}
}

// A page of the web that a browser on this machine runs has a name of its own for loopback.
func TestASourceWithoutACredentialTakesRequestsToThisMachineAlone(t *testing.T) {
	c := openCounter(t, config.Source{Name: "open", Path: "/events"}, config.Source{Name: "token", Path: "/token", Token: sign.NewSecret(testToken)})
	address := c.open(patience)
	const rest = "\r\n" + asJSON + "\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: 25\r\n\r\n" + `{"type":"test","data":{}}`
	for line, want := range map[string]int{
		"/events HTTP/1.1\r\nHost: localhost:8080": 200, "/events HTTP/1.1\r\nHost: LOCALHOST": 200, "/events HTTP/1.1\r\nHost: 127.0.0.2:1": 200,
		"/events HTTP/1.1\r\nHost: [::1]:8080": 200, "/events HTTP/1.1\r\nHost: rebound.example": 403, "/events HTTP/1.1\r\nHost: localhost.example:8080": 403,
		"/events HTTP/1.1\r\nHost: 192.0.2.1": 403, "/token HTTP/1.1\r\nHost: relay.example": 200,
	} {
		conn := say(t, address, "POST "+line+rest)
		if status, said := hear(t, bufio.NewReader(conn)); status != want {
			t.Errorf("%q is answered %d %s, want %d", line, status, said, want)
		}
		_ = conn.Close()
	}
}

func TestOptionsAreAnsweredAsHealth(t *testing.T) {
	c := openCounter(t, config.Source{Name: "token", Path: "/events", Token: sign.NewSecret(testToken), Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if answer, got := c.ask("OPTIONS", "/", ""); answer.status != 200 || got != `{"status":"ok"}` {
		t.Errorf("answered %d %s", answer.status, got)
	}
	c.Close()
	if answer, got := c.ask("OPTIONS", "/", ""); answer.status != 503 {
		t.Errorf("while it stops: %d %s", answer.status, got)
	}
	if answer, _ := c.ask("GET", "/", ""); answer.status != 404 {
		t.Errorf("GET is answered %d", answer.status)
	}
}
