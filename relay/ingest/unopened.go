package ingest

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

// unopenedRetryAfter is after how many seconds a client may come again.
const unopenedRetryAfter = 10

const unopenedHealth = `{"status":"failing"}` + "\n"

// UnopenedHealth is the intake's health while there is no queue.
func UnopenedHealth() (status int, body string) { return 503, unopenedHealth }

// HandleUnopened answers one request while there is no queue: events are refused with 503.
func HandleUnopened(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) == "/health" && (ctx.IsGet() || ctx.IsHead()) {
		answer.JSON(ctx, 503, []byte(unopenedHealth))
		return
	}
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(unopenedRetryAfter))
	answer.Error(ctx, 503, "unavailable", "the relay's queue is not open: GET /health at its admin listener says why")
}
