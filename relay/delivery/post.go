package delivery

import (
	"context"
	"errors"
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
	"realtorbot-relay/relay/delivery/client"
)

// Post is all lanes together. All methods are safe for concurrent use.
type Post struct {
	queue   *queue.Queue
	version string
	log     zerolog.Logger
	now     func() time.Time
	reach   *reach
	probes  *probes
	places  *places
	starts  *starts
	uplink  *uplink
	letters *letters
	news    *newsroom

	plan  atomic.Pointer[plan]
	turn  sync.Mutex       // held while plan is replaced or a lane given up, which waits for the disk
	lanes map[string]*Lane // of every name that was configured since the start and not given up; under turn
	grow  sync.Mutex       // held while routes are replaced; the intake waits for it

	ending chan struct{} // closed when attempts are to be cut short

	stop   chan struct{}
	keeper sync.WaitGroup // the housekeeping goroutine

	round   atomic.Pointer[time.Time] // since when it is on its round, nil when it rests
	overdue atomic.Int64              // what it found last, nanoseconds
}

// reach knows when any endpoint was last reached, and since when none can be for want of a network.
type reach struct {
	at   atomic.Pointer[time.Time]
	dark atomic.Pointer[time.Time] // when that was found; nil when it is not so
}

func (r *reach) note(now time.Time) {
	r.at.Store(&now)
	if r.dark.Load() != nil {
		r.dark.Store(nil)
	}
}

// lost is told of an attempt that found no network.
func (r *reach) lost(now time.Time) { r.dark.CompareAndSwap(nil, &now) }

// hears reports whether silence at an attempt begun at says something of its endpoint. While there is no network it says nothing
// of one that may have gone out on a connection of the time before; a new one comes to nothing at once. since is since when there
// is none.
func (r *reach) hears(at time.Time) (since time.Time, hears bool) {
	dark := r.dark.Load()
	if dark == nil || at.Sub(*dark) > client.IdleTimeout {
		return time.Time{}, true
	}
	return *dark, false
}

func (r *reach) latest() time.Time {
	if at := r.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

const (
	// housekeeping is how often held deliveries are looked at for their age.
	housekeeping = 10 * time.Second
	// maxRoutes bounds the memory for event types that somebody may make up.
	maxRoutes = 4096
)

// plan is what one configuration came to. It is replaced as a whole; only routes grows.
type plan struct {
	lanes     []*Lane                                  // in the order of the configuration
	endpoints []*config.Endpoint                       // theirs
	routes    atomic.Pointer[map[string]queue.LaneSet] // by event type, copied when it grows
}

// NewPost finds or makes the lanes of the endpoints and starts delivering, at most rateBytes of bodies a second unless that is
// 0. version goes into User-Agent.
func NewPost(q *queue.Queue, endpoints []config.Endpoint, rateBytes int64, version string, log zerolog.Logger, now func() time.Time) (*Post, error) {
	if now == nil {
		now = time.Now
	}
	p := &Post{queue: q, version: version, log: log, now: now, reach: &reach{}, probes: &probes{}, places: newPlaces(), starts: newStarts(),
		uplink: newUplink(rateBytes, now), letters: newLetters(), news: newNewsroom(),
		lanes: map[string]*Lane{}, stop: make(chan struct{}), ending: make(chan struct{})}
	p.plan.Store(newPlan(nil, nil))
	if err := p.Apply(endpoints); err != nil {
		return nil, err
	}
	p.keeper.Go(p.housekeep)
	go p.postLetters()
	return p, nil
}

func newPlan(lanes []*Lane, endpoints []*config.Endpoint) *plan {
	p := &plan{lanes: lanes, endpoints: endpoints}
	p.routes.Store(&map[string]queue.LaneSet{})
	return p
}

// ErrNoLane: the queue could not make the place of an endpoint. What it says beside that is for the log.
var ErrNoLane = errors.New("a new endpoint could not be given its place in the queue")

// Apply makes the endpoints the configured ones. An endpoint that did not change goes on untouched. The lane of one that
// did goes on with its new configuration; what it has under way ends as it began. After an error nothing was changed.
func (p *Post) Apply(endpoints []config.Endpoint) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	lanes, order := make([]*Lane, len(endpoints)), make([]*config.Endpoint, len(endpoints))
	courses := make([]*course, len(endpoints)) // nil for an endpoint that did not change
	undo := func(err error) error {
		for _, c := range courses {
			if c != nil {
				c.client.Close()
			}
		}
		return err
	}
	for i := range endpoints {
		ep := &endpoints[i]
		order[i] = ep
		lanes[i] = p.lanes[ep.Name]
		if l := lanes[i]; l != nil && l.endpoint() != nil && reflect.DeepEqual(l.endpoint(), ep) {
			order[i] = l.endpoint()
			continue
		}
		if lanes[i] == nil {
			kept, err := p.queue.Lane(ep.Name)
			if err != nil {
				return undo(fmt.Errorf("%w: %w", ErrNoLane, err))
			}
			lanes[i] = p.newLane(kept)
		}
		c, err := client.New(ep, p.version, p.now, &lanes[i].tally.skew)
		if err != nil {
			return undo(fmt.Errorf("start endpoint %q: %w", ep.Name, err))
		}
		courses[i] = &course{endpoint: ep, client: c}
	}
	for _, l := range p.plan.Load().lanes {
		if !slices.Contains(lanes, l) {
			l.leave()
		}
	}
	p.plan.Store(newPlan(lanes, order))
	for _, l := range lanes {
		p.lanes[l.name] = l
	}
	p.expectLetters()
	for i, l := range lanes {
		if courses[i] != nil {
			l.follow(courses[i])
		}
	}
	p.queue.Serve(enabled(order))
	return nil
}

