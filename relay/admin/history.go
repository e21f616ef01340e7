package admin

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

const (
	// historyStep is how far samples are apart, historyLength how many are kept of an endpoint: those of an hour.
	historyStep   = 15 * time.Second
	historyLength = 240
	// historyEndpoints bounds the memory, at most 20 KiB for each.
	historyEndpoints = 256
)

// sample is how an endpoint was at one moment. Rates are those since the sample before.
type sample struct {
	At        rfc3339.Time `json:"taken_at"`
	State     string       `json:"state"`
	Delivered float64      `json:"delivered_per_second"`
	Failing   float64      `json:"failed_attempts_per_second"`
	P50       *float64     `json:"attempt_ms_p50"` // null when nothing was attempted since the sample before
	P99       *float64     `json:"attempt_ms_p99"`
	Pending   int64        `json:"pending"`
	Retrying  int64        `json:"retrying"`
	Failed    int64        `json:"failed"`
	Lag       float64      `json:"lag_seconds"`
}

// track is the history of one endpoint.
type track struct {
	Name    string   `json:"name"`
	Samples []sample `json:"samples"` // oldest first

	delivered, attempts int64 // as they were last
	seen                int64 // the round in which the endpoint was last there
}

// history keeps the last hour of every endpoint in memory. The zero value is ready; it is safe for concurrent use.
type history struct {
	mu     sync.Mutex
	tracks []*track
	round  int64 // of samples taken
	at     time.Time

	ending chan struct{}
	ended  chan struct{} // closed by who takes the samples
}

// start takes samples until stop.
func (h *history) start(statuses func() []delivery.Status) {
	ending, ended := make(chan struct{}), make(chan struct{})
	h.ending, h.ended = ending, ended
	go func() {
		defer close(ended)
		ticker := time.NewTicker(historyStep)
		defer ticker.Stop()
		h.take(statuses(), time.Now())
		for {
			select {
			case now := <-ticker.C:
				h.take(statuses(), now)
			case <-ending:
				return
			}
		}
	}()
}

// stop ends the samples and waits for that until ctx is done.
func (h *history) stop(ctx context.Context) {
	if h.ending == nil {
		return
	}
	close(h.ending)
	h.ending = nil
	select {
	case <-h.ended:
	case <-ctx.Done():
	}
}

// take adds a sample for each endpoint. One that is gone takes its history with it.
func (h *history) take(statuses []delivery.Status, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	passed := now.Sub(h.at).Seconds()
	h.round, h.at = h.round+1, now
	for i := range statuses {
		s := &statuses[i]
		t := h.trackLocked(s.Name)
		if t == nil {
			continue
		}
		one := sample{
			At: rfc3339.At(now), State: s.State, Delivered: s.PerSecond, Failing: s.FailPerSec,
			Pending: s.Pending, Retrying: s.Retrying, Failed: s.Failed, Lag: s.LagSeconds,
		}
		if t.seen > 0 && s.Delivered >= t.delivered && passed > 0 {
			one.Delivered = math.Round(float64(s.Delivered-t.delivered)/passed*1000) / 1000
		}
		if q := s.AttemptMS; q != nil && s.Attempts != t.attempts {
			one.P50, one.P99 = &q.P50, &q.P99
		}
		if len(t.Samples) == historyLength {
			copy(t.Samples, t.Samples[1:])
			t.Samples = t.Samples[:historyLength-1]
		}
		t.Samples = append(t.Samples, one)
		t.delivered, t.attempts, t.seen = s.Delivered, s.Attempts, h.round
	}
	kept := h.tracks[:0]
	for _, t := range h.tracks {
		if t.seen == h.round {
			kept = append(kept, t)
		}
	}
	clear(h.tracks[len(kept):])
	h.tracks = kept
}

func (h *history) trackLocked(name string) *track {
	for _, t := range h.tracks {
		if t.Name == name {
			return t
		}
	}
	if len(h.tracks) >= historyEndpoints {
		return nil
	}
	t := &track{Name: name}
	h.tracks = append(h.tracks, t)
	return t
}

// latest returns a copy of the last so many samples of each endpoint, and the round of the latest.
func (h *history) latest(last int) (tracks []track, round int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tracks = []track{}
	for _, t := range h.tracks {
		samples := t.Samples[max(0, len(t.Samples)-last):]
		tracks = append(tracks, track{Name: t.Name, Samples: append([]sample{}, samples...)})
	}
	return tracks, h.round
}

// pastHour is the form of /history.
type pastHour struct {
	StepSeconds int     `json:"step_seconds"`
	Endpoints   []track `json:"endpoints"`
}

func (a *Admin) pastHour(ctx *fasthttp.RequestCtx) {
	tracks, _ := a.history.latest(historyLength)
	answer.Value(ctx, 200, pastHour{int(historyStep.Seconds()), tracks})
}
