// health tries to break the promise that no well receiver is held back and none is charged for what it did not do: it
// audits every attempt.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// healthRun lets endpoints of every kind and a relay live through everything that makes endpoints look unwell, and then
// audits what was given up. Beside it a twin of the relay has the endpoint that is well and nothing else: it is posted the
// same, and is stopped, killed, frozen and reloaded at the same moments.
type healthRun struct {
	site    site
	last    time.Duration
	quick   bool
	scale   int // by how much waits are shorter than documented
	rate    float64
	retry   []string
	timeout time.Duration

	far    *far
	ends   []*kind
	relay  *relay
	twin   *relay
	alone  *receiver // of the twin
	times  [2]*times // of the endpoint that is well, and of the twin's
	cut    spans
	calm   spans // while nothing was done to the relays
	result healthResult
	out    io.Writer

	mu   sync.Mutex
	seen map[string][]string // states, by endpoint
}

// healthResult is what the health command prints.
type healthResult struct {
	Seconds      float64        `json:"seconds"`
	Settled      float64        `json:"settled_seconds"` // from then until nothing was left
	Acknowledged int            `json:"acknowledged"`
	Lost         int            `json:"lost"`
	Failed       map[string]int `json:"failed"`
	Charged      int            `json:"charged"` // attempts
	Unjust       int            `json:"unjust"`  // of both
	Control      int            `json:"control"` // found unjust at the endpoint without retries
	Kills        int            `json:"kills"`
	Stops        int            `json:"stops"`
	Freezes      int            `json:"freezes"`
	Cuts         int            `json:"cuts"`
	Reloads      int            `json:"reloads"`
	Alone        quantiles      `json:"alone"`  // posted → received, of the twin's
	Beside       quantiles      `json:"beside"` // of the one that is well beside all others
}

const (
	healthTime  = 10 * time.Minute
	healthQuick = 45 * time.Second
	healthCycle = 45 * time.Second // in which everything happens once
	quickScale  = 20
	longScale   = 6
	badRate     = 12 // events a second for the endpoints that are not well
	oddRate     = 2  // of these, of the type that some of them can't stand
	healthLook  = 200 * time.Millisecond
	// healthNoise is how much the twins may differ without a cause, whatever they take: two programs take turns on the same processor.
	healthNoise = 2 * time.Millisecond
)

