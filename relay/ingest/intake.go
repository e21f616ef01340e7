package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
	"realtorbot-relay/relay/memory"
)

// Queue is what the intake needs of the queue.
type Queue interface {
	// AppendWithin stores all events or none; when it returns nil they are on disk. It copies what it is given. Unless most is
	// 0, at most that many bytes of the source's events are kept, which is ErrSourceFull; receipts then tell which are repeats.
	AppendWithin(most int64, source string, events []queue.Event, receipts []queue.Receipt) error
	// Usage returns how many of a source's events are in the queue, and the bytes of their bodies.
	Usage(source string) (events, bytes int64)
	// Ready says why Append would refuse now, nil when it would not.
	Ready() error
}

// Routes says where events go, as one configuration has it. It is safe for concurrent use.
type Routes interface {
	// Members are those that Route asks for.
	Members() *match.Members
	// Route returns the lanes of an event of a type, of which this was found of the Members.
	Route(eventType []byte, found *match.Found) queue.LaneSet
	// Words appends by which of the Members an event is found, at most wordsBytes.
	Words(dst queue.Words, found *match.Found) queue.Words
}

// wordsBytes is how many bytes the words of one event have at most: of eight members two hashes.
const wordsBytes = 8 * 2 * binary.MaxVarintLen64

// longSet is from how many bytes on a set of lanes counts as memory of its request.
const longSet = 64

// Intake answers the requests of the sources. All methods are safe for concurrent use.
type Intake struct {
	queue   Queue
	routes  func() Routes  // as they are now
	log     zerolog.Logger // what goes wrong here
	refused zerolog.Logger // the requests that it refused
	now     func() time.Time
	bodies  *bodies
	memory  budgets
	sources atomic.Pointer[map[string]*source] // by path
	listed  atomic.Pointer[[]*source]          // the same, in the order of the configuration
	closing atomic.Bool
	buffers bufferPools
	counts  Counts

	unavailable atomic.Pointer[string] // why a request was last answered 503
}

// Counts are the requests and events since the start.
type Counts struct {
	Accepted, Duplicates atomic.Int64 // events
	// Requests that were refused: not events, without their credential, from elsewhere than the source allows, faster than
	// its rate, beyond what may be kept of its events, and at a time when none could be stored.
	Invalid, Unauthorized, Forbidden, Limited, SourceFull, Unavailable atomic.Int64
}

// New makes an intake for the sources. maxBody is the most bytes that a body may have, as it comes and decompressed. routes
// returns where events go as things are now.
func New(sources []config.Source, maxBody int, q Queue, routes func() Routes, log zerolog.Logger) (*Intake, error) {
	in := &Intake{queue: q, routes: routes, now: time.Now, bodies: newBodies(maxBody), memory: newBudgets(maxBody), buffers: newBufferPools()}
	// A stranger must not be able to fill the log, nor to keep our own trouble out of it.
	in.log = log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	in.refused = log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})
	return in, in.SetSources(sources)
}

// SetSources replaces the sources at once, for requests that begin from now on. It reads no disk and waits for nobody.
func (in *Intake) SetSources(sources []config.Source) error {
	byPath, list := make(map[string]*source, len(sources)), make([]*source, 0, len(sources))
	for _, c := range sources {
		s, err := newSource(c)
		if err != nil {
			return err
		}
		if old := in.listed.Load(); old != nil {
			if at := slices.IndexFunc(*old, func(o *source) bool { return o.Name == c.Name }); at >= 0 {
				s.tally = (*old)[at].tally
			}
		}
		s.alone = len(sources) == 1
		byPath[c.Path], list = s, append(list, s)
	}
	in.sources.Store(&byPath)
	in.listed.Store(&list)
	return nil
}

// Close has every further request answered 503. It does not wait: requests under way end as they would.
func (in *Intake) Close() { in.closing.Store(true) }

// Counts are counted on by the intake: the caller loads each by itself.
func (in *Intake) Counts() *Counts { return &in.counts }

// Refuses reports whether Handle will refuse a request by its headers alone, whatever its body.
func (in *Intake) Refuses(h *fasthttp.RequestHeader) bool {
	s, why := in.screen(h, in.now())
	return s == nil || why.status != 0
}

