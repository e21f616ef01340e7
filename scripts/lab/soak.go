// soak tries to break all promises at once for ten minutes, and the one that the relay returns to where it began.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// soakRun loads a relay with all that comes in daily life at once, and then looks at what is left of it.
type soakRun struct {
	site site
	last time.Duration // how long it lasts
	rate float64

	relay *relay
	ends  []*soaked
	acked *acknowledged
}

// soaked is one endpoint of the soak.
type soaked struct {
	name     string
	receiver *receiver
	well     atomic.Bool // when false its answers are 500
}

// footprint is what a relay takes of its machine.
type footprint struct {
	MemoryMiB  float64 `json:"anonymous_memory_mib"`
	Goroutines int     `json:"goroutines"`
	Files      int     `json:"open_files"`
	DiskMiB    float64 `json:"disk_mib"`
	Events     int64   `json:"events"` // kept
}

// soakResult is what the soak command prints.
type soakResult struct {
	Seconds      float64   `json:"seconds"`
	Acknowledged int       `json:"acknowledged"`
	Lost         int       `json:"lost"` // at the endpoints that gave no delivery up
	Repeats      uint64    `json:"repeats"`
	Kills        int       `json:"kills"`
	Reloads      int       `json:"reloads"`
	BadRequests  uint64    `json:"bad_requests"`
	Duplicates   uint64    `json:"duplicates"`
	Wrong        uint64    `json:"wrong"` // bad requests or duplicates that were answered otherwise than they should
	StartMs      startsMs  `json:"start_ms"`
	Before       footprint `json:"before"`
	Most         footprint `json:"most"`
	After        footprint `json:"after"`
}

const (
	soakTime      = 10 * time.Minute
	soakQuick     = 30 * time.Second
	soakWarm      = 3 * time.Second
	soakCool      = 4 * time.Minute // the longest that it may take to return; the relay forgets ids after one
	coolRequests  = 100             // in each second of it
	flapEvery     = 3 * time.Second
	slowAnswer    = 5 * time.Millisecond
	failingName   = "failing"
	quickestKills = 5 * time.Second

	// How far from where it began a figure may end: what a heap of that size, the journal's six slots and the store's files
	// of a fixed size make of it.
	moreMemoryMiB  = 32
	moreGoroutines = 24
	moreFiles      = 24
	moreDiskMiB    = 40
	moreEvents     = 1000
)