func runHealth(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("health", "Endpoints of every kind (well, poisoned, limited, flapping, hanging, slow, lagging, switched off, beyond a cable that is cut) and a relay\n"+
		"that is killed, stopped, reloaded and frozen, and then an audit of what it gave up. Exit code 1 when a delivery failed before all of its\n"+
		"charged attempts, when one of these was made while the endpoint was down or this machine offline, when an event is missing, or when the\n"+
		"endpoint that is well waits more than 1.2 times as long as beside none; 3 without network namespaces.")
	run := healthRun{out: out, seen: map[string][]string{}}
	run.site.flags(fs)
	fs.BoolVar(&run.quick, "quick", false, "45 s with waits a twentieth as long, instead of ten minutes with a sixth; judges the p50 of the one that is well")
	fs.DurationVar(&run.last, "d", healthTime, "how long")
	fs.Float64Var(&run.rate, "rate", 100, "`events` a second for the endpoint that is well")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	run.scale = longScale
	if run.quick {
		run.last, run.scale = healthQuick, quickScale
	}
	if run.last < healthCycle || run.last > serveLimit || run.rate <= 0 || run.rate > 1000 {
		return usageError("-d must be at least 45s and at most an hour, -rate more than 0 and at most 1000")
	}
	run.retry, run.timeout = scaled(run.scale), 10*time.Second/time.Duration(run.scale)
	if err := needRoot("ip", "nsenter"); err != nil {
		return err
	}
	if interfaces, err := net.Interfaces(); err != nil || len(interfaces) > 1 {
		return unableError("it is not in a network namespace of its own: start it with scripts/health")
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	unjust, err := run.perform(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(run.result); err != nil {
		return err
	}
	r := &run.result
	fmt.Fprintf(out, "%d events acknowledged: %d lost; failed %v, after %d charged attempts; %d of both unjustly, and %d of the control's; %d kills, %d stops, %d freezes, %d cuts, %d reloads; "+
		"posted to received p50/p99 alone %s, beside all others %s\n",
		r.Acknowledged, r.Lost, r.Failed, r.Charged, r.Unjust, r.Control, r.Kills, r.Stops, r.Freezes, r.Cuts, r.Reloads, inMs(r.Alone), inMs(r.Beside))
	return run.judge(unjust)
}

func (h *healthRun) judge(unjust []string) error {
	r := &h.result
	var faults []error
	for _, text := range unjust[:min(len(unjust), 20)] {
		faults = append(faults, errors.New(text))
	}
	if r.Lost > 0 || r.Unjust > 0 {
		faults = append(faults, fmt.Errorf("%d events lost, %d deliveries failed or attempts were charged unjustly", r.Lost, r.Unjust))
	}
	if r.Control == 0 {
		faults = append(faults, errors.New("nothing is found at the endpoint without retries: the audit shows nothing"))
	}
	for _, k := range h.ends {
		switch failed := r.Failed[k.name]; {
		case k.never && failed > 0:
			faults = append(faults, fmt.Errorf("%s: %d deliveries failed, and none may", k.name, failed))
		case k.fails && failed == 0:
			faults = append(faults, fmt.Errorf("%s: nothing failed: that shows nothing", k.name))
		}
		for _, state := range k.seen {
			if !slices.Contains(h.seen[k.name], state) {
				faults = append(faults, fmt.Errorf("%s: it was never %s, but %v", k.name, state, h.seen[k.name]))
			}
		}
	}
	quantile, alone, beside := "p99", r.Alone.P99us, r.Beside.P99us
	if h.quick {
		// A stall of the disk that hits one of the twins alone is all of a p99 of so few.
		quantile, alone, beside = "p50", r.Alone.P50us, r.Beside.P50us
	}
	if alone == 0 || beside > alone*12/10+healthNoise.Microseconds() {
		faults = append(faults, fmt.Errorf("the endpoint that is well has a %s of %d µs beside the others and of %d without them", quantile, beside, alone))
	}
	return errors.Join(faults...)
}

// perform is the whole run; it returns what the audit found.
func (h *healthRun) perform(ctx context.Context) (unjust []string, err error) {
	if h.far, err = newFar(); err != nil {
		return nil, err
	}
	// A host that is off is found out in less time than an attempt has; where that can't be set, attempts time out.
	_ = os.WriteFile("/proc/sys/net/ipv4/neigh/"+nearDevice+"/retrans_time_ms", []byte("50"), 0)
	if err := h.set(); err != nil {
		return nil, err
	}
	defer h.alone.close()
	for _, k := range h.ends {
		defer k.well.close()
	}
	if err := h.both(func(r *relay) error { _, err := r.start(ctx); return err }); err != nil {
		return nil, err
	}
	defer func() { h.relay.proc.kill(); h.twin.proc.kill() }()

	began := time.Now()
	h.calm.toggle(true, began)
	watching, unwatch := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { h.watch(watching) })
	for _, k := range h.ends {
		if k.name == "flapping" {
			others.Go(func() { k.flap(watching) })
		}
	}
	defer others.Wait()
	defer unwatch()
	post, wait := h.post(ctx)
	defer wait()
	for cycle := range int(h.last / healthCycle) {
		if err := h.cycle(ctx, began.Add(time.Duration(cycle)*healthCycle)); err != nil {
			return nil, fmt.Errorf("cycle %d: %w", cycle+1, err)
		}
	}
	wait()
	h.result.Seconds = time.Since(began).Seconds()
	unwatch()
	others.Wait()
	for _, k := range h.ends {
		k.bad.Store(k.name == deadEndpoint)
	}
	healed := time.Now()
	if err := h.settle(ctx); err != nil {
		return nil, err
	}
	h.result.Settled = time.Since(healed).Seconds()
	return h.audit(ctx, post)
}

// set makes the receivers and both relays.
func (h *healthRun) set() (err error) {
	h.ends = h.kinds()
	if err := h.listen(); err != nil {
		return err
	}
	h.alone = newReceiver()
	addr, err := startReceiver(h.alone)
	if err != nil {
		return err
	}
	h.times = [2]*times{newTimes(h.ends[0].well), newTimes(h.alone)}
	if h.relay, err = h.site.newRelay("relay", h.endpoints()); err != nil {
		return err
	}
	h.twin, err = h.site.newRelay("twin", []endpoint{{name: "well", url: "http://" + addr + "/events", events: []string{healthType}, retry: h.retry, timeout: h.timeout.String()}})
	return err
}

// both does something to both relays at the same time.
func (h *healthRun) both(do func(*relay) error) error {
	var twins sync.WaitGroup
	var errs [2]error
	for i, r := range []*relay{h.relay, h.twin} {
		twins.Go(func() { errs[i] = do(r) })
	}
	twins.Wait()
	return errors.Join(errs[:]...)
}

// post begins to post. What is posted is in the ledgers; wait ends it.
func (h *healthRun) post(ctx context.Context) (ledgers []*acknowledged, wait func()) {
	ctx, stop := context.WithTimeout(ctx, h.last)
	var posting sync.WaitGroup
	for i, p := range []struct {
		to        *relay
		eventType string
		rate      float64
		conns     int
		last      time.Duration
	}{
		{h.relay, healthType, h.rate, 4, h.last}, {h.twin, healthType, h.rate, 4, h.last}, {h.relay, plainType, badRate, 2, h.last},
		// What fails of these has had all its waits when the others are done.
		{h.relay, oddType, oddRate, 1, h.last - healthCycle*3/4},
	} {
		acked := &acknowledged{run: newRun()}
		ledgers = append(ledgers, acked)
		note := acked.note
		if i < len(h.times) {
			note = func(seq uint64, posted, at time.Time) {
				acked.note(seq, posted, at)
				h.times[i].note(seq, posted, at)
			}
		}
		l, err := newLoad(loadPlan{addr: p.to.ingest, path: "/events", conns: p.conns, rate: p.rate, duration: p.last, eventType: p.eventType, answered: note}, acked.run)
		if err != nil {
			panic(err) // the plan is ours
		}
		posting.Go(func() { l.post(ctx) })
	}
	return ledgers, func() { posting.Wait(); stop() }
}

// watch notes the states in which endpoints are, until ctx ends.
func (h *healthRun) watch(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, healthLook) {
		all, err := h.relay.endpointStats(ctx)
		if err != nil {
			continue // it is down, or frozen
		}
		h.mu.Lock()
		for _, s := range all {
			if s.Lagging {
				h.note(s.Name, lagsState)
			}
			h.note(s.Name, s.State)
		}
		h.mu.Unlock()
	}
}

