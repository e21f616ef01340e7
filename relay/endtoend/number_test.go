package endtoend

import (
	"strings"
	"testing"

	"realtorbot-relay/sign"
)

// One event with an integer that JavaScript changes: the exact endpoint gets it as it was posted, the other as the
// documented receiver would hash it, both with a signature that is right, and the event's story says so.
func TestAnIntegerKeepsItsValueUnlessItsEndpointAsksForJavaScripts(t *testing.T) {
	t.Parallel()
	exact, rounded := receive(t, well), receive(t, well)
	const signs = `secret = "secret-of-the-numbers-test"`
	r := start(t, preamble+endpoint("exact", exact.url, signs)+endpoint("rounded", rounded.url, signs, `numbers = "javascript"`))
	const posted = `{"id":"evt_1","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"user":653247040368672768,"list":[[9007199254740993]],"half":"\uD83D"}}`
	r.post(posted)
	for to, want := range map[*receiver]string{
		exact:   strings.Replace(posted, `\uD83D`, `\ud83d`, 1),
		rounded: strings.NewReplacer("653247040368672768", "653247040368672800", "9007199254740993", "9007199254740992", `\uD83D`, `\ud83d`).Replace(posted),
	} {
		got := to.await(1)[0]
		if string(got.body) != want {
			t.Errorf("arrived %s\nwant    %s", got.body, want)
		}
		if err := sign.VerifyRealtorBot(got.header.Get("X-RealtorBot-Signature"), []byte(got.body), sign.NewSecret("secret-of-the-numbers-test")); err != nil {
			t.Error(err)
		}
	}
	var told struct{ Note string }
	r.get("/events/evt_1", &told)
	if !strings.Contains(told.Note, "the documented receiver will refuse this") || !strings.HasSuffix(told.Note, " 653247040368672768") {
		t.Errorf("the story's note is %q", told.Note)
	}
	r.post(event("evt_2"))
	told.Note = ""
	if r.get("/events/evt_2", &told); told.Note != "" {
		t.Errorf("the note of an event that all agree on is %q", told.Note)
	}
}
