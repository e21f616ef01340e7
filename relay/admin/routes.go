package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
)

// route is something that can be asked for. What is not in its line does not reach its answer: another method, a parameter
// that it does not have, a body where none belongs. Something misspelled must not be taken for what was meant without it.
type route struct {
	method string   // GET is HEAD too
	path   string   // "{name}" is an endpoint, "{id}" a step that is not empty, "{event}" all that follows, as it is escaped
	params []string // of the query
	flags
	answer func(*Admin, *fasthttp.RequestCtx, target)
}

type flags uint8

const (
	takesBody flags = 1 << iota
	forAll          // without a credential: it asks for what it needs itself
	alsoOrphan
)

// target is what a request is about.
type target struct {
	name      string         // of the endpoint
	lane      *delivery.Lane // nil for an orphan
	queueLane *queue.Lane
	id        string
	event     string
}

var (
	failedParams = []string{"class", "type", "bin", "since", "until"}
	pageParams   = []string{"limit", "after"}
)

// routes are all that there are, but for the files of the page, which follow in routeTable.
var routes = []route{
	{"GET", "/health", nil, forAll, plain((*Admin).health)},
	{"GET", "/session", nil, forAll, plain((*Admin).answerSession)},
	{"POST", "/session", nil, forAll | takesBody, plain((*Admin).signIn)},
	{"DELETE", "/session", nil, forAll, plain((*Admin).signOut)},
	{"GET", "/stats", []string{"summary", "endpoint"}, 0, plain((*Admin).stats)},
	{"GET", "/metrics", nil, 0, plain((*Admin).metrics)},
	{"GET", "/stream", []string{"type", "last_event_id"}, 0, plain((*Admin).stream)},
	{"GET", "/live", nil, 0, plain((*Admin).liveStats)},
	{"GET", "/backup", nil, 0, plain((*Admin).backup)},
	{"GET", "/history", nil, 0, plain((*Admin).pastHour)},
	{"GET", "/config", nil, 0, plain((*Admin).shownConfig)},
	{"POST", "/reload", []string{"dry_run", "strict"}, 0, plain((*Admin).reload)},
	{"GET", "/events", append([]string{"type", "status", "endpoint", "source", "match", "since", "until"}, pageParams...), 0, plain((*Admin).search)},
	{"POST", "/route", nil, takesBody, plain((*Admin).route)},
	{"GET", eventPath + "{event}", []string{"id", "wait"}, 0, (*Admin).event},
	{"GET", "/endpoints", nil, 0, plain((*Admin).listEndpoints)},
	{"GET", "/endpoints/{name}", nil, alsoOrphan, (*Admin).showEndpoint},
	{"DELETE", "/endpoints/{name}", nil, alsoOrphan, (*Admin).discard},
	{"POST", "/endpoints/{name}/test", []string{"conformance"}, 0, (*Admin).test},
	{"POST", "/endpoints/{name}/pause", nil, 0, (*Admin).pause},
	{"POST", "/endpoints/{name}/resume", nil, 0, (*Admin).resume},
	{"GET", "/endpoints/{name}/failed", append(slices.Clone(failedParams), pageParams...), alsoOrphan, (*Admin).listFailed},
	{"DELETE", "/endpoints/{name}/failed", failedParams, alsoOrphan, (*Admin).discardFailed},
	{"POST", "/endpoints/{name}/replay", nil, takesBody, (*Admin).replay},
	{"GET", "/endpoints/{name}/replays", nil, alsoOrphan, (*Admin).listReplays},
	{"DELETE", "/endpoints/{name}/replays/{id}", nil, alsoOrphan, (*Admin).cancelReplay},
	{"GET", "/manual", nil, forAll, plain((*Admin).toManual)},
	{"GET", "/manual/", nil, forAll, (*Admin).manual},
	{"GET", "/manual/{id}", nil, forAll, (*Admin).manual},
	{"GET", "/debug/pprof", nil, 0, plain((*Admin).listProfiles)},
	{"GET", "/debug/pprof/{id}", []string{"seconds", "debug"}, 0, (*Admin).profile},
}

// plain is an answer that is about nothing in particular.
func plain(answer func(*Admin, *fasthttp.RequestCtx)) func(*Admin, *fasthttp.RequestCtx, target) {
	return func(a *Admin, ctx *fasthttp.RequestCtx, _ target) { answer(a, ctx) }
}

// routeTable is routes with the files of the page.
var routeTable = func() []route {
	table := routes
	for at, f := range pages {
		table = append(table, route{"GET", at, nil, forAll, plain(func(a *Admin, ctx *fasthttp.RequestCtx) { a.page(ctx, f) })})
	}
	return table
}()

// matches reports whether the path is the route's, and what it says.
func (r *route) matches(path string) (t target, ok bool) {
	pattern := r.path
	for {
		fixed, rest, open := strings.Cut(pattern, "{")
		if !open {
			return t, path == pattern
		}
		if path, ok = strings.CutPrefix(path, fixed); !ok {
			return t, false
		}
		var what string
		what, pattern, _ = strings.Cut(rest, "}")
		if what == "event" {
			t.event = path
			return t, true
		}
		step, _, _ := strings.Cut(path, "/")
		path = path[len(step):]
		if what == "name" {
			t.name = step
		} else if t.id = step; step == "" {
			return t, false
		}
	}
}

