package delivery

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/sign"
)

const patience = 30 * time.Second // for what happens at once on a machine with nothing else to do

// harness is a queue in a temporary folder and the dispatcher that delivers from it, with a clock that can leap.
type harness struct {
	*queue.Queue
	t          *testing.T
	dispatcher *Dispatcher
	dir        string
	leap       atomic.Int64
	keep       struct{ retention, unserved time.Duration } // by the queue; zero: 1000 h, for ever

	fault  func(place string, made bool) error // of the queue
	filled int

	rateBytes int64 // of the dispatcher
}

func openHarness(t *testing.T, endpoints ...config.Endpoint) *harness {
	t.Helper()
	d := &harness{t: t, dir: filepath.Join(t.TempDir(), "data")}
	d.open(endpoints...)
	t.Cleanup(d.close)
	return d
}

func (d *harness) now() time.Time { return time.Now().Add(time.Duration(d.leap.Load())) }

func (d *harness) open(endpoints ...config.Endpoint) {
	d.t.Helper()
	var err error
	d.Queue, err = queue.Open(queue.Options{
		Dir: d.dir, DedupWindow: time.Hour, Retention: cmp.Or(d.keep.retention, 1000*time.Hour), FailedRetention: 1000 * time.Hour, Now: d.now,
		UnservedRetention: d.keep.unserved,
	}.WithFault(d.fault))
	if err != nil {
		d.t.Fatal(err)
	}
	if d.dispatcher, err = NewDispatcher(d.Queue, endpoints, d.rateBytes, "1.2.3", zerolog.Nop(), client.Machine{Now: d.now}); err != nil {
		d.t.Fatal(err)
	}
}

// close cuts short whatever is under way.
func (d *harness) close() {
	if d.dispatcher == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.stop(ctx)
}

func (d *harness) stop(ctx context.Context) {
	d.t.Helper()
	d.dispatcher.Stop(ctx)
	d.dispatcher = nil
	if err := d.Close(); err != nil {
		d.t.Error(err)
	}
}

// accept stores events of a type, for those who subscribed to it.
func (d *harness) accept(eventType string, ids ...string) {
	d.t.Helper()
	events := make([]queue.Event, len(ids))
	for i, id := range ids {
		body := fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2024-01-15T10:30:00Z","data":{}}`, id, eventType)
		events[i] = queue.Event{ID: []byte(id), Type: []byte(eventType), Body: []byte(body), Lanes: d.dispatcher.Route([]byte(eventType), []byte(body))}
	}
	if err := d.Append("platform", events, make([]queue.Receipt, len(ids))); err != nil {
		d.t.Fatal(err)
	}
}

func (d *harness) status(name string) Status {
	d.t.Helper()
	for _, s := range d.dispatcher.Statuses() {
		if s.Name == name {
			return s
		}
	}
	d.t.Fatalf("no status of %q", name)
	return Status{}
}

// until waits for an endpoint to be as wanted.
func (d *harness) until(name, what string, wanted func(Status) bool) {
	d.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		s := d.status(name)
		if wanted(s) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			d.t.Fatalf("endpoint %q did not come to be %s: %+v", name, what, s)
		}
	}
}

func settled(s Status) bool { return s.Pending+s.Retrying == 0 }

// skip lets the clock leap and has the lanes look at it.
func (d *harness) skip(by time.Duration) {
	d.leap.Add(int64(by))
	for _, l := range d.dispatcher.table.Load().lanes {
		l.wakeSender()
	}
}

// mustHold fails if the lane would attempt anything now.
func (d *harness) mustHold(name string) {
	d.t.Helper()
	l := d.dispatcher.Lane(name)
	for l.mu.Lock(); !l.askingSince.IsZero(); l.mu.Lock() { // one asks at a time
		l.mu.Unlock()
		<-time.After(time.Millisecond)
	}
	defer l.mu.Unlock()
	taken, _, _ := l.nextLocked()
	l.wakeSender() // for whoever came meanwhile
	if taken != nil {
		d.t.Errorf("endpoint %q: event %s is attempted although it has to wait", name, taken.Event.ID)
	}
}

// subscriber is an endpoint for everything, with four attempts at a time and one retry after an hour.
func subscriber(name, url string) config.Endpoint {
	return config.Endpoint{
		Name: name, URL: config.NewURL(url), Enabled: true, Events: []string{"*"},
		Secret: sign.NewSecret("example-secret"), Signatures: []string{"realtorbot"},
		// The timeout is for attempts that are to end by themselves, also on a busy machine.
		Delivery: config.Delivery{Timeout: 10 * time.Second, Concurrency: 4, Retry: []time.Duration{time.Hour}, MaxAge: 72 * time.Hour},
	}
}

func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("evt_%04d", i)
	}
	return ids
}
