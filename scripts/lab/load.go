package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	answerTimeout = 30 * time.Second
	dialTimeout   = time.Second
	redialPause   = 5 * time.Millisecond
	maxBatchBytes = 1 << 20 // the relay's default max_body
	maxEvents     = 999_999_999
	// A slot that is handed out later than this after its time is counted as late: the generator itself is short of
	// processor time, and the rate is not the one that was asked for.
	lateSlot = 10 * time.Millisecond
)

// loadPlan says what a load posts. It ends when the duration has passed or the count is posted, whichever is set and
// comes first.
type loadPlan struct {
	addr      string // loopback host:port
	path      string
	conns     int
	duration  time.Duration // 0: no limit
	count     uint64        // events; 0: no limit; a multiple of batch
	rate      float64       // posts a second over all connections; 0: as fast as they are answered
	batch     int           // events a post
	size      int           // bytes of an event
	eventType string
	keep      bool        // a ledger
	mix       []postClass // what the posts are, one after the other; empty: all of path and size
	secure    bool        // over TLS
	hosts     int         // addresses that the connections are from, from 127.0.0.100 on; 0: that of this machine
	// answered, when set, is told of each post that was answered 200, from many goroutines. posted is the moment at
	// which the post was due, also when no connection was free then.
	answered func(first uint64, posted, at time.Time)
}

// load is one run of the generator.
type load struct {
	plan    loadPlan
	run     uint32
	mix     []*mixed // of each of plan.mix; those of one name are the same
	latency histogram
	claimed atomic.Uint64 // posts
	posted  atomic.Uint64 // events
	ok      atomic.Uint64 // events answered 200
	late    atomic.Uint64 // slots
	refused atomic.Uint64 // connections
	slots   chan time.Time

	mu      sync.Mutex
	errors  map[string]uint64 // events by status, or "unanswered"
	ledger  ledger
	started time.Time
	elapsed time.Duration
}

// mixed is one class of a load's posts.
type mixed struct {
	postClass
	event   template
	latency histogram
}

// loadResult is what the load command prints. Numbers are of events; latency is from posting to the answer.
type loadResult struct {
	Sent      uint64            `json:"sent"`
	OK        uint64            `json:"ok"`
	Errors    map[string]uint64 `json:"errors,omitempty"`
	Late      uint64            `json:"late,omitempty"`
	Refused   uint64            `json:"refused,omitempty"` // connections, which were tried again
	Seconds   float64           `json:"seconds"`
	PerSecond float64           `json:"per_second"`
	P50us     int64             `json:"p50_us"`
	P99us     int64             `json:"p99_us"`

	Classes map[string]quantiles `json:"classes,omitempty"` // of a mix
}

func newLoad(plan loadPlan, run uint32) (*load, error) {
	if plan.batch == 0 {
		plan.batch = 1
	}
	if plan.size == 0 {
		plan.size = 250
	}
	if plan.eventType == "" {
		plan.eventType = "lead.created"
	}
	if err := checkLoopback(plan.addr); err != nil {
		return nil, err
	}
	switch {
	case plan.conns < 1 || plan.conns > 10_000:
		return nil, usageError(fmt.Sprintf("%d connections: want 1 to 10000", plan.conns))
	case plan.batch < 1 || plan.batch*(plan.size+1) > maxBatchBytes:
		return nil, usageError(fmt.Sprintf("batch of %d events of %d bytes: want 1 or more events and at most %d bytes", plan.batch, plan.size, maxBatchBytes))
	case plan.count%uint64(plan.batch) != 0:
		return nil, usageError(fmt.Sprintf("%d events in batches of %d: want a multiple", plan.count, plan.batch))
	case plan.count > maxEvents:
		return nil, usageError(fmt.Sprintf("%d events: at most %d have an id", plan.count, maxEvents))
	case plan.rate < 0 || plan.duration < 0:
		return nil, usageError("rate and duration can't be negative")
	}
	l := &load{plan: plan, run: run, errors: map[string]uint64{}, ledger: ledger{run: run}}
	if len(plan.mix) == 0 {
		plan.mix = []postClass{{path: plan.path, size: plan.size, credential: noCredential}}
	}
	for _, c := range plan.mix {
		if at := slices.IndexFunc(l.mix, func(m *mixed) bool { return m.name == c.name }); at >= 0 {
			l.mix = append(l.mix, l.mix[at])
			continue
		}
		event, err := newTemplate(run, plan.eventType, c.size, time.Now())
		if err != nil {
			return nil, err
		}
		l.mix = append(l.mix, &mixed{postClass: c, event: event})
	}
	return l, nil
}

