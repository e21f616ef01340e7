package command

import (
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

func status(c *call) error {
	var s struct {
		Version       string
		UptimeSeconds int64 `json:"uptime_seconds"`
		Health        struct {
			Status  string
			Reasons []string
		}
		Queue struct {
			Events, Pending, Retrying, Failed int64
			Bytes                             int64  `json:"events_bytes"`
			FreeDisk                          *int64 `json:"disk_free_bytes"`
		}
		Endpoints []struct {
			Name, State, Reason       string
			Pending, Retrying, Failed int64
			Delivered                 int64
			SuccessRate               *float64   `json:"success_rate"`
			LagSeconds                float64    `json:"lag_seconds"`
			LastSuccess               *time.Time `json:"last_success_at"`
			LastError                 string     `json:"last_error"`
			Replays                   []delivery.Replay
		}
	}
	printed, err := c.ask("GET", "/stats", nil, &s)
	if err != nil || printed {
		return err
	}
	c.say("relay %s for %s: %s\n", s.Version, time.Duration(s.UptimeSeconds)*time.Second, s.Health.Status)
	for _, reason := range s.Health.Reasons {
		c.say("  %s\n", reason)
	}
	free := "an unknown part"
	if s.Queue.FreeDisk != nil {
		free = fmt.Sprintf("%d MiB", *s.Queue.FreeDisk>>20)
	}
	c.say("queue: %d events, %d MiB; %d pending, %d retrying, %d failed; %s of disk free\n\n",
		s.Queue.Events, s.Queue.Bytes>>20, s.Queue.Pending, s.Queue.Retrying, s.Queue.Failed, free)
	rows := [][]string{{"ENDPOINT", "STATE", "PENDING", "RETRYING", "FAILED", "DELIVERED", "WENT WELL, 1 H", "LAG", "LAST SUCCESS"}}
	for _, e := range s.Endpoints {
		last, well := "-", "-"
		if e.LastSuccess != nil {
			last = e.LastSuccess.UTC().Format(time.RFC3339)
		}
		if e.SuccessRate != nil {
			well = fmt.Sprintf("%.2f %%", *e.SuccessRate*100)
		}
		rows = append(rows, []string{e.Name, e.State, text(e.Pending), text(e.Retrying), text(e.Failed), text(e.Delivered), well,
			(time.Duration(e.LagSeconds) * time.Second).String(), last})
	}
	c.table(rows)
	for _, e := range s.Endpoints {
		for _, r := range e.Replays {
			of := ""
			if r.Total != nil {
				of = fmt.Sprintf(" of %d", *r.Total)
			}
			c.say("\nreplay %s to %s: %d%s taken up; %d delivered, %d retrying, %d failed\n", r.ID, e.Name, r.TakenUp, of, r.Delivered, r.Retrying, r.Failed)
		}
	}
	return nil
}

func text(n int64) string { return fmt.Sprint(n) }

// table prints rows in columns. Cells are plain text of one line.
func (c *call) table(rows [][]string) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = strings.Map(func(r rune) rune {
				if r == '\t' || r == '\n' || r == '\v' || r == '\f' {
					return ' '
				}
				return r
			}, row[i])
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	c.say("%s", out.String())
}

func pause(c *call) error  { return c.turn("pause") }
func resume(c *call) error { return c.turn("resume") }

func (c *call) turn(what string) error {
	var s struct{ Endpoint, Status string }
	printed, err := c.ask("POST", c.path("/"+what), nil, &s)
	if err != nil || printed {
		return err
	}
	if s.Status == "not_paused" {
		s.Status = "it was not paused; what waits for it is attempted now"
	}
	c.say("endpoint %s: %s\n", s.Endpoint, s.Status)
	return nil
}

// deliveries is how many there are, in words.
func deliveries(n int64) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

// goes is "goes" for one delivery, "go" for several.
func goes(n int64) string {
	if n == 1 {
		return "goes"
	}
	return "go"
}

