package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/ingest"
)

const (
	// refusalLook is how often it is looked whether events are refused, stateLook how often at all else that health knows:
	// that asks every endpoint.
	refusalLook = time.Second
	stateLook   = 15 * time.Second
)

// LogStates writes a line to the log when events begin to be refused and when that ends, and when any other state that
// health knows begins and ends, until ctx is done. What is logged where it happens, an endpoint that goes down, is left to
// that.
func (a *Admin) LogStates(ctx context.Context) {
	refusals, all, full := refusals{last: a.Intake.Counts().Unavailable.Load()}, knownStates{}, fullSources{}
	second, quarter := time.NewTicker(refusalLook), time.NewTicker(stateLook)
	defer second.Stop()
	defer quarter.Stop()
	for {
		a.logRefusals(&refusals, time.Now())
		a.logFull(full)
		select {
		case <-second.C:
		case <-quarter.C:
			found := a.states(a.Dispatcher.Statuses(), a.Queue.Stats())
			a.logChanges(all, found.list)
		case <-ctx.Done():
			return
		}
	}
}

// refusals is what was logged about events that are refused.
type refusals struct {
	last  int64     // requests answered 503, at the last look
	since time.Time // when the refusing began; zero: events are accepted
	from  int64     // last, as it was then
}

// logRefusals logs when refusing begins and ends: that Ready says no, or that requests were refused since the last look,
// as they are when too many come at once.
func (a *Admin) logRefusals(r *refusals, now time.Time) {
	err, n := a.Intake.Ready(), a.Intake.Counts().Unavailable.Load()
	if errors.Is(err, queue.ErrClosed) {
		return // the stop is logged
	}
	isRefusing := err != nil || n > r.last
	switch {
	case isRefusing && r.since.IsZero():
		r.since, r.from = now, r.last
		why := a.Intake.LastUnavailable()
		if err != nil {
			why = err.Error()
		}
		a.Log.Error().Str("reason", why).Int64("requests", n-r.from).Msg("events are refused")
	case !isRefusing && !r.since.IsZero():
		a.Log.Info().Int64("requests", n-r.from).Int64("duration_ms", now.Sub(r.since).Milliseconds()).Msg("events are accepted again; requests says how many were refused")
		r.since = time.Time{}
	}
	r.last = n
}

// fullSources are the sources that were logged as full, with how many of their requests were refused for that before.
type fullSources map[string]int64

// logFull logs when a source begins to have as many events as it may and when that ends. Its last request that was refused
// decides: smaller ones that fit soon after it end nothing.
func (a *Admin) logFull(known fullSources) {
	now := map[string]ingest.SourceTally{}
	for _, t := range a.Intake.Tallies() {
		now[t.Source] = t
		if _, told := known[t.Source]; t.Full && !told {
			known[t.Source] = t.Refused[ingest.SourceFull] - 1
			a.Log.Warn().Str("source", t.Source).Str("state", fullText(&t)).Msg("events of one source are refused: it is full")
		}
	}
	for name, from := range known {
		t, is := now[name]
		if is && t.Full {
			continue
		}
		delete(known, name)
		if is { // else a reload took it
			a.Log.Info().Str("source", name).Int64("requests", t.Refused[ingest.SourceFull]-from).Msg("events of this source are accepted again; requests says how many were refused")
		}
	}
}

// knownStates are the states whose beginning was logged, by key, with their text as it was then.
type knownStates map[string]string

// logChanges logs which states began and which ended.
func (a *Admin) logChanges(known knownStates, found []state) {
	now := map[string]bool{}
	for _, s := range found {
		if s.key == keyRefusing || s.key == keyLog || strings.HasPrefix(s.key, keyEndpoint) || strings.HasPrefix(s.key, keyExposed) || strings.HasPrefix(s.key, keyFull) {
			continue
		}
		now[s.key] = true
		if _, ok := known[s.key]; !ok {
			known[s.key] = s.text
			a.Log.Warn().Str("state", s.text).Msg("health problem began")
		}
	}
	for key, text := range known {
		if !now[key] {
			delete(known, key)
			a.Log.Info().Str("state", text).Msg("health problem ended")
		}
	}
}
