package ingest

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
)

// Keeper is what the intake needs of the queue.
type Keeper interface {
	// Append stores all events or none; when it returns nil they are on disk. It copies what it is given.
	Append(source string, events []queue.Event, receipts []queue.Receipt) error
	// Ready says why Append would refuse now, nil when it would not.
	Ready() error
}

// Intake answers the requests of the sources. All methods are safe for concurrent use.
type Intake struct {
	keeper  Keeper
	route   func(eventType []byte) queue.LaneSet
	log     zerolog.Logger // what goes wrong here
	door    zerolog.Logger // whom it refused
	now     func() time.Time
	sources atomic.Pointer[map[string]*source] // by path
	closing atomic.Bool
	work    sync.Pool
	counts  Counts
}

// Counts are the requests and events since the start.
type Counts struct {
	Accepted, Duplicates               atomic.Int64 // events
	Invalid, Unauthorized, Unavailable atomic.Int64 // requests
}

// work is what one request needs for a moment.
type work struct {
	parser   Parser
	events   []queue.Event
	receipts []queue.Receipt
	out      []byte
}

// New makes an intake for the sources. route says where events of a type go.
func New(sources []config.Source, keeper Keeper, route func([]byte) queue.LaneSet, log zerolog.Logger) (*Intake, error) {
	in := &Intake{keeper: keeper, route: route, now: time.Now}
	// A stranger must not be able to fill the log, nor to keep our own trouble out of it.
	in.log = log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	in.door = log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	in.work.New = func() any { return new(work) }
	return in, in.SetSources(sources)
}

// SetSources replaces the sources at once, for requests that begin from now on.
func (in *Intake) SetSources(sources []config.Source) error {
	byPath := make(map[string]*source, len(sources))
	for _, c := range sources {
		s, err := newSource(c)
		if err != nil {
			return err
		}
		byPath[c.Path] = s
	}
	in.sources.Store(&byPath)
	return nil
}

// Close makes every further request be answered 503, while those under way end as they would.
func (in *Intake) Close() { in.closing.Store(true) }

// Counts tells what came in.
func (in *Intake) Counts() *Counts { return &in.counts }

// Handle answers one request.
func (in *Intake) Handle(ctx *fasthttp.RequestCtx) {
	path := ctx.Path()
	if string(path) == "/health" {
		in.health(ctx)
		return
	}
	s, ok := (*in.sources.Load())[string(path)]
	switch {
	case !ok:
		answer.Error(ctx, 404, "not_found", "no source has this path")
	case !ctx.IsPost():
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "POST")
		answer.Error(ctx, 405, "method_not_allowed", "events are posted: use POST")
	case in.closing.Load():
		in.unavailable(ctx, "the relay is stopping", 2)
	default:
		in.take(ctx, s)
	}
}

func (in *Intake) health(ctx *fasthttp.RequestCtx) {
	switch {
	case !ctx.IsGet() && !ctx.IsHead():
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET")
		answer.Error(ctx, 405, "method_not_allowed", "health is asked with GET")
	case in.closing.Load() || in.keeper.Ready() != nil:
		answer.JSON(ctx, 503, []byte(`{"status":"failing"}`+"\n"))
	default:
		answer.JSON(ctx, 200, []byte(`{"status":"ok"}`+"\n"))
	}
}

// take is the way of an event: credential, events, lanes, disk, answer.
func (in *Intake) take(ctx *fasthttp.RequestCtx, s *source) {
	now := in.now()
	if why := s.admit(&ctx.Request, now); why != "" {
		in.counts.Unauthorized.Add(1)
		in.door.Warn().Str("source", s.Name).Stringer("from", ctx.RemoteIP()).Msg("request refused: credential is missing or wrong")
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
		answer.Error(ctx, 401, "unauthorized", string(why))
		return
	}
	w := in.work.Get().(*work)
	defer in.work.Put(w)
	events, single, ok := in.parse(ctx, w, now)
	if !ok {
		return
	}
	w.events, w.receipts = w.events[:0], w.receipts[:0]
	for _, ev := range events {
		w.events = append(w.events, queue.Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: in.route(ev.Type)})
		w.receipts = append(w.receipts, queue.Receipt{})
	}
	err := in.keeper.Append(s.Name, w.events, w.receipts)
	if err != nil {
		in.refuse(ctx, err)
		return
	}
	in.acknowledge(ctx, w, single)
	clear(w.events)
}

