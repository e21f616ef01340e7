package delivery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"realtorbot-relay/relay/config"
)

// ExplainChanges fills in what each change of an endpoint means for the deliveries that its lane holds. endpoints are those of the
// new configuration. Where an endpoint takes some accounts' events alone, it looks at some of what waits for it: it reads disk, for a
// second or so at most, and holds no lock meanwhile.
func (d *Dispatcher) ExplainChanges(changes []config.Change, endpoints []config.Endpoint) {
	backlogs := map[string]backlog{}
	for _, s := range d.Statuses() {
		backlogs[s.Name] = backlog{pending: s.Pending, retrying: s.Retrying, failed: s.Failed, paused: s.paused}
	}
	configured := map[string]*config.Endpoint{}
	for i := range endpoints {
		configured[endpoints[i].Name] = &endpoints[i]
	}
	until := time.Now().Add(planTime)
	for i := range changes {
		c := &changes[i]
		if c.Section != "endpoint" {
			continue
		}
		b, ep := backlogs[c.Name], configured[c.Name]
		// Whatever changed: what an earlier change of match left to an endpoint that is paused is still there.
		if ep != nil && len(ep.Match) > 0 && b.pending+b.retrying > 0 {
			b.judged = true
			if b.unknown = !time.Now().Before(until); !b.unknown {
				var err error
				b.foreign, err = d.foreignOf(c.Name, ep.Match, b.retrying > 0)
				b.unknown = err != nil // the reload itself meets it, too
			}
		}
		c.Means = b.after(c, ep == nil || ep.Enabled)
	}
}

// backlog counts the deliveries that a lane holds.
type backlog struct {
	pending, retrying, failed int64
	paused                    bool

	judged  bool    // the endpoint takes some accounts' events alone
	unknown bool    // nobody looked at which of those that it holds are its own
	foreign foreign // which are not
}

// String is the backlog in words, as in "3 pending, 1 failed".
func (b backlog) String() string {
	text := counted(int(b.pending), "pending", int(b.retrying), "retrying", int(b.failed), "failed")
	if text == "" {
		return "nothing"
	}
	return text
}

// counted lists those of some numbers that are not 0, with what they count.
func counted(numbers ...any) string {
	var parts []string
	for i := 0; i < len(numbers); i += 2 {
		if n := numbers[i].(int); n != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, numbers[i+1]))
		}
	}
	return strings.Join(parts, ", ")
}

// after says what a change of an endpoint means for its backlog. enabled is what the endpoint will be.
func (b backlog) after(c *config.Change, enabled bool) string {
	return b.goesOn(c, enabled) + b.notItsOwn()
}

// notItsOwn says which of the backlog the endpoint will not be sent.
func (b backlog) notItsOwn() string {
	const failed = "not be sent, and becomes failed (" + ClassUnmatched + ")"
	f := b.foreign
	which, seen := counted(f.pending, "pending", f.retrying, "retrying"), counted(f.pendingSeen, "pending", f.retryingSeen, "retrying")
	switch {
	case !b.judged || !b.unknown && !f.more && which == "":
		return ""
	case b.unknown || f.more && seen == "":
		return "; none of them was looked at: what is not this account's will " + failed
	case f.more && which == "":
		return "; the newest, " + seen + ", were looked at, and all are this account's: what is not among the others will " + failed
	case f.more:
		return "; the newest, " + seen + ", were looked at, and " + which + " are not this account's: these, and what is not among the others, will " + failed
	}
	return "; " + which + " are not this account's: they will not be sent, and become failed (" + ClassUnmatched + ")"
}

func (b backlog) goesOn(c *config.Change, enabled bool) string {
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
