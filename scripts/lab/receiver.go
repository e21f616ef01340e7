package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// receiver is an endpoint. It answers every POST, counts those that it answers well, and tells events apart by their
// webhook-id header or, without one (the generator posted straight to it), by the id in the body. All methods are safe
// for concurrent use.
type receiver struct {
	delay       time.Duration // before each answer
	failPercent float64       // share of answers that fail
	failStatus  int
	refuses     func(id, replay, body []byte, at time.Time) bool // asked of each event, with the replay's header; nil: none
	ledger      *bufio.Writer                                    // ids as they first arrive; nil for none; guarded by mu

	latency  histogram // posted → received
	received atomic.Uint64
	refused  atomic.Uint64
	observer atomic.Pointer[observer]

	mu   sync.Mutex
	seen map[string]struct{}
	srv  *fasthttp.Server
}

// observer is told of every event that is received, with the moment at which it was; id is valid during the call only.
type observer func(id []byte, at time.Time)

// counts is what GET /count answers.
type counts struct {
	Received uint64 `json:"received"` // answered with success, repeats included
	Unique   uint64 `json:"unique"`
	Repeats  uint64 `json:"repeats"`
	Refused  uint64 `json:"refused"` // answered with -status because of -fail
	P50us    int64  `json:"p50_us"`  // posted → received
	P99us    int64  `json:"p99_us"`
	MaxUs    int64  `json:"max_us"`
}

func newReceiver() *receiver {
	r := &receiver{failStatus: fasthttp.StatusInternalServerError, seen: map[string]struct{}{}}
	r.srv = newServer(r.handle)
	return r
}

func (r *receiver) handle(ctx *fasthttp.RequestCtx) {
	switch {
	case ctx.IsGet() && string(ctx.Path()) == "/count":
		text, err := json.Marshal(r.counts())
		if err != nil {
			ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
			return
		}
		ctx.SetContentType("application/json")
		ctx.SetBody(text)
	case ctx.IsPost() && string(ctx.Path()) == "/reset":
		r.reset()
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	case ctx.IsPost():
		r.receive(ctx)
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
	}
}

func (r *receiver) receive(ctx *fasthttp.RequestCtx) {
	now := time.Now()
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
	if r.failPercent > 0 && rand.Float64()*100 < r.failPercent {
		r.refused.Add(1)
		ctx.SetStatusCode(r.failStatus)
		return
	}
	body := ctx.PostBody()
	id := ctx.Request.Header.Peek("Webhook-Id")
	if len(id) == 0 {
		id = eventID(body)
	}
	if r.refuses != nil && r.refuses(id, ctx.Request.Header.Peek("X-RealtorBot-Replay"), body, now) {
		r.refused.Add(1)
		ctx.SetStatusCode(r.failStatus)
		return
	}
	if stamp, ok := eventStamp(body); ok {
		r.latency.record(now.Sub(stamp))
	}
	if o := r.observer.Load(); o != nil {
		(*o)(id, now)
	}
	r.mu.Lock()
	if _, again := r.seen[string(id)]; !again {
		r.seen[string(id)] = struct{}{}
		if r.ledger != nil {
			r.ledger.Write(id)
			r.ledger.WriteByte('\n') // its error stays for the Flush at the end
		}
	}
	// Inside the lock, so that received is never less than unique.
	r.received.Add(1)
	r.mu.Unlock()
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"received":true}`)
}

func (r *receiver) counts() counts {
	r.mu.Lock()
	unique, received := uint64(len(r.seen)), r.received.Load()
	r.mu.Unlock()
	q := r.latency.quantiles()
	return counts{
		Received: received, Unique: unique, Repeats: received - unique, Refused: r.refused.Load(),
		P50us: q.P50us, P99us: q.P99us, MaxUs: q.MaxUs,
	}
}

// unique is the number of different events received.
func (r *receiver) unique() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uint64(len(r.seen))
}

// ids is a copy of the set of events received.
func (r *receiver) ids() map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

func (r *receiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = map[string]struct{}{}
	r.received.Store(0)
	r.refused.Store(0)
	r.latency.reset()
}

// start serves ln in the background until close; ln belongs to the receiver from here on.
func (r *receiver) start(ln net.Listener) {
	go r.srv.Serve(ln) // ends with close; a listener that fails earlier shows as events that don't arrive
}

func (r *receiver) close() {
	stop, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.srv.ShutdownWithContext(stop) // connections that are still kept alive end with the process
}

// startReceiver starts a receiver on a free port and returns its address.
func startReceiver(r *receiver) (addr string, err error) {
	addr, err = freeAddress()
	if err != nil {
		return "", err
	}
	ln, err := listenLoopback(addr)
	if err != nil {
		return "", err
	}
	r.start(ln)
	return addr, nil
}

func runReceive(ctx context.Context, args []string, _ io.Writer) error {
	fs := newFlags("receive", "An endpoint that counts what it gets. GET /count answers with the counts as JSON, POST /reset forgets them.\nEnds on SIGTERM or after an hour.")
	listen := fs.String("listen", "127.0.0.1:9003", "loopback `address`")
	delay := fs.Duration("delay", 0, "wait before each answer")
	fail := fs.String("fail", "0%", "`share` of the answers that fail, such as 10%")
	status := fs.Int("status", 500, "`status` of the answers that fail")
	file := fs.String("ledger", "", "write the ids that arrived to this `file`, one a line, when it ends")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(*fail, "%"), 64)
	if err != nil || percent < 0 || percent > 100 {
		return usageError(fmt.Sprintf("-fail %q: want a share between 0%% and 100%%", *fail))
	}
	if *status < 300 || *status > 599 {
		return usageError(fmt.Sprintf("-status %d: a failing answer has 300 to 599", *status))
	}
	if *delay < 0 {
		return usageError("-delay can't be negative")
	}
	ln, err := listenLoopback(*listen)
	if err != nil {
		return err
	}
	r := newReceiver()
	r.delay, r.failPercent, r.failStatus = *delay, percent, *status
	if *file == "" {
		return serve(ctx, r.srv, ln, serveLimit)
	}
	f, err := os.Create(*file)
	if err != nil {
		ln.Close()
		return fmt.Errorf("create ledger: %w", err)
	}
	r.ledger = bufio.NewWriterSize(f, 1<<16)
	err = serve(ctx, r.srv, ln, serveLimit)
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.ledger.Flush(), f.Close())
}
