package delivery

import (
	"fmt"
	"slices"
	"strings"

	"realtorbot-relay/relay/config"
)

// ExplainChanges fills in what each change of an endpoint means for the deliveries that its lane holds. endpoints are those of the
// new configuration, statuses those of now.
func ExplainChanges(changes []config.Change, endpoints []config.Endpoint, statuses []Status) {
	backlogs := map[string]backlog{}
	for _, s := range statuses {
		backlogs[s.Name] = backlog{s.Pending, s.Retrying, s.Failed, s.paused}
	}
	for i := range changes {
		c := &changes[i]
		if c.Section != "endpoint" {
			continue
		}
		disabled := slices.ContainsFunc(endpoints, func(ep config.Endpoint) bool { return ep.Name == c.Name && !ep.Enabled })
		c.Means = backlogs[c.Name].after(c, !disabled)
	}
}

// backlog counts the deliveries that a lane holds.
type backlog struct {
	pending, retrying, failed int64
	paused                    bool
}

// String is the backlog in words, as in "3 pending, 1 failed".
func (b backlog) String() string {
	var parts []string
	add := func(n int64, word string) {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	add(b.pending, "pending")
	add(b.retrying, "retrying")
	add(b.failed, "failed")
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// after says what a change of an endpoint means for its backlog. enabled is what the endpoint will be.
func (b backlog) after(c *config.Change, enabled bool) string {
	none := b.pending+b.retrying+b.failed == 0
	has := func(key string) bool { return slices.Contains(c.Keys, key) }
	switch {
	case c.Change == config.Removed && none:
		return "it holds nothing"
	case c.Change == config.Removed:
		return b.String() + " stay as orphaned"
	case c.Change == config.Added && none:
		return "begins with what is accepted from then on"
	case c.Change == config.Added:
		return "takes up what was left under this name: " + b.String()
	case has("enabled") && !enabled:
		return b.String() + " held, and new events are not for it"
	case none:
		return ""
	case b.paused:
		return b.String() + " held until it is resumed"
	case has("enabled"):
		return b.String() + " go on"
	case has("url"):
		return b.String() + " go to the new url"
	case has("events"):
		return b.String() + " stay its own, whatever their types"
	}
	return b.String() + " go on with it"
}