func runSoak(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("soak", "Posts to a relay with a good, a slow, a failing and a flapping endpoint; beside that duplicates, bad requests, connections that are\n"+
		"left alone, reloads, and SIGKILL in the first half. Then all endpoints get well. Exit code 1 when an acknowledged event is missing,\n"+
		"an answer is wrong, or memory, goroutines, open files and disk don't return to where they began.")
	var run soakRun
	run.site.flags(flags)
	flags.DurationVar(&run.last, "d", soakTime, "how `long`")
	flags.Float64Var(&run.rate, "rate", 1000, "`events` a second")
	quick := flags.Bool("quick", false, "as -d 30s")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if *quick {
		run.last = soakQuick
	}
	if run.last < soakQuick {
		return usageError(fmt.Sprintf("soak needs -d of %s or more", soakQuick))
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
	fmt.Fprintf(out, "%d events acknowledged in %.0f s, %d kills, %d reloads, %d bad requests, %d duplicates: %d lost, %d repeats, %d wrong answers; serving again after %.0f/%.0f/%.0f ms (min/median/max)\n"+
		"before, at most, after: anonymous memory %.0f, %.0f, %.0f MiB; goroutines %d, %d, %d; open files %d, %d, %d; disk %.0f, %.0f, %.0f MiB; events kept %d, %d, %d\n",
		result.Acknowledged, result.Seconds, result.Kills, result.Reloads, result.BadRequests, result.Duplicates, result.Lost, result.Repeats, result.Wrong,
		result.StartMs.Min, result.StartMs.Median, result.StartMs.Max,
		result.Before.MemoryMiB, result.Most.MemoryMiB, result.After.MemoryMiB, result.Before.Goroutines, result.Most.Goroutines, result.After.Goroutines,
		result.Before.Files, result.Most.Files, result.After.Files, result.Before.DiskMiB, result.Most.DiskMiB, result.After.DiskMiB,
		result.Before.Events, result.Most.Events, result.After.Events)
	return result.judge()
}

func (s *soakResult) judge() error {
	var faults []error
	if s.Lost > 0 || s.Wrong > 0 {
		faults = append(faults, fmt.Errorf("%d events lost, %d wrong answers", s.Lost, s.Wrong))
	}
	if err := s.After.returned(s.Before); err != nil {
		faults = append(faults, err)
	}
	if s.Most.Events <= s.Before.Events+moreEvents {
		faults = append(faults, fmt.Errorf("at most %d events were kept: there was nothing to give back", s.Most.Events))
	}
	return errors.Join(faults...)
}

// returned says what of a footprint has not returned to where it was.
func (f footprint) returned(before footprint) error {
	var faults []error
	for _, c := range []struct {
		what          string
		before, after float64
		more          float64
	}{
		{"MiB of anonymous memory", before.MemoryMiB, f.MemoryMiB, moreMemoryMiB},
		{"goroutines", float64(before.Goroutines), float64(f.Goroutines), moreGoroutines},
		{"open files", float64(before.Files), float64(f.Files), moreFiles},
		{"MiB of disk", before.DiskMiB, f.DiskMiB, moreDiskMiB},
		{"events kept", float64(before.Events), float64(f.Events), moreEvents},
	} {
		if c.after > c.before+c.more {
			faults = append(faults, fmt.Errorf("%s: %.0f before, %.0f after", c.what, c.before, c.after))
		}
	}
	return errors.Join(faults...)
}

func (s *soakRun) perform(ctx context.Context) (result soakResult, err error) {
	if err := s.set(); err != nil {
		return result, err
	}
	for _, e := range s.ends {
		defer e.receiver.close()
	}
	if _, err := s.relay.start(ctx); err != nil {
		return result, err
	}
	defer func() { s.relay.proc.kill() }()
	// What the first events bring with them, connections above all, is not what grows.
	s.acked = &acknowledged{run: newRun()}
	if err := s.post(ctx, soakWarm, s.acked.run, s.acked.note); err != nil {
		return result, err
	}
	if err := s.settle(ctx); err != nil {
		return result, err
	}
	if result.Before, err = s.look(ctx); err != nil {
		return result, err
	}

	began := time.Now()
	second := &acknowledged{run: newRun()} // ids of its own
	if err := s.live(ctx, second, &result); err != nil {
		return result, err
	}
	result.Seconds = time.Since(began).Seconds()
	for _, e := range s.ends {
		e.well.Store(true)
	}
	if err := s.settle(ctx); err != nil {
		return result, err
	}
	for _, ledger := range []*ledger{s.acked.ledger(), second.ledger()} {
		result.Acknowledged += len(ledger.acked)
		for _, e := range s.ends {
			if e.name != failingName {
				result.Lost += ledger.compare(e.receiver.ids()).Lost
			}
		}
	}
	for _, e := range s.ends {
		result.Repeats += e.receiver.counts().Repeats
	}
	return result, s.cool(ctx, &result)
}

// set makes the endpoints and the relay, which keeps nothing longer than it must.
func (s *soakRun) set() (err error) {
	var endpoints []endpoint
	for _, name := range []string{"good", "slow", failingName, "flapping"} {
		e := &soaked{name: name, receiver: newReceiver()}
		e.well.Store(true)
		if name == "slow" {
			e.receiver.delay = slowAnswer
		}
		e.receiver.srv = newServer(e.handle)
		addr, err := startReceiver(e.receiver)
		if err != nil {
			return err
		}
		s.ends = append(s.ends, e)
		retry := strings.Split(strings.TrimSpace(strings.Repeat("1s ", 20)), " ")
		if name == failingName {
			retry = retry[:2]
		}
		endpoints = append(endpoints, endpoint{name: name, url: "http://" + addr + "/events", events: []string{"lead.*"}, retry: retry})
	}
	s.relay, err = s.site.newRelay("relay", endpoints, `retention = "0s"`, `dedup_window = "1m"`, `failed_retention = "1m"`)
	return err
}

func (e *soaked) handle(ctx *fasthttp.RequestCtx) {
	if !e.well.Load() {
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		return
	}
	e.receiver.handle(ctx)
}

func (s *soakRun) post(ctx context.Context, d time.Duration, run uint32, note func(uint64, time.Time, time.Time)) error {
	l, err := newLoad(loadPlan{addr: s.relay.ingest, path: "/events", conns: 16, rate: s.rate, duration: d, answered: note}, run)
	if err != nil {
		return err
	}
	l.post(ctx)
	return ctx.Err()
}

// live is everyday life: everything that happens to a relay, at once.
func (s *soakRun) live(ctx context.Context, acked *acknowledged, result *soakResult) error {
	ctx, stop := context.WithTimeout(ctx, s.last)
	defer stop()
	var all sync.WaitGroup
	var badRequests, duplicates, wrong atomic.Uint64
	var posting error
	all.Go(func() { posting = s.post(context.WithoutCancel(ctx), s.last, acked.run, acked.note) })
	all.Go(func() { s.flap(ctx) })
	all.Go(func() { s.misbehave(ctx, &badRequests, &wrong) })
	all.Go(func() { s.repeat(ctx, acked, &duplicates, &wrong) })
	all.Go(func() { s.loiter(ctx) })

	var starts []time.Duration
	var err error
	began := time.Now()
	nextKill := began.Add(quickestKills)
	for ctx.Err() == nil && err == nil {
		pause(ctx, time.Second)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) < s.last/2 && time.Now().After(nextKill) {
			// In the first half only: what grows must have the second to show.
			nextKill = time.Now().Add(quickestKills + rand.N(s.last/10))
			s.relay.proc.kill()
			var took time.Duration
			took, err = s.relay.start(ctx)
			starts = append(starts, took)
			continue
		}
		if s.relay.proc.cmd.Process.Signal(syscall.SIGHUP) == nil {
			result.Reloads++
		}
		if now, lookErr := s.look(ctx); lookErr == nil {
			result.Most = now.most(result.Most)
		}
	}
	stop()
	all.Wait()
	result.Kills, result.StartMs = len(starts), summarise(starts)
	result.BadRequests, result.Duplicates, result.Wrong = badRequests.Load(), duplicates.Load(), wrong.Load()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the time was over while it started
	}
	return errors.Join(err, posting)
}