// screen finds the source of a request and what there is to refuse in its headers. The source is nil where there is none.
func (in *Intake) screen(h *fasthttp.RequestHeader, now time.Time) (*source, refusal) {
	s, ok := (*in.sources.Load())[string(pathOf(h))]
	switch {
	case !ok:
		return nil, notFound
	case !h.IsPost():
		return s, notPosted
	case in.closing.Load():
		return s, stopping
	}
	if why := s.screen(h, now); why.status != 0 {
		return s, why
	}
	kind, encoding := kindOf(h)
	switch {
	case encoding == 0:
		return s, noCoding
	case kind == 0:
		return s, noMedia
	}
	return s, refusal{}
}

// pathOf is the path as it stands in the request: sources have paths that need no escaping, so that nothing but the path
// itself leads to one.
func pathOf(h *fasthttp.RequestHeader) []byte {
	target := h.RequestURI()
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	return target
}

// Handle answers one request, in the goroutine of its connection. It waits for the body as it comes, for memory up to roomWait, and
// for the queue to have the events on disk; it holds no lock while it waits.
func (in *Intake) Handle(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	if string(pathOf(h)) == "/health" {
		in.health(ctx)
		return
	}
	if h.IsOptions() && (string(pathOf(h)) == "/" || string(pathOf(h)) == "*") { // what HAProxy asks unless it is told what to
		status, body := in.Health()
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "POST, OPTIONS")
		answer.JSON(ctx, status, []byte(body))
		return
	}
	now := in.now()
	s, why := in.screen(h, now)
	switch {
	case s == nil:
	case !s.admitsFrom(answer.Client(ctx)):
		why = notAllowed
	case !s.admitsHost(h, ctx.LocalAddr()):
		why = notHere
	}
	if why.status == 0 && s.Secret.IsZero() {
		why = s.pace(now)
	}
	if why.status != 0 {
		in.refuse(ctx, s, why)
	} else {
		in.take(ctx, s, now)
	}
	if s != nil {
		s.tally.note(ctx.Response.StatusCode())
	}
}

func (in *Intake) health(ctx *fasthttp.RequestCtx) {
	if !ctx.IsGet() && !ctx.IsHead() {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET")
		answer.Error(ctx, 405, "method_not_allowed", "health is asked with GET")
		return
	}
	status, body := in.Health()
	answer.JSON(ctx, status, []byte(body))
}

// Ready says why an event would be refused now, nil when it would be accepted. It is the one judgement that the intake's own
// health, the admin listener's, metrics, alerts, heartbeat and page go by; the queue asks itself the same before each event. It
// reads no disk.
func (in *Intake) Ready() error {
	if in.closing.Load() {
		return queue.ErrClosed
	}
	return in.queue.Ready()
}

// LastUnavailable is why a request was last answered 503, "" when none was.
func (in *Intake) LastUnavailable() string {
	if why := in.unavailable.Load(); why != nil {
		return *why
	}
	return ""
}

// Health is what GET /health is answered: the status and nothing else, since anybody may ask.
func (in *Intake) Health() (status int, body string) {
	if in.Ready() != nil {
		return 503, `{"status":"failing"}` + "\n"
	}
	return 200, `{"status":"ok"}` + "\n"
}

// take is the way of an event: body, signature, events, lanes, disk, answer.
func (in *Intake) take(ctx *fasthttp.RequestCtx, s *source, now time.Time) {
	if answer.Unread(ctx) {
		in.refuse(ctx, s, reloaded)
		return
	}
	w, onItsWay := in.buffers.get(&ctx.Request.Header, s.known()), false
	defer func() { // a panic is one failed request, and keeps nothing
		if !onItsWay {
			in.putAway(w)
		}
	}()
	if in.keep(ctx, s, w, now) {
		onItsWay = in.acknowledge(ctx, s, w)
	}
}

