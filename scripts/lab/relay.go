package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
	// Signs every delivery, so that what signing costs is in the figures. It is known to all and guards nothing.
	labSecret = "whsec_bGFib3JhdG9yeSBzZWNyZXQgMDEyMzQ1Njc4OQ=="
)

// site is where a run works: the relay's binary and a temporary directory.
type site struct {
	bin    string
	parent string
	keep   bool
	dir    string
}

func (s *site) flags(fs *flag.FlagSet) {
	fs.StringVar(&s.bin, "relay", "", "`path` of the relay's binary (required)")
	fs.StringVar(&s.parent, "dir", "", "make the temporary directory inside this `directory`, which decides the file system (default: the working directory)")
	fs.BoolVar(&s.keep, "keep", false, "leave the temporary directory, with logs and data, and print its path")
}

// open makes the temporary directory; close removes it.
func (s *site) open() error {
	if s.bin == "" {
		return usageError("the relay's binary is missing: give -relay PATH")
	}
	bin, err := filepath.Abs(s.bin)
	if err != nil {
		return fmt.Errorf("find relay: %w", err)
	}
	if info, err := os.Stat(bin); err != nil || info.IsDir() {
		return usageError(fmt.Sprintf("-relay %q is no file: build it with go build -o %s .", s.bin, s.bin))
	}
	s.bin = bin
	parent := s.parent
	if parent == "" {
		parent = "."
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return fmt.Errorf("find directory: %w", err)
	}
	if s.dir, err = os.MkdirTemp(parent, "lab-"); err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	return nil
}

func (s *site) close() {
	if s.keep {
		fmt.Fprintln(os.Stderr, "lab: kept", s.dir)
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, "lab: remove temporary directory:", err)
	}
}

// endpoint is an [[endpoint]] of a relay's configuration.
type endpoint struct {
	name    string
	url     string
	events  []string
	retry   []string // empty: the default schedule
	timeout string   // empty: the default
	once    bool     // no retries
	more    []string // further lines
}

// relay is a relay under test. It is used by one goroutine.
type relay struct {
	name   string
	bin    string
	dir    string
	config string
	data   string   // the queue's directory
	queue  []string // more lines of the section [queue]
	under  []string // a command that runs the relay, such as strace with its flags; it must keep the process id
	ingest string   // address of the intake
	admin  string
	proc   *process
	client *http.Client
}

// newRelay writes the configuration of a relay with a data directory of its own; everything that is not named here has
// its default. queue are lines for the section [queue].
func (s *site) newRelay(name string, endpoints []endpoint, queue ...string) (*relay, error) {
	r := &relay{name: name, bin: s.bin, dir: filepath.Join(s.dir, name), client: &http.Client{Timeout: 10 * time.Second}}
	var err error
	if r.ingest, err = freeAddress(); err != nil {
		return nil, err
	}
	if r.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of relay: %w", err)
	}
	r.config, r.data, r.queue = filepath.Join(r.dir, "relay.toml"), filepath.Join(r.dir, "data"), queue
	return r, r.configure(endpoints)
}

