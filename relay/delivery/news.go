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
	State    string    // StateDown, StatePaused, or StateUp when it is back
	Reason   string    // why; empty when it is back
	At       time.Time // when it came about
	Since    time.Time // when it is back: since when it had been down
}

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
	if l.endpoint.TakesAlerts() {
		return
	}
	n.Endpoint = l.endpoint.Name
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

// reportFailed counts a delivery that became failed, unless it was an alert itself.
func (l *Lane) reportFailed(event, eventType []byte, class, reason string) {
	if bytes.HasPrefix(eventType, []byte(config.AlertPrefix)) {
		return
	}
	r := l.news
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[l.endpoint.Name]
	if f == nil {
		f = &Failures{Endpoint: l.endpoint.Name, Classes: map[string]int64{}}
		r.failures[l.endpoint.Name] = f
	}
	f.Count++
	f.Classes[class]++
	f.Event, f.Type, f.Reason = string(event), string(eventType), strings.Clone(reason)
}

// reportDown and reportUp keep what is told of an endpoint whole: it is told to be back when it was told to be down,
// whatever reload or resume came between.
func (l *Lane) reportDown(reason string, now time.Time) {
	if l.tally.downSince.CompareAndSwap(0, now.UnixMilli()) {
		l.report(News{State: StateDown, Reason: reason, At: now})
	}
}

func (l *Lane) reportUp(now time.Time) {
	if since := l.tally.downSince.Load(); since != 0 && l.tally.downSince.CompareAndSwap(since, 0) {
		l.report(News{State: StateUp, At: now, Since: time.UnixMilli(since)})
	}
}
