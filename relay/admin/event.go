package admin

import (
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
)

// story is one event with all that happened to it.
type story struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Source     string          `json:"source"`
	Accepted   time.Time       `json:"accepted"`
	Event      json.RawMessage `json:"event"`
	Body       string          `json:"body"` // the same, byte for byte as it was kept, signed and sent
	Deliveries []deliveryStory `json:"deliveries"`
}

type deliveryStory struct {
	Endpoint    string         `json:"endpoint"`
	State       string         `json:"state"` // pending, retrying, delivered or failed
	NextAttempt *time.Time     `json:"next_attempt,omitempty"`
	FailedAt    *time.Time     `json:"failed_at,omitempty"`
	Reason      string         `json:"reason,omitempty"` // why it failed
	Attempts    []attemptStory `json:"attempts"`
}

type attemptStory struct {
	Number     int       `json:"number"`
	At         time.Time `json:"at"`
	DurationMS float64   `json:"duration_ms"`
	Timing     timing    `json:"timing_ms"`
	Status     int       `json:"status,omitempty"`
	Class      string    `json:"class,omitempty"` // what kind of failure
	Error      string    `json:"error,omitempty"`
	Excerpt    string    `json:"excerpt,omitempty"` // of the answer
}

type timing struct {
	DNS       float64 `json:"dns,omitempty"`
	Connect   float64 `json:"connect,omitempty"`
	TLS       float64 `json:"tls,omitempty"`
	FirstByte float64 `json:"first_byte,omitempty"`
}

func (a *Admin) event(ctx *fasthttp.RequestCtx, id string) {
	ev, deliveries, found, err := a.Queue.Story([]byte(id))
	switch {
	case err != nil:
		a.Log.Error().Err(err).Msg("an event could not be looked up")
		answer.Error(ctx, 503, "unavailable", "the event could not be read; the log says why")
		return
	case !found:
		answer.Error(ctx, 404, "no_event", "no event with this id is kept: it never came, or it is past queue.retention")
		return
	}
	s := story{
		ID: string(ev.ID), Type: string(ev.Type), Source: ev.Source, Accepted: time.UnixMilli(ev.At).UTC(),
		Event: json.RawMessage(ev.Body), Body: string(ev.Body), Deliveries: []deliveryStory{},
	}
	for i := range deliveries {
		s.Deliveries = append(s.Deliveries, tellDelivery(&deliveries[i]))
	}
	answer.Value(ctx, 200, s)
}

func tellDelivery(d *queue.DeliveryStory) deliveryStory {
	s := deliveryStory{Endpoint: d.Lane, State: d.State, Attempts: []attemptStory{}}
	if d.State == queue.Retrying {
		at := d.Next.UTC()
		s.NextAttempt = &at
	}
	if d.Failure != nil {
		at := d.Failure.At.UTC()
		s.FailedAt, s.Reason = &at, d.Failure.Reason
	}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		s.Attempts = append(s.Attempts, attemptStory{
			Number: a.Number, At: a.At.UTC(), DurationMS: millis(a.Took),
			Timing: timing{millis(a.DNS), millis(a.Connect), millis(a.TLS), millis(a.FirstByte)},
			Status: a.Status, Class: a.Class, Error: a.Error, Excerpt: string(a.Excerpt),
		})
	}
	return s
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
