// replay tries to break the promise that a replay delivers all that failed and disturbs no new event: it kills the
// relay in the middle.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	replayEndpoint = "crm"
	replayStall    = 2 * time.Minute
	replayConns    = 32 // of the new events
)

// replayRun has deliveries fail, replays them beside new events, and kills the relay in the middle.
type replayRun struct {
	site    site
	failed  uint64  // deliveries
	live    float64 // events a second beside the replay
	rate    float64 // of the replay; 0: as fast as it goes
	kills   int
	wait    time.Duration
	control bool

	relay    *relay
	receiver *receiver
	fill     uint32 // the run of the events that fail
	fresh    uint32 // the run of those that come meanwhile

	replaying atomic.Bool // until then every second event of the fill is refused
	arrived   atomic.Uint64
	strangers atomic.Uint64
	latency   histogram // of what comes meanwhile: posted → received
	repeats   *repeats

	mu  sync.Mutex
	id  string // of the replay
	got map[uint64]struct{}
}

// replayResult is what the replay command prints.
type replayResult struct {
	Failed         uint64    `json:"failed"`           // deliveries that had failed when the replay began
	ListMs         float64   `json:"list_ms"`          // GET of the first page of them
	DryRunMs       float64   `json:"dry_run_ms"`       // to count them
	Replayed       uint64    `json:"replayed"`         // of them, arrived with the replay's header
	Missing        int64     `json:"missing"`          // of them, not arrived: must be 0
	Strangers      uint64    `json:"strangers"`        // arrived with a replay's header, and had not failed: must be 0
	Repeats        uint64    `json:"repeats"`          // arrived again
	OldestRepeatMs float64   `json:"oldest_repeat_ms"` // between a delivery and the kill that had it made again, at most
	Kills          int       `json:"kills"`
	StartMs        startsMs  `json:"start_ms"`
	Seconds        float64   `json:"seconds"` // from the answer to the end of the replay, kills included
	LiveAccepted   int       `json:"live_acknowledged"`
	LiveLost       int       `json:"live_lost"` // must be 0
	LivePosted     quantiles `json:"live_posted"`
	Status         struct {
		State     string  `json:"state"`
		Total     *uint64 `json:"total"`
		TakenUp   uint64  `json:"taken_up"`
		Delivered uint64  `json:"delivered"`
		Failed    uint64  `json:"failed"`
		Passed    uint64  `json:"skipped"`
	} `json:"status"`
	FailedLeft uint64  `json:"failed_left"` // of the endpoint, at the end
	MiB        float64 `json:"rss_anon_mib"`
	Control    string  `json:"control_dropped,omitempty"`
}

