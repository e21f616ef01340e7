// network tries to break the promise that each accepted event arrives: loss, delay, resets, silence and a cable that is
// out.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// networkRun puts a bad network between a relay and its endpoints.
type networkRun struct {
	site site
	rate float64
	each time.Duration // how long a fault lasts

	far      *far
	relay    *relay
	pair     pair
	live     *crowd
	attempts firstAttempts
	acked    *acknowledged
}

// networkResult is what the network command prints.
type networkResult struct {
	Acknowledged int     `json:"acknowledged"`
	Lost         int     `json:"lost"`
	Failed       uint64  `json:"failed"` // deliveries given up
	Repeats      uint64  `json:"repeats"`
	Unanswered   int64   `json:"unanswered"`         // attempts that ended without success
	Resent       int64   `json:"resent"`             // attempts that made their POST twice; with Unanswered, at most so many repeats
	Offline      int     `json:"accepted_offline"`   // events, while the cable was out
	Charged      int     `json:"charged_offline"`    // of these, received with a later attempt than the first
	Crowd        int64   `json:"crowd"`              // requests at a time when the endpoint had come back
	CrowdFirst   int64   `json:"crowd_first_100_ms"` // requests that began within 100 ms of the first
	BackMs       float64 `json:"back_ms"`            // from the endpoint's return to its first request
}

const (
	networkConcurrency = 16
	networkTimeout     = "2s"
	offlineState       = "offline"
)

// rules drops or resets part of what passes between the relay and the far side.
func rules(verdict string) string {
	return fmt.Sprintf(`table inet lab {
	chain out {
		type filter hook output priority 0
		ip daddr 10.77.0.0/24 %[1]s
	}
	chain in {
		type filter hook input priority 0
		ip saddr 10.77.0.0/24 %[1]s
	}
}
`, verdict)
}

func runNetwork(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("network", "Puts a bad network between a relay and two endpoints on the other end of a virtual cable, while events are posted: loss, delay,\n"+
		"resets, a host that does not answer, an endpoint that refuses, and a cable that is out. Exit code 1 when an acknowledged event is\n"+
		"missing or given up, when repeats outnumber the attempts that failed or were sent twice, when an outage of this machine is charged to deliveries,\n"+
		"when the neighbour of an endpoint that is away falls behind, or when an endpoint that comes back is sent more than its concurrency.")
	var run networkRun
	run.site.flags(fs)
	fs.Float64Var(&run.rate, "rate", 300, "`events` a second")
	fs.DurationVar(&run.each, "each", 5*time.Second, "how long a fault lasts")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if err := needRoot("ip", "tc", "nft", "nsenter"); err != nil {
		return err
	}
	if interfaces, err := net.Interfaces(); err != nil || len(interfaces) > 1 {
		return unableError("it is not in a network namespace of its own: start it with scripts/network")
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	result, err := run.perform(ctx, out)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events acknowledged: %d lost, %d failed, %d repeats for %d attempts without success and %d sent twice; of %d accepted while offline %d were charged an attempt; "+
		"at most %d requests at a time when the endpoint had come back, %d in the first 100 ms, the first after %.0f ms\n",
		result.Acknowledged, result.Lost, result.Failed, result.Repeats, result.Unanswered, result.Resent, result.Offline, result.Charged, result.Crowd, result.CrowdFirst, result.BackMs)
	return result.judge()
}

func (n *networkResult) judge() error {
	var faults []error
	if n.Lost > 0 || n.Failed > 0 {
		faults = append(faults, fmt.Errorf("%d events lost, %d deliveries failed", n.Lost, n.Failed))
	}
	if n.Repeats > uint64(max(0, n.Unanswered)+n.Resent) {
		faults = append(faults, fmt.Errorf("%d repeats, though only %d attempts had no success and %d were sent twice", n.Repeats, n.Unanswered, n.Resent))
	}
	if n.Offline == 0 || n.Charged > 0 {
		faults = append(faults, fmt.Errorf("of %d events accepted while this machine was offline %d were charged an attempt", n.Offline, n.Charged))
	}
	if n.Crowd == 0 || n.Crowd > networkConcurrency {
		faults = append(faults, fmt.Errorf("an endpoint that came back was sent %d requests at a time, its concurrency is %d", n.Crowd, networkConcurrency))
	}
	return errors.Join(faults...)
}

