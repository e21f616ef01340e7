// diskfull tries to break the promise that a full disk loses nothing and that the relay refuses before: another program
// fills it under load.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"
)

// diskfullRun fills the disk of a relay under load, again and again.
type diskfullRun struct {
	powercutRun // the relay, its load and its volume are the same
}

// diskfullResult is one kind of file system.
type diskfullResult struct {
	Kind         string   `json:"kind"`
	Rounds       int      `json:"rounds"`
	Acknowledged int      `json:"acknowledged"`
	Refused      uint64   `json:"refused"` // events, answered 503
	Lost         int      `json:"lost"`
	Forgotten    int      `json:"forgotten"`
	Damaged      int      `json:"damaged"`
	Repeats      uint64   `json:"repeats"`
	BackMs       startsMs `json:"back_ms"`       // from space to the first 200
	StartedMs    float64  `json:"started_ms"`    // on the full disk, until it answers
	StartBackMs  float64  `json:"start_back_ms"` // the same after a start on the full disk
}

const (
	smallDisk = 512 << 20
	smallFree = "min_free = \"128MiB\""
	lowFree   = 96 << 20 // below that, above what the relay calls critical
	// backLimit is how long after space came back an event may be refused; refuseLimit the same for the way down.
	backLimit   = 5 * time.Second
	refuseLimit = 5 * time.Second
	fullFor     = 1500 * time.Millisecond
)

func runDiskfull(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("diskfull", "Loads a relay whose queue is on a small file system, which another program fills at random moments: in every second round to\n"+
		"the last byte, in the others until little is left. Exit code 1 when the relay dies, doesn't refuse events with 503 and Retry-After\n"+
		"and say why, takes more than 5 s to accept again, stops delivering though only little is missing, doesn't start on the full disk,\n"+
		"or when an acknowledged event is missing or not known any more.")
	var run diskfullRun
	run.site.flags(fs)
	fs.IntVar(&run.rounds, "rounds", 4, "`fillings` of each file system")
	fs.IntVar(&run.conns, "c", 32, "`connections`")
	fs.Float64Var(&run.rate, "rate", 3000, "`events` a second")
	fs.IntVar(&run.size, "size", 1000, "`bytes` of an event")
	fs.StringVar(&run.only, "only", "", "one file `system` alone: ext4, xfs, btrfs or tmpfs")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	kinds := []string{"ext4", "xfs", "btrfs", "tmpfs"}
	if run.only != "" {
		kinds = []string{run.only}
	}
	if run.rounds < 1 {
		return usageError("diskfull needs -rounds of 1 or more")
	}
	if err := needRoot("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()
	var faults []error
	for _, kind := range kinds {
		result, err := run.fill(ctx, kind)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", kind, err))
			continue
		}
		if err := json.NewEncoder(out).Encode(result); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d events acknowledged, %d refused, filled %d times: %d lost, %d forgotten, %d repeats, %d damaged; accepting again after %.0f/%.0f/%.0f ms (min/median/max), "+
			"on the full disk answering after %.0f ms and accepting %.0f ms after there was room\n", kind, result.Acknowledged, result.Refused, result.Rounds, result.Lost, result.Forgotten,
			result.Repeats, result.Damaged, result.BackMs.Min, result.BackMs.Median, result.BackMs.Max, result.StartedMs, result.StartBackMs)
		if bad := result.Lost + result.Forgotten + result.Damaged; bad > 0 {
			faults = append(faults, fmt.Errorf("%s: %d lost, %d forgotten, %d damaged", kind, result.Lost, result.Forgotten, result.Damaged))
		}
	}
	return errors.Join(faults...)
}

func (d *diskfullRun) fill(ctx context.Context, kind string) (result diskfullResult, err error) {
	result.Kind = kind
	disk, err := newVolume(d.site.dir, kind, kind, smallDisk)
	if err != nil {
		return result, err
	}
	defer disk.unmount()
	receivers, err := newPair()
	if err != nil {
		return result, err
	}
	defer receivers.close()
	r, err := d.relayOn(kind, disk, receivers, true)
	if err != nil {
		return result, err
	}
	r.queue = []string{smallFree}
	if err := r.configure(receivers.endpoints()); err != nil {
		return result, err
	}
	l, err := d.loadRelay(ctx, r, receivers)
	if err != nil {
		return result, err
	}
	finished := false
	defer func() {
		if !finished {
			l.finish()
		}
	}()
	var back []time.Duration
	for round := range d.rounds {
		took, err := d.round(ctx, l, disk, round%2 == 0)
		if err != nil {
			return result, fmt.Errorf("round %d: %w: %s", round+1, err, r.proc.lastWords())
		}
		back = append(back, took)
		result.Rounds++
	}
	result.BackMs = summarise(back)
	finished = true
	l.finish()
	result.Refused = l.result.Errors["503"]

	if err := d.startFull(ctx, r, disk, &result); err != nil {
		return result, fmt.Errorf("start on the full disk: %w: %s", err, r.proc.lastWords())
	}
	live := receivers.live.ids()
	result.Repeats = receivers.live.counts().Repeats
	receivers.live.reset()
	a, err := inspect(ctx, r, receivers, l.acked.ledger(), live)
	r.proc.kill()
	result.Acknowledged, result.Lost, result.Forgotten, result.Damaged = a.Acknowledged, a.Lost, a.Forgotten, a.Damaged
	return result, err
}