// keep has the events of a request stored, with w, or answers why not.
func (in *Intake) keep(ctx *fasthttp.RequestCtx, s *source, w *buffers, now time.Time) bool {
	authenticated := s.known()
	err := in.memory.open(w, s, ctx, authenticated)
	if err == nil {
		w.posted, err = in.bodies.read(ctx, w.posted, &w.reservation)
	}
	if err != nil {
		in.refuseBody(ctx, s, err)
		return false
	}
	answer.Received(ctx)
	h := &ctx.Request.Header
	kind, encoding := kindOf(h)
	large := 0
	if encoding != plain || len(w.posted) > firstBytes {
		large = len(w.posted)
	}
	var body []byte
	var why refusal
	windows := in.memory.known
	if !authenticated {
		windows = in.memory.windows
	}
	asItCame := encoding == plain && !authenticated // it is looked at first whether that is signed
	open := func() { body, why, err = in.open(ctx, s, w, encoding, windows, asItCame, now) }
	admitted := true
	switch {
	case authenticated:
	case asItCame && s.verify(h, w.posted, now, true) == nil: // which was less work than to receive it
		body, why = w.posted, s.pace(now)
	case asItCame && !s.hasForm(w.posted):
		why = s.unsigned()
	default: // whatever its size: a stranger chooses how much work it is to decompress it, and to make its documented form
		admitted = in.memory.verifying.during(w, max(1, len(w.posted)), open)
	}
	if !authenticated && admitted && err == nil && why.status == 0 {
		err = in.memory.authenticate(w, s)
	}
	if admitted && err == nil && why.status == 0 {
		admitted = in.memory.parsing.during(w, large, func() {
			if authenticated {
				open()
			}
			if err == nil && why.status == 0 {
				err = in.parse(body, kind, w, s.stamp(&ctx.Request.Header, now))
			}
		})
	}
	if !admitted {
		why = overloaded
	}
	switch {
	case err != nil:
		in.refuseBody(ctx, s, err)
		return false
	case why.status != 0:
		in.refuse(ctx, s, why)
		return false
	}
	w.dropBodies()
	err = in.queue.AppendWithin(s.MaxQueued, s.Name, w.events, w.receipts)
	switch {
	case errors.Is(err, queue.ErrSourceFull):
		s.tally.lacks(w.events, w.receipts, now)
	case err == nil && slices.ContainsFunc(w.receipts, func(r queue.Receipt) bool { return !r.Duplicate }):
		s.tally.stored(now)
	}
	if err != nil {
		in.refuse(ctx, s, in.notStored(err))
		return false
	}
	return true
}

// open unpacks the body of a request and checks the signature over it. What unpacking takes besides comes from windows. asItCame: the
// signature is not one over the bytes as they came.
func (in *Intake) open(ctx *fasthttp.RequestCtx, s *source, w *buffers, encoding int, windows *budget, asItCame bool, now time.Time) (body []byte, why refusal, err error) {
	body = w.posted
	if encoding != plain {
		w.plain, err = in.bodies.decompress(w.posted, encoding, w.plain, &w.reservation, windows)
		body = w.plain
	}
	if err == nil && !s.Secret.IsZero() {
		if why, err = s.admit(&ctx.Request.Header, body, &w.parser, asItCame, now); err == nil && why.status == 0 {
			why = s.pace(now)
		}
	}
	return body, why, err
}

// parse reads the events of a body, and where they go, into w.
func (in *Intake) parse(body []byte, kind int, w *buffers, stamp canonical.Stamp) (err error) {
	var events []canonical.Event
	routes := in.routes()
	clear(w.lanes)
	w.lanes, w.words, w.wordsTo = w.lanes[:0], w.words[:0], w.wordsTo[:0]
	var full error
	stamp.Members, stamp.Found = routes.Members(), func(e canonical.Event, found *match.Found) {
		lanes := routes.Route(e.Type, found)
		n := len(w.lanes)
		// Of most events the set is one that there is already.
		if len(lanes) > longSet && (n == 0 || w.lanes[n-1] != lanes) && full == nil {
			full = w.reservation.Take(len(lanes))
		}
		if full == nil {
			w.lanes, full = memory.Grow(&w.reservation, w.lanes, 1)
		}
		if full == nil {
			w.wordsTo, full = memory.Grow(&w.reservation, w.wordsTo, 1)
		}
		if full == nil && routes.Members() != nil {
			w.words, full = memory.Grow(&w.reservation, w.words, wordsBytes)
		}
		if full == nil {
			w.lanes, w.words = append(w.lanes, lanes), routes.Words(w.words, found)
			w.wordsTo = append(w.wordsTo, len(w.words))
		}
	}
	if kind == typeLines {
		w.single = false
		events, err = w.parser.Lines(body, stamp)
	} else {
		events, w.single, err = w.parser.JSON(body, stamp)
	}
	if err == nil {
		err = full
	}
	if err == nil {
		w.events, err = memory.Grow(&w.reservation, w.events[:0], len(events))
	}
	if err == nil {
		w.receipts, err = memory.Grow(&w.reservation, w.receipts[:0], len(events))
	}
	if err != nil {
		return err
	}
	from := 0
	for i, ev := range events {
		w.events = append(w.events, queue.Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: w.lanes[i], Words: w.words[from:w.wordsTo[i]]})
		from = w.wordsTo[i]
		w.receipts = append(w.receipts, queue.Receipt{})
	}
	return nil
}
