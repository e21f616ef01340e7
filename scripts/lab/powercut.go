// powercut tries to break the promise that an event answered 200 is on disk: the disk keeps only what was synced, and
// some of the rest.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"
)

// powercutRun cuts the power of a relay's disk under load, in two ways, and looks at what the disk kept.
type powercutRun struct {
	site   site
	rounds int
	conns  int
	rate   float64
	size   int
	only   string
}

// powercutResult is one way of cutting, of which every round has a disk of its own to look at.
type powercutResult struct {
	Way          string   `json:"way"`
	Syncing      bool     `json:"syncing"` // false: the control, in which nothing is synced
	Rounds       int      `json:"rounds"`
	Acknowledged int      `json:"acknowledged"`
	Lost         int      `json:"lost"`      // at either endpoint
	Forgotten    int      `json:"forgotten"` // posted again, and accepted once more
	Repeats      int      `json:"repeats"`   // at the endpoint that was being delivered to
	Damaged      int      `json:"damaged"`
	Unopened     int      `json:"unopened"` // disks on which the relay did not start
	Why          string   `json:"why,omitempty"`
	StartMs      startsMs `json:"start_ms"`

	starts []time.Duration
}

const (
	imageSize = 1 << 30
	hostSize  = 8 << 30
	// Without a sync the kernel writes dirty pages after 30 s; a round must be over by then.
	shortestCut, longestCut = 400 * time.Millisecond, 1500 * time.Millisecond
	controlRounds           = 2
)

func runPowercut(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("powercut", "Loads a relay whose queue is on a file system of its own, and cuts that file system off as a power cut would: by copying its image at\n"+
		"one moment (copy), and by shutting it down (ext4, xfs). Then starts a relay on what is left, lets everything arrive, and posts\n"+
		"every acknowledged event again. Exit code 1 when one is missing or not known any more, when the store doesn't open, and when\n"+
		"a control finds nothing: a file that was not synced must be gone, and a relay that is kept from syncing must lose events.")
	var run powercutRun
	run.site.flags(fs)
	fs.IntVar(&run.rounds, "rounds", 5, "`cuts` of each way")
	fs.IntVar(&run.conns, "c", 32, "`connections`")
	fs.Float64Var(&run.rate, "rate", 6000, "`events` a second; 0: as fast as they are answered")
	fs.IntVar(&run.size, "size", 1000, "`bytes` of an event")
	fs.StringVar(&run.only, "only", "", "one `way` alone: copy, ext4 or xfs")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	ways := []string{"copy", "ext4", "xfs"}
	if run.only != "" {
		ways = []string{run.only}
	}
	if run.rounds < 1 {
		return usageError("powercut needs -rounds of 1 or more")
	}
	if err := needRoot("mkfs.ext4", "mkfs.xfs", "strace"); err != nil {
		return err
	}
	if err := run.site.open(); err != nil {
		return err
	}
	defer run.site.close()

	var fault error
	for _, way := range ways {
		for _, syncing := range []bool{true, false} {
			rounds := run.rounds
			if !syncing {
				rounds = controlRounds
			}
			result, err := run.cut(ctx, way, syncing, rounds)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			if err := json.NewEncoder(out).Encode(result); err != nil {
				return err
			}
			fmt.Fprintln(out, result.text())
			if err := result.judge(); err != nil && fault == nil {
				fault = err
			}
		}
	}
	return fault
}

func (p *powercutResult) text() string {
	if !p.Syncing {
		return fmt.Sprintf("%s, control without syncs: %d events acknowledged, %d cuts: %d lost, %d disks not opened", p.Way, p.Acknowledged, p.Rounds, p.Lost, p.Unopened)
	}
	return fmt.Sprintf("%s: %d events acknowledged, %d cuts: %d lost, %d forgotten, %d repeats, %d damaged, %d disks not opened; serving again after %.0f/%.0f/%.0f ms (min/median/max)",
		p.Way, p.Acknowledged, p.Rounds, p.Lost, p.Forgotten, p.Repeats, p.Damaged, p.Unopened, p.StartMs.Min, p.StartMs.Median, p.StartMs.Max)
}