// round fills the disk at a random moment, wholly or almost, and makes room again. It returns how long the relay then took
// to accept.
func (d *diskfullRun) round(ctx context.Context, l *loaded, disk *volume, wholly bool) (time.Duration, error) {
	pause(ctx, 300*time.Millisecond+rand.N(1200*time.Millisecond))
	leave := int64(0)
	if !wholly {
		leave = lowFree
	}
	filler, err := fill(disk.at, leave)
	if err != nil {
		return 0, err
	}
	defer os.Remove(filler)
	if err := await(ctx, refuseLimit, func() bool { return refuses(ctx, l.relay) == nil }); err != nil {
		return 0, fmt.Errorf("the disk is full and it doesn't refuse: %w", refuses(ctx, l.relay))
	}
	if wholly {
		pause(ctx, fullFor)
	} else if err := d.deliverBacklog(ctx, l); err != nil {
		return 0, err
	}
	if err := l.relay.alive(); err != nil {
		return 0, err
	}
	if err := makeRoom(filler); err != nil {
		return 0, err
	}
	return accepting(ctx, l.relay)
}

// deliverBacklog lets the held endpoint have what waits for it while the disk is short of space.
func (d *diskfullRun) deliverBacklog(ctx context.Context, l *loaded) error {
	if err := l.relay.operate(ctx, heldEndpoint, "resume"); err != nil {
		return err
	}
	if err := l.relay.settle(ctx, l.pair.held); err != nil {
		return err
	}
	if err := refuses(ctx, l.relay); err != nil {
		return fmt.Errorf("the disk was to be low until the backlog was gone: %w", err)
	}
	s, err := l.relay.stats(ctx, heldEndpoint)
	if err != nil {
		return err
	}
	if s.Pending+s.Retrying > 0 {
		return fmt.Errorf("%d deliveries are left though the disk is only low", s.Pending+s.Retrying)
	}
	return l.relay.operate(ctx, heldEndpoint, "pause")
}

// startFull starts the relay on the full disk, and makes room then.
func (d *diskfullRun) startFull(ctx context.Context, r *relay, disk *volume, result *diskfullResult) error {
	filler, err := fill(disk.at, 0)
	if err != nil {
		return err
	}
	defer os.Remove(filler)
	took, err := r.startUntil(ctx, func(ctx context.Context) error { return refuses(ctx, r) })
	if err != nil {
		return err
	}
	result.StartedMs = inMillis(took)
	pause(ctx, fullFor)
	if err := r.alive(); err != nil {
		return err
	}
	if err := makeRoom(filler); err != nil {
		return err
	}
	took, err = accepting(ctx, r)
	result.StartBackMs = inMillis(took)
	r.proc.kill()
	return err
}

// accepting waits until an event is accepted, and returns how long that took.
func accepting(ctx context.Context, r *relay) (time.Duration, error) {
	began, said := time.Now(), ""
	accepted := false
	err := await(ctx, backLimit, func() bool {
		status, _, text, err := r.post(ctx)
		accepted = err == nil && status == http.StatusOK
		said = fmt.Sprintf("%d %.200s, %v", status, text, err)
		return accepted || r.alive() != nil
	})
	switch {
	case accepted:
		return time.Since(began), nil
	case err == nil:
		return 0, r.alive()
	}
	return 0, fmt.Errorf("after there was room again an event is still answered %s: %w", said, err)
}

// refuses returns nil when the relay refuses events as it should: 503, when to come again, and health that says why.
func refuses(ctx context.Context, r *relay) error {
	status, header, text, err := r.post(ctx)
	if err != nil {
		return err
	}
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(text, `"unavailable"`) {
		return fmt.Errorf("an event is answered %d, Retry-After %q: %.200s", status, header.Get("Retry-After"), text)
	}
	status, _, text, err = r.request(ctx, http.MethodGet, "http://"+r.admin+"/health", "")
	if err != nil {
		return err
	}
	if status != http.StatusServiceUnavailable || !strings.Contains(text, `"failing"`) || !strings.Contains(text, "disk") {
		return fmt.Errorf("GET /health answers %d: %.200s", status, text)
	}
	return nil
}