// enabled names the endpoints that are delivered to.
func enabled(endpoints []*config.Endpoint) (names []string) {
	for _, ep := range endpoints {
		if ep.Enabled {
			names = append(names, ep.Name)
		}
	}
	return names
}

// ErrConfigured: what an endpoint holds can be given up only once it is not configured any more.
var ErrConfigured = errors.New("the endpoint is configured")

// GiveUp deletes what is left of an endpoint that is not configured any more, for good, and returns what that was. It takes
// turns with Apply: either the name is configured, and ErrConfigured says so, or what comes under it later is new. What was
// still under way is cut short. found is false when nothing is left of the name.
func (p *Post) GiveUp(name string) (left queue.LaneStats, found bool, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.Lane(name) != nil {
		return left, true, ErrConfigured
	}
	kept := p.queue.Lanes()
	at := slices.IndexFunc(kept, func(l *queue.Lane) bool { return l.Name() == name })
	if at < 0 {
		return left, false, nil
	}
	if l := p.lanes[name]; l != nil {
		now := make(chan struct{})
		close(now)
		l.end(now)
		delete(p.lanes, name)
	}
	left = kept[at].Stats()
	return left, true, p.queue.GiveUp(kept[at])
}

func (p *Post) housekeep() {
	next := time.NewTimer(housekeeping)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			began := time.Now()
			p.round.Store(&began)
			lanes := p.plan.Load().lanes
			p.feel(lanes)
			for _, l := range lanes {
				select {
				case <-p.stop:
					return
				default:
				}
				l.look(p.now())
				l.age()
			}
			p.round.Store(nil)
			next.Reset(housekeeping)
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
	for i, ep := range plan.endpoints {
		if ep.Enabled && ep.Subscribes(string(eventType)) {
			ids = append(ids, plan.lanes[i].kept.ID())
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
	for _, ep := range p.plan.Load().endpoints {
		if ep.Enabled && ep.Subscribes(eventType) {
			names = append(names, ep.Name)
		}
	}
	return names
}

// Lane returns the lane of an endpoint, nil when none of that name is configured.
func (p *Post) Lane(name string) *Lane {
	for _, l := range p.plan.Load().lanes {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Endpoints are the configured endpoints, in order. They are shared and must not be written to.
func (p *Post) Endpoints() []*config.Endpoint { return p.plan.Load().endpoints }

// Stop ends delivering: attempts under way may end until ctx is done, then they are cut short and put back. It is called
// once, when no Apply is under way.
func (p *Post) Stop(ctx context.Context) {
	close(p.stop)
	close(p.letters.stop)
	p.keeper.Wait()
	p.turn.Lock()
	defer p.turn.Unlock()
	var lanes sync.WaitGroup
	for _, l := range p.lanes {
		l.halt()
		lanes.Go(func() { l.end(p.ending) })
	}
	ended := make(chan struct{})
	go func() {
		lanes.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		close(p.ending)
		<-ended
	}
	// Who makes letters may wait for a disk, and is waited for by the queue when that is closed.
	select {
	case <-p.letters.done:
	case <-ctx.Done():
	}
}