// flap lets the failing endpoint fail and the flapping one come and go.
func (s *soakRun) flap(ctx context.Context) {
	for ctx.Err() == nil {
		for _, e := range s.ends {
			switch e.name {
			case failingName:
				e.well.Store(false)
			case "flapping":
				e.well.Store(!e.well.Load())
			}
		}
		pause(ctx, flapEvery)
	}
}

// misbehave posts what no relay should take.
func (s *soakRun) misbehave(ctx context.Context, count, wrong *atomic.Uint64) {
	bad := []struct {
		body string
		want int
	}{
		{`{"type":"lead.created"`, 400}, {`[]`, 400}, {`{"type":"Lead!","data":{}}`, 400}, {`{"type":"lead.created","data":[]}`, 400},
		{`{"type":"lead.created","data":{"a":1,"a":2}}`, 400}, {"{\"type\":\"lead.created\",\"data\":{\"a\":\"\xff\"}}", 400}, {strings.Repeat(" ", 2<<20), 413},
	}
	for i := 0; ctx.Err() == nil; i++ {
		b := bad[i%len(bad)]
		status, _, _, err := s.relay.request(ctx, http.MethodPost, "http://"+s.relay.ingest+"/events", b.body)
		if err == nil {
			count.Add(1)
			if status != b.want && status != http.StatusServiceUnavailable {
				wrong.Add(1)
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// repeat posts events again that were acknowledged a moment ago.
func (s *soakRun) repeat(ctx context.Context, acked *acknowledged, count, wrong *atomic.Uint64) {
	for ctx.Err() == nil {
		pause(ctx, 100*time.Millisecond)
		known := acked.newest(20)
		forgotten, err := s.relay.repost(ctx, known)
		if err == nil {
			count.Add(uint64(len(known.acked)))
			wrong.Add(uint64(forgotten))
		}
	}
}

// loiter opens connections, says half a request, and goes away.
func (s *soakRun) loiter(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := net.DialTimeout("tcp", s.relay.ingest, time.Second); err == nil {
			_, _ = conn.Write([]byte("POST /events HTTP/1.1\r\nHost: x\r\nContent-Le")) // whether it is heard is all one
			pause(ctx, 30*time.Millisecond)
			conn.Close()
		} else {
			pause(ctx, redialPause)
		}
	}
}

// settle waits until nothing is left to deliver.
func (s *soakRun) settle(ctx context.Context) error {
	var receivers []*receiver
	for _, e := range s.ends {
		receivers = append(receivers, e.receiver)
	}
	return s.relay.settled(ctx, settleLimit, settleStall, receivers)
}

// cool gives the failed deliveries up, as an operator would, and waits until all has returned to where it began; not for ever.
func (s *soakRun) cool(ctx context.Context, result *soakResult) error {
	if err := s.relay.call(ctx, http.MethodDelete, "http://"+s.relay.admin+"/endpoints/"+failingName+"/failed", nil); err != nil {
		return err
	}
	for began := time.Now(); ; pause(ctx, time.Second) {
		// The collector of a process that allocates nothing comes after two minutes only: answers, of which nothing is kept, call it.
		for range coolRequests {
			if err := s.relay.call(ctx, http.MethodGet, "http://"+s.relay.admin+"/metrics", nil); err != nil {
				return err
			}
		}
		var err error
		if result.After, err = s.look(ctx); err != nil {
			return err
		}
		if result.After.returned(result.Before) == nil || time.Since(began) > soakCool {
			return nil
		}
	}
}

func (s *soakRun) look(ctx context.Context) (f footprint, err error) {
	var all struct {
		Process struct {
			Memory     float64 `json:"anonymous_memory_bytes"`
			Goroutines int     `json:"goroutines"`
			Files      int     `json:"open_files"`
		} `json:"process"`
		Queue struct {
			Events int64 `json:"events"`
		} `json:"queue"`
	}
	if err := s.relay.call(ctx, http.MethodGet, "http://"+s.relay.admin+"/stats", &all); err != nil {
		return f, err
	}
	return footprint{
		MemoryMiB: all.Process.Memory / (1 << 20), Goroutines: all.Process.Goroutines, Files: all.Process.Files,
		DiskMiB: float64(diskUsage(s.relay.data)) / (1 << 20), Events: all.Queue.Events,
	}, nil
}

func (f footprint) most(g footprint) footprint {
	return footprint{max(f.MemoryMiB, g.MemoryMiB), max(f.Goroutines, g.Goroutines), max(f.Files, g.Files), max(f.DiskMiB, g.DiskMiB), max(f.Events, g.Events)}
}
