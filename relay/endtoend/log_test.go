package endtoend

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestTheLogAnswersForAnAttempt: one line for each, at the level that says how bad it is, with the names that the API has.
func TestTheLogAnswersForAnAttempt(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 500, 200))
	r := start(t, preamble+"[log]\nlevel = \"debug\"\n"+endpoint("crm", crm.url, `retry = ["1ms"]`))
	for _, id := range []string{"evt_fails", "evt_well"} { // in turn: the first uses up the two refusals
		r.post(event(id))
		eventually(t, id+" is settled", func() bool { s := r.story(id, "crm"); return s.State == "delivered" || s.State == "failed" })
	}
	r.awaitLog(`"message":"delivered"`) // which is written after it is settled
	type line struct {
		Level, Message, Endpoint, Event, Type, Class, Reason string
		Attempt, Status                                      int
		DurationMS                                           *int64  `json:"duration_ms"`
		NextAttempt                                          *string `json:"next_attempt_at"`
	}
	var got []string
	for _, text := range r.stderr.lines() {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if l.Event == "" {
			continue
		}
		if l.Endpoint != "crm" || l.Type != "lead.created" || l.DurationMS == nil || (l.NextAttempt != nil) != (l.Message == "attempt failed") {
			t.Errorf("a line lacks something: %s", text)
		}
		if l.Level == "info" {
			t.Errorf("an event at info: %s", text)
		}
		got = append(got, strings.Join([]string{l.Level, l.Message, l.Event, l.Class}, " "))
	}
	want := []string{"warn attempt failed evt_fails status", "error delivery failed for good evt_fails status", "debug delivered evt_well "}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