func discard(c *call) error {
	path, what := c.path(""), "what was left of it"
	if c.failed {
		path = c.withQuery(c.path("/failed"))
	}
	var s struct{ Deliveries int64 }
	printed, err := c.ask("DELETE", path, nil, &s)
	if err != nil || printed {
		return err
	}
	if c.failed {
		what = deliveries(s.Deliveries) + " that failed"
	}
	c.say("endpoint %s: %s: discarded\n", c.args[0], what)
	return nil
}

func listReplays(c *call) error {
	var s struct{ Replays []delivery.Replay }
	printed, err := c.ask("GET", c.path("/replays"), nil, &s)
	if err != nil || printed {
		return err
	}
	rows := [][]string{{"REPLAY", "STATE", "BEGAN", "TAKEN UP", "OF", "DELIVERED", "RETRYING", "FAILED", "SKIPPED"}}
	for _, r := range s.Replays {
		of := "-"
		if r.Total != nil {
			of = text(*r.Total)
		}
		rows = append(rows, []string{r.ID, r.State, r.Began.UTC().Format(time.RFC3339), text(r.TakenUp), of, text(r.Delivered), text(r.Retrying), text(r.Failed), text(r.Skipped)})
	}
	c.table(rows)
	return nil
}

func cancelReplay(c *call) error {
	var r delivery.Replay
	printed, err := c.ask("DELETE", c.path("/replays/"+url.PathEscape(c.cancel)), nil, &r)
	if err == nil && !printed {
		c.say("replay %s: %s after %s\n", r.ID, r.State, deliveries(r.TakenUp))
	}
	return err
}

func replay(c *call) error {
	if c.list {
		return listReplays(c)
	}
	if c.cancel != "" {
		return cancelReplay(c)
	}
	body := map[string]any{"dry_run": c.dryRun}
	if ids := c.args[1:]; len(ids) > 0 {
		body["ids"] = ids
	} else if c.failed {
		body["failed"] = true
	}
	for key, value := range map[string]string{"since": c.since, "until": c.until, "type": c.types, "class": c.class, "bin": c.bin} {
		if value != "" {
			body[key] = value
		}
	}
	if c.rate != 0 {
		body["rate"] = c.rate
	}
	var s struct {
		Total   int64
		AtLeast bool `json:"at_least"`
		Skipped []struct{ ID, Reason string }
		Replay  *struct{ ID string }
	}
	printed, err := c.ask("POST", c.path("/replay"), body, &s)
	if err != nil || printed {
		return err
	}
	more := ""
	if s.AtLeast {
		more = "at least "
	}
	switch {
	case s.Replay != nil:
		c.say("replay %s: %s%s %s to %s again; realtorbot-relay status shows how far it is\n", s.Replay.ID, more, deliveries(s.Total), goes(s.Total), c.args[0])
	case c.dryRun:
		c.say("%s%s would go to %s again\n", more, deliveries(s.Total), c.args[0])
	default:
		c.say("there is nothing to do\n")
	}
	for _, it := range s.Skipped {
		c.say("  %s is left out: %s\n", it.ID, strings.ReplaceAll(it.Reason, "_", " "))
	}
	if s.Replay == nil && !c.dryRun && len(s.Skipped) > 0 {
		return errNotWell // of what was named, nothing goes
	}
	return nil
}

func failed(c *call) error {
	var s struct {
		Failed     int64
		Deliveries []struct {
			ID, Type, Class, Reason string
			FailedAt                time.Time `json:"failed_at"`
			Attempts                int
		}
		Next string
	}
	printed, err := c.ask("GET", c.withQuery(c.path("/failed")), nil, &s)
	if err != nil || printed {
		return err
	}
	rows := [][]string{{"FAILED AT", "EVENT", "TYPE", "ATTEMPTS", "CLASS", "REASON"}}
	for _, d := range s.Deliveries {
		rows = append(rows, []string{d.FailedAt.UTC().Format(time.RFC3339), d.ID, d.Type, fmt.Sprint(d.Attempts), d.Class, d.Reason})
	}
	c.table(rows)
	c.next(len(s.Deliveries), s.Next)
	return nil
}

