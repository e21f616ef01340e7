package admin

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/sign"
)

// Waiting answers on the admin listener while there is no queue yet. It is safe for concurrent use.
type Waiting struct {
	Token   sign.Secret // empty: whoever can connect may ask
	Log     zerolog.Logger
	Why     func() error // why there is none
	Version string
	Started time.Time
	Lines   Lines                       // as in Admin
	Disk    func() (free, needed int64) // bytes; free is -1 when that can't be told

	// As in Admin.
	File     string
	Reload   func(apply, strict bool) (Reload, error)
	Describe func() string
	Source   func() Source

	once  sync.Once
	admin *Admin // it knows who presents wrong tokens
}

// Handle answers one request: health with its reason, what metrics there are, the configuration, profiles, the page, the
// manual, all else 503.
func (w *Waiting) Handle(ctx *fasthttp.RequestCtx) {
	w.once.Do(func() {
		w.admin = &Admin{
			Token: w.Token, Log: w.Log, Version: w.Version, Started: w.Started, Lines: w.Lines,
			File: w.File, Reload: w.Reload, Describe: w.Describe, Source: w.Source,
		}
	})
	r, t, ok := w.admin.enter(ctx)
	if !ok {
		return
	}
	_, page := pages[r.path]
	switch {
	case r.path == "/health":
		h := health{Status: "failing"}
		if why := w.Why(); why != nil {
			h.Reasons = []string{"events are refused: " + why.Error()}
		}
		w.admin.answerHealth(ctx, h)
	case r.path == "/metrics":
		w.metrics(w.admin, ctx)
	case r.path == "/config" || r.path == "/reload" || isProfile(r.path): // what is wrong may be in there
		r.answer(w.admin, ctx, t)
	case page, isManual(r.path): // the page says so, and comes alive with the queue; the manual says what to do
		r.answer(w.admin, ctx, t)
	case r.path == "/session" && w.admin.foreign(ctx):
	default:
		message := "the queue can't be opened yet: GET /health says why"
		mayKnow := r.flags&forAll == 0 && (isTrusted(ctx) || !w.Token.IsZero() || ownHost(string(ctx.Host()))) // as with health
		if why := w.Why(); mayKnow && why != nil {
			message = "the queue can't be opened yet: " + why.Error()
		}
		answer.Error(ctx, 503, "unavailable", message)
	}
}

// metrics answers with what can be told without a queue, so that the alert rules for a full disk see it.
func (w *Waiting) metrics(a *Admin, ctx *fasthttp.RequestCtx) {
	e := asked(ctx)
	a.healthMetrics(e, "failing")
	free, needed := w.Disk()
	diskMetrics(e, free, needed)
	a.processMetrics(e)
	e.answer(ctx)
}