// post runs the load until it is done or ctx ends; what is under way is answered first. It is called once.
func (l *load) post(ctx context.Context) loadResult {
	if l.plan.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.plan.duration)
		defer cancel()
	}
	l.started = time.Now()
	var all sync.WaitGroup
	if l.plan.rate > 0 {
		l.slots = make(chan time.Time, 1<<14)
		all.Go(func() { l.pace(ctx) })
	}
	for i := range l.plan.conns {
		all.Go(func() { l.converse(ctx, i) })
	}
	all.Wait()
	l.elapsed = time.Since(l.started)
	return l.result()
}

// begin posts in the background. finished is closed when all is posted; stop ends it earlier, and waits for its end.
func (l *load) begin(ctx context.Context) (finished <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.post(ctx)
	}()
	return ended, func() { cancel(); <-ended }
}

// postAll posts by a plan, whose count must be answered 200; without one, whatever was posted must be.
func postAll(ctx context.Context, plan loadPlan, run uint32) (l *load, posted loadResult, err error) {
	if l, err = newLoad(plan, run); err != nil {
		return nil, loadResult{}, err
	}
	posted = l.post(ctx)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case posted.OK < plan.count:
		err = fmt.Errorf("post to %s: only %d of %d events were answered 200: %v", plan.addr, posted.OK, plan.count, posted.Errors)
	case plan.count == 0 && len(posted.Errors) > 0:
		err = fmt.Errorf("post to %s: answers other than 200: %v", plan.addr, posted.Errors)
	}
	return l, posted, err
}

// pace hands out a slot whenever one is due. A slot carries the moment at which it was handed out: a post that then has
// to wait for a free connection counts that wait as its own.
func (l *load) pace(ctx context.Context) {
	defer close(l.slots)
	interval := time.Duration(float64(time.Second) / l.plan.rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := l.started; ; due = due.Add(interval) {
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		now := time.Now()
		if now.Sub(due) > lateSlot {
			l.late.Add(1)
		}
		select {
		case l.slots <- now:
		case <-ctx.Done():
			return
		}
		if l.plan.count > 0 && l.claimed.Load()*uint64(l.plan.batch) >= l.plan.count {
			return
		}
	}
}

// claim takes the right to one post: its first sequence number and the moment it was due.
func (l *load) claim(ctx context.Context) (first uint64, due time.Time, ok bool) {
	if l.slots != nil {
		select {
		case due, ok = <-l.slots:
		case <-ctx.Done():
		}
		if !ok {
			return 0, due, false
		}
	} else if ctx.Err() != nil {
		return 0, due, false
	}
	first = (l.claimed.Add(1) - 1) * uint64(l.plan.batch)
	if l.plan.count > 0 && first >= l.plan.count || first+uint64(l.plan.batch) > maxEvents {
		return 0, due, false
	}
	if l.slots == nil {
		due = time.Now()
	}
	return first, due, true
}

// converse is one connection, made again whenever it is lost. A post is claimed only once there is a connection, so that
// a relay that is away for a while costs no ids.
func (l *load) converse(ctx context.Context, i int) {
	d := net.Dialer{Timeout: dialTimeout}
	if l.plan.hosts > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(100+i%l.plan.hosts))}
	}
	requests := map[*mixed]*request{}
	for _, m := range l.mix {
		if requests[m] == nil {
			requests[m] = newRequest(l.plan.addr, m.path, m.event, l.plan.batch, m.credential)
		}
	}
	var acked, unknown []uint64 // first sequence numbers of posts
	defer func() { l.settle(acked, unknown) }()
	in := bufio.NewReaderSize(nil, 4096)
	var conn net.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for {
		if conn == nil {
			if conn = dialBy(ctx, d, l.plan.addr, &l.refused); conn == nil {
				return
			}
			if l.plan.secure {
				conn = tls.Client(conn, anyCertificate()) // the handshake is a part of its first post
			}
			in.Reset(conn)
		}
		first, due, ok := l.claim(ctx)
		if !ok {
			return
		}
		kind := l.mix[first/uint64(l.plan.batch)%uint64(len(l.mix))]
		req := requests[kind]
		req.patch(first, due)
		a, err := exchange(conn, in, req.bytes)
		now := time.Now()
		n := uint64(l.plan.batch)
		l.posted.Add(n)
		if err == nil && a.status == 200 {
			l.ok.Add(n)
			l.latency.record(now.Sub(due))
			kind.latency.record(now.Sub(due))
			if l.plan.keep {
				acked = append(acked, first)
			}
			if l.plan.answered != nil {
				l.plan.answered(first, due, now)
			}
		} else {
			l.count(a, err, n)
			if l.plan.keep {
				unknown = append(unknown, first)
			}
			// A relay that refuses is not asked again at once: the processor time is better spent on recovering.
			pause(ctx, redialPause)
		}
		if err != nil || a.close {
			conn.Close()
			conn = nil
		}
	}
}

