package ingest

import (
	"errors"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestStrangersDoNotHideOurOwnTrouble(t *testing.T) {
	c := openCounter(t, config.Source{Name: "open", Path: "/open"}, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)})
	for range 8 {
		c.ask("POST", "/events", "{}", asJSON)
	}
	c.shelf.fail(errors.New("input/output error"))
	c.ask("POST", "/open", eventText("evt_1", "test"), asJSON)
	if !strings.Contains(c.log.String(), "input/output error") {
		t.Error("the log says nothing of the failed write")
	}
}
