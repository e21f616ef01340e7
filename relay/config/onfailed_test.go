package config

import (
	"strings"
	"testing"
)

func TestWhatFailsElsewhereMayBeAllThatAnEndpointIsGiven(t *testing.T) {
	text := `
[delivery]
on_failed = "dead"
[[endpoint]]
name = "crm"
url = "https://crm.example/"
events = ["*"]
[[endpoint]]
name = "mail"
url = "https://mail.example/"
events = ["*"]
on_failed = ""
[[endpoint]]
name = "chat"
url = "https://chat.example/"
events = ["*"]
on_failed = "mail"
[[endpoint]]
name = "dead"
url = "https://dead.example/"
EVENTS
enabled = false
`
	for _, events := range []string{"", "events = []"} {
		c := mustParse(t, strings.Replace(text, "EVENTS", events, 1))
		for i, want := range []string{"dead", "", "mail", ""} {
			if got := c.Endpoints[i].Delivery.OnFailed; got != want {
				t.Errorf("%s: on_failed is %q, want %q", c.Endpoints[i].Name, got, want)
			}
		}
		dead := &c.Endpoints[3]
		if dead.Subscribes("lead.created") || masked(t, dead)["events"] == nil {
			t.Errorf("an endpoint for what failed elsewhere subscribes to %v", dead.Events)
		}
		if !strings.Contains(c.Describe(), "none but what failed at others") || !strings.Contains(c.Describe(), "goes to endpoint dead as well") {
			t.Errorf("the plan does not tell:\n%s", c.Describe())
		}
		warned := strings.Join(c.Warnings, "\n")
		if n := strings.Count(warned, `names "dead", which is disabled`); n != 1 {
			t.Errorf("that it is disabled is told %d times:\n%s", n, warned)
		}
	}
}
