package admin

import (
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/match"
	"realtorbot-relay/relay/rfc3339"
)

// events is a page of the log, newest first.
type events struct {
	Events []eventLine `json:"events"`
	Next   string      `json:"next,omitempty"` // the "after" of the next page; missing when there is none
}

// eventLine is an event without its body and attempts.
type eventLine struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Source     string          `json:"source"`
	Accepted   rfc3339.Time    `json:"accepted_at"`
	Bytes      int             `json:"body_bytes"`
	DeadLetter *deadLetter     `json:"dead_letter,omitempty"` // of what on_failed gave to an endpoint, as an event of its own
	Deliveries []deliveryState `json:"deliveries"`
}

type deliveryState struct {
	Endpoint string `json:"endpoint"`
	State    string `json:"state"`
}

// search finds events that are kept.
func (a *Admin) search(ctx *fasthttp.RequestCtx) {
	q := readQuery(ctx)
	wanted := queue.Query{
		Types: q.types(), Source: q.text("source"), State: q.oneOf("status", queue.Pending, queue.Retrying, queue.Delivered, queue.Failed, queue.Discarded),
		Since: q.moment("since"), Until: q.moment("until"), Limit: q.limit(), Below: q.after(),
	}
	if name := q.text("endpoint"); name != "" {
		if wanted.Lane = a.Queue.Find(name); wanted.Lane == nil {
			q.wrong("endpoint: there is none of this name, and nothing is left of one")
		}
	}
	if rule := q.match(); len(rule) > 0 {
		wanted.Members, wanted.Fits = membersOf(rule), delivery.OwnEvents(rule)
	}
	if q.refuse(ctx) {
		return
	}
	found, err := a.Queue.Search(wanted)
	if err != nil {
		a.unread(ctx, err, "events could not be looked up")
		return
	}
	page := events{Events: []eventLine{}, Next: next(found.Next)}
	for i := range found.Events {
		ev := &found.Events[i]
		line := eventLine{
			ID: ev.ID, Type: ev.Type, Source: ev.Source, Accepted: rfc3339.Milli(ev.At), Bytes: ev.Bytes, DeadLetter: deadLetterOf(ev.Letter), Deliveries: []deliveryState{},
		}
		for _, d := range ev.Deliveries {
			line.Deliveries = append(line.Deliveries, deliveryState{d.Lane, d.State})
		}
		page.Events = append(page.Events, line)
	}
	answer.Value(ctx, 200, page)
}

// membersOf is a rule as the queue looks for it.
func membersOf(rule match.Rule) (list []queue.Member) {
	for _, c := range rule {
		m := queue.Member{Name: c.Path}
		for _, v := range c.Values {
			m.Values = append(m.Values, []byte(v))
		}
		list = append(list, m)
	}
	return list
}

// unread answers a look-up that failed.
func (a *Admin) unread(ctx *fasthttp.RequestCtx, err error, what string) {
	a.Log.Error().Err(err).Msg(what)
	answer.Error(ctx, 503, "unavailable", whyNot(what, err))
}
