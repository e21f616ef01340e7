package admin

import (
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

// endpointRoute is something that can be done with an endpoint.
type endpointRoute struct {
	method string
	path   string // behind the endpoint's name; a "*" at its end is an id
	orphan bool   // also with what is left of an endpoint that is not configured any more
	answer func(*Admin, *fasthttp.RequestCtx, target)
}

// target is the endpoint that a request is about.
type target struct {
	name string
	lane *delivery.Lane // nil for an orphan
	kept *queue.Lane
	id   string // what stood in place of the route's star
}

var endpointRoutes = []endpointRoute{
	{"GET", "", true, (*Admin).showEndpoint},
	{"DELETE", "", true, (*Admin).giveUp},
	{"POST", "test", false, (*Admin).test},
	{"POST", "pause", false, (*Admin).pause},
	{"POST", "resume", false, (*Admin).resume},
	{"GET", "failed", true, (*Admin).listFailed},
	{"DELETE", "failed", true, (*Admin).giveUpFailed},
	{"POST", "replay", false, (*Admin).replay},
	{"GET", "replays", true, (*Admin).listReplays},
	{"DELETE", "replays/*", true, (*Admin).cancelReplay},
}

// endpoint finds the route and the endpoint that a request is about.
func (a *Admin) endpoint(ctx *fasthttp.RequestCtx, rest string) {
	name, path, _ := strings.Cut(rest, "/")
	var allowed []string
	for i := range endpointRoutes {
		r := &endpointRoutes[i]
		id, ok := r.matches(path)
		if !ok {
			continue
		}
		if method := string(ctx.Method()); method != r.method && (method != "HEAD" || r.method != "GET") {
			allowed = append(allowed, r.method)
			continue
		}
		t := target{name: name, lane: a.Post.Lane(name), kept: a.kept(name), id: id}
		switch {
		case t.kept == nil:
			answer.Error(ctx, 404, "no_endpoint", "there is no endpoint of this name, and nothing is left of one")
		case t.lane == nil && !r.orphan:
			answer.Error(ctx, 404, "no_endpoint", "no endpoint of this name is configured")
		default:
			r.answer(a, ctx, t)
		}
		return
	}
	if len(allowed) > 0 {
		methodNotAllowed(ctx, strings.Join(allowed, ", "))
		return
	}
	answer.Error(ctx, 404, "not_found", "there is nothing at this path of an endpoint; see README, \"Operating\"")
}

func (r *endpointRoute) matches(path string) (id string, ok bool) {
	if prefix, open := strings.CutSuffix(r.path, "*"); open {
		id, ok = strings.CutPrefix(path, prefix)
		return id, ok && id != "" && !strings.Contains(id, "/")
	}
	return "", path == r.path
}

// endpointStory is an endpoint's state, in the form of /stats, and its configuration, which an orphan has not.
type endpointStory struct {
	delivery.Status
	Config *config.Masked `json:"config,omitempty"`
}

type endpoints struct {
	Endpoints []endpointStory `json:"endpoints"`
}

func (a *Admin) listEndpoints(ctx *fasthttp.RequestCtx) {
	list := endpoints{Endpoints: []endpointStory{}}
	for _, s := range a.Post.Statuses() {
		list.Endpoints = append(list.Endpoints, endpointStory{s, a.masked(s.Name)})
	}
	answer.Value(ctx, 200, list)
}

func (a *Admin) showEndpoint(ctx *fasthttp.RequestCtx, t target) {
	s := status(a.Post.Statuses(), t.name)
	if s == nil { // given up this moment
		answer.Error(ctx, 404, "no_endpoint", "there is no endpoint of this name, and nothing is left of one")
		return
	}
	answer.Value(ctx, 200, endpointStory{*s, a.masked(t.name)})
}

// masked is the configuration of an endpoint, nil when none of that name is configured.
func (a *Admin) masked(name string) *config.Masked {
	for _, ep := range a.Post.Endpoints() {
		if ep.Name == name {
			m := ep.Masked()
			return &m
		}
	}
	return nil
}

func (a *Admin) pause(ctx *fasthttp.RequestCtx, t target) {
	a.done(ctx, t.name, "paused", t.lane.Pause("paused by the operator"))
}

func (a *Admin) resume(ctx *fasthttp.RequestCtx, t target) {
	a.done(ctx, t.name, "resumed", t.lane.Resume())
}

// giveUp deletes what is left of an endpoint that is not configured any more.
func (a *Admin) giveUp(ctx *fasthttp.RequestCtx, t target) {
	left, found, err := a.Post.GiveUp(t.name)
	switch {
	case errors.Is(err, delivery.ErrConfigured):
		answer.Error(ctx, 409, "configured", "the endpoint is configured: take it out of the configuration first")
	case !found:
		answer.Error(ctx, 404, "no_endpoint", "there is no endpoint of this name, and nothing is left of one")
	default:
		if err == nil {
			a.Log.Warn().Str("endpoint", t.name).Int64("pending", left.Pending).Int64("retrying", left.Retrying).Int64("failed", left.Failed).
				Msg("the operator gave up what was left of this endpoint")
		}
		a.done(ctx, t.name, "given_up", err)
	}
}