func (h *healthRun) note(name, state string) {
	if !slices.Contains(h.seen[name], state) {
		h.seen[name] = append(h.seen[name], state)
	}
}

// settle waits until nothing is left to deliver.
func (h *healthRun) settle(ctx context.Context) error {
	var left []string
	settled := func() bool {
		left = left[:0]
		for _, r := range []*relay{h.relay, h.twin} {
			all, err := r.endpointStats(ctx)
			if err != nil {
				left = append(left, err.Error())
			}
			for _, s := range all {
				if s.Pending+s.Retrying > 0 {
					left = append(left, fmt.Sprintf("%s is %s, %d pending, %d retrying", s.Name, s.State, s.Pending, s.Retrying))
				}
			}
		}
		return len(left) == 0
	}
	arrived := func() (n uint64) {
		for _, k := range h.ends {
			n += k.well.unique()
		}
		return n
	}
	if err := waitUntil(ctx, settleLimit, 2*time.Minute, arrived, settled); err != nil {
		return fmt.Errorf("deliver what is left: %w: %s", err, named(left))
	}
	return nil
}

// audit looks at what failed, and whether all else arrived.
func (h *healthRun) audit(ctx context.Context, posted []*acknowledged) (unjust []string, err error) {
	log, err := os.Open(filepath.Join(h.relay.dir, "relay.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	said, err := readStates(log)
	if err != nil {
		return nil, fmt.Errorf("read the relay's log: %w", err)
	}
	of, twin, plain, odd := posted[0].ledger(), posted[1].ledger(), posted[2].ledger(), posted[3].ledger()
	h.result.Acknowledged = len(of.acked) + len(plain.acked) + len(odd.acked)
	h.result.Lost = twin.compare(h.alone.ids()).Lost
	h.result.Failed = map[string]int{}
	for _, k := range h.ends {
		failed, err := h.relay.failed(ctx, k.name)
		if err != nil {
			return nil, err
		}
		h.result.Failed[k.name] = len(failed)
		c := course{waits: len(h.retry), maxAge: 72 * time.Hour, timeout: h.timeout, cut: h.cut}
		if s := said[k.name]; s != nil {
			c.states = *s
		}
		if !k.far {
			c.cut = nil
		}
		if k.name == deadEndpoint {
			c.maxAge = time.Minute
		}
		for _, one := range c.states.charged {
			h.result.Charged++
			if why := c.charged(&one.storyAttempt, k.toldOf(one.id)); why != "" {
				h.result.Unjust++
				unjust = append(unjust, k.name+" "+one.id+": "+why)
			}
		}
		got := k.well.ids()
		for _, f := range failed {
			got[f.ID] = struct{}{} // it is told, and not lost
			d := failedStory{id: k.name + " " + f.ID, accepted: f.Accepted, failed: f.FailedAt, told: k.toldOf(f.ID)}
			if d.failed.Sub(d.accepted) < c.maxAge {
				if d.attempts, err = h.relay.attempts(ctx, f.ID, k.name); err != nil {
					return nil, err
				}
			}
			switch found := c.judge(&d); {
			case len(found) == 0:
			case k.name == controlEndpoint:
				h.result.Control++
			default:
				h.result.Unjust++
				unjust = append(unjust, found...)
			}
		}
		for _, l := range []struct {
			*ledger
			eventType string
		}{{of, healthType}, {plain, plainType}, {odd, oddType}} {
			if slices.Contains(k.events, l.eventType) {
				h.result.Lost += l.compare(got).Lost
			}
		}
	}
	h.calm.toggle(false, time.Now())
	h.result.Beside, h.result.Alone = h.times[0].within(h.calm), h.times[1].within(h.calm)
	return unjust, nil
}
