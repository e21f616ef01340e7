package admin

import (
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/sign"
)

// Waiting answers on the admin listener while there is no queue yet. It is safe for concurrent use.
type Waiting struct {
	Token sign.Secret // empty: whoever can connect may ask
	Log   zerolog.Logger
	Why   func() error // why there is none
}

// Handle answers one request: health with its reason, the page, all else 503.
func (w *Waiting) Handle(ctx *fasthttp.RequestCtx) {
	a := &Admin{Token: w.Token, Log: w.Log}
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
		answer.Error(ctx, 503, "unavailable", "the queue can't be opened yet: GET /health says why")
	}
}
