package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// span is a stretch of time; to is zero while it lasts.
type span struct{ from, to time.Time }

type spans []span

// holds reports whether a moment lies within one of them, and not only at an end of it: who notes them is a little late.
func (s spans) holds(at time.Time, slack time.Duration) bool {
	for _, one := range s {
		if at.After(one.from.Add(slack)) && (one.to.IsZero() || at.Before(one.to.Add(-slack))) {
			return true
		}
	}
	return false
}

// touches reports whether a stretch has a moment in common with one of them.
func (s spans) touches(from, to time.Time) bool {
	for _, one := range s {
		if to.After(one.from) && (one.to.IsZero() || from.Before(one.to)) {
			return true
		}
	}
	return false
}

func (s spans) open() bool { return len(s) > 0 && s[len(s)-1].to.IsZero() }

// toggle begins a span, or ends the one that lasts; what is so already stays.
func (s *spans) toggle(begins bool, at time.Time) {
	switch {
	case begins && !s.open():
		*s = append(*s, span{from: at})
	case !begins && s.open():
		(*s)[len(*s)-1].to = at
	}
}

// What the relay's log says of an endpoint's state.
const (
	saysDown    = "endpoint is down:"
	saysUp      = "endpoint is up again"
	saysOffline = "this machine seems to be offline:"
	saysOnline  = "this machine is online again"
	saysServing = "serving"
	saysCharged = "attempt failed"
	saysFailed  = "delivery failed for good"
)

// states is what a relay said of one endpoint.
type states struct {
	down, offline spans
	charged       []charge
}

// charge is an attempt that counted against its delivery.
type charge struct {
	id string
	storyAttempt
}

// readStates reads a relay's log. A relay that was killed may have forgotten what it said in its last moments: after a start
// nothing holds until it is said again.
func readStates(log io.Reader) (map[string]*states, error) {
	said := map[string]*states{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Time     time.Time `json:"time"`
			Endpoint string    `json:"endpoint"`
			Message  string    `json:"message"`
			Event    string    `json:"event"`
			Attempt  int       `json:"attempt"`
			Duration float64   `json:"duration_ms"`
			Status   int       `json:"status"`
			Class    string    `json:"class"`
			Reason   string    `json:"reason"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // a kill cuts lines
		}
		if line.Message == saysServing {
			for _, s := range said {
				s.down.toggle(false, line.Time)
				s.offline.toggle(false, line.Time)
			}
		}
		if line.Endpoint == "" {
			continue
		}
		s := said[line.Endpoint]
		if s == nil {
			s = &states{}
			said[line.Endpoint] = s
		}
		switch starts := func(what string) bool { return len(line.Message) >= len(what) && line.Message[:len(what)] == what }; {
		case starts(saysDown):
			s.down.toggle(true, line.Time)
		case starts(saysUp):
			s.down.toggle(false, line.Time)
		case starts(saysOffline):
			s.offline.toggle(true, line.Time)
		case starts(saysOnline):
			s.offline.toggle(false, line.Time)
		case line.Event != "" && !strings.Contains(line.Reason, "max_age") && (starts(saysCharged) || starts(saysFailed)):
			a := storyAttempt{Number: line.Attempt, DurationMS: line.Duration, Status: line.Status, Class: line.Class}
			a.At = line.Time.Add(-a.took())
			s.charged = append(s.charged, charge{line.Event, a})
		}
	}
	return said, lines.Err()
}

// storyAttempt is an attempt as the relay tells it.
type storyAttempt struct {
	Number     int       `json:"number"`
	At         time.Time `json:"began_at"`
	DurationMS float64   `json:"duration_ms"`
	Status     int       `json:"status"`
	Class      string    `json:"class"`
}

func (a *storyAttempt) took() time.Duration {
	return time.Duration(a.DurationMS * float64(time.Millisecond))
}

// told is a request as its receiver tells it.
type told struct {
	attempt int
	status  int
	at      time.Time // came
	ended   time.Time // was answered
}

// failedStory is a delivery that became failed.
type failedStory struct {
	id       string
	accepted time.Time
	failed   time.Time
	attempts []storyAttempt
	told     []told
}

// course is what an audit knows of the time in which deliveries failed.
type course struct {
	waits   int // of the schedule
	maxAge  time.Duration
	timeout time.Duration
	states  states // as the relay told them
	cut     spans  // the cable was out
}

// auditSlack is how late what is noted may be; cutSlack the same for what this program notes itself.
const (
	auditSlack = 250 * time.Millisecond
	cutSlack   = 50 * time.Millisecond
)

// judge names what is unjust about a delivery's failing. It fails only after max_age, or after all of its charged attempts, each
// of which was charged justly.
func (c *course) judge(d *failedStory) (unjust []string) {
	// Both times are cut to the millisecond, so that what is a moment older than max_age may look exactly as old.
	age := d.failed.Sub(d.accepted)
	if age >= c.maxAge {
		return nil
	}
	charged := map[int]storyAttempt{} // what was not charged has the number of the next one that was, or of another try of it
	for _, a := range d.attempts {
		charged[a.Number] = a
	}
	for n := 1; n <= c.waits+1; n++ {
		a, made := charged[n]
		if !made {
			return append(unjust, fmt.Sprintf("%s failed after %d charged attempts of %d, %v old", d.id, len(charged), c.waits+1, age))
		}
		if why := c.charged(&a, d.told); why != "" {
			unjust = append(unjust, d.id+": "+why)
		}
	}
	return unjust
}

// charged says what is unjust about an attempt's having been charged: that it was made while the endpoint was down or this
// machine offline, that it was told to wait, or that its receiver answered with success in time. Empty when nothing is.
func (c *course) charged(a *storyAttempt, told []told) string {
	why := ""
	switch {
	case c.states.down.holds(a.At, auditSlack):
		why = "while the endpoint was down"
	case c.states.offline.holds(a.At, auditSlack):
		why = "while the relay knew that this machine is offline"
	case c.cut.holds(a.At, cutSlack):
		why = "while the cable was out"
	case a.Status == 429:
		why = "for being told to wait"
	case a.Status == 0 && !c.cut.touches(a.At, a.At.Add(a.took())) && c.wasAnswered(a, told):
		why = "although its receiver had answered with success in time"
	default:
		return ""
	}
	return fmt.Sprintf("attempt %d of %s (%d %s, %.0f ms) was charged %s", a.Number, a.At.Format("15:04:05.000"), a.Status, a.Class, a.DurationMS, why)
}

// wasAnswered reports whether a receiver answered an attempt with success while there was plenty of time left for it.
func (c *course) wasAnswered(a *storyAttempt, all []told) bool {
	for _, t := range all {
		if t.attempt == a.Number && t.status/100 == 2 && t.at.After(a.At.Add(-auditSlack)) && t.ended.Before(a.At.Add(c.timeout/2)) {
			return true
		}
	}
	return false
}