func (n *networkRun) perform(ctx context.Context, out io.Writer) (result networkResult, err error) {
	if n.far, err = newFar(); err != nil {
		return result, err
	}
	if err := n.set(); err != nil {
		return result, err
	}
	defer n.pair.close()
	if _, err := n.relay.start(ctx); err != nil {
		return result, err
	}
	defer func() { n.relay.proc.kill() }()

	n.acked = &acknowledged{run: newRun()}
	l, err := newLoad(loadPlan{addr: n.relay.ingest, path: "/events", conns: 8, rate: n.rate, count: maxEvents, answered: n.acked.note}, n.acked.run)
	if err != nil {
		return result, err
	}
	_, stop := l.begin(ctx)
	defer stop()

	for _, fault := range []struct {
		name string
		do   func(context.Context, *networkResult) error
	}{
		{"loss", n.loss}, {"delay", n.delay}, {"resets", n.resets}, {"a host that does not answer", n.silence}, {"an endpoint that refuses", n.refusal}, {"a cable that is out", n.cable},
	} {
		fmt.Fprintln(out, fault.name)
		if err := fault.do(ctx, &result); err != nil {
			return result, fmt.Errorf("%s: %w", fault.name, err)
		}
		if err := n.recover(ctx); err != nil {
			return result, fmt.Errorf("after %s: %w", fault.name, err)
		}
	}
	stop()
	if err := n.relay.settle(ctx, n.pair.live, n.pair.held); err != nil {
		return result, err
	}
	return result, n.compare(ctx, &result)
}

// set makes the receivers on the far side, and the relay.
func (n *networkRun) set() (err error) {
	n.pair = pair{live: newReceiver(), held: newReceiver(), liveAddr: liveAddress + ":9001", heldAddr: heldAddress + ":9001"}
	n.live = &crowd{receiver: n.pair.live, attempts: &n.attempts}
	n.pair.live.srv = newServer(n.live.handle)
	for _, r := range []struct {
		receiver *receiver
		addr     string
	}{{n.pair.live, n.pair.liveAddr}, {n.pair.held, n.pair.heldAddr}} {
		ln, err := n.far.listen(r.addr)
		if err != nil {
			return err
		}
		r.receiver.start(ln)
	}
	endpoints := n.pair.endpoints()
	for i := range endpoints {
		endpoints[i].timeout, endpoints[i].retry = networkTimeout, strings.Split(strings.Repeat("1s ", 20), " ")[:20]
	}
	n.relay, err = n.site.newRelay("relay", endpoints)
	return err
}

func (n *networkRun) filter(verdict string) error {
	file := n.site.dir + "/rules"
	if err := os.WriteFile(file, []byte(rules(verdict)), 0o600); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	return tool("nft", "-f", file)
}

func (n *networkRun) loss(ctx context.Context, _ *networkResult) error {
	if err := n.filter("numgen random mod 100 < 10 drop"); err != nil {
		return err
	}
	pause(ctx, n.each)
	return tool("nft", "delete", "table", "inet", "lab")
}

func (n *networkRun) delay(ctx context.Context, _ *networkResult) error {
	if err := tool("tc", "qdisc", "add", "dev", nearDevice, "root", "tbf", "rate", "1mbit", "burst", "4kb", "latency", "600ms"); err != nil {
		return err
	}
	pause(ctx, n.each)
	return tool("tc", "qdisc", "del", "dev", nearDevice, "root")
}

func (n *networkRun) resets(ctx context.Context, _ *networkResult) error {
	if err := n.filter("meta l4proto tcp numgen random mod 100 < 5 reject with tcp reset"); err != nil {
		return err
	}
	pause(ctx, n.each)
	return tool("nft", "delete", "table", "inet", "lab")
}

// silence cuts off one endpoint, whose neighbour must not notice.
func (n *networkRun) silence(ctx context.Context, _ *networkResult) error {
	if err := n.filter("ip daddr " + liveAddress + " drop"); err != nil {
		return err
	}
	pause(ctx, n.each)
	s, err := n.relay.stats(ctx, heldEndpoint)
	if err != nil {
		return err
	}
	if s.Pending+s.Retrying > uint64(n.rate) {
		return fmt.Errorf("its neighbour is %d deliveries behind", s.Pending+s.Retrying)
	}
	return tool("nft", "delete", "table", "inet", "lab")
}

// refusal closes the live endpoint's port for a while, and counts who comes when it opens again.
func (n *networkRun) refusal(ctx context.Context, result *networkResult) error {
	if err := n.filter("ip daddr " + liveAddress + " meta l4proto tcp reject with tcp reset"); err != nil {
		return err
	}
	pause(ctx, n.each+2*time.Second)
	n.live.watch()
	opened := time.Now()
	if err := tool("nft", "delete", "table", "inet", "lab"); err != nil {
		return err
	}
	if err := n.recover(ctx); err != nil {
		return err
	}
	var first time.Time
	result.Crowd, result.CrowdFirst, first = n.live.watched()
	result.BackMs = inMillis(first.Sub(opened))
	return nil
}