// next says how to go on behind a page.
func (c *call) next(n int, cursor string) {
	if cursor != "" {
		c.say("%d are shown; the next ones: the same with -after %s\n", n, cursor)
	}
}

func events(c *call) error {
	if len(c.args) == 1 { // its story is read as it is
		c.asJSON = true
		_, err := c.ask("GET", "/events/?id="+url.QueryEscape(c.args[0]), nil, nil)
		return err
	}
	var s struct {
		Events []struct {
			ID, Type, Source string
			Accepted         time.Time `json:"accepted_at"`
			Deliveries       []struct{ Endpoint, State string }
		}
		Next string
	}
	printed, err := c.ask("GET", c.withQuery("/events"), nil, &s)
	if err != nil || printed {
		return err
	}
	rows := [][]string{{"ACCEPTED", "EVENT", "TYPE", "SOURCE", "DELIVERIES"}}
	for _, e := range s.Events {
		var at []string
		for _, d := range e.Deliveries {
			at = append(at, d.Endpoint+" "+d.State)
		}
		rows = append(rows, []string{e.Accepted.UTC().Format(time.RFC3339), e.ID, e.Type, e.Source, strings.Join(at, ", ")})
	}
	c.table(rows)
	c.next(len(s.Events), s.Next)
	return nil
}

func reload(c *call) error {
	asked := url.Values{}
	if c.dryRun {
		asked.Set("dry_run", "1")
	}
	if c.strict {
		asked.Set("strict", "1")
	}
	path := "/reload"
	if len(asked) > 0 {
		path += "?" + asked.Encode()
	}
	var s struct {
		File     string
		Changes  []config.Change
		Warnings []string
		Broken   []struct {
			File   string
			Faults []struct {
				File         string
				Line         int
				Key, Message string
			}
			Serves string
		}
	}
	printed, err := c.ask("POST", path, nil, &s)
	if err != nil || printed {
		return err
	}
	for _, warning := range s.Warnings {
		c.say("warning: %s\n", warning)
	}
	for _, broken := range s.Broken {
		for _, f := range broken.Faults {
			c.say("%s\n", config.Fault{File: f.File, Line: f.Line, Key: f.Key, Text: f.Message})
		}
		c.say("  in place of %s goes on: %s\n", broken.File, broken.Serves)
	}
	did := "was read again"
	if c.dryRun {
		did = "would be taken"
	}
	if len(s.Changes) == 0 {
		c.say("%s %s: nothing changes\n", s.File, did)
		return nil
	}
	c.say("%s %s:\n", s.File, did)
	for _, change := range s.Changes {
		c.say("  %s\n", change)
	}
	return nil
}

func test(c *call) error {
	path := c.path("/test")
	if c.conformance {
		path += "?conformance=1"
	}
	var s struct {
		ID         string
		Delivered  bool
		Conforms   *bool
		DurationMS float64 `json:"duration_ms"`
		Status     int
		Error      string
		Checks     []struct{ Check, Result, Note string }
		Answer     *struct {
			DurationMS float64 `json:"duration_ms"`
			Status     int
			Error      string
		}
	}
	printed, err := c.ask("POST", path, nil, &s)
	if err != nil || printed {
		return err
	}
	if s.Answer != nil {
		s.DurationMS, s.Status, s.Error = s.Answer.DurationMS, s.Answer.Status, s.Answer.Error
	}
	said := fmt.Sprintf("%d", s.Status)
	if s.Error != "" {
		said = s.Error
	}
	verdict := "delivered"
	if !s.Delivered {
		verdict = "not delivered"
	}
	c.say("%s: %s after %.0f ms (%s)\n", verdict, said, s.DurationMS, s.ID)
	for _, it := range s.Checks {
		c.say("  %-7s %s: %s\n", it.Result, it.Check, it.Note)
	}
	if !s.Delivered || s.Conforms != nil && !*s.Conforms {
		return errNotWell
	}
	return nil
}
