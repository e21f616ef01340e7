package alert

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
)

// Alerter raises alerts. Run is its one goroutine; Raised and UntilLow may be called from any.
type Alerter struct {
	Queue      *queue.Queue
	Dispatcher *delivery.Dispatcher
	Own        func() []Certificate // those of the relay's listeners; asked for once a minute
	Log        zerolog.Logger

	host   string
	gather map[string]time.Time // by endpoint: until when its failures are gathered
	isLow  bool                 // the disk, as it was told last
	ending map[string]time.Time // by certificate: when it was told last
	looked time.Time            // at the certificates
	unsent []alert              // which the queue did not take yet

	expired   int64            // what the queue had counted at the last look
	expiredOf map[string]int64 // of that, by lane
	forecast  forecast

	mu     sync.Mutex
	raised map[string]int64
}

const (
	// lookEvery is how often the alerter checks what does not report by itself.
	lookEvery = time.Second
	// gatherFor is the least time between two relay.delivery.failed of one endpoint.
	gatherFor = time.Minute
	// maxUnsent bounds the alerts that wait for the queue; older ones give way.
	maxUnsent = 256
)

// LowDiskLimit is the free disk, in bytes, below which relay.disk.low is raised: a quarter above what the queue needs. It is ok
// again a quarter higher still, so that a disk at the limit is not told of all the time.
func LowDiskLimit(s queue.Stats) int64 { return s.MinFree + s.MinFree/4 }

func okDiskLimit(s queue.Stats) int64 { return s.MinFree + s.MinFree/2 }

// Run raises alerts until ctx is done. Each waits for the queue to have it on disk, and no lock is held meanwhile.
func (d *Alerter) Run(ctx context.Context) {
	d.host, _ = os.Hostname() // empty when it can't be told
	d.gather, d.ending = map[string]time.Time{}, map[string]time.Time{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		d.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-d.Dispatcher.TransitionsReady():
		case <-tick.C:
		}
	}
}

// look raises what there is to raise.
func (d *Alerter) look(ctx context.Context, now time.Time) {
	for _, n := range d.Dispatcher.TakeTransitions() {
		kind, data := ofTransition(n)
		d.raise(kind, n.At, data)
	}
	d.lookAtExpired()
	for _, f := range d.Dispatcher.TakeFailures(func(endpoint string) bool { return !now.Before(d.gather[endpoint]) }) {
		d.gather[f.Endpoint] = now.Add(gatherFor)
		d.raise(config.AlertDeliveryFailed, now, ofFailures(f))
	}
	d.lookAtDisk(now)
	if now.Sub(d.looked) >= certificatesEvery {
		d.looked = now
		d.checkCertificates(now)
	}
	d.send(ctx)
}

// lookAtExpired adds to the failures what became failed because nobody serves its lane: that is the queue's doing, and no lane
// of the dispatcher takes part.
func (d *Alerter) lookAtExpired() {
	all := d.Queue.Stats().Expired
	if all == d.expired {
		return
	}
	d.expired = all
	was := d.expiredOf
	d.expiredOf = map[string]int64{}
	for _, lane := range d.Queue.Lanes() {
		n := lane.Stats().Expired
		if n == 0 {
			continue
		}
		name := lane.Name()
		d.expiredOf[name] = n
		if more := n - was[name]; more > 0 { // less: what was left was discarded, and the name is used again
			d.Dispatcher.ReportUnserved(name, more)
		} else if more < 0 {
			d.Dispatcher.ReportUnserved(name, n)
		}
	}
}