func (p *powercutResult) judge() error {
	switch bad := p.Lost + p.Forgotten + p.Damaged + p.Unopened; {
	case p.Syncing && bad > 0:
		return fmt.Errorf("%s: %d lost, %d forgotten, %d damaged, %d disks not opened %s", p.Way, p.Lost, p.Forgotten, p.Damaged, p.Unopened, p.Why)
	case !p.Syncing && p.Lost == 0:
		return fmt.Errorf("%s: the control lost nothing though it never synced: this run shows nothing", p.Way)
	}
	return nil
}

// add files what one disk held. A control may be beyond opening: then all that was acknowledged is lost.
func (p *powercutResult) add(a aftermath, err error) {
	p.Rounds++
	p.Acknowledged += a.Acknowledged
	if err != nil {
		p.Unopened++
		p.Why = err.Error()
		if !p.Syncing {
			p.Lost += a.Acknowledged
		}
		return
	}
	p.Lost += a.Lost
	p.Forgotten += a.Forgotten
	p.Repeats += a.Repeats
	p.Damaged += a.Damaged
	p.starts = append(p.starts, a.Start)
}

func (p *powercutRun) cut(ctx context.Context, way string, syncing bool, rounds int) (powercutResult, error) {
	result := powercutResult{Way: way, Syncing: syncing}
	var err error
	if way == "copy" {
		err = p.copies(ctx, &result, rounds)
	} else {
		err = p.shutdowns(ctx, &result, way, rounds)
	}
	result.StartMs = summarise(result.starts)
	return result, err
}

// loaded is a relay under load on a volume.
type loaded struct {
	relay  *relay
	pair   pair
	acked  *acknowledged
	event  template
	stop   context.CancelFunc
	ended  sync.WaitGroup
	result loadResult
}

// loadRelay starts the relay and the load. finish must follow.
func (p *powercutRun) loadRelay(ctx context.Context, r *relay, receivers pair) (*loaded, error) {
	if r.under != nil {
		// The control's store is made and synced before: it must open afterwards, and be found without its events.
		under := r.under
		r.under = nil
		if _, err := r.start(ctx); err != nil {
			return nil, err
		}
		if err := r.stop(); err != nil {
			return nil, err
		}
		r.under = under
	}
	if _, err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.operate(ctx, heldEndpoint, "pause"); err != nil {
		r.proc.kill()
		return nil, err
	}
	l := &loaded{relay: r, pair: receivers, acked: &acknowledged{run: newRun()}}
	generator, err := newLoad(loadPlan{
		addr: r.ingest, path: "/events", conns: p.conns, rate: p.rate, size: p.size, count: maxEvents, answered: l.acked.note,
	}, l.acked.run)
	if err != nil {
		r.proc.kill()
		return nil, err
	}
	l.event = generator.mix[0].event
	ctx, l.stop = context.WithCancel(ctx)
	l.ended.Go(func() { l.result = generator.post(ctx) })
	return l, nil
}

// finish ends the load and kills the relay.
func (l *loaded) finish() {
	l.stop()
	l.relay.proc.kill() // before the wait: nobody must hang on an answer that can't come
	l.ended.Wait()
}

// withoutSyncs runs a relay whose syncs do nothing and say that they went well. It has no asynchronous sync.
func withoutSyncs() []string {
	return []string{"strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,msync,io_setup", "-e", "inject=fdatasync,fsync,msync:retval=0", "-e", "inject=io_setup:error=ENOSYS"}
}

func randomCut() time.Duration { return shortestCut + rand.N(longestCut-shortestCut) }

// snapshot is one copy of a disk, with what was known at the time.
type snapshot struct {
	volume *volume
	canary string
	acked  *ledger
	live   map[string]struct{} // received by the live endpoint
}

