package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	healthType = "lead.created"   // for those that are well
	plainType  = "lead.qualified" // for the others
	oddType    = "lead.scored"    // likewise: some can't stand it
)

// kind is an endpoint of the health run, and its receiver.
type kind struct {
	name   string
	addr   string
	events []string
	more   []string // lines of its configuration
	far    bool     // beyond the cable
	never  bool     // nothing of it may fail
	fails  bool     // something of it has to fail
	seen   []string // states that it has to have been seen in
	answer func(k *kind, odd bool, now time.Time) reply

	bad  atomic.Bool
	well *receiver // what it got that it answered with success

	mu    sync.Mutex
	told  map[string][]told
	taken []time.Time // within its quota
}

// reply is what a receiver says, and when.
type reply struct {
	status int
	after  time.Duration
	wait   int // seconds of Retry-After, 0 for none
}

func (k *kind) handle(ctx *fasthttp.RequestCtx) {
	came := time.Now()
	id := string(ctx.Request.Header.Peek("Webhook-Id"))
	attempt, _ := strconv.Atoi(string(ctx.Request.Header.Peek("X-RealtorBot-Attempt"))) // without one it is none that anybody made
	r := reply{status: 200}
	if k.answer != nil {
		k.mu.Lock()
		r = k.answer(k, string(ctx.Request.Header.Peek("X-RealtorBot-Event")) == oddType, came)
		k.mu.Unlock()
	}
	if r.after > 0 {
		time.Sleep(r.after)
	}
	if r.status/100 == 2 {
		k.well.handle(ctx)
	} else {
		ctx.SetStatusCode(r.status)
		if r.wait > 0 {
			ctx.Response.Header.Set("Retry-After", strconv.Itoa(r.wait))
		}
	}
	k.mu.Lock()
	k.told[id] = append(k.told[id], told{attempt: attempt, status: r.status, at: came, ended: time.Now()})
	k.mu.Unlock()
}

// toldOf is what it says of one event.
func (k *kind) toldOf(id string) []told {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.told[id])
}

// kinds are the endpoints of the run. retry is their schedule, timeout their attempts'.
func (h *healthRun) kinds() []*kind {
	badly := []string{plainType, oddType}
	status := func(code int) func(*kind, bool, time.Time) reply {
		return func(k *kind, _ bool, _ time.Time) reply {
			if k.bad.Load() {
				return reply{status: code}
			}
			return reply{status: 200}
		}
	}
	oddly := func(code int) func(*kind, bool, time.Time) reply {
		return func(k *kind, odd bool, _ time.Time) reply {
			if odd && k.bad.Load() {
				return reply{status: code}
			}
			return reply{status: 200}
		}
	}
	quota := func(code, wait int) func(*kind, bool, time.Time) reply {
		return func(k *kind, _ bool, now time.Time) reply {
			k.taken = slices.DeleteFunc(k.taken, func(at time.Time) bool { return now.Sub(at) > quotaWithin })
			if k.bad.Load() && len(k.taken) >= quotaOf {
				return reply{status: code, wait: wait}
			}
			k.taken = append(k.taken, now)
			return reply{status: 200}
		}
	}
	slowly := func(after time.Duration) func(*kind, bool, time.Time) reply {
		return func(k *kind, _ bool, _ time.Time) reply {
			if k.bad.Load() {
				return reply{status: 200, after: after}
			}
			return reply{status: 200}
		}
	}
	all := []*kind{
		{name: "well", events: []string{healthType}, never: true},
		{name: "well-beyond", events: badly, far: true, never: true, seen: []string{"offline"}},
		{name: "poison", events: badly, far: true, fails: true, answer: oddly(422)},
		{name: "fails-one-type", events: badly, fails: true, answer: oddly(500)},
		{name: "limited", events: badly, far: true, never: true, seen: []string{"limited"}, answer: quota(429, 2)},
		{name: "limited-503", events: badly, never: true, seen: []string{"limited"}, answer: quota(503, 2)},
		{name: "limited-without-a-time", events: badly, far: true, never: true, seen: []string{"limited"}, answer: quota(429, 0)},
		{name: "flapping", events: badly, far: true, seen: []string{"down"}, answer: status(500)},
		{name: "hanging", events: badly, far: true, seen: []string{"down"}, answer: func(k *kind, _ bool, _ time.Time) reply {
			if k.bad.Load() {
				return reply{status: 500, after: 3 * h.timeout}
			}
			return reply{status: 200}
		}},
		{name: "slow", events: badly, far: true, never: true, answer: slowly(h.timeout * 2 / 5)},
		{name: "lagging", events: badly, never: true, seen: []string{lagsState}, more: []string{"concurrency = 1", `lag = "5s"`}, answer: slowly(h.timeout / 4)},
		{name: lanEndpoint, events: badly, far: true, seen: []string{"down"}},
		{name: controlEndpoint, events: badly, answer: oddly(500)},
	}
	if h.last > 2*time.Minute {
		all = append(all, &kind{name: deadEndpoint, events: badly, fails: true, seen: []string{"down"}, more: []string{`max_age = "1m"`}, answer: status(500)})
	}
	for _, k := range all {
		k.bad.Store(k.name != "flapping" && k.name != "hanging") // these come and go
		k.told, k.well = map[string][]told{}, newReceiver()
		k.well.srv = newServer(k.handle)
	}
	return all
}

const (
	lanEndpoint     = "lan-host"
	deadEndpoint    = "dead"    // never comes back
	controlEndpoint = "control" // without retries, so that what fails there fails too early
	lagsState       = "lagging" // of which the relay speaks beside the state
	quotaOf         = 30
	quotaWithin     = 3 * time.Second
)

// listen starts the receivers, those beyond the cable over there.
func (h *healthRun) listen() error {
	for i, k := range h.ends {
		if !k.far {
			var err error
			if k.addr, err = startReceiver(k.well); err != nil {
				return err
			}
			continue
		}
		host := liveAddress
		if k.name == lanEndpoint {
			host = heldAddress
		}
		k.addr = fmt.Sprintf("%s:%d", host, 9001+i)
		ln, err := h.far.listen(k.addr)
		if err != nil {
			return err
		}
		k.well.start(ln)
	}
	return nil
}

// endpoints are the configuration, which differs from reload to reload in something that means little.
func (h *healthRun) endpoints() (list []endpoint) {
	for _, k := range h.ends {
		e := endpoint{name: k.name, url: "http://" + k.addr + "/events", events: k.events, retry: h.retry, timeout: h.timeout.String(), once: k.name == controlEndpoint, more: k.more}
		if e.once {
			e.retry = nil
		}
		if len(k.more) == 0 {
			e.more = []string{fmt.Sprintf("concurrency = %d", 16-h.result.Reloads%2)}
		}
		list = append(list, e)
	}
	return list
}

// flap has the flapping endpoint come and go, until ctx ends.
func (k *kind) flap(ctx context.Context) {
	for ctx.Err() == nil {
		k.bad.Store(!k.bad.Load())
		pause(ctx, flapsAfter)
	}
}

const flapsAfter = 8 * time.Second

// scaled is the documented schedule with all waits so many times shorter.
func scaled(by int) (waits []string) {
	for _, wait := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute} {
		waits = append(waits, (wait / time.Duration(by)).Round(time.Millisecond).String())
	}
	return waits
}

// named is the list with one in a sentence.
func named(list []string) string { return strings.Join(list, "; ") }
