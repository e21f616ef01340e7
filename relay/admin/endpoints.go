package admin

import (
	"encoding/json"
	"errors"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
)

// endpointStory is an endpoint's state, in the form of /stats, and its configuration, which an orphan has not.
type endpointStory struct {
	delivery.Status
	Config json.RawMessage `json:"config,omitempty"`
}

type endpoints struct {
	Endpoints []endpointStory `json:"endpoints"`
}

func (a *Admin) listEndpoints(ctx *fasthttp.RequestCtx) {
	list := endpoints{Endpoints: []endpointStory{}}
	for _, s := range a.Dispatcher.Statuses() {
		list.Endpoints = append(list.Endpoints, endpointStory{s, a.masked(s.Name)})
	}
	answer.Value(ctx, 200, list)
}

func (a *Admin) showEndpoint(ctx *fasthttp.RequestCtx, t target) {
	s := status(a.Dispatcher.Statuses(), t.name)
	if s == nil { // discarded this moment
		noEndpoint(ctx, t.name)
		return
	}
	answer.Value(ctx, 200, endpointStory{*s, a.masked(t.name)})
}

// masked is the configuration of an endpoint, nil when none of that name is configured.
func (a *Admin) masked(name string) json.RawMessage {
	for _, ep := range a.Dispatcher.Endpoints() {
		if ep.Name == name {
			return ep.Masked()
		}
	}
	return nil
}

func (a *Admin) pause(ctx *fasthttp.RequestCtx, t target) {
	a.done(ctx, t.name, "paused", t.lane.Pause("paused by the operator"))
}

func (a *Admin) resume(ctx *fasthttp.RequestCtx, t target) {
	what := "resumed"
	if !t.lane.IsPaused() {
		what = "not_paused"
	}
	a.done(ctx, t.name, what, t.lane.Resume())
}

// discard deletes what is left of an endpoint that is not configured any more.
func (a *Admin) discard(ctx *fasthttp.RequestCtx, t target) {
	left, found, err := a.Dispatcher.Discard(t.name)
	switch {
	case errors.Is(err, delivery.ErrConfigured):
		answer.Error(ctx, 409, "configured", "the endpoint is configured: take it out of the configuration first")
	case !found:
		noEndpoint(ctx, t.name)
	case err != nil:
		a.unsaved(ctx, err, t.name)
	default:
		a.Log.Warn().Str("endpoint", t.name).Int64("pending", left.Pending).Int64("retrying", left.Retrying).Int64("failed", left.Failed).
			Msg("the operator discarded what was left of this endpoint")
		answer.Value(ctx, 200, map[string]string{"endpoint": t.name, "status": "discarded"})
	}
}

// status finds the status of an endpoint, configured or orphaned; nil when there is none.
func status(statuses []delivery.Status, name string) *delivery.Status {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}
