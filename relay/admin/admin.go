package admin

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/sign"
)

// Admin answers on the admin listener. All methods are safe for concurrent use.
type Admin struct {
	Queue   *queue.Queue
	Post    *delivery.Post
	Intake  *ingest.Intake
	Token   sign.Secret // empty: whoever can connect may ask
	Version string
	Started time.Time
	Log     zerolog.Logger

	// Reload reads the configuration file again and, with apply, has the relay take it. The error is config.Faults or
	// a reason in one line; nothing was changed then.
	Reload func(apply bool) (Reload, error)
}

// Handle answers one request.
func (a *Admin) Handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	if path == "/health" {
		a.get(ctx, a.health)
		return
	}
	if !a.admit(ctx) {
		return
	}
	switch rest, _ := strings.CutPrefix(path, "/"); {
	case path == "/stats":
		a.get(ctx, a.stats)
	case path == "/metrics":
		a.get(ctx, a.metrics)
	case path == "/reload":
		a.reload(ctx)
	case strings.HasPrefix(rest, "events/"):
		a.get(ctx, func(ctx *fasthttp.RequestCtx) { a.event(ctx, strings.TrimPrefix(rest, "events/")) })
	case strings.HasPrefix(rest, "endpoints/"):
		a.endpoint(ctx, strings.TrimPrefix(rest, "endpoints/"))
	default:
		answer.Error(ctx, 404, "not_found", "there is nothing at this path; see README, \"Operating\"")
	}
}

func (a *Admin) get(ctx *fasthttp.RequestCtx, handle func(*fasthttp.RequestCtx)) {
	if !ctx.IsGet() && !ctx.IsHead() {
		methodNotAllowed(ctx, "GET")
		return
	}
	handle(ctx)
}

func methodNotAllowed(ctx *fasthttp.RequestCtx, allowed string) {
	ctx.Response.Header.Set(fasthttp.HeaderAllow, allowed)
	answer.Error(ctx, 405, "method_not_allowed", "this path takes "+allowed)
}

// admit checks token, Host and Origin. Without a token the listener is on loopback or a unix socket; then a page in the
// operator's browser must not reach it under a name of its own (DNS rebinding), so only addresses and localhost pass as
// Host. Whatever changes something refuses a foreign Origin in any case.
func (a *Admin) admit(ctx *fasthttp.RequestCtx) bool {
	if !a.Token.IsZero() {
		if presented, ok := answer.Bearer(&ctx.Request.Header); !ok || !a.Token.Admits(presented) {
			a.Log.Warn().Stringer("from", ctx.RemoteIP()).Msg("admin request refused: token is missing or wrong")
			ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
			answer.Error(ctx, 401, "unauthorized", "this listener asks for \"Authorization: Bearer\" with admin.token")
			return false
		}
	} else if !ownHost(string(ctx.Host())) {
		answer.Error(ctx, 403, "foreign_host", "without admin.token this listener answers to its address or localhost only")
		return false
	}
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin != "" && !ctx.IsGet() && !ctx.IsHead() {
		if _, host, ok := strings.Cut(origin, "://"); !ok || host != string(ctx.Host()) {
			answer.Error(ctx, 403, "foreign_origin", "changes are refused to pages of other origins")
			return false
		}
	}
	return true
}

func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == ""
}

// endpoint turns something about one endpoint.
func (a *Admin) endpoint(ctx *fasthttp.RequestCtx, rest string) {
	name, verb, _ := strings.Cut(rest, "/")
	lane := a.Post.Lane(name)
	switch {
	case verb == "" && ctx.IsDelete():
		a.giveUp(ctx, name)
	case verb != "" && verb != "pause" && verb != "resume" && verb != "test":
		answer.Error(ctx, 404, "not_found", "an endpoint can be posted to /pause, /resume and /test")
	case verb == "":
		methodNotAllowed(ctx, "DELETE")
	case !ctx.IsPost():
		methodNotAllowed(ctx, "POST")
	case lane == nil:
		answer.Error(ctx, 404, "no_endpoint", "no endpoint of this name is configured")
	case verb == "test":
		a.test(ctx, name)
	case verb == "pause":
		a.done(ctx, name, "paused", lane.Pause("paused by the operator"))
	default:
		a.done(ctx, name, "resumed", lane.Resume())
	}
}

// giveUp deletes what is left of an endpoint that is not configured any more.
func (a *Admin) giveUp(ctx *fasthttp.RequestCtx, name string) {
	if a.Post.Lane(name) != nil {
		answer.Error(ctx, 409, "configured", "the endpoint is configured: take it out of the configuration first")
		return
	}
	for _, kept := range a.Queue.Lanes() {
		if kept.Name() == name {
			s := kept.Stats()
			a.Log.Warn().Str("endpoint", name).Int64("pending", s.Pending).Int64("retrying", s.Retrying).Int64("failed", s.Failed).
				Msg("the operator gives up what is left of this endpoint")
			a.done(ctx, name, "given_up", a.Queue.GiveUp(kept))
			return
		}
	}
	answer.Error(ctx, 404, "no_endpoint", "there is no endpoint of this name, and nothing is left of one")
}

func (a *Admin) done(ctx *fasthttp.RequestCtx, name, what string, err error) {
	if errors.Is(err, delivery.ErrDisabled) {
		answer.Error(ctx, 409, "disabled", "the endpoint is disabled in the configuration: set enabled = true there and reload")
		return
	}
	if err != nil {
		a.Log.Error().Err(err).Str("endpoint", name).Msg("a change of the operator could not be saved")
		answer.Error(ctx, 503, "unavailable", "the change could not be saved; the log says why")
		return
	}
	a.Log.Info().Str("endpoint", name).Msg("endpoint " + strings.ReplaceAll(what, "_", " ") + " by the operator")
	answer.Value(ctx, 200, map[string]string{"endpoint": name, "status": what})
}
