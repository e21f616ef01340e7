package alert

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

// alert is one event of the relay's own, in canonical form.
type alert struct {
	id, kind string
	body     []byte
}

// told is the data of an alert. Message says it all in one line, for people.
type told struct {
	Message  string           `json:"message"`
	Host     string           `json:"host"` // where the relay runs
	Endpoint string           `json:"endpoint,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Began    rfc3339.Time     `json:"began_at,omitzero"` // what the alert tells
	Count    int64            `json:"count,omitempty"`
	Classes  map[string]int64 `json:"classes,omitempty"`
	Event    string           `json:"event,omitempty"`
	Type     string           `json:"type,omitempty"`

	FreeBytes   int64        `json:"disk_free_bytes,omitempty"`
	MinFree     int64        `json:"min_free_bytes,omitempty"`
	Certificate string       `json:"certificate,omitempty"`
	Expires     rfc3339.Time `json:"expires_at,omitzero"`
}

// newAlert makes the event. Its own text is as canonical as what a source posts.
func newAlert(kind string, at time.Time, data told) (alert, error) {
	id := "evt_" + ulid.Make().String()
	text, err := json.Marshal(struct {
		ID        string       `json:"id"`
		Type      string       `json:"type"`
		Timestamp rfc3339.Time `json:"timestamp"`
		Data      told         `json:"data"`
	}{id, kind, rfc3339.At(at), data})
	if err != nil {
		return alert{}, fmt.Errorf("write alert %q: %w", kind, err)
	}
	var p canonical.Parser
	events, _, err := p.JSON(text, canonical.Stamp{Now: at, Own: true})
	if err != nil {
		return alert{}, fmt.Errorf("write alert %q: %w", kind, err)
	}
	return alert{id: id, kind: kind, body: events[0].Body}, nil
}

// ofTransition is the alert for a transition of an endpoint.
func ofTransition(n delivery.Transition) (kind string, data told) {
	data = told{Endpoint: n.Endpoint, Reason: n.Reason, Began: rfc3339.At(n.Since), Count: int64(n.Count)}
	lasted := n.At.Sub(n.Since).Round(time.Second)
	switch n.State {
	case delivery.StateLimited:
		data.Message = fmt.Sprintf("endpoint %q has been limited for %s: %s", n.Endpoint, lasted, n.Reason)
		return config.AlertEndpointLimited, data
	case delivery.StateOffline:
		data.Message = fmt.Sprintf("endpoint %q can't be reached from here for %s; no attempt is charged: %s", n.Endpoint, lasted, n.Reason)
		return config.AlertEndpointOffline, data
	case delivery.TransitionOnline:
		data.Message = fmt.Sprintf("endpoint %q can be reached from here again after %s", n.Endpoint, lasted)
		return config.AlertEndpointOnline, data
	case delivery.TransitionLagging:
		data.Message = fmt.Sprintf("endpoint %q lags: its oldest event has waited for %s", n.Endpoint, lasted)
		return config.AlertEndpointLagging, data
	case delivery.TransitionCaughtUp:
		data.Message = fmt.Sprintf("endpoint %q has caught up after %s", n.Endpoint, lasted)
		return config.AlertEndpointCaughtUp, data
	case delivery.TransitionFlapping:
		data.Message = fmt.Sprintf("endpoint %q is flapping: it went down %d times within %s; it is told again when it is steady: %s", n.Endpoint, n.Count, lasted, n.Reason)
		return config.AlertEndpointFlapping, data
	case delivery.TransitionSteady:
		data.Message = fmt.Sprintf("endpoint %q is steady again: up; it went down %d times in %s", n.Endpoint, n.Count, lasted)
		if n.Reason != "" {
			data.Message = fmt.Sprintf("endpoint %q is steady now: down: %s; it went down %d times in %s", n.Endpoint, n.Reason, n.Count, lasted)
		}
		return config.AlertEndpointSteady, data
	case delivery.StateDown:
		data.Message = fmt.Sprintf("endpoint %q is down: %s", n.Endpoint, n.Reason)
		return config.AlertEndpointDown, data
	case delivery.StatePaused:
		data.Message = fmt.Sprintf("endpoint %q is paused: %s", n.Endpoint, n.Reason)
		return config.AlertEndpointPaused, data
	case delivery.TransitionResumed:
		data.Message = fmt.Sprintf("endpoint %q was resumed after %s", n.Endpoint, lasted)
		return config.AlertEndpointResumed, data
	default:
		data.Message = fmt.Sprintf("endpoint %q is up again after %s", n.Endpoint, lasted)
		return config.AlertEndpointRecovered, data
	}
}

// ofFailures says what became failed.
func ofFailures(f delivery.Failures) told {
	latest := ""
	if f.Event != "" {
		latest = ", the latest (" + f.Event + ")"
	}
	return told{
		Message:  fmt.Sprintf("%d %s to endpoint %q failed for good%s: %s", f.Count, plural(f.Count, "delivery", "deliveries"), f.Endpoint, latest, f.Reason),
		Endpoint: f.Endpoint, Count: f.Count, Classes: f.Classes, Event: f.Event, Type: f.Type, Reason: f.Reason,
	}
}

func ofDisk(kind string, free, needed int64) told {
	text := "%d MiB of disk are free; below %d MiB events are refused"
	if kind == config.AlertDiskOK {
		text = "there is room on the disk again: %d MiB are free; below %d MiB events are refused"
	}
	return told{Message: fmt.Sprintf(text, free>>20, needed>>20), FreeBytes: free, MinFree: needed}
}

func ofCertificate(c Certificate, now time.Time) told {
	end := c.Expires.UTC()
	text := fmt.Sprintf("%s ends on %s, in %d days", c.What, end.Format("2006-01-02"), int(c.Expires.Sub(now).Hours()/24))
	if c.Expires.Before(now) {
		text = fmt.Sprintf("%s ended on %s", c.What, end.Format("2006-01-02"))
	}
	return told{Message: text + ": have it renewed", Endpoint: c.Endpoint, Certificate: c.What, Expires: rfc3339.At(end)}
}

func ofRenewed(c Certificate) told {
	return told{Message: fmt.Sprintf("%s was renewed: it ends on %s", c.What, c.Expires.UTC().Format(time.DateOnly)),
		Endpoint: c.Endpoint, Certificate: c.What, Expires: rfc3339.At(c.Expires)}
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
