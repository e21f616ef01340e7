package ingest

import (
	"bytes"
	"strconv"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/memory"
)

// acknowledge answers that events are stored. It reports whether w is on its way with the answer, and put away behind it.
func (in *Intake) acknowledge(ctx *fasthttp.RequestCtx, s *source, w *buffers) bool {
	duplicates, likely := 0, 0
	for i := range w.receipts {
		if w.receipts[i].Duplicate {
			duplicates++
		}
		likely += len(w.events[i].ID) + canonical.Escapes(w.events[i].ID) + resultBytes
	}
	in.counts.Accepted.Add(int64(len(w.events) - duplicates))
	in.counts.Duplicates.Add(int64(duplicates))
	s.tally.events.Add(int64(len(w.events) - duplicates))
	s.tally.duplicates.Add(int64(duplicates))
	out, err := memory.Grow(&w.reservation, w.out[:0], likely+resultBytes)
	if err != nil { // a client that posts again is told of duplicates
		in.refuse(ctx, s, overloaded)
		return false
	}
	if w.single {
		out = appendResult(out, &w.events[0], w.receipts[0])
	} else {
		out = append(out, `{"accepted":`...)
		out = strconv.AppendInt(out, int64(len(w.events)-duplicates), 10)
		out = append(out, `,"duplicates":`...)
		out = strconv.AppendInt(out, int64(duplicates), 10)
		out = append(out, `,"results":[`...)
		for i := range w.events {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendResult(out, &w.events[i], w.receipts[i])
		}
		out = append(out, "]}"...)
	}
	w.out = append(out, '\n')
	if len(w.out) <= copiedAnswer {
		answer.JSON(ctx, 200, w.out)
		return false
	}
	w.dropAllButAnswer()
	answer.Stream(ctx, 200, &outgoing{Reader: bytes.NewReader(w.out), sent: func() { in.putAway(w) }}, len(w.out))
	return true
}

const (
	// resultBytes is the most that the answer for one event takes beside its id, and a batch beside its events.
	resultBytes = 64
	// copiedAnswer is up to which size an answer is copied for the connection rather than kept until it is sent.
	copiedAnswer = 4 << 10
)

// outgoing is an answer on its way, which is held until it was sent or could not be.
type outgoing struct {
	*bytes.Reader
	sent func()
}

// Close ends the way.
func (o *outgoing) Close() error {
	if o.sent != nil {
		o.sent()
		o.sent = nil
	}
	return nil
}

// appendResult writes what became of one event.
func appendResult(out []byte, ev *queue.Event, r queue.Receipt) []byte {
	out = append(out, `{"id":"`...)
	out = canonical.AppendEscaped(out, ev.ID)
	if r.Duplicate {
		return append(out, `","status":"duplicate"}`...)
	}
	out = append(out, `","status":"accepted","endpoints":`...)
	out = strconv.AppendInt(out, int64(ev.Lanes.Len()), 10)
	return append(out, '}')
}