func (d *Alerter) lookAtDisk(now time.Time) {
	s := d.Queue.Stats()
	if s.FreeDisk >= 0 {
		d.forecast.note(now, s.FreeDisk)
	}
	var lack *queue.Shortage
	_ = errors.As(d.Queue.Ready(), &lack) // nil: it lacks nothing
	if lack != nil && lack.Resource != "bytes" {
		if !d.isLow {
			d.isLow = true
			data := ofDisk(config.AlertDiskLow, s.FreeDisk, s.MinFree)
			data.Message = "events are refused: " + lack.Error()
			d.raise(config.AlertDiskLow, now, data)
		}
		return
	}
	switch {
	case s.FreeDisk < 0 || s.MinFree == 0: // unknown, or there is no limit
	case !d.isLow && s.FreeDisk < LowDiskLimit(s):
		d.isLow = true
		d.raise(config.AlertDiskLow, now, ofDisk(config.AlertDiskLow, s.FreeDisk, s.MinFree))
	case d.isLow && s.FreeDisk >= okDiskLimit(s):
		d.isLow = false
		d.raise(config.AlertDiskOK, now, ofDisk(config.AlertDiskOK, s.FreeDisk, s.MinFree))
	}
}

// raise makes an alert and has it wait for send.
func (d *Alerter) raise(kind string, at time.Time, data told) {
	data.Host = d.host
	a, err := newAlert(kind, at, data)
	if err != nil {
		d.Log.Error().Err(err).Msg("an alert could not be raised")
		return
	}
	if len(d.unsent) == maxUnsent {
		d.Log.Error().Str("type", d.unsent[0].kind).Msg("an alert was dropped: the queue has taken none for a long time")
		d.unsent = d.unsent[1:]
	}
	d.unsent = append(d.unsent, a)
	d.mu.Lock()
	if d.raised == nil {
		d.raised = map[string]int64{}
	}
	d.raised[kind]++
	d.mu.Unlock()
}

// Raised counts the alerts since the start, by type. It waits for nothing.
func (d *Alerter) Raised() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := map[string]int64{}
	for kind, n := range d.raised {
		counts[kind] = n
	}
	return counts
}

// send gives the queue what waits, in order. What it refuses goes on waiting, but for relay.disk.low: if the queue has no
// room left for that one, it goes past the queue.
func (d *Alerter) send(ctx context.Context) {
	rest := d.unsent[:0]
	for i, a := range d.unsent {
		event := queue.Event{ID: []byte(a.id), Type: []byte(a.kind), Body: a.body, Lanes: d.Dispatcher.Route([]byte(a.kind), a.body), Words: d.Dispatcher.Words(a.body)}
		err := d.Queue.Append(source, []queue.Event{event}, make([]queue.Receipt, 1))
		switch {
		case err == nil:
		case a.kind == config.AlertDiskLow && errors.Is(err, queue.ErrDiskLow):
			d.sendPast(ctx, a)
		case errors.Is(err, queue.ErrDiskLow) || errors.Is(err, queue.ErrOverloaded):
			rest = append(rest, d.unsent[i])
		default: // the queue is closing or has failed: nothing will be taken any more
			clear(d.unsent)
			d.unsent = nil
			return
		}
	}
	clear(d.unsent[len(rest):])
	d.unsent = rest
}

// source is whom the story of an alert names as where it came from.
const source = "relay"

// sendPast sends an alert at once to all endpoints that subscribed to it, and waits for them.
func (d *Alerter) sendPast(ctx context.Context, a alert) {
	var all sync.WaitGroup
	for _, name := range d.Dispatcher.Subscribers(a.kind, a.body) {
		all.Go(func() {
			request := client.Request{ID: []byte(a.id), Type: []byte(a.kind), Body: a.body}
			result, _, err := d.Dispatcher.SendTest(ctx, name, request, false)
			e := d.Log.Warn().Str("endpoint", name).Str("event", a.id).Str("type", a.kind).Bool("delivered", result.Delivered)
			if err != nil {
				e = e.Err(err)
			} else if result.Outcome.Err != "" {
				e = e.Str("reason", result.Outcome.Err)
			}
			e.Msg("the disk has no room for this alert: it was sent past the queue, once")
		})
	}
	all.Wait()
}
