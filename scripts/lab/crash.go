// crash tries to break the promise that an event answered 200 survives kill -9 and is delivered: it kills the relay
// under load, again and again.

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	crashStall = 60 * time.Second
	// The second receiver takes its time, so that its lane is behind when the relay dies and has to read its backlog.
	slowReceiver = 2 * time.Millisecond
)

// crashRun kills a relay under load, again and again, and looks for what is missing afterwards.
type crashRun struct {
	site    site
	kills   int
	conns   int
	count   uint64
	wait    time.Duration
	control bool
}

// crashResult is what the crash command prints. Lost, unknown and repeats add up both receivers.
type crashResult struct {
	Posted           uint64   `json:"posted"`
	Acknowledged     int      `json:"acknowledged"`
	Unknown          int      `json:"unknown"`
	Kills            int      `json:"kills"`
	Receivers        int      `json:"receivers"`
	Lost             int      `json:"lost"`
	NeverSent        int      `json:"never_sent"`
	UnknownDelivered int      `json:"unknown_delivered"`
	Repeats          uint64   `json:"repeats"`
	OldestRepeatMs   float64  `json:"oldest_repeat_ms"` // between a delivery and the kill that had it made again, at most
	StartMs          startsMs `json:"start_ms"`         // from start to /health 200, after each kill
	Control          string   `json:"control_dropped,omitempty"`
	Failed           uint64   `json:"failed"` // deliveries given up, from /stats
}

type startsMs struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

