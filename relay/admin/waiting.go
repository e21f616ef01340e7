package admin

import (
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
}

// Handle answers one request: health with its reason, what metrics there are, the page, all else 503.
func (w *Waiting) Handle(ctx *fasthttp.RequestCtx) {
	a := &Admin{Token: w.Token, Log: w.Log, Version: w.Version, Started: w.Started, Lines: w.Lines}
	if string(ctx.Path()) == "/health" {
		a.get(ctx, func(ctx *fasthttp.RequestCtx) {
			h := health{Status: "failing"}
			if why := w.Why(); why != nil {
				h.Reasons = []string{"events are refused: " + why.Error()}
			}
			a.tell(ctx, h)
		})
		return
	}
	f, ok := pages[string(ctx.Path())]
	switch {
	case ok: // it says so, and comes alive with the queue
		a.get(ctx, func(ctx *fasthttp.RequestCtx) { a.page(ctx, f) })
	case string(ctx.Path()) == "/session" && !a.foreign(ctx), a.admit(ctx):
		if string(ctx.Path()) == "/metrics" && (ctx.IsGet() || ctx.IsHead()) {
			w.metrics(a, ctx)
			return
		}
		answer.Error(ctx, 503, "unavailable", "the queue can't be opened yet: GET /health says why")
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