// configure writes the configuration again, which the next start or reload reads.
func (r *relay) configure(endpoints []endpoint) error {
	if err := os.WriteFile(r.config, configText(r, endpoints), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func configText(r *relay, endpoints []endpoint) []byte {
	text := fmt.Appendf(nil, "[server]\nlisten = %q\n\n[admin]\nlisten = %q\n\n[queue]\ndir = %q\n", r.ingest, r.admin, r.data)
	for _, line := range r.queue {
		text = fmt.Appendf(text, "%s\n", line)
	}
	for _, e := range endpoints {
		text = fmt.Appendf(text, "\n[[endpoint]]\nname = %q\nurl = %q\nevents = [%s]\nsecret = %q\n", e.name, e.url, quoteAll(e.events), labSecret)
		if e.once {
			text = fmt.Appendf(text, "retry = []\n")
		}
		if len(e.retry) > 0 {
			text = fmt.Appendf(text, "retry = [%s]\n", quoteAll(e.retry))
		}
		if e.timeout != "" {
			text = fmt.Appendf(text, "timeout = %q\n", e.timeout)
		}
		for _, line := range e.more {
			text = fmt.Appendf(text, "%s\n", line)
		}
	}
	return text
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(quoted, ", ")
}

// start starts the relay and returns how long it took until the intake's GET /health answered 200.
func (r *relay) start(ctx context.Context) (time.Duration, error) {
	return r.startUntil(ctx, r.health)
}

// startUntil starts the relay and returns how long it took until ready found nothing to wait for.
func (r *relay) startUntil(ctx context.Context, ready func(context.Context) error) (time.Duration, error) {
	began := time.Now()
	command := slices.Concat(r.under, []string{r.bin, "serve", "-config", r.config})
	proc, err := startProcess(r.name, r.dir, command[0], command[1:]...)
	if err != nil {
		return 0, err
	}
	r.proc = proc
	var last error
	for time.Since(began) < startLimit {
		if last = ready(ctx); last == nil {
			return time.Since(began), nil
		}
		select {
		case <-proc.ended:
			return 0, fmt.Errorf("start relay: %s", proc.lastWords())
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	return 0, fmt.Errorf("start relay: not ready after %s (%w): %s", startLimit, last, proc.lastWords())
}

func (r *relay) health(ctx context.Context) error {
	return r.call(ctx, http.MethodGet, "http://"+r.ingest+"/health", nil)
}

// stop ends the relay if it runs.
func (r *relay) stop() error {
	if r.proc == nil {
		return nil
	}
	return r.proc.stop(stopLimit)
}

// operate pauses or resumes an endpoint.
func (r *relay) operate(ctx context.Context, name, verb string) error {
	return r.call(ctx, http.MethodPost, "http://"+r.admin+"/endpoints/"+name+"/"+verb, nil)
}

// endpointStats is what a run reads of an endpoint in GET /stats.
type endpointStats struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Lagging   bool   `json:"lagging"`
	Pending   uint64 `json:"pending"`
	Retrying  uint64 `json:"retrying"`
	Failed    uint64 `json:"failed"`
	Delivered uint64 `json:"delivered"`
}

// stats reads one endpoint's numbers.
func (r *relay) stats(ctx context.Context, name string) (endpointStats, error) {
	all, err := r.endpointStats(ctx)
	if err != nil {
		return endpointStats{}, err
	}
	i := slices.IndexFunc(all, func(e endpointStats) bool { return e.Name == name })
	if i < 0 {
		return endpointStats{}, fmt.Errorf("read stats: no endpoint %q", name)
	}
	return all[i], nil
}

// endpointStats reads the numbers of all endpoints.
func (r *relay) endpointStats(ctx context.Context) ([]endpointStats, error) {
	var all struct {
		Endpoints []endpointStats `json:"endpoints"`
	}
	err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/stats", &all)
	return all.Endpoints, err
}

// failedDelivery is what a run reads of one in GET /endpoints/{name}/failed.
type failedDelivery struct {
	ID       string    `json:"id"`
	Accepted time.Time `json:"accepted_at"`
	FailedAt time.Time `json:"failed_at"`
}

// failed reads all failed deliveries of an endpoint.
func (r *relay) failed(ctx context.Context, name string) (list []failedDelivery, err error) {
	for after := ""; ; {
		var page struct {
			Deliveries []failedDelivery `json:"deliveries"`
			Next       string           `json:"next"`
		}
		if err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/endpoints/"+name+"/failed?limit=500&after="+after, &page); err != nil {
			return nil, err
		}
		list, after = append(list, page.Deliveries...), page.Next
		if after == "" {
			return list, nil
		}
	}
}

// attempts reads those of one event for one endpoint.
func (r *relay) attempts(ctx context.Context, id, name string) ([]storyAttempt, error) {
	var story struct {
		Deliveries []struct {
			Endpoint string         `json:"endpoint"`
			Attempts []storyAttempt `json:"attempts"`
		} `json:"deliveries"`
	}
	if err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/events/"+id, &story); err != nil {
		return nil, err
	}
	for _, d := range story.Deliveries {
		if d.Endpoint == name {
			return d.Attempts, nil
		}
	}
	return nil, fmt.Errorf("GET /events/%s: nothing of %s", id, name)
}

// call makes a request to the relay that must go well; into, unless nil, takes the JSON of the answer.
func (r *relay) call(ctx context.Context, method, url string, into any) error {
	status, _, text, err := r.request(ctx, method, url, "")
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("%s %s: status %d, %.200s", method, url, status, text)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", method, url, err)
	}
	return nil
}

