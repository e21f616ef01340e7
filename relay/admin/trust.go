package admin

import "github.com/valyala/fasthttp"

type trust struct{}

// Trust marks a request as one that came where only those can connect who may do everything: it needs no token. Only the
// relay itself can set it.
func Trust(ctx *fasthttp.RequestCtx) { ctx.SetUserValue(trust{}, true) }

func isTrusted(ctx *fasthttp.RequestCtx) bool { return ctx.UserValue(trust{}) != nil }
