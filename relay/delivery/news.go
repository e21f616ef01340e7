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

// News is a change of an endpoint that whoever runs the relay wants to hear of.
type News struct {
	Endpoint string
	State    string    // StateDown, StateLimited, StateOffline or StatePaused, StateUp when it is back, or one of those below
	Reason   string    // why; empty when it is back
	At       time.Time // when it came about
	Since    time.Time // when it ends: since when it had been so; of what is told late, when it began
	Count    int       // how often it went down while it was flapping
}

// What News tell beside states.
const (
	NewsFlapping = "flapping"  // it bounces: from here on it is not told each time
	NewsSteady   = "steady"    // that has ended; with a Reason it is down
	NewsLagging  = "lagging"   // its oldest pending event has waited longer than lag
	NewsCaughtUp = "caught_up" // that has ended
	NewsOnline   = "online"    // it can be reached from here again
)

// Failures are the deliveries of one endpoint that became failed since they were last asked for. Those of the relay's own
// alerts are not among them.
type Failures struct {
	Endpoint    string
	Count       int64
	Classes     map[string]int64 // by the class of the last attempt's failure, "expired" for those that were held too long
	Event, Type string           // of the latest
	Reason      string           // of the latest
}

// newsroom gathers news of all lanes until somebody takes them. Its lock is held when something went wrong only. What an
// endpoint that takes the relay's own alerts does is no news: telling it would be one more alert for it.
type newsroom struct {
	mu       sync.Mutex
	news     []News
	failures map[string]*Failures
	ready    chan struct{} // holds one token when there are news
}

// maxNews bounds what waits; older news give way.
const maxNews = 1024

func newNewsroom() *newsroom {
	return &newsroom{failures: map[string]*Failures{}, ready: make(chan struct{}, 1)}
}

// NewsReady gets a token when there are news to take. It is for one reader.
func (p *Post) NewsReady() <-chan struct{} { return p.news.ready }

// TakeNews returns the news since it was last called, in their order.
func (p *Post) TakeNews() []News {
	r := p.news
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.news
	r.news = nil
	return news
}

// TakeFailures returns the failed deliveries of those endpoints that wanted admits, sorted by name, and forgets them. The
// others go on being gathered.
func (p *Post) TakeFailures(wanted func(endpoint string) bool) (taken []Failures) {
	r := p.news
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

// report files a change of the lane's endpoint.
func (l *Lane) report(n News) {
	if ep := l.endpoint(); ep == nil || ep.TakesAlerts() {
		return
	}
	n.Endpoint = l.name
	r := l.news
	r.mu.Lock()
	if len(r.news) == maxNews {
		r.news = r.news[1:]
	}
	r.news = append(r.news, n)
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// reportFailed counts deliveries that became failed, of which this event's is the latest, unless they were alerts
// themselves.
func (l *Lane) reportFailed(event, eventType []byte, class, reason string, count int64) {
	if bytes.HasPrefix(eventType, []byte(config.AlertPrefix)) {
		return
	}
	r := l.news
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[l.name]
	if f == nil {
		f = &Failures{Endpoint: l.name, Classes: map[string]int64{}}
		r.failures[l.name] = f
	}
	f.Count += count
	f.Classes[class] += count
	f.Event, f.Type, f.Reason = string(event), string(eventType), strings.Clone(reason)
}
