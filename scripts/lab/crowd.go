// crowd tries to break the promise that endpoints do not disturb each other: ten beside a thousand that hang, in 256
// MiB.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

const (
	crowdWell  = 10
	crowdRate  = 200 // events a second, each for all endpoints
	crowdConns = 8
	crowdWait  = 30 * time.Second // for what is under way in the end
)

// crowdResult is what the crowd command prints.
type crowdResult struct {
	Alone  crowdRun `json:"alone"`
	Beside crowdRun `json:"beside"` // endpoints that hang
}

type crowdRun struct {
	Load      loadResult `json:"load"`
	Delivered quantiles  `json:"delivered"` // posted → received, of the well endpoint that had the highest p99
	Hanging   int64      `json:"hanging"`   // connections to endpoints that hang, at most
	MemoryMiB float64    `json:"memory_mib"`
	GroupMiB  float64    `json:"group_mib"` // all that the kernel counts but what it can take back at once, at most
	CPU       float64    `json:"cpu_seconds"`
	Missing   uint64     `json:"missing"`
}

func runCrowd(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("crowd", fmt.Sprintf("Runs a relay in a control group with little memory: %d endpoints that are well get %d events a second, first alone, then\n"+
		"beside endpoints that take connections and never answer. A program that takes more has to be killed there. Exit code 1\n"+
		"when the relay is killed, a delivery to a well endpoint is missing, or not all bad endpoints hung at once; 3 without\n"+
		"control groups.", crowdWell, crowdRate))
	var s site
	s.flags(fs)
	n := fs.Int("n", 1000, "endpoints that hang")
	d := fs.Duration("d", 25*time.Second, "how long to post, each time")
	mib := fs.Int("m", 256, "`MiB` of memory")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *d <= 0 || *d > 10*time.Minute || *n < 1 || *n > 5000 || *mib < 64 {
		return usageError("-d must be more than 0 and at most 10m, -n from 1 to 5000, -m at least 64")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	if err := provesToKill(*mib); err != nil {
		return err
	}
	var result crowdResult
	var err error
	if result.Alone, err = measureCrowd(ctx, &s, "alone", 0, *mib, *d); err != nil {
		return err
	}
	if result.Beside, err = measureCrowd(ctx, &s, "beside", *n, *mib, *d); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	for _, r := range []struct {
		name string
		crowdRun
	}{{"alone", result.Alone}, {fmt.Sprintf("beside %d that hang", *n), result.Beside}} {
		fmt.Fprintf(out, "%s: posted to received p50/p99 %s; %.0f MiB of its own, %.0f of %d MiB in the group; %.1f s of processor time\n",
			r.name, inMs(r.Delivered), r.MemoryMiB, r.GroupMiB, *mib, r.CPU)
	}
	switch {
	case result.Alone.Missing+result.Beside.Missing > 0:
		return fmt.Errorf("crowd: %d deliveries to endpoints that are well are missing", result.Alone.Missing+result.Beside.Missing)
	case result.Beside.Hanging < int64(*n):
		return fmt.Errorf("crowd: only %d connections hung at once: this shows nothing", result.Beside.Hanging)
	}
	return nil
}

// provesToKill is the control: a program that takes more than there is has to be killed.
func provesToKill(mib int) error {
	g, err := newGroup(mib)
	if err != nil {
		return err
	}
	defer g.remove()
	// tail keeps the last line, and there is no other.
	command := append(g.under(), "/bin/sh", "-c", fmt.Sprintf("head -c %dM /dev/zero | tail | wc -c", 2*mib))
	text, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if kills, killErr := g.kills(); killErr != nil || kills == 0 {
		return errors.Join(fmt.Errorf("crowd: a program that took twice the memory of its group was not killed: %.100s", text), err, killErr)
	}
	return nil
}

// measureCrowd runs a relay of its own with n endpoints that hang.
func measureCrowd(ctx context.Context, s *site, name string, n, mib int, d time.Duration) (run crowdRun, err error) {
	var endpoints []endpoint
	var healthy []*receiver
	for i := range crowdWell {
		well := newReceiver()
		addr, err := startReceiver(well)
		if err != nil {
			return run, err
		}
		defer well.close()
		healthy = append(healthy, well)
		endpoints = append(endpoints, endpoint{name: fmt.Sprintf("well-%d", i), url: "http://" + addr + "/events", events: []string{"lead.*"}})
	}
	hangingAddr, err := freeAddress()
	if err != nil {
		return run, err
	}
	hanging, err := newHangingPort(hangingAddr)
	if err != nil {
		return run, err
	}
	defer hanging.Close()
	for i := range n {
		endpoints = append(endpoints, endpoint{name: fmt.Sprintf("hangs-%d", i), url: fmt.Sprintf("http://%s/%d", hanging.Addr(), i), events: []string{"lead.*"}})
	}
	relay, err := s.newRelay(name, endpoints)
	if err != nil {
		return run, err
	}
	g, err := newGroup(mib)
	if err != nil {
		return run, err
	}
	defer g.remove()
	relay.under = g.under()
	if _, err := relay.start(ctx); err != nil {
		return run, err
	}
	defer func() { relay.proc.kill() }()
	var memory memoryMeter
	memory.watch(relay.proc.pid())
	defer memory.stop()

	l, err := newLoad(loadPlan{addr: relay.ingest, path: "/events", conns: crowdConns, rate: crowdRate, duration: d}, newRun())
	if err != nil {
		return run, err
	}
	if run.Load, run.GroupMiB, err = l.postIn(ctx, g); err != nil {
		return run, err
	}
	missing := relay.missing(ctx, crowdWait, healthy, run.Load.OK)
	if err := relay.alive(); err != nil {
		return run, fmt.Errorf("crowd, %s: %w", name, err)
	}
	if kills, err := g.kills(); err != nil || kills > 0 {
		return run, errors.Join(fmt.Errorf("crowd, %s: the kernel killed %d processes", name, kills), err)
	}
	if len(run.Load.Errors) > 0 {
		return run, fmt.Errorf("crowd, %s: answers other than 200: %v", name, run.Load.Errors)
	}
	run.Missing, run.Hanging = missing, hanging.most.Load()
	memory.stop()
	run.MemoryMiB = memory.max()
	cpu, err := cpuTime(relay.proc.pid())
	run.CPU = cpu.Seconds()
	for _, w := range healthy {
		if q := w.latency.quantiles(); q.P99us >= run.Delivered.P99us {
			run.Delivered = q
		}
	}
	return run, err
}