// exchange writes one request and reads its answer.
func exchange(conn net.Conn, in *bufio.Reader, request []byte) (answer, error) {
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(request); err != nil {
		return answer{}, err
	}
	return readAnswer(in)
}

// dial tries until it has a connection or ctx ends, and then returns nil.
// Refused connections are counted.
func dial(ctx context.Context, addr string, refused *atomic.Uint64) net.Conn {
	return dialBy(ctx, net.Dialer{Timeout: dialTimeout}, addr, refused)
}

func dialBy(ctx context.Context, d net.Dialer, addr string, refused *atomic.Uint64) net.Conn {
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused.Add(1)
		}
		pause(ctx, redialPause)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (l *load) count(a answer, err error, events uint64) {
	reason := "unanswered"
	if err == nil {
		reason = strconv.Itoa(a.status)
	}
	l.mu.Lock()
	l.errors[reason] += events
	l.mu.Unlock()
}

// settle adds what one connection knows to the ledger.
func (l *load) settle(acked, unknown []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ledger.acked = l.appendEvents(l.ledger.acked, acked)
	l.ledger.unknown = l.appendEvents(l.ledger.unknown, unknown)
}

func (l *load) appendEvents(dst, posts []uint64) []uint64 {
	for _, first := range posts {
		for i := range uint64(l.plan.batch) {
			dst = append(dst, first+i)
		}
	}
	return dst
}

// result is complete once post has returned.
func (l *load) result() loadResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := l.elapsed.Seconds()
	var classes map[string]quantiles
	for _, m := range l.mix {
		if m.name != "" {
			if classes == nil {
				classes = map[string]quantiles{}
			}
			classes[m.name] = m.latency.quantiles()
		}
	}
	return loadResult{
		Sent:      l.posted.Load(),
		OK:        l.ok.Load(),
		Errors:    l.errors,
		Late:      l.late.Load(),
		Refused:   l.refused.Load(),
		Seconds:   seconds,
		PerSecond: float64(l.ok.Load()) / seconds,
		P50us:     l.latency.quantile(0.5).Microseconds(),
		P99us:     l.latency.quantile(0.99).Microseconds(),
		Classes:   classes,
	}
}

func runLoad(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("load", "Posts lead events and prints what came of them as JSON. Ends after -d, after -n events, or on SIGTERM.")
	target := fs.String("url", "http://127.0.0.1:8080/events", "loopback `URL` to post to")
	conns := fs.Int("c", 64, "`connections`")
	duration := fs.Duration("d", 0, "how long; without it -n decides, but never longer than an hour")
	count := fs.Uint64("n", 0, "how many `events`")
	rate := fs.Float64("rate", 0, "`posts` a second over all connections; 0: as fast as they are answered")
	batch := fs.Int("batch", 1, "`events` in one post; more than 1 posts NDJSON")
	size := fs.Int("size", 250, "`bytes` of an event")
	eventType := fs.String("type", "lead.created", "event `type`")
	file := fs.String("ledger", "", "write the ids that were answered 200 to this `file`, one a line, when it ends")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *duration == 0 && *count == 0 {
		return usageError("load needs -d or -n: it doesn't run for ever")
	}
	addr, path, err := loopbackURL(*target)
	if err != nil {
		return err
	}
	if *duration == 0 {
		*duration = serveLimit
	}
	l, err := newLoad(loadPlan{
		addr: addr, path: path, conns: *conns, duration: *duration, count: *count, rate: *rate,
		batch: *batch, size: *size, eventType: *eventType, keep: *file != "",
	}, newRun())
	if err != nil {
		return err
	}
	result := l.post(ctx)
	if *file != "" {
		if err := l.ledger.write(*file); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(result)
}
