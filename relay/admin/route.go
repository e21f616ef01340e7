package admin

import (
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
)

// routed is where an event would go, as the endpoints are now.
type routed struct {
	ID        string      `json:"id"`
	Type      string      `json:"type"`
	Endpoints []string    `json:"endpoints"`
	Unmatched []unmatched `json:"unmatched"` // the configured endpoints that it would not go to
}

// mostRouted is how many events are asked about at a time: each is told of every endpoint.
const mostRouted = 10

// unnamedEvent is how an event without an id is told.
const unnamedEvent = "evt_without_id"

// route says where events would go if they were posted now. Nothing is stored or sent.
func (a *Admin) route(ctx *fasthttp.RequestCtx) {
	var p canonical.Parser
	stamp := canonical.Stamp{Now: time.Now(), Own: true, NewID: func(dst []byte) []byte { return append(dst, unnamedEvent...) }}
	events, _, err := p.JSON(ctx.Request.Body(), stamp)
	switch {
	case err != nil:
		answer.Error(ctx, 400, "invalid_event", "it would be refused: "+err.Error())
		return
	case len(events) > mostRouted:
		answer.Error(ctx, 400, "invalid_event", "ask about 10 events at a time at most")
		return
	}
	endpoints, list := a.Dispatcher.Endpoints(), []routed{}
	for _, e := range events {
		one := routed{string(e.ID), string(e.Type), []string{}, []unmatched{}}
		candidate := config.NewCandidate(endpoints, one.Type, e.Body)
		for _, ep := range endpoints {
			if reason, note := ep.NotFor(candidate); reason == "" {
				one.Endpoints = append(one.Endpoints, ep.Name)
			} else {
				one.Unmatched = append(one.Unmatched, unmatched{ep.Name, reason, note})
			}
		}
		list = append(list, one)
	}
	answer.Value(ctx, 200, struct {
		Events []routed `json:"events"`
	}{list})
}
