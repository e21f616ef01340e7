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

	// Certificate says until when the intake's TLS certificate is good, and why its files as they are can't be used, if they
	// can't. Nil without TLS.
	Certificate func() (ends time.Time, trouble string)

	// Reload reads the configuration file again and, with apply, has the relay take it. The error is config.Faults or
	// a reason in one line; nothing was changed then.
	Reload func(apply bool) (Reload, error)

	lives lives
}

// Close ends the answers that go on, and waits for them.
func (a *Admin) Close() { a.lives.close() }

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
	case path == "/stream":
		a.get(ctx, a.stream)
	case path == "/reload":
		a.reload(ctx)
	case path == "/events":
		a.get(ctx, a.search)
	case strings.HasPrefix(rest, "events/"):
		a.get(ctx, func(ctx *fasthttp.RequestCtx) { a.event(ctx, strings.TrimPrefix(rest, "events/")) })
	case path == "/endpoints":
		a.get(ctx, a.listEndpoints)
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
