package delivery

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

// maxRoutes bounds the memory for event types, which a source may invent.
const maxRoutes = 4096

// routingTable is what follows from one configuration. It is replaced as a whole; only routes grows.
type routingTable struct {
	queue     *queue.Queue
	lanes     []*Lane            // in the order of the configuration
	endpoints []*config.Endpoint // theirs
	places    map[string]int     // of both, by name
	everybody []int              // places of the endpoints that are enabled and take everybody's events
	index     *match.Index       // of the enabled endpoints that take some accounts' alone, by their places; nil without any
	theirs    []theirs           // of each endpoint in the index, by its place
	lists     []*config.Endpoint // one of those in the index for each list of events that they subscribe to

	growing sync.Mutex                       // held while routes is replaced; the intake waits for it
	routes  atomic.Pointer[map[string]route] // by event type, copied when it grows
}

// theirs is what routing asks of an endpoint that takes some accounts' events alone, in one place of memory: of ten thousand, hardly one
// is in a processor's cache.
type theirs struct {
	alone queue.LaneSet // of its lane alone
	lane  queue.LaneID
	list  uint32 // of lists
}

// route is where everybody's events of a type go, and which lists have the type.
type route struct {
	lanes []queue.LaneID
	set   queue.LaneSet
	lists uint64 // a bit for each of the first of them
}

// listBits is of how many lists a route knows whether they have its type.
const listBits = 64

func newRoutingTable(q *queue.Queue, lanes []*Lane, endpoints []*config.Endpoint) *routingTable {
	t := &routingTable{queue: q, lanes: lanes, endpoints: endpoints, places: make(map[string]int, len(endpoints))}
	t.routes.Store(&map[string]route{})
	rules := make([]match.Rule, len(endpoints))
	for i, ep := range endpoints {
		t.places[ep.Name] = i
		switch {
		case !ep.Enabled:
		case len(ep.Match) == 0:
			t.everybody = append(t.everybody, i)
		default:
			rules[i] = ep.Match
		}
	}
	if t.index = match.NewIndex(rules); t.index != nil {
		t.theirs = make([]theirs, len(lanes))
		known := map[string]uint32{}
		for i, rule := range rules {
			if len(rule) == 0 {
				continue
			}
			key := strings.Join(endpoints[i].Events, "\n")
			list, ok := known[key]
			if !ok {
				list = uint32(len(t.lists))
				known[key], t.lists = list, append(t.lists, endpoints[i])
			}
			id := lanes[i].queueLane.ID()
			t.theirs[i] = theirs{queue.NewLaneSet(id), id, list}
		}
	}
	return t
}

// laneOf is the lane of an endpoint, nil when none of that name is configured.
func (t *routingTable) laneOf(name string) *Lane {
	if at, ok := t.places[name]; ok {
		return t.lanes[at]
	}
	return nil
}

// Members are those of an event that decide where it goes.
func (t *routingTable) Members() *match.Members { return t.index.Members() }

// Route returns the lanes that an event goes to, of which this was found of the Members. What it costs does not depend on how many
// endpoints take other accounts' events. For a known type, of which one account's endpoint or everybody's take the event, it takes no
// lock and allocates nothing.
func (t *routingTable) Route(eventType []byte, found *match.Found) queue.LaneSet {
	all, ok := (*t.routes.Load())[string(eventType)]
	if !ok {
		all = t.add(string(eventType))
	}
	if t.index == nil {
		return all.set
	}
	var room [32]int32
	list := t.index.Find(found, room[:0])
	n := 0
	for _, i := range list {
		if t.takes(&all, t.theirs[i].list, eventType) {
			list[n] = i
			n++
		}
	}
	switch {
	case n == 0:
		return all.set
	case n == 1 && len(all.lanes) == 0:
		return t.theirs[list[0]].alone
	}
	lanes := make([]queue.LaneID, 0, len(all.lanes)+n)
	lanes = append(lanes, all.lanes...)
	for _, i := range list[:n] {
		lanes = append(lanes, t.theirs[i].lane)
	}
	return queue.NewLaneSet(lanes...)
}

// Words appends by which members an event is found of which this was read.
func (t *routingTable) Words(dst queue.Words, found *match.Found) queue.Words {
	m := t.Members()
	for i := range m.LookUps() {
		path, value := m.LookUp(found, i)
		dst = t.queue.Words(dst, path, value)
	}
	return dst
}

// takes reports whether a list of events has the type of a route.
func (t *routingTable) takes(r *route, list uint32, eventType []byte) bool {
	if list < listBits {
		return r.lists&(1<<list) != 0
	}
	return t.lists[list].Subscribes(string(eventType))
}

// add works out where everybody's events of a type go, and remembers it while there is room.
func (t *routingTable) add(eventType string) (r route) {
	for _, i := range t.everybody {
		if t.endpoints[i].Subscribes(eventType) {
			r.lanes = append(r.lanes, t.lanes[i].queueLane.ID())
		}
	}
	r.set = queue.NewLaneSet(r.lanes...)
	for i, ep := range t.lists[:min(len(t.lists), listBits)] {
		if ep.Subscribes(eventType) {
			r.lists |= 1 << i
		}
	}
	t.growing.Lock()
	defer t.growing.Unlock()
	if old := *t.routes.Load(); len(old) < maxRoutes {
		routes := maps.Clone(old)
		routes[eventType] = r
		t.routes.Store(&routes)
	}
	return r
}

// Routes is where events go.
type Routes interface {
	Members() *match.Members
	Route(eventType []byte, found *match.Found) queue.LaneSet
	Words(dst queue.Words, found *match.Found) queue.Words
}

// Routes returns where events go as the endpoints are now. It takes no lock.
func (d *Dispatcher) Routes() Routes { return d.table.Load() }

// Route returns the lanes that an event goes to now. body is in canonical form.
func (d *Dispatcher) Route(eventType, body []byte) queue.LaneSet {
	table := d.table.Load()
	var found match.Found
	table.Members().Read(body, &found)
	return table.Route(eventType, &found)
}

// Words returns by which members an event is found. body is in canonical form.
func (d *Dispatcher) Words(body []byte) queue.Words {
	table := d.table.Load()
	var found match.Found
	table.Members().Read(body, &found)
	return table.Words(nil, &found)
}

// Subscribers returns the names of the endpoints that an event is for, whose body is in canonical form.
func (d *Dispatcher) Subscribers(eventType string, body []byte) (names []string) {
	endpoints := d.table.Load().endpoints
	candidate := config.NewCandidate(endpoints, eventType, body)
	for _, ep := range endpoints {
		if reason, _ := ep.NotFor(candidate); reason == "" {
			names = append(names, ep.Name)
		}
	}
	return names
}

// Lane returns the lane of an endpoint, nil when none of that name is configured. It takes no lock.
func (d *Dispatcher) Lane(name string) *Lane { return d.table.Load().laneOf(name) }

// Endpoints returns the configured endpoints, in order. They are shared and must not be written to.
func (d *Dispatcher) Endpoints() []*config.Endpoint { return d.table.Load().endpoints }