// cable takes the network away from this machine. What is accepted meanwhile must be delivered with its first attempt.
func (n *networkRun) cable(ctx context.Context, result *networkResult) error {
	if err := tool("ip", "link", "set", nearDevice, "down"); err != nil {
		return err
	}
	offline := func() bool {
		s, err := n.relay.stats(ctx, liveEndpoint)
		return err == nil && s.State == offlineState
	}
	if err := await(ctx, 30*time.Second, offline); err != nil {
		return fmt.Errorf("the relay doesn't notice that this machine is offline: %w", err)
	}
	before := n.acked.count()
	pause(ctx, n.each)
	n.attempts.watch(n.acked.ledger().acked[before:])
	result.Offline = n.attempts.size()
	return tool("ip", "link", "set", nearDevice, "up")
}

// recover waits until both endpoints have caught up.
func (n *networkRun) recover(ctx context.Context) error {
	caughtUp := func() bool {
		for _, name := range []string{liveEndpoint, heldEndpoint} {
			s, err := n.relay.stats(ctx, name)
			if err != nil || s.Retrying > 0 || s.Pending > uint64(n.rate) {
				return false
			}
		}
		return true
	}
	return waitUntil(ctx, settleLimit, settleStall, n.pair.live.unique, caughtUp)
}

func (n *networkRun) compare(ctx context.Context, result *networkResult) error {
	acked := n.acked.ledger()
	result.Acknowledged = len(acked.acked)
	result.Charged = n.attempts.later()
	for _, r := range []*receiver{n.pair.live, n.pair.held} {
		result.Lost += acked.compare(r.ids()).Lost
		result.Repeats += r.counts().Repeats
	}
	var all struct {
		Totals struct {
			Delivered int64 `json:"delivered"`
			Attempts  int64 `json:"attempts"`
		} `json:"totals"`
		Queue struct {
			Failed uint64 `json:"failed"`
		} `json:"queue"`
	}
	if err := n.relay.call(ctx, "GET", "http://"+n.relay.admin+"/stats", &all); err != nil {
		return err
	}
	result.Failed = all.Queue.Failed
	result.Unanswered = all.Totals.Attempts - all.Totals.Delivered
	for _, name := range []string{liveEndpoint, heldEndpoint} {
		resent, err := n.relay.metric(ctx, "relay_delivery_resent_total{endpoint=\""+name+"\"}")
		if err != nil {
			return err
		}
		result.Resent += int64(resent)
	}
	return nil
}

// crowd is a receiver that counts how many requests it has at a time.
type crowd struct {
	receiver *receiver
	attempts *firstAttempts
	now      atomic.Int64

	mu       sync.Mutex
	watching bool
	most     int64
	early    int64
	first    time.Time
}

// crowdDelay makes requests overlap.
const crowdDelay = 5 * time.Millisecond

func (c *crowd) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	now := c.now.Add(1)
	defer c.now.Add(-1)
	c.mu.Lock()
	if c.watching {
		if c.first.IsZero() {
			c.first = began
		}
		c.most = max(c.most, now)
		if began.Sub(c.first) < 100*time.Millisecond {
			c.early++
		}
	}
	c.mu.Unlock()
	c.attempts.received(ctx.Request.Header.Peek("Webhook-Id"), string(ctx.Request.Header.Peek("X-RealtorBot-Attempt")))
	time.Sleep(crowdDelay)
	c.receiver.handle(ctx)
}

func (c *crowd) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = true
}

func (c *crowd) watched() (most, early int64, first time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = false
	return c.most, c.early, c.first
}

// firstAttempts finds deliveries whose first attempt to arrive was not numbered 1. It is safe for concurrent use.
type firstAttempts struct {
	mu     sync.Mutex
	seqs   map[uint64]bool // true: seen
	behind int
}

func (f *firstAttempts) watch(seqs []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seqs = map[uint64]bool{}
	for _, seq := range seqs {
		f.seqs[seq] = false
	}
}

func (f *firstAttempts) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seqs)
}

func (f *firstAttempts) received(id []byte, attempt string) {
	_, seq, ok := parseID(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen, watched := f.seqs[seq]; !ok || !watched || seen {
		return
	}
	f.seqs[seq] = true
	if attempt != "1" {
		f.behind++
	}
}

// later is how many were seen with a later attempt first.
func (f *firstAttempts) later() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.behind
}