// parse reads the body by its content type.
func (in *Intake) parse(ctx *fasthttp.RequestCtx, w *work, now time.Time) (events []Event, single, ok bool) {
	stamp := Stamp{Now: now, NewID: newID}
	body := ctx.Request.Body()
	var err error
	switch kind := mediaType(ctx.Request.Header.ContentType()); {
	case len(ctx.Request.Header.ContentEncoding()) > 0:
		answer.Error(ctx, 415, "unsupported_media_type", "the body must not be compressed")
		return nil, false, false
	case bytes.EqualFold(kind, []byte("application/json")):
		events, single, err = w.parser.JSON(body, stamp)
	case bytes.EqualFold(kind, []byte("application/x-ndjson")):
		events, err = w.parser.Lines(body, stamp)
	default:
		answer.Error(ctx, 415, "unsupported_media_type", "the header Content-Type must be application/json or application/x-ndjson (with curl: -H 'Content-Type: application/json')")
		return nil, false, false
	}
	var invalid *Invalid
	if errors.As(err, &invalid) {
		in.counts.Invalid.Add(1)
		answer.ErrorAt(ctx, 400, invalid.Code(), invalid.Reason, invalid.Index)
		return nil, false, false
	}
	return events, single, true
}

func mediaType(contentType []byte) []byte {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return bytes.TrimSpace(contentType)
}

// newID makes an id whose text sorts by time.
func newID(dst []byte) []byte {
	id := ulid.Make()
	dst = append(dst, "evt_"...)
	at := len(dst)
	dst = append(dst, make([]byte, ulid.EncodedSize)...)
	_ = id.MarshalTextTo(dst[at:]) // the only error is a buffer of the wrong size
	return dst
}

func (in *Intake) acknowledge(ctx *fasthttp.RequestCtx, w *work, single bool) {
	duplicates := 0
	for i := range w.receipts {
		if w.receipts[i].Duplicate {
			duplicates++
		}
	}
	in.counts.Accepted.Add(int64(len(w.events) - duplicates))
	in.counts.Duplicates.Add(int64(duplicates))
	out := w.out[:0]
	if single {
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
	out = append(out, '\n')
	w.out = out
	answer.JSON(ctx, 200, out)
}

// appendResult writes what became of one event. Ids need no escaping.
func appendResult(out []byte, ev *queue.Event, r queue.Receipt) []byte {
	out = append(out, `{"id":"`...)
	out = append(out, ev.ID...)
	if r.Duplicate {
		return append(out, `","status":"duplicate"}`...)
	}
	out = append(out, `","status":"accepted","endpoints":`...)
	out = strconv.AppendInt(out, int64(ev.Lanes.Len()), 10)
	return append(out, '}')
}

// refuse tells a client that its events were not stored, or not surely, and when to come again.
func (in *Intake) refuse(ctx *fasthttp.RequestCtx, err error) {
	switch {
	case errors.Is(err, queue.ErrDiskLow):
		in.unavailable(ctx, "the relay's disk is low", 10)
	case errors.Is(err, queue.ErrOverloaded):
		in.unavailable(ctx, "the relay is overloaded", 1)
	case errors.Is(err, queue.ErrClosed):
		in.unavailable(ctx, "the relay is stopping", 2)
	default:
		in.log.Error().Err(err).Msg("events could not be stored")
		in.unavailable(ctx, "the relay's storage failed", 5)
	}
}

func (in *Intake) unavailable(ctx *fasthttp.RequestCtx, why string, retryAfter int) {
	in.counts.Unavailable.Add(1)
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(retryAfter))
	answer.Error(ctx, 503, "unavailable", why)
}
