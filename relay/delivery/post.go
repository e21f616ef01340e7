package delivery

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// Post is all lanes together. All methods are safe for concurrent use.
type Post struct {
	queue   *queue.Queue
	version string
	log     zerolog.Logger
	now     func() time.Time
	reach   *reach
	news    *newsroom

	plan atomic.Pointer[plan]
	turn sync.Mutex // held while plan is replaced, which waits for the disk
	grow sync.Mutex // held while routes are replaced; the intake waits for it

	retired sync.WaitGroup // lanes that were replaced and still have attempts under way
	ending  chan struct{}  // closed when attempts are to be cut short

	stop   chan struct{}
	keeper sync.WaitGroup // the housekeeping goroutine

	round   atomic.Pointer[time.Time] // since when it is on its round, nil when it rests
	overdue atomic.Int64              // what it found last, nanoseconds
}

// reach knows when any endpoint was last reached, in nanoseconds of the process's own clock.
type reach struct {
	at atomic.Pointer[time.Time]
}

func (r *reach) note(now time.Time) { r.at.Store(&now) }

func (r *reach) latest() time.Time {
	if at := r.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

const (
	// housekeeping is how often held deliveries are looked at for their age.
	housekeeping = 10 * time.Second
	// housekeepingBusy is the pause when some were too old: there may be more.
	housekeepingBusy = 50 * time.Millisecond
	// maxRoutes bounds the memory for event types that somebody may make up.
	maxRoutes = 4096
)

// plan is what one configuration came to. It is replaced as a whole; only routes grows.
type plan struct {
	lanes  []*Lane                                  // in the order of the configuration
	routes atomic.Pointer[map[string]queue.LaneSet] // by event type, copied when it grows
}

// NewPost finds or makes the lanes of the endpoints and starts delivering. version goes into User-Agent.
func NewPost(q *queue.Queue, endpoints []config.Endpoint, version string, log zerolog.Logger, now func() time.Time) (*Post, error) {
	if now == nil {
		now = time.Now
	}
	p := &Post{queue: q, version: version, log: log, now: now, reach: &reach{}, news: newNewsroom(), stop: make(chan struct{}), ending: make(chan struct{})}
	p.plan.Store(newPlan(nil))
	if err := p.Apply(endpoints); err != nil {
		return nil, err
	}
	p.keeper.Go(p.housekeep)
	return p, nil
}

func newPlan(lanes []*Lane) *plan {
	p := &plan{lanes: lanes}
	p.routes.Store(&map[string]queue.LaneSet{})
	return p
}

// Apply makes the endpoints the configured ones. An endpoint that did not change goes on untouched. One that did goes on
// with its new configuration; what it has under way ends as it began. After an error nothing was changed.
func (p *Post) Apply(endpoints []config.Endpoint) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	old := p.plan.Load()
	var lanes, fresh []*Lane
	for i := range endpoints {
		ep := &endpoints[i]
		if at := slices.IndexFunc(old.lanes, func(l *Lane) bool { return reflect.DeepEqual(l.endpoint, ep) }); at >= 0 {
			lanes = append(lanes, old.lanes[at])
			continue
		}
		kept, err := p.queue.Lane(ep.Name)
		if err != nil {
			return err
		}
		count := newTally()
		if at := slices.IndexFunc(old.lanes, func(l *Lane) bool { return l.endpoint.Name == ep.Name }); at >= 0 {
			count = old.lanes[at].tally
		}
		lane, err := newLane(ep, kept, p.version, p.reach, count, p.news, p.log, p.now)
		if err != nil {
			return fmt.Errorf("start endpoint %q: %w", ep.Name, err)
		}
		lanes, fresh = append(lanes, lane), append(fresh, lane)
	}
	for _, l := range old.lanes {
		if !slices.Contains(lanes, l) {
			p.retire(l)
		}
	}
	p.plan.Store(newPlan(lanes))
	for _, l := range fresh {
		l.start()
	}
	return nil
}

// retire ends a lane whose endpoint was removed or changed, without waiting for what it has under way.
func (p *Post) retire(l *Lane) {
	l.kept.OnReady(func() {})
	l.halt()
	p.retired.Go(func() { l.end(p.ending) })
}

func (p *Post) housekeep() {
	next := time.NewTimer(housekeeping)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			pause := housekeeping
			began := time.Now()
			p.round.Store(&began)
			p.feel(p.plan.Load().lanes)
			for _, l := range p.plan.Load().lanes {
				if l.expire(p.now()) > 0 {
					pause = housekeepingBusy
				}
			}
			p.round.Store(nil)
			next.Reset(pause)
		case <-p.stop:
			return
		}
	}
}

// Route says which lanes an event of this type goes to. The answer is remembered.
func (p *Post) Route(eventType []byte) queue.LaneSet {
	plan := p.plan.Load()
	if set, ok := (*plan.routes.Load())[string(eventType)]; ok {
		return set
	}
	var ids []queue.LaneID
	for _, l := range plan.lanes {
		if l.endpoint.Enabled && l.endpoint.Subscribes(string(eventType)) {
			ids = append(ids, l.kept.ID())
		}
	}
	set := queue.NewLaneSet(ids...)
	p.grow.Lock()
	defer p.grow.Unlock()
	old := *plan.routes.Load()
	if len(old) < maxRoutes {
		routes := maps.Clone(old)
		routes[string(eventType)] = set
		plan.routes.Store(&routes)
	}
	return set
}

// Subscribers names the endpoints that events of this type are for.
func (p *Post) Subscribers(eventType string) (names []string) {
	for _, l := range p.plan.Load().lanes {
		if l.endpoint.Enabled && l.endpoint.Subscribes(eventType) {
			names = append(names, l.endpoint.Name)
		}
	}
	return names
}

// Lane returns the lane of an endpoint, nil when none of that name is configured.
func (p *Post) Lane(name string) *Lane {
	for _, l := range p.plan.Load().lanes {
		if l.endpoint.Name == name {
			return l
		}
	}
	return nil
}

// Endpoints are the configured endpoints, in order. They are shared and must not be written to.
func (p *Post) Endpoints() []*config.Endpoint {
	lanes := p.plan.Load().lanes
	list := make([]*config.Endpoint, len(lanes))
	for i, l := range lanes {
		list[i] = l.endpoint
	}
	return list
}

// Stop ends delivering: attempts under way may end until ctx is done, then they are cut short and put back. It is called
// once, when no Apply is under way.
func (p *Post) Stop(ctx context.Context) {
	close(p.stop)
	p.keeper.Wait()
	for _, l := range p.plan.Load().lanes {
		p.retire(l)
	}
	ended := make(chan struct{})
	go func() {
		p.retired.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		close(p.ending)
		<-ended
	}
}