// copies takes copies of one disk under load, and then looks at each. What was acknowledged is asked before a copy is made.
func (p *powercutRun) copies(ctx context.Context, result *powercutResult, rounds int) error {
	name := fmt.Sprintf("copy-%t", result.Syncing)
	host, err := newVolume(p.site.dir, name, "xfs", hostSize)
	if err != nil {
		return err
	}
	defer host.unmount() // for good measure: the mount ends with this program's namespace
	disk, err := newVolume(host.at, "disk", "ext4", imageSize)
	if err != nil {
		return err
	}
	defer disk.unmount()
	receivers, err := newPair()
	if err != nil {
		return err
	}
	defer receivers.close()
	r, err := p.relayOn(name, disk, receivers, result.Syncing)
	if err != nil {
		return err
	}
	l, err := p.loadRelay(ctx, r, receivers)
	if err != nil {
		return err
	}
	snapshots, err := takeCopies(ctx, l, disk, rounds)
	l.finish()
	if err != nil {
		return err
	}
	for i, s := range snapshots {
		if err := p.inspectCopy(ctx, fmt.Sprintf("%s-%d", name, i), s, result); err != nil {
			return err
		}
	}
	return nil
}

func takeCopies(ctx context.Context, l *loaded, disk *volume, rounds int) (snapshots []snapshot, err error) {
	for i := range rounds {
		pause(ctx, randomCut())
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s := snapshot{acked: l.acked.ledger(), canary: fmt.Sprintf("canary-%d", i)}
		if err := disk.writeCanary(s.canary); err != nil {
			return nil, err
		}
		if s.volume, err = disk.clone(fmt.Sprintf("cut-%d", i)); err != nil {
			return nil, err
		}
		s.live = l.pair.live.ids()
		snapshots = append(snapshots, s)
	}
	return snapshots, nil
}

func (p *powercutRun) inspectCopy(ctx context.Context, name string, s snapshot, result *powercutResult) error {
	if err := s.volume.mount(); err != nil {
		return err
	}
	defer s.volume.unmount()
	if s.volume.canaryLives(s.canary) {
		return fmt.Errorf("copy %s has a file that was never synced: copying it was no power cut", name)
	}
	receivers, err := newPair()
	if err != nil {
		return err
	}
	defer receivers.close()
	r, err := p.relayOn(name, s.volume, receivers, true)
	if err != nil {
		return err
	}
	a, err := inspect(ctx, r, receivers, s.acked, s.live)
	if r.proc != nil {
		r.proc.kill()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	result.add(a, err)
	return nil
}

// shutdowns stops one file system under load again and again, and each time mounts it anew and looks at it.
func (p *powercutRun) shutdowns(ctx context.Context, result *powercutResult, kind string, rounds int) error {
	for round := range rounds {
		if err := p.shutdownOnce(ctx, result, kind, round); err != nil {
			return err
		}
	}
	return nil
}

func (p *powercutRun) shutdownOnce(ctx context.Context, result *powercutResult, kind string, round int) error {
	name := fmt.Sprintf("%s-%t-%d", kind, result.Syncing, round)
	disk, err := newVolume(p.site.dir, name, kind, imageSize)
	if err != nil {
		return err
	}
	defer disk.unmount()
	receivers, err := newPair()
	if err != nil {
		return err
	}
	defer receivers.close()
	r, err := p.relayOn(name, disk, receivers, result.Syncing)
	if err != nil {
		return err
	}
	l, err := p.loadRelay(ctx, r, receivers)
	if err != nil {
		return err
	}
	pause(ctx, randomCut())
	err = disk.writeCanary("canary")
	if err == nil {
		err = disk.shutdown()
	}
	pause(ctx, 100*time.Millisecond) // whoever still answered now would be caught by the comparison
	l.finish()
	if err != nil {
		return err
	}
	if err := disk.unmount(); err != nil {
		return err
	}
	if err := disk.mount(); err != nil {
		return err
	}
	if disk.canaryLives("canary") {
		return fmt.Errorf("%s has a file that was never synced: shutting it down was no power cut", name)
	}
	live := maps.Clone(receivers.live.ids())
	receivers.live.reset()
	r.under = nil
	a, err := inspect(ctx, r, receivers, l.acked.ledger(), live)
	if r.proc != nil {
		r.proc.kill()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	result.add(a, err)
	return nil
}

// relayOn makes a relay whose queue is on a volume.
func (p *powercutRun) relayOn(name string, disk *volume, receivers pair, syncing bool) (*relay, error) {
	r, err := p.site.newRelay("relay-"+name, receivers.endpoints())
	if err != nil {
		return nil, err
	}
	r.data = filepath.Join(disk.at, "data")
	if !syncing {
		r.under = withoutSyncs()
	}
	return r, r.configure(receivers.endpoints())
}
