package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/reach"
)

// unnamed is how an event without an id is told.
const unnamed = "evt_without_id"

// Route says where events would go by a configuration file, and why not to its other endpoints. body is what would be posted: one
// event, or an array of them. It returns how to exit: with 1 when it is no event, with 2 when the file is bad. It asks no relay, and
// secrets that only the relay itself can have are no fault of the file.
func Route(path string, body []byte, stdout, stderr io.Writer) int {
	cfg, _, err := config.LoadOutside(path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exit.Usage
	}
	var p canonical.Parser
	stamp := canonical.Stamp{Now: time.Now(), Own: true, NewID: func(dst []byte) []byte { return append(dst, unnamed...) }}
	events, _, err := p.JSON(body, stamp)
	if err != nil {
		fmt.Fprintf(stderr, "realtorbot-relay route: what is on standard input would be refused: %s\n", reach.Plain(err.Error()))
		return exit.Failed
	}
	for _, e := range events {
		tellRoute(cfg.Endpoints, e, stdout)
	}
	return exit.Well
}

// tellRoute writes the endpoints that an event would go to, and then the others.
func tellRoute(endpoints []config.Endpoint, e canonical.Event, w io.Writer) {
	type line struct{ name, note string }
	var lines []line
	longest, to := 0, 0
	list := make([]*config.Endpoint, len(endpoints))
	for i := range endpoints {
		list[i] = &endpoints[i]
	}
	candidate := config.NewCandidate(list, string(e.Type), e.Body)
	for _, ep := range list {
		_, note := ep.NotFor(candidate)
		if note == "" {
			to++
		}
		lines, longest = append(lines, line{ep.Name, note}), max(longest, len(ep.Name))
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(min(len(a.note), 1), min(len(b.note), 1)) })
	fmt.Fprintf(w, "%s of type %s goes to %d of %d endpoints\n", e.ID, e.Type, to, len(endpoints))
	for _, l := range lines {
		answer := "yes"
		if l.note != "" {
			answer = "no: " + reach.Plain(l.note)
		}
		fmt.Fprintf(w, "  %-*s  %s\n", longest, l.name, answer)
	}
}