func runReplay(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("replay", "Has deliveries fail, replays all of them while new events come in, kills the relay with SIGKILL in the middle, and compares.\n"+
		"Exit code 1 when one of them or a new event does not arrive, when something else is replayed, or when something was delivered\n"+
		"again that was neither in flight nor settled since the last save when the relay was killed.")
	run := replayRun{}
	run.site.flags(fs)
	fs.Uint64Var(&run.failed, "n", 200_000, "failed `deliveries`, a multiple of 50")
	fs.Float64Var(&run.live, "live", 500, "new `events` a second")
	fs.Float64Var(&run.rate, "rate", 0, "`deliveries` a second of the replay; 0: as fast as it goes")
	fs.IntVar(&run.kills, "rounds", 2, "how many `kills`")
	fs.DurationVar(&run.wait, "wait", 15*time.Minute, "give up when a part of it takes longer")
	fs.BoolVar(&run.control, "control", false, "drop one replayed event from what arrived: must then report 1 missing, exit code 1")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if run.failed < 50 || run.failed%50 != 0 || run.live <= 0 || run.rate < 0 || run.kills < 0 {
		return usageError("replay needs -n of 50 or a multiple, a -live above 0, a -rate and -rounds of 0 or more")
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	result, err := run.perform(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	fmt.Fprint(out, result.text())
	return errors.Join(result.judge(), run.repeats.judge())
}

func (r *replayRun) perform(ctx context.Context) (result replayResult, err error) {
	r.fill, r.fresh, r.got = newRun(), newRun(), map[uint64]struct{}{}
	r.repeats = newRepeats(r.fill, 1, 2*r.failed)
	r.receiver = newReceiver()
	r.receiver.refuses = r.refuses
	addr, err := startReceiver(r.receiver)
	if err != nil {
		return result, err
	}
	defer r.receiver.close()
	r.relay, err = r.site.newRelay("relay", []endpoint{
		{name: replayEndpoint, url: "http://" + addr + "/events", events: []string{"lead.*"}, once: true},
	})
	if err != nil {
		return result, err
	}
	if _, err := r.relay.start(ctx); err != nil {
		return result, err
	}
	defer func() { r.relay.proc.kill() }()
	if err := r.fail(ctx, &result); err != nil {
		return result, fmt.Errorf("have deliveries fail: %w", err)
	}
	if err := r.look(ctx, &result); err != nil {
		return result, err
	}
	return result, r.replay(ctx, &result)
}

// refuses is asked of every delivery that the receiver gets.
func (r *replayRun) refuses(id, replay, body []byte, now time.Time) bool {
	run, seq, ok := parseID(id)
	switch {
	case ok && run == r.fresh && len(replay) == 0:
		if stamp, ok := eventStamp(body); ok {
			r.latency.record(now.Sub(stamp))
		}
	case ok && run == r.fill && !r.replaying.Load():
		return seq%2 == 1
	case ok && run == r.fill && seq%2 == 1 && r.isOurs(replay):
		r.repeats.delivered(0, id, now)
		r.mu.Lock()
		r.got[seq] = struct{}{}
		r.mu.Unlock()
		r.arrived.Add(1)
	default:
		r.strangers.Add(1)
	}
	return false
}

// isOurs reports whether the header is that of the replay; which that is is known once it was answered.
func (r *replayRun) isOurs(replay []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == "" {
		r.id = string(replay)
	}
	return len(replay) > 0 && r.id == string(replay)
}

// fail posts twice as many events as are to fail, and waits until half of them have.
func (r *replayRun) fail(ctx context.Context, result *replayResult) error {
	_, _, err := postAll(ctx, loadPlan{
		addr: r.relay.ingest, path: "/events", conns: fillConns, count: 2 * r.failed, duration: r.wait, batch: fillBatch,
	}, r.fill)
	if err != nil {
		return err
	}
	var s endpointStats
	err = waitUntil(ctx, r.wait, replayStall, r.received, func() bool {
		if s, err = r.relay.stats(ctx, replayEndpoint); err != nil {
			return false
		}
		if s.State == "down" { // five refusals happened to come in a row
			_ = r.relay.call(ctx, http.MethodPost, r.route("resume"), nil)
		}
		return s.Pending+s.Retrying == 0
	})
	result.Failed = s.Failed
	if err == nil && s.Failed != r.failed {
		err = fmt.Errorf("%d deliveries failed, want %d", s.Failed, r.failed)
	}
	return err
}

func (r *replayRun) received() uint64 { return r.receiver.received.Load() + r.receiver.refused.Load() }

func (r *replayRun) route(path string) string {
	return "http://" + r.relay.admin + "/endpoints/" + replayEndpoint + "/" + path
}

// look measures what an operator looks at before.
func (r *replayRun) look(ctx context.Context, result *replayResult) error {
	began := time.Now()
	if err := r.relay.call(ctx, http.MethodGet, r.route("failed"), nil); err != nil {
		return err
	}
	result.ListMs = inMillis(time.Since(began))
	began = time.Now()
	err := r.post(ctx, map[string]any{"failed": true, "dry_run": true}, nil)
	result.DryRunMs = inMillis(time.Since(began))
	return err
}

// post posts to the replay route.
func (r *replayRun) post(ctx context.Context, what map[string]any, into any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	status, _, text, err := r.relay.request(ctx, http.MethodPost, r.route("replay"), string(body))
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("replay: status %d, %.200s", status, text)
	}
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// replay starts the replay beside new events, kills the relay in the middle, waits for the end and compares.
func (r *replayRun) replay(ctx context.Context, result *replayResult) error {
	var memory memoryMeter
	memory.watch(r.relay.proc.pid())
	defer memory.stop()
	l, err := newLoad(loadPlan{
		addr: r.relay.ingest, path: "/events", conns: replayConns, rate: r.live, duration: r.wait, keep: true,
	}, r.fresh)
	if err != nil {
		return err
	}
	_, stop := l.begin(ctx)
	defer stop()

	r.replaying.Store(true)
	began := time.Now()
	var started struct{ Replay struct{ ID string } }
	if err := r.post(ctx, map[string]any{"failed": true, "rate": r.rate}, &started); err != nil {
		return err
	}
	if r.arrived.Load() > 0 && !r.isOurs([]byte(started.Replay.ID)) {
		return fmt.Errorf("start the replay: it is called %q, and its deliveries are not", started.Replay.ID)
	}
	var starts []time.Duration
	for n := range r.kills {
		at := r.failed * uint64(n+1) / uint64(r.kills+1)
		if err := waitUntil(ctx, r.wait, replayStall, r.arrived.Load, func() bool { return r.arrived.Load() >= at }); err != nil {
			return fmt.Errorf("replay before kill %d: %w", n+1, err)
		}
		memory.stop()
		r.repeats.killed(time.Now())
		r.relay.proc.kill()
		took, err := r.relay.start(ctx)
		if err != nil {
			return fmt.Errorf("after kill %d: %w", n+1, err)
		}
		starts = append(starts, took)
		memory.watch(r.relay.proc.pid())
	}
	result.Kills, result.StartMs = r.kills, summarise(starts)
	if err := waitUntil(ctx, r.wait, replayStall, r.arrived.Load, func() bool { return r.ended(ctx, result) }); err != nil {
		return fmt.Errorf("wait for the end of the replay: %w", err)
	}
	result.Seconds = time.Since(began).Seconds()
	stop()
	var s endpointStats
	err = waitUntil(ctx, r.wait, replayStall, r.received, func() bool {
		s, err = r.relay.stats(ctx, replayEndpoint)
		return err == nil && s.Pending+s.Retrying == 0
	})
	result.FailedLeft, result.MiB = s.Failed, memory.max()
	r.compare(&l.ledger, result)
	return err
}

// ended reads how the replay is getting on.
func (r *replayRun) ended(ctx context.Context, result *replayResult) bool {
	var list struct{ Replays []json.RawMessage }
	if r.relay.call(ctx, http.MethodGet, r.route("replays"), &list) != nil || len(list.Replays) != 1 {
		return false
	}
	return json.Unmarshal(list.Replays[0], &result.Status) == nil && result.Status.State != "running"
}

func (r *replayRun) compare(live *ledger, result *replayResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.control {
		for seq := range r.got {
			result.Control = string(appendID(nil, r.fill, seq))
			delete(r.got, seq)
			break
		}
	}
	result.Replayed, result.Strangers = uint64(len(r.got)), r.strangers.Load()
	result.Missing = int64(result.Failed) - int64(result.Replayed)
	result.Repeats = r.arrived.Load() - result.Replayed
	result.OldestRepeatMs = inMillis(r.repeats.oldest)
	result.LivePosted = r.latency.quantiles()
	all := r.receiver.ids()
	for id := range all {
		if run, _, ok := parseID([]byte(id)); !ok || run != r.fresh {
			delete(all, id)
		}
	}
	compared := live.compare(all)
	result.LiveAccepted, result.LiveLost = compared.Acknowledged, compared.Lost
}

// judge says what is not as it must be.
func (r *replayResult) judge() error {
	var faults []error
	if r.Missing != 0 || r.Strangers != 0 || r.LiveLost != 0 {
		faults = append(faults, fmt.Errorf("of the replay %d missing, %d strangers; of the new events %d lost", r.Missing, r.Strangers, r.LiveLost))
	}
	s := &r.Status
	if s.State != "done" || s.TakenUp != r.Failed || s.Delivered != r.Failed || s.Failed != 0 || s.Passed != 0 || s.Total != nil && *s.Total != r.Failed {
		faults = append(faults, fmt.Errorf("the replay says %+v of %d", *s, r.Failed))
	}
	if r.FailedLeft != 0 {
		faults = append(faults, fmt.Errorf("%d deliveries are still failed", r.FailedLeft))
	}
	return errors.Join(faults...)
}

func (r *replayResult) text() string {
	return fmt.Sprintf("%d failed deliveries: first page of the list %.0f ms, counted in %.0f ms; replayed in %.1f s with %d kills: %d missing, %d repeats (settled at most %.0f ms before the kill), %d strangers\n",
		r.Failed, r.ListMs, r.DryRunMs, r.Seconds, r.Kills, r.Missing, r.Repeats, r.OldestRepeatMs, r.Strangers) +
		fmt.Sprintf("%d new events meanwhile: %d lost, posted to received p50/p99 %s; serving again after %.0f/%.0f/%.0f ms (min/median/max); RssAnon at most %.0f MiB\n",
			r.LiveAccepted, r.LiveLost, inMs(r.LivePosted), r.StartMs.Min, r.StartMs.Median, r.StartMs.Max, r.MiB)
}
