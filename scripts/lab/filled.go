package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/valyala/fasthttp"
)

// The endpoints of a filled queue beside live and held: one refuses a fifth of its events for good, the other for ten hours.
const (
	failingEndpoint  = "failing"
	retryingEndpoint = "retrying"
)

// filled is a queue with something in every kind of file, and what is known of it. Event n is number n of the run.
type filled struct {
	event   template
	killed  string // the directory as a kill left it
	stopped string // the same, after one more start and stop
	older   string // the same as it was before
	total   uint64 // events, all acknowledged
	heldAt  uint64 // from here on held is paused, and has all pending
	restAt  uint64 // the same for failing and retrying
}

func (f *filled) failed(n uint64) bool   { return n < f.restAt && n%5 == 0 }
func (f *filled) retrying(n uint64) bool { return n < f.restAt && n%5 == 1 }

// run is the number of the run that all ids hold.
func (f *filled) run() uint32 {
	run, _, _ := parseID(eventID(f.event.text))
	return run
}

// four are the receivers of a filled queue's endpoints.
type four struct {
	by   map[string]*receiver
	addr map[string]string
}

func newFour() (f *four, err error) {
	f = &four{by: map[string]*receiver{}, addr: map[string]string{}}
	for _, name := range []string{liveEndpoint, heldEndpoint, failingEndpoint, retryingEndpoint} {
		f.by[name] = newReceiver()
		if f.addr[name], err = startReceiver(f.by[name]); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *four) close() {
	for _, r := range f.by {
		r.close()
	}
}

func (f *four) endpoints() []endpoint {
	at := func(name string) endpoint {
		return endpoint{name: name, url: "http://" + f.addr[name] + "/events", events: []string{"lead.*"}}
	}
	failing, retrying := at(failingEndpoint), at(retryingEndpoint)
	failing.once, retrying.retry = true, []string{"10h"}
	return []endpoint{at(liveEndpoint), at(heldEndpoint), failing, retrying}
}

// refuse has the two refuse their fifth. 422 speaks of one event, so that neither is taken to be down.
func (f *four) refuse() {
	for name, rest := range map[string]uint64{failingEndpoint: 0, retryingEndpoint: 1} {
		f.by[name].failStatus = fasthttp.StatusUnprocessableEntity
		f.by[name].refuses = func(id, _, _ []byte, _ time.Time) bool {
			_, n, ok := parseID(id)
			return ok && n%5 == rest
		}
	}
}

// postRange posts events from one number up to below another as a batch, and returns an error unless all are acknowledged.
func (f *filled) postRange(ctx context.Context, r *relay, from, to uint64) error {
	results, err := f.offer(ctx, r, from, to)
	if err != nil {
		return err
	}
	for _, status := range results {
		if status != "accepted" {
			return fmt.Errorf("post: an event is answered %q", status)
		}
	}
	return nil
}

// offer posts events as a batch and returns what each is answered.
func (f *filled) offer(ctx context.Context, r *relay, from, to uint64) ([]string, error) {
	var body bytes.Buffer
	stamp := uint64(time.Now().UnixNano())
	for n := from; n < to; n++ {
		f.event.put(f.event.text, n, stamp)
		body.Write(f.event.text)
		body.WriteByte('\n')
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.ingest+"/events", &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("post: %w", err)
	}
	defer res.Body.Close()
	var answer struct {
		Status  string // of a batch of one
		Results []struct{ Status string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); res.StatusCode != http.StatusOK || err != nil {
		return nil, fmt.Errorf("post: status %d, %v", res.StatusCode, err)
	}
	list := make([]string, 0, to-from)
	for _, one := range answer.Results {
		list = append(list, one.Status)
	}
	if answer.Status != "" {
		list = append(list, answer.Status)
	}
	if uint64(len(list)) != to-from {
		return nil, fmt.Errorf("post: %d results for %d events", len(list), to-from)
	}
	return list, nil
}

// fillQueue makes a filled queue: segments and tables of several ages, some of it carried and stripped, and what only the
// journal has. short lines of configuration make segments small, and are not those that the queue is used with afterwards.
func fillQueue(ctx context.Context, s *site, size int) (f *filled, err error) {
	f = &filled{}
	if f.event, err = newTemplate(newRun(), "lead.created", size, time.Now()); err != nil {
		return nil, err
	}
	receivers, err := newFour()
	if err != nil {
		return nil, err
	}
	defer receivers.close()
	receivers.refuse()
	// A segment each four seconds; what is settled is stripped a second later.
	r, err := s.newRelay("filled", receivers.endpoints(), `retention = "1s"`, `dedup_window = "1m"`)
	if err != nil {
		return nil, err
	}
	f.killed, f.stopped, f.older = r.data, filepath.Join(s.dir, "stopped"), filepath.Join(s.dir, "older")
	defer func() {
		if r.proc != nil {
			r.proc.kill()
		}
	}()
	post := func(batches int, each uint64, every time.Duration) error {
		for range batches {
			if err := f.postRange(ctx, r, f.total, f.total+each); err != nil {
				return err
			}
			f.total += each
			pause(ctx, every)
		}
		return ctx.Err()
	}
	settled := func(name string) error {
		err := waitUntil(ctx, startLimit, startLimit, func() uint64 { return f.total }, func() bool {
			s, err := r.stats(ctx, name)
			return err == nil && s.Pending == 0
		})
		if err != nil {
			return fmt.Errorf("fill: %s: %w", name, err)
		}
		return nil
	}
	settleAll := func(names ...string) error {
		for _, name := range names {
			if err := settled(name); err != nil {
				return err
			}
		}
		return nil
	}
	restart := func() error {
		if err := r.stop(); err != nil {
			return err
		}
		_, err := r.start(ctx)
		return err
	}
	if _, err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := post(12, 100, 600*time.Millisecond); err != nil {
		return nil, err
	}
	if err := settleAll(liveEndpoint, heldEndpoint, failingEndpoint, retryingEndpoint); err != nil {
		return nil, err
	}
	pause(ctx, time.Second)
	if err := r.stop(); err != nil {
		return nil, err
	}
	if err := tool("cp", "-a", r.data, f.older); err != nil {
		return nil, err
	}
	if _, err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.operate(ctx, heldEndpoint, "pause"); err != nil {
		return nil, err
	}
	f.heldAt = f.total
	for range 2 {
		if err := post(8, 100, 600*time.Millisecond); err != nil {
			return nil, err
		}
		if err := settleAll(liveEndpoint, failingEndpoint, retryingEndpoint); err != nil {
			return nil, err
		}
		if err := restart(); err != nil {
			return nil, err
		}
	}
	f.restAt = f.total
	for _, name := range []string{failingEndpoint, retryingEndpoint} {
		if err := r.operate(ctx, name, "pause"); err != nil {
			return nil, err
		}
	}
	r.queue = nil
	if err := r.configure(receivers.endpoints()); err != nil {
		return nil, err
	}
	if err := restart(); err != nil {
		return nil, err
	}
	if err := post(10, 40, 0); err != nil {
		return nil, err
	}
	r.proc.kill()
	if err := tool("cp", "-a", f.killed, f.stopped); err != nil {
		return nil, err
	}
	again, err := s.newRelay("stopping", receivers.endpoints())
	if err != nil {
		return nil, err
	}
	again.data = f.stopped
	if err := again.configure(receivers.endpoints()); err != nil {
		return nil, err
	}
	if _, err := again.start(ctx); err != nil {
		return nil, err
	}
	if err := again.settled(ctx, startLimit, startLimit, nil, liveEndpoint); err != nil {
		return nil, err
	}
	return f, again.stop()
}
