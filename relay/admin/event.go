package admin

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

// story is one event with all that happened to it.
type story struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Source     string          `json:"source"`
	Accepted   rfc3339.Time    `json:"accepted_at"`
	Settled    bool            `json:"settled"`        // nothing of it is pending or retrying
	Note       string          `json:"note,omitempty"` // what people should know of it
	Event      json.RawMessage `json:"event"`
	Body       string          `json:"body"` // the same, byte for byte as it was kept, signed and sent
	Deliveries []deliveryStory `json:"deliveries"`
	Unmatched  []unmatched     `json:"unmatched"`         // the configured endpoints that it is not for
	Earlier    []story         `json:"earlier,omitempty"` // events of the same id, which was used again after its window
}

// mostEarlier is how many events of one id a story has beside the newest.
const mostEarlier = 9

// unmatched is an endpoint that an event is not for.
type unmatched struct {
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"` // not_subscribed, not_matched, disabled, added_later or changed_since
	Note     string `json:"note"`   // the same for people
}

type deliveryStory struct {
	Endpoint    string         `json:"endpoint"`
	State       string         `json:"state"` // pending, retrying, delivered, failed or discarded
	NextAttempt rfc3339.Time   `json:"next_attempt_at,omitzero"`
	FailedAt    rfc3339.Time   `json:"failed_at,omitzero"`
	Replay      string         `json:"replay,omitempty"`      // that a retrying delivery is part of
	DeadLetter  *deadLetter    `json:"dead_letter,omitempty"` // what failed elsewhere, when it is given that
	Reason      string         `json:"reason,omitempty"`      // why it failed
	Note        string         `json:"note"`                  // what happens to it next, for people
	Attempts    []attemptStory `json:"attempts"`
}

// deadLetter says whose delivery failed and why, of what an endpoint is given by on_failed.
type deadLetter struct {
	Endpoint string `json:"endpoint"`
	Class    string `json:"class"`
	Reason   string `json:"reason"`
}

func deadLetterOf(l *queue.Letter) *deadLetter {
	if l == nil {
		return nil
	}
	return &deadLetter{l.Lane, l.Class, l.Reason}
}

type attemptStory struct {
	Number     int          `json:"number"` // begins anew with each replay
	Replay     string       `json:"replay,omitempty"`
	Began      rfc3339.Time `json:"began_at"`
	DurationMS float64      `json:"duration_ms"`
	Timing     timing       `json:"timing_ms"`
	Status     int          `json:"status,omitempty"`
	Class      string       `json:"class,omitempty"` // what kind of failure
	Error      string       `json:"error,omitempty"`
	Excerpt    string       `json:"excerpt,omitempty"` // of the answer
}

type timing struct {
	DNS       float64 `json:"dns,omitempty"`
	Connect   float64 `json:"connect,omitempty"`
	TLS       float64 `json:"tls,omitempty"`
	FirstByte float64 `json:"first_byte,omitempty"`
}

func (a *Admin) event(ctx *fasthttp.RequestCtx, t target) {
	q := readQuery(ctx)
	wait := q.wait("wait", storyWait)
	id := t.event
	if id == "" {
		id = q.text("id")
	} else if q.args.Has("id") {
		q.wrong("the id stands in the path, or in the query behind GET " + eventPath + ", and not in both")
	}
	if q.refuse(ctx) {
		return
	}
	if wait > 0 {
		if !a.waiters.begin() {
			ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
			answer.Error(ctx, 503, "unavailable", "too many wait for events already: ask without wait, or come again in a moment")
			return
		}
		defer a.waiters.end()
	}
	list, err := a.stories(ctx.Done(), []byte(id), wait)
	switch {
	case err != nil:
		a.unread(ctx, err, "the event could not be looked up")
		return
	case len(list) == 0:
		answer.Error(ctx, 404, "no_event", "no event with this id is kept: it never came, or it is past queue.retention")
		return
	}
	now := a.asOfNow()
	newest := a.storyOf(&list[0], now)
	for i := range list[1:] {
		newest.Earlier = append(newest.Earlier, a.storyOf(&list[1+i], now))
	}
	answer.Value(ctx, 200, newest)
}

// asOfNow is what stories ask of the endpoints as they are now.
type asOfNow struct {
	endpoints []*config.Endpoint
	byName    map[string]*config.Endpoint
	statuses  map[string]*delivery.Status // also of what is orphaned
}

func (a *Admin) asOfNow() *asOfNow {
	now := &asOfNow{endpoints: a.Dispatcher.Endpoints(), byName: map[string]*config.Endpoint{}, statuses: map[string]*delivery.Status{}}
	for _, ep := range now.endpoints {
		now.byName[ep.Name] = ep
	}
	statuses := a.Dispatcher.Statuses()
	for i := range statuses {
		now.statuses[statuses[i].Name] = &statuses[i]
	}
	return now
}

