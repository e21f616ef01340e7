package delivery

import (
	"maps"
	"sync/atomic"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

// maxRoutes bounds the memory for event types, which a source may invent.
const maxRoutes = 4096

// routingTable is what follows from one configuration. It is replaced as a whole; only routes grows.
type routingTable struct {
	lanes     []*Lane                                  // in the order of the configuration
	endpoints []*config.Endpoint                       // theirs
	routes    atomic.Pointer[map[string]queue.LaneSet] // by event type, copied when it grows
}

func newRoutingTable(lanes []*Lane, endpoints []*config.Endpoint) *routingTable {
	t := &routingTable{lanes: lanes, endpoints: endpoints}
	t.routes.Store(&map[string]queue.LaneSet{})
	return t
}

// Route returns the lanes that events of this type go to. It remembers the answer; for a known type it takes no lock and allocates
// nothing.
func (d *Dispatcher) Route(eventType []byte) queue.LaneSet {
	table := d.table.Load()
	if set, ok := (*table.routes.Load())[string(eventType)]; ok {
		return set
	}
	var ids []queue.LaneID
	for i, ep := range table.endpoints {
		if ep.Enabled && ep.Subscribes(string(eventType)) {
			ids = append(ids, table.lanes[i].queueLane.ID())
		}
	}
	set := queue.NewLaneSet(ids...)
	d.routesMu.Lock()
	defer d.routesMu.Unlock()
	old := *table.routes.Load()
	if len(old) < maxRoutes {
		routes := maps.Clone(old)
		routes[string(eventType)] = set
		table.routes.Store(&routes)
	}
	return set
}

// Subscribers returns the names of the endpoints that events of this type are for.
func (d *Dispatcher) Subscribers(eventType string) (names []string) {
	for _, ep := range d.table.Load().endpoints {
		if ep.Enabled && ep.Subscribes(eventType) {
			names = append(names, ep.Name)
		}
	}
	return names
}

// Lane returns the lane of an endpoint, nil when none of that name is configured. It takes no lock.
func (d *Dispatcher) Lane(name string) *Lane {
	for _, l := range d.table.Load().lanes {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Endpoints returns the configured endpoints, in order. They are shared and must not be written to.
func (d *Dispatcher) Endpoints() []*config.Endpoint { return d.table.Load().endpoints }