func runCrash(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("crash", "Posts events to a relay with two endpoints, kills it with SIGKILL at random moments and starts it again, waits until all\n"+
		"is delivered, and compares. Exit code 1 when an acknowledged event is missing, one arrived that nobody posted, or one arrived\n"+
		"again that was neither in flight nor settled since the last save when the relay was killed.")
	var run crashRun
	run.site.flags(fs)
	fs.IntVar(&run.kills, "rounds", 3, "how many `kills`")
	fs.IntVar(&run.conns, "c", 64, "`connections`")
	fs.Uint64Var(&run.count, "n", 100_000, "`events`")
	fs.DurationVar(&run.wait, "wait", 5*time.Minute, "give up this long after the last event was posted; the posting itself has as long")
	fs.BoolVar(&run.control, "control", false, "drop one acknowledged event from what the first receiver got: must then report lost 1, exit code 1")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if run.kills < 0 || run.count < 1 {
		return usageError("crash needs -rounds of 0 or more and -n of 1 or more")
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	result, unexplained, err := run.perform(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events acknowledged, %d unknown, %d kills: %d lost, %d repeats (settled at most %.0f ms before the kill), %d unknown ones delivered; serving again after %.0f/%.0f/%.0f ms (min/median/max)\n",
		result.Acknowledged, result.Unknown, result.Kills, result.Lost, result.Repeats, result.OldestRepeatMs, result.UnknownDelivered,
		result.StartMs.Min, result.StartMs.Median, result.StartMs.Max)
	if result.Lost > 0 || result.NeverSent > 0 {
		return fmt.Errorf("compare ledgers: %d lost, %d never sent", result.Lost, result.NeverSent)
	}
	return unexplained
}

// perform returns what was found, and as unexplained a fault of the repeats.
func (c *crashRun) perform(ctx context.Context) (result crashResult, unexplained, err error) {
	run := newRun()
	receivers := []*receiver{newReceiver(), newReceiver()}
	repeats := newRepeats(run, len(receivers), c.count)
	receivers[1].delay = slowReceiver
	names := []string{"fast", "slow"}
	var endpoints []endpoint
	for i, r := range receivers {
		r.observer.Store(repeats.observe(i))
		addr, err := startReceiver(r)
		if err != nil {
			return crashResult{}, nil, err
		}
		defer r.close()
		endpoints = append(endpoints, endpoint{name: names[i], url: "http://" + addr + "/events", events: []string{"lead.*"}})
	}
	relay, err := c.site.newRelay("relay", endpoints)
	if err != nil {
		return crashResult{}, nil, err
	}
	if _, err := relay.start(ctx); err != nil {
		return crashResult{}, nil, err
	}
	defer func() { relay.proc.kill() }()

	load, starts, err := c.loadAndKill(ctx, relay, run, repeats)
	if err != nil {
		return crashResult{}, nil, err
	}
	failed, err := c.settle(ctx, relay, receivers)
	if err != nil {
		return crashResult{}, nil, err
	}

	result = crashResult{
		Posted: load.posted.Load(), Acknowledged: len(load.ledger.acked), Unknown: len(load.ledger.unknown),
		Kills: len(starts), Receivers: len(receivers), StartMs: summarise(starts), Failed: failed,
	}
	for i, r := range receivers {
		got := r.ids()
		if i == 0 && c.control {
			result.Control = load.ledger.dropOne(got)
		}
		compared := load.ledger.compare(got)
		result.Lost += compared.Lost
		result.NeverSent += compared.NeverSent
		result.UnknownDelivered += compared.UnknownDelivered
		result.Repeats += r.counts().Repeats
	}
	unexplained = repeats.judge()
	result.OldestRepeatMs = inMillis(repeats.oldest)
	return result, unexplained, nil
}

// loadAndKill posts all events and meanwhile kills and starts the relay. It returns the finished load and how long each
// start after a kill took.
func (c *crashRun) loadAndKill(ctx context.Context, relay *relay, run uint32, repeats *repeats) (*load, []time.Duration, error) {
	l, err := newLoad(loadPlan{addr: relay.ingest, path: "/events", conns: c.conns, count: c.count, duration: c.wait, keep: true}, run)
	if err != nil {
		return nil, nil, err
	}
	finished, stop := l.begin(ctx)
	defer stop() // before the caller tears down what it posts to

	var starts []time.Duration
	for _, at := range killPoints(c.kills, c.count) {
		for l.posted.Load() < at {
			select {
			case <-finished:
				if ctx.Err() != nil {
					return nil, nil, fmt.Errorf("post events: stopped: %w", ctx.Err())
				}
				return nil, nil, fmt.Errorf("post events: only %d of %d were posted, before kill %d: %s", l.posted.Load(), c.count, len(starts)+1, relay.proc.lastWords())
			case <-time.After(time.Millisecond):
			}
		}
		repeats.killed(time.Now())
		relay.proc.kill()
		took, err := relay.start(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("after kill %d: %w", len(starts)+1, err)
		}
		starts = append(starts, took)
	}
	<-finished
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("post events: stopped: %w", ctx.Err())
	}
	if posted := l.posted.Load(); posted < c.count {
		return nil, nil, fmt.Errorf("post events: only %d of %d were posted in %s", posted, c.count, c.wait)
	}
	return l, starts, nil
}

// killPoints draws the numbers of posted events at which the relay dies, in order, away from both ends.
func killPoints(kills int, count uint64) []uint64 {
	points := make([]uint64, kills)
	for i := range points {
		points[i] = uint64(float64(count) * (0.05 + 0.9*rand.Float64()))
	}
	slices.Sort(points)
	return points
}

// settle waits until the relay says that nothing is left to deliver, and returns how many deliveries have failed. Running out of
// time is no error here: what is missing then, the comparison will tell.
func (c *crashRun) settle(ctx context.Context, relay *relay, receivers []*receiver) (failed uint64, err error) {
	if err := relay.settled(ctx, c.wait, crashStall, receivers); err != nil && !errors.Is(err, errUnfinished) {
		return 0, err
	}
	all, err := relay.endpointStats(ctx)
	for _, s := range all {
		failed += s.Failed
	}
	return failed, err
}

func summarise(starts []time.Duration) startsMs {
	if len(starts) == 0 {
		return startsMs{}
	}
	sorted := slices.SortedFunc(slices.Values(starts), cmp.Compare)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return startsMs{Min: ms(sorted[0]), Median: ms(median(sorted)), Max: ms(sorted[len(sorted)-1])}
}

// median sorts a copy; the lower of the two middle values when there are two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
