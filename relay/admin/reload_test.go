package admin

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

func TestReloadAnswersWithChangesOrFaults(t *testing.T) {
	o := openHarness(t, "")
	var asked []bool
	var done Reload
	var err error
	o.Reload = func(apply, _ bool) (Reload, error) {
		asked = append(asked, apply)
		done.Applied = apply
		return done, err
	}
	if status, _ := o.ask("GET", "/reload"); status != 405 || len(asked) > 0 {
		t.Errorf("GET answered %d and reloaded %v", status, asked)
	}
	if status, body := o.ask("POST", "/reload"); status != 200 || !strings.Contains(body, `"changes": []`) || !strings.Contains(body, `"applied": true`) {
		t.Errorf("answered %d %s", status, body)
	}
	done.Changes = []config.Change{{Section: "endpoint", Name: "crm", Change: config.Removed, Means: "412 pending stay as orphaned"}}
	if status, body := o.ask("POST", "/reload?dry_run=1"); status != 200 || !strings.Contains(body, `"means": "412 pending stay as orphaned"`) || !strings.Contains(body, `"applied": false`) {
		t.Errorf("a dry run answered %d %s", status, body)
	}
	if len(asked) != 2 || !asked[0] || asked[1] {
		t.Errorf("applied: %v, want the first alone", asked)
	}
	for _, tt := range []struct {
		err    error
		status int
		code   string
		text   string
	}{
		{config.Faults{{File: "c.toml", Line: 3, Key: "queue.dir", Text: "must be a directory"}, {Text: "b"}}, 422, "invalid_config", `"key": "queue.dir"`},
		{errors.New("the file is gone"), 422, "invalid_config", "the file is gone; nothing was changed"},
		{ErrStopping, 503, "unavailable", "stopping"},
		{fmt.Errorf("%w: make lane \"new\": write /var/lib/x/000001.vlog: input/output error", delivery.ErrNoLane), 503, "unavailable",
			`"nothing was changed: a new endpoint could not be given its place in the queue; the log says why"`},
	} {
		err = tt.err
		if status, body := o.ask("POST", "/reload"); status != tt.status || code(body) != tt.code || !strings.Contains(body, tt.text) {
			t.Errorf("%v answered %d %s", tt.err, status, body)
		}
	}
}
