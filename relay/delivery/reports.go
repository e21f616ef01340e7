package delivery

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"realtorbot-relay/relay/config"
)

// Transition is a change of an endpoint's state that the operator wants to hear of.
type Transition struct {
	Endpoint string
	State    string    // StateDown, StateLimited, StateOffline or StatePaused, StateUp when that is over, or one of those below
	Reason   string    // why; empty when it is over
	At       time.Time // when it happened
	Since    time.Time // when the state began that is over now, or that is reported late
	Count    int       // how often the endpoint went down while it was flapping
}

// The values of Transition.State beside the states of Status.
const (
	TransitionFlapping = "flapping"  // the endpoint goes down and up again: from here on that is not reported each time
	TransitionSteady   = "steady"    // flapping is over; with a Reason the endpoint is down
	TransitionLagging  = "lagging"   // the oldest pending event has waited longer than lag
	TransitionCaughtUp = "caught_up" // lagging is over
	TransitionOnline   = "online"    // the endpoint can be reached from here again
	TransitionResumed  = "resumed"   // the pause is over
)

// Failures counts the deliveries of one endpoint that became failed since TakeFailures last returned them, without those of the
// relay's own alerts.
type Failures struct {
	Endpoint    string
	Count       int64
	Classes     map[string]int64 // by the class of the last attempt's failure, or "expired", or "unmatched"
	Event, Type string           // of the latest; empty when nobody served the endpoint
	Reason      string           // of the latest
}

// reports holds the transitions and failures of all lanes until the alerter takes them. Its lock is taken only when something went
// wrong. It holds no transition of an endpoint that takes the relay's own alerts: reporting that would raise one more alert for it.
type reports struct {
	mu          sync.Mutex
	transitions []Transition
	failures    map[string]*Failures
	ready       chan struct{} // holds one token when there are transitions
}

// maxTransitions bounds how many wait; the oldest are dropped.
const maxTransitions = 1024

func newReports() *reports {
	return &reports{failures: map[string]*Failures{}, ready: make(chan struct{}, 1)}
}

// TransitionsReady gets a token when there are transitions to take. It is for one reader.
func (d *Dispatcher) TransitionsReady() <-chan struct{} { return d.reports.ready }

// TakeTransitions returns the transitions since it was last called, in their order.
func (d *Dispatcher) TakeTransitions() []Transition {
	r := d.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.transitions
	r.transitions = nil
	return list
}

// TakeFailures returns and removes the counts of those endpoints for which wanted is true, sorted by name. The others go on
// counting.
func (d *Dispatcher) TakeFailures(wanted func(endpoint string) bool) (taken []Failures) {
	r := d.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.failures)) {
		if wanted(name) {
			taken = append(taken, *r.failures[name])
			delete(r.failures, name)
		}
	}
	return taken
}

// report adds a transition of the lane's endpoint.
func (l *Lane) report(n Transition) {
	if ep := l.endpoint(); ep == nil || ep.TakesAlerts() {
		return
	}
	n.Endpoint, n.Since = l.name, byClockOf(n.At, n.Since)
	r := l.reports
	r.mu.Lock()
	if len(r.transitions) == maxTransitions {
		r.transitions = r.transitions[1:]
	}
	r.transitions = append(r.transitions, n)
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// reportFailed counts deliveries that became failed; event is that of the latest. It does not count the relay's own alerts.
func (l *Lane) reportFailed(event, eventType []byte, class, reason string, count int64) {
	if bytes.HasPrefix(eventType, []byte(config.AlertPrefix)) {
		return
	}
	l.reports.addFailed(l.name, event, eventType, class, reason, count)
}

// ReportUnserved counts deliveries of a disabled endpoint, or one that is not configured, that became failed.
func (d *Dispatcher) ReportUnserved(endpoint string, count int64) {
	d.reports.addFailed(endpoint, nil, nil, "expired", "held longer than queue.unserved_retention, or beyond queue.unserved_bytes, while the endpoint was disabled or not configured", count)
}

func (r *reports) addFailed(endpoint string, event, eventType []byte, class, reason string, count int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[endpoint]
	if f == nil {
		f = &Failures{Endpoint: endpoint, Classes: map[string]int64{}}
		r.failures[endpoint] = f
	}
	f.Count += count
	f.Classes[class] += count
	f.Event, f.Type, f.Reason = string(event), string(eventType), strings.Clone(reason)
}