// metric reads one sample of /metrics, whose name is written there with its labels.
func (r *relay) metric(ctx context.Context, sample string) (float64, error) {
	_, _, text, err := r.request(ctx, http.MethodGet, "http://"+r.admin+"/metrics", "")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, sample+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", sample)
}

// post posts one event that no endpoint wants, to see how it is answered.
func (r *relay) post(ctx context.Context) (status int, header http.Header, text string, err error) {
	return r.request(ctx, http.MethodPost, "http://"+r.ingest+"/events", `{"type":"test","data":{}}`)
}

// request makes a request to the relay, with a JSON body unless that is empty.
func (r *relay) request(ctx context.Context, method, url, body string) (status int, header http.Header, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := r.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return 0, nil, "", fmt.Errorf("read answer of %s %s: %w", method, url, err)
	}
	return res.StatusCode, res.Header, string(raw), nil
}

// alive returns an error when the relay's process has ended.
func (r *relay) alive() error {
	select {
	case <-r.proc.ended:
		return fmt.Errorf("the relay has ended: %s", r.proc.lastWords())
	default:
		return nil
	}
}

// errUnfinished is a wait that ended before what was waited for.
var errUnfinished = errors.New("not done")

const pollInterval = 20 * time.Millisecond

// await polls done until it is true, for so long at most.
func await(ctx context.Context, limit time.Duration, done func() bool) error {
	for began := time.Now(); !done(); pause(ctx, pollInterval) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > limit:
			return fmt.Errorf("%w after %s", errUnfinished, limit)
		}
	}
	return nil
}

// waitUntil polls done until it is true. It gives up after the limit, or when progress has stood still for the stall
// time.
func waitUntil(ctx context.Context, limit, stall time.Duration, progress func() uint64, done func() bool) error {
	began := time.Now()
	last, moved := progress(), time.Now()
	for !done() {
		if p := progress(); p != last {
			last, moved = p, time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > limit:
			return fmt.Errorf("%w after %s, at %d", errUnfinished, limit, last)
		case time.Since(moved) > stall:
			return fmt.Errorf("%w: nothing more arrives, at %d for %s", errUnfinished, last, stall)
		}
		pause(ctx, pollInterval)
	}
	return nil
}

// settled waits until nothing is left to deliver at the named endpoints, or at all without names: for the limit at most, or until
// nothing more has arrived at the receivers for the stall time. Running out of time is errUnfinished.
func (r *relay) settled(ctx context.Context, limit, stall time.Duration, receivers []*receiver, names ...string) error {
	var asked error
	arrived := func() (n uint64) {
		for _, receiver := range receivers {
			n += receiver.unique()
		}
		return n
	}
	err := waitUntil(ctx, limit, stall, arrived, func() bool {
		var all []endpointStats
		all, asked = r.endpointStats(ctx)
		if len(names) > 0 {
			all = slices.DeleteFunc(all, func(e endpointStats) bool { return !slices.Contains(names, e.Name) })
		}
		waits := func(e endpointStats) bool { return e.Pending+e.Retrying > 0 }
		return asked == nil && len(all) >= max(1, len(names)) && !slices.ContainsFunc(all, waits)
	})
	switch {
	case err == nil || ctx.Err() != nil:
		return ctx.Err()
	case asked != nil:
		return asked
	}
	return fmt.Errorf("deliver what is left: %w", err)
}

// missing waits until each receiver has so many events, while the relay runs, and returns how many they lack together.
func (r *relay) missing(ctx context.Context, limit time.Duration, receivers []*receiver, events uint64) uint64 {
	missing := func() (n uint64) {
		for _, receiver := range receivers {
			n += events - min(receiver.unique(), events)
		}
		return n
	}
	_ = waitUntil(ctx, limit, limit, missing, func() bool { return missing() == 0 || r.alive() != nil }) // what is missing tells it
	return missing()
}

// keptStats is what a run reads of the queue in GET /stats.
type keptStats struct{ events uint64 }

// kept reads how many events the queue keeps.
func (r *relay) kept(ctx context.Context) (keptStats, error) {
	var all struct {
		Queue struct {
			Events uint64 `json:"events"`
		} `json:"queue"`
	}
	err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/stats", &all)
	return keptStats{all.Queue.Events}, err
}
