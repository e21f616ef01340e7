package delivery

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/match"
)

// Dispatcher starts and stops the lanes, says which of them an event is for, and holds what they share. All methods are safe for
// concurrent use.
type Dispatcher struct {
	queue       *queue.Queue
	version     string
	log         zerolog.Logger
	machine     client.Machine
	now         func() time.Time // the machine's
	network     *network
	probes      *probeBudget
	budget      *memoryBudget
	silent      *silentLanes
	uplink      *uplink
	deadLetters *deadLetters
	reports     *reports

	table    atomic.Pointer[routingTable]
	applying sync.Mutex       // held by Apply, Discard and Stop, one at a time; the first two wait for the disk. Who looks, delivers or accepts does not take it
	lanes    map[string]*Lane // of every name that was configured since the start and not discarded; under applying

	cutShort chan struct{} // closed when attempts are to be cut short

	stop        chan struct{}
	housekeeper sync.WaitGroup // the housekeeping goroutine

	roundBegan atomic.Pointer[time.Time] // when its round began, nil between rounds
	overdue    atomic.Int64              // what the last round found, nanoseconds
}

// housekeepingEvery is the time between two housekeeping rounds.
const housekeepingEvery = 10 * time.Second

// NewDispatcher finds or makes the lanes of the endpoints and starts delivering; rateBytes bounds the bytes of bodies that all of
// them together send a second, 0 for no bound. version goes into User-Agent. It writes to disk for each endpoint that is new.
func NewDispatcher(q *queue.Queue, endpoints []config.Endpoint, rateBytes int64, version string, log zerolog.Logger, m client.Machine) (*Dispatcher, error) {
	if m.Now == nil {
		m.Now = time.Now
	}
	d := &Dispatcher{queue: q, version: version, log: log, machine: m, now: m.Now, network: &network{}, probes: &probeBudget{}, budget: newMemoryBudget(), silent: newSilentLanes(),
		uplink: newUplink(rateBytes, m.Now), deadLetters: newDeadLetters(), reports: newReports(),
		lanes: map[string]*Lane{}, stop: make(chan struct{}), cutShort: make(chan struct{})}
	d.table.Store(newRoutingTable(q, nil, nil))
	if err := d.Apply(endpoints); err != nil {
		return nil, err
	}
	d.housekeeper.Go(d.housekeep)
	go d.writeDeadLetters()
	return d, nil
}

// ErrNoLane: the queue could not make the lane of a new endpoint. The error that it wraps is for the log.
var ErrNoLane = errors.New("a new endpoint could not be given its place in the queue")

// Apply makes these the configured endpoints. An endpoint that did not change goes on untouched. The lane of one that did change
// goes on with its new configuration, and its attempts under way end with the old one. After an error nothing was changed, and no new
// endpoint has a place in the queue. Apply writes to disk where endpoints are new, and waits for other calls of it and of Discard; nobody
// else waits for it.
func (d *Dispatcher) Apply(endpoints []config.Endpoint) error {
	d.applying.Lock()
	defer d.applying.Unlock()
	lanes, order := make([]*Lane, len(endpoints)), make([]*config.Endpoint, len(endpoints))
	generations := make([]*generation, len(endpoints)) // nil for an endpoint that did not change
	tallies := make([]*tally, len(endpoints))          // theirs
	undo := func(err error) error {
		for _, g := range generations {
			if g != nil {
				g.client.Close()
			}
		}
		return err
	}
	for i := range endpoints {
		ep := &endpoints[i]
		order[i] = ep
		lanes[i] = d.lanes[ep.Name]
		if l := lanes[i]; l != nil && l.endpoint() != nil && reflect.DeepEqual(l.endpoint(), ep) {
			order[i] = l.endpoint()
			continue
		}
		if tallies[i] = newTally(); lanes[i] != nil {
			tallies[i] = lanes[i].tally
		}
		c, err := client.New(ep, d.version, d.machine, &tallies[i].skew)
		if err != nil {
			return undo(fmt.Errorf("start endpoint %q: %w", ep.Name, err))
		}
		generations[i] = &generation{endpoint: ep, client: c, judge: match.NewJudge(ep.Match)}
	}
	if err := d.makeLanes(endpoints); err != nil {
		return undo(err)
	}
	// From here on nothing fails.
	for i, ep := range order {
		if lanes[i] == nil {
			lanes[i] = d.newLane(d.queue.Find(ep.Name), tallies[i])
		}
	}
	fresh := newRoutingTable(d.queue, lanes, order)
	for _, l := range d.table.Load().lanes {
		if fresh.laneOf(l.name) != l {
			l.unconfigure()
		}
	}
	// An event that is routed by the new table must not be judged by an old match, nor go to an old url.
	for i, l := range lanes {
		if generations[i] != nil {
			l.hold()
		}
	}
	d.table.Store(fresh)
	for _, l := range lanes {
		d.lanes[l.name] = l
	}
	d.configureDeadLetters()
	for i, l := range lanes {
		if generations[i] != nil {
			l.configure(generations[i])
		}
	}
	d.queue.SetServed(enabledNames(order))
	return nil
}

