package admin

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
)

// streamLook is how often a stream looks for new events. Nothing wakes it: the way of an event must not know of streams.
const streamLook = 50 * time.Millisecond

// stream answers with the events of the log, as they are accepted. It reads by a position of its own: no lane gives
// anything up for it, and a slow reader costs a block of the log in memory.
func (a *Admin) stream(ctx *fasthttp.RequestCtx) {
	q := readQuery(ctx)
	wanted := config.Endpoint{Events: []string{"*"}}
	if types := q.types(); types != nil {
		wanted.Events = types
	}
	if q.refuse(ctx) {
		return
	}
	from := a.Queue.End()
	last := string(ctx.Request.Header.Peek("Last-Event-ID"))
	if last == "" {
		last = string(ctx.QueryArgs().Peek("last_event_id")) // for those who can't set a header
	}
	if last != "" {
		seq, err := strconv.ParseUint(last, 10, 63)
		if err != nil {
			answer.Error(ctx, 400, "invalid_query", "Last-Event-ID is the id of the last event of the stream that was seen, or 0 for all that are kept")
			return
		}
		from = min(from, seq+1)
	}
	a.live(ctx, func(l *eventStream) { a.follow(l, a.Queue.Follow(from), from, &wanted) })
}

// follow writes the events that are wanted, each with its position as id and its body, which is one line, as data.
func (a *Admin) follow(l *eventStream, f *queue.Follower, from uint64, wanted *config.Endpoint) {
	for {
		ev, missed, ok, err := f.Next()
		if err != nil {
			a.Log.Warn().Err(err).Msg("a stream ends: the log can't be read")
			return
		}
		if !ok {
			if !l.pause(streamLook) {
				return
			}
			continue
		}
		// Who asks for all that is kept has missed nothing.
		if missed > 0 && from > 1 {
			_, _ = l.WriteString("event: missed\ndata: {\"events\":" + strconv.FormatUint(missed, 10) + "}\n\n")
		}
		if !wanted.Subscribes(string(ev.Type)) {
			if !l.going() {
				return
			}
			continue
		}
		_, _ = l.WriteString("id: " + strconv.FormatUint(ev.Seq, 10) + "\ndata: ")
		_, _ = l.Write(ev.Body)
		if _, err := l.WriteString("\n\n"); err != nil || !l.going() {
			return
		}
	}
}
