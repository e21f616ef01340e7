package delivery

import (
	"fmt"
	"testing"

	"realtorbot-relay/relay/config"
)

func TestRouteFollowsSubscriptions(t *testing.T) {
	url, _ := quickReceiver(t, well)
	leads, all, off := subscriber("leads", url), subscriber("all", url), subscriber("off", url)
	leads.Events, off.Enabled = []string{"lead.*", "appointment.scheduled"}, false
	d := openHarness(t, leads, all, off)
	for eventType, want := range map[string]int{
		"lead.created": 2, "lead.scored": 2, "appointment.scheduled": 2, "appointment.cancelled": 1, "email.sent": 1,
	} {
		for range 2 { // the second answer is remembered
			set := d.dispatcher.Route([]byte(eventType), nil)
			if set.Len() != want || set.Has(d.dispatcher.Lane("off").queueLane.ID()) || !set.Has(d.dispatcher.Lane("all").queueLane.ID()) {
				t.Errorf("%s goes to %d endpoints, want %d", eventType, set.Len(), want)
			}
		}
	}
	if err := d.dispatcher.Apply([]config.Endpoint{leads}); err != nil {
		t.Fatal(err)
	}
	if n := d.dispatcher.Route([]byte("email.sent"), nil).Len(); n != 0 {
		t.Errorf("after the reload email.sent goes to %d endpoints, want 0", n)
	}
}

func TestInventedTypesDoNotFillMemory(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	routes := map[string]route{}
	for i := range maxRoutes {
		routes[fmt.Sprintf("lead.type%d", i)] = route{}
	}
	table := d.dispatcher.table.Load()
	table.routes.Store(&routes)
	if set := d.dispatcher.Route([]byte("lead.one_more"), nil); set.Len() != 1 {
		t.Errorf("goes to %d endpoints, want 1", set.Len())
	}
	if n := len(*table.routes.Load()); n != maxRoutes {
		t.Errorf("%d types are remembered, want at most %d", n, maxRoutes)
	}
}

func TestRouteOfAKnownTypeDoesNotAllocate(t *testing.T) {
	url, _ := quickReceiver(t, well)
	d := openHarness(t, subscriber("crm", url))
	eventType := []byte("lead.created")
	d.dispatcher.Route(eventType, nil)
	if n := testing.AllocsPerRun(100, func() { d.dispatcher.Route(eventType, nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