func (a *Admin) storyOf(ev *queue.EventStory, now *asOfNow) story {
	candidate := config.NewCandidate(now.endpoints, string(ev.Type), ev.Body)
	s := story{
		ID: string(ev.ID), Type: string(ev.Type), Source: ev.Source, Accepted: rfc3339.Milli(ev.At), Settled: ev.IsSettled(),
		Event: json.RawMessage(ev.Body), Body: string(ev.Body), Deliveries: []deliveryStory{}, Unmatched: a.unmatched(ev, candidate, now),
	}
	if kept := canonical.KeptNumber(ev.Body); kept != nil {
		s.Note = "the documented receiver will refuse this, unless its endpoint has numbers = \"javascript\": JavaScript writes another number than " + clipNumber(kept)
	}
	for i := range ev.Deliveries {
		d := &ev.Deliveries[i]
		told, status := deliveryStoryOf(d), now.statuses[d.Lane]
		if status != nil && told.State == queue.Retrying {
			told.NextAttempt = status.Attempted(d.Next)
		}
		told.Note = whatNext(d, status)
		if ep := now.byName[d.Lane]; ep != nil && d.State == queue.Failed && d.Failure.Class == delivery.ClassUnmatched {
			told.Note = cmp.Or(ep.NotMatched(candidate), "it is the endpoint's own now") + ": nothing, unless it is replayed, which judges it again; it is kept for queue.failed_retention"
		}
		s.Deliveries = append(s.Deliveries, told)
	}
	return s
}

// clipNumber is a number as it can be shown on a line.
func clipNumber(text []byte) string {
	const most = 60
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

// unmatched says why an event is not for the other endpoints. That was decided when it was accepted.
func (a *Admin) unmatched(ev *queue.EventStory, candidate *config.Candidate, now *asOfNow) []unmatched {
	list, given := []unmatched{}, map[string]bool{}
	for i := range ev.Deliveries {
		given[ev.Deliveries[i].Lane] = true
	}
	for _, ep := range now.endpoints {
		lane := a.Queue.Find(ep.Name)
		if lane == nil || given[ep.Name] {
			continue
		}
		one := unmatched{ep.Name, "changed_since", "it asks for this event now and did not, or was disabled, when the event was accepted"}
		if !lane.Existed(ev.Seq) {
			one.Reason, one.Note = "added_later", "the event was accepted before this endpoint was configured; an endpoint that had the name before may have got it"
		} else if reason, note := ep.NotFor(candidate); reason != "" {
			one.Reason, one.Note = reason, note
		}
		list = append(list, one)
	}
	return list
}

// whatNext tells what will become of a delivery as its endpoint stands.
func whatNext(d *queue.DeliveryStory, s *delivery.Status) string {
	held := "held: no endpoint of this name is configured"
	if s != nil {
		switch s.State {
		case delivery.StatePaused:
			held = "held until the endpoint is resumed: " + s.Reason
		case delivery.StateDisabled:
			held = "held until the endpoint is enabled in the configuration"
		case delivery.StateUp, delivery.StateDown, delivery.StateLimited, delivery.StateOffline:
			held = ""
		}
	}
	switch {
	case d.State == queue.Delivered:
		return "nothing: it was delivered"
	case d.State == queue.Discarded:
		return "nothing: it failed, and was discarded or became older than queue.failed_retention; a replay by its id sends it again"
	case d.State == queue.Failed:
		return "nothing, unless it is replayed; it is kept for queue.failed_retention"
	case held != "":
		return held
	case s.State == delivery.StateDown:
		return "waits until the endpoint is back, which one delivery at a time finds out: " + s.Reason
	case s.State == delivery.StateOffline:
		return "waits until the endpoint can be reached from here again: " + s.Reason
	case !s.HoldEnds.IsZero():
		return "waits until " + s.HoldEnds.UTC().Format(time.RFC3339) + ", as the endpoint asked to wait"
	case d.State == queue.Retrying:
		return "attempted again when next_attempt_at has come, as soon as the endpoint has room"
	}
	return "attempted as soon as those before it are"
}

func deliveryStoryOf(d *queue.DeliveryStory) deliveryStory {
	s := deliveryStory{Endpoint: d.Lane, State: d.State, DeadLetter: deadLetterOf(d.Letter), Attempts: []attemptStory{}}
	if d.State == queue.Retrying {
		s.Replay = queue.ReplayID(d.Replay)
	}
	if d.Failure != nil {
		s.FailedAt, s.Reason = rfc3339.At(d.Failure.At), d.Failure.Reason
	}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		s.Attempts = append(s.Attempts, attemptStory{
			Number: a.Number, Replay: queue.ReplayID(a.Replay), Began: rfc3339.At(a.At), DurationMS: millis(a.Took),
			Timing: timing{millis(a.DNS), millis(a.Connect), millis(a.TLS), millis(a.FirstByte)},
			Status: a.Status, Class: a.Class, Error: a.Error, Excerpt: string(a.Excerpt),
		})
	}
	return s
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