// makeLanes makes those lanes of endpoints in the queue that do not exist, in one commit.
func (d *Dispatcher) makeLanes(endpoints []config.Endpoint) error {
	names := make([]string, len(endpoints))
	for i := range endpoints {
		names[i] = endpoints[i].Name
	}
	if err := d.queue.MakeLanes(names); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLane, err)
	}
	return nil
}

// enabledNames returns the names of the endpoints that are delivered to.
func enabledNames(endpoints []*config.Endpoint) (names []string) {
	for _, ep := range endpoints {
		if ep.Enabled {
			names = append(names, ep.Name)
		}
	}
	return names
}

// ErrConfigured: what an endpoint holds can't be discarded while the endpoint is configured.
var ErrConfigured = errors.New("the endpoint is configured")

// Discard deletes for good what is left of an endpoint that is not configured any more, and returns what that was. It cuts short
// the attempts that are still under way. found is false when nothing is left under the name. Discard and Apply exclude each
// other: either the name is configured, and Discard returns ErrConfigured, or an endpoint that gets the name later has a new lane.
// Discard writes to disk.
func (d *Dispatcher) Discard(name string) (left queue.LaneStats, found bool, err error) {
	d.applying.Lock()
	defer d.applying.Unlock()
	if d.Lane(name) != nil {
		return left, true, ErrConfigured
	}
	lane := d.queue.Find(name)
	if lane == nil {
		return left, false, nil
	}
	if l := d.lanes[name]; l != nil {
		atOnce := make(chan struct{})
		close(atOnce)
		l.waitEnded(atOnce)
		delete(d.lanes, name)
	}
	left = lane.Stats()
	return left, true, d.queue.Discard(lane)
}

// housekeep is the housekeeping goroutine. It waits for no disk: where something has to be read, a sender of the lane does it.
func (d *Dispatcher) housekeep() {
	next := time.NewTimer(housekeepingEvery)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			began := time.Now()
			d.roundBegan.Store(&began)
			lanes := d.table.Load().lanes
			d.checkLanes(lanes)
			for _, l := range lanes {
				select {
				case <-d.stop:
					return
				default:
				}
				l.reportLasting(d.now())
				l.requestExpiry()
			}
			d.roundBegan.Store(nil)
			next.Reset(housekeepingEvery)
		case <-d.stop:
			return
		}
	}
}

// Stop ends delivering. Attempts under way may end until ctx is done; then they are cut short and put back, so that they are made
// again after the next start. It is called once, when no Apply is under way, and the queue must be closed after it only.
func (d *Dispatcher) Stop(ctx context.Context) {
	close(d.stop)
	close(d.deadLetters.stop)
	d.housekeeper.Wait()
	d.applying.Lock()
	defer d.applying.Unlock()
	var lanes sync.WaitGroup
	for _, l := range d.lanes {
		l.halt()
		lanes.Go(func() { l.waitEnded(d.cutShort) })
	}
	ended := make(chan struct{})
	go func() {
		lanes.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		close(d.cutShort)
		<-ended
	}
	// The goroutine that writes dead letters may wait for the disk; the queue waits for it when it is closed.
	select {
	case <-d.deadLetters.done:
	case <-ctx.Done():
	}
}