// find returns the route of a request. Without one, allowed has the methods that the path takes. open says that the path is
// for all.
func find(method, path string) (found *route, t target, allowed []string, open bool) {
	if method == "HEAD" {
		method = "GET"
	}
	for i := range routeTable {
		r := &routeTable[i]
		at, ok := r.matches(path)
		if !ok {
			continue
		}
		open = open || r.flags&forAll != 0
		if r.method == method {
			return r, at, nil, open
		}
		allowed = append(allowed, r.method)
	}
	return nil, target{}, allowed, open
}

// eventPath is what the path of an event begins with.
const eventPath = "/events/"

// pathOf is the path of a request without its escapes. In that of an event nothing else is changed: its id may hold //, /./ and
// /../, which are made shorter in other paths. What is not escaped as a path is, is taken as it stands.
func pathOf(ctx *fasthttp.RequestCtx) string {
	path := string(ctx.URI().PathOriginal())
	if !strings.HasPrefix(path, eventPath) {
		if strings.Contains(strings.ToLower(path), "%2f") {
			return path // a slash in a name parts no steps: it must not lead to another endpoint
		}
		return string(ctx.Path())
	}
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// enter finds what a request may have, and answers it if that is nothing.
func (a *Admin) enter(ctx *fasthttp.RequestCtx) (r *route, t target, ok bool) {
	if ctx.IsOptions() && asksWhetherItAnswers(string(ctx.Request.Header.RequestURI())) {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, OPTIONS")
		ctx.SetStatusCode(204)
		return nil, t, false
	}
	r, t, allowed, open := find(string(ctx.Method()), pathOf(ctx))
	if !open && !a.admit(ctx) {
		return nil, t, false
	}
	switch {
	case r != nil:
		return r, t, r.accepts(ctx)
	case len(allowed) > 0:
		ctx.Response.Header.Set(fasthttp.HeaderAllow, strings.Join(allowed, ", "))
		answer.Error(ctx, 405, "method_not_allowed", "this path takes "+strings.Join(allowed, ", "))
	default:
		nothingHere(ctx)
	}
	return nil, t, false
}

// asksWhetherItAnswers reports whether this is the target of the OPTIONS request that a balancer sends unless it is told
// otherwise. The answer says that the listener answers, and not whether events are accepted: a page that says why they are
// not must not be taken away by that.
func asksWhetherItAnswers(uri string) bool {
	path, _, _ := strings.Cut(uri, "?")
	return path == "/" || path == "*"
}

func nothingHere(ctx *fasthttp.RequestCtx) {
	answer.Error(ctx, 404, "not_found", "there is nothing at this path; GET /manual/routes lists what there is")
}

// accepts refuses what does not belong to the route.
func (r *route) accepts(ctx *fasthttp.RequestCtx) bool {
	var seen []string
	for key := range ctx.QueryArgs().All() {
		name, wrong := string(key), ""
		switch {
		case len(r.params) == 0:
			wrong = "takes no parameters, and has " + strconv.Quote(name)
		case !slices.Contains(r.params, name):
			wrong = "has no parameter " + strconv.Quote(name) + "; there are: " + listed(r.params)
		case slices.Contains(seen, name):
			wrong = "takes " + name + " once"
		}
		if wrong != "" {
			answer.Error(ctx, 400, "invalid_query", r.method+" "+r.path+" "+wrong)
			return false
		}
		seen = append(seen, name)
	}
	if r.flags&takesBody == 0 && (ctx.Request.Header.ContentLength() > 0 || len(ctx.Request.Body()) > 0) {
		answer.Error(ctx, 400, "unexpected_body", r.method+" "+r.path+" takes no body: what it is about is in the path and the query")
		return false
	}
	return true
}

func noEndpoint(ctx *fasthttp.RequestCtx, name string) {
	answer.Error(ctx, 404, "no_endpoint", fmt.Sprintf("there is no endpoint of this name, and nothing is left of one: %q; GET /endpoints lists them", name))
}

func notConfigured(ctx *fasthttp.RequestCtx, name string) {
	answer.Error(ctx, 404, "no_endpoint", fmt.Sprintf("no endpoint of this name is configured: %q; bring the name back, or discard what is left of it with DELETE /endpoints/%s", name, name))
}

// Handle answers one request, in the goroutine of its connection. Routes that find or tell events read the queue on disk; none
// holds a lock meanwhile. What has no end of its own, /live, /stream and /backup, goes on in a goroutine that Close waits for.
func (a *Admin) Handle(ctx *fasthttp.RequestCtx) {
	r, t, ok := a.enter(ctx)
	if !ok {
		return
	}
	if strings.Contains(r.path, "{name}") {
		t.lane, t.queueLane = a.Dispatcher.Lane(t.name), a.Queue.Find(t.name)
		switch {
		case t.queueLane == nil:
			noEndpoint(ctx, t.name)
			return
		case t.lane == nil && r.flags&alsoOrphan == 0:
			notConfigured(ctx, t.name)
			return
		}
	}
	r.answer(a, ctx, t)
}
