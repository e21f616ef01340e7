// assault tries to break the promises that nobody gets in and that nobody is disturbed: every attack at once, in 256
// MiB.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	assaultHealthy = 3
	assaultHangs   = 20  // endpoints that take connections and never answer
	assaultRate    = 200 // honest posts a second
	assaultConns   = 64  // with fewer, what one waits for delays those that are due behind it
	assaultSources = 4   // machines, so to speak, that they come from
	assaultP99     = 100 * time.Millisecond
	// Over TLS and without a limit of memory 1,000 connections and all bodies have records of their own, and the processor is used up by
	// handshakes: measured on two cores, of which the attackers have one, were 64-137 ms and 183-232 MiB.
	assaultSecureP99    = 200 * time.Millisecond
	assaultSecureMemory = 256                   // MiB
	assaultQuiet        = 25 * time.Millisecond // p99 without attackers, above which this machine can't tell
	assaultMuster       = 2 * time.Second       // until all attackers are there
	assaultShare        = "32MiB"               // of the disk, for the source that floods
)

// assaultResult is what the assault command prints, a line for each run.
type assaultResult struct {
	Run       string           `json:"run"`
	Load      loadResult       `json:"load"`
	Delivered quantiles        `json:"delivered"` // posted → received, of the well endpoint that had the highest p99
	Missing   uint64           `json:"missing"`
	Attackers map[string]int64 `json:"attackers,omitempty"` // what each kind got done
	MemoryMiB float64          `json:"memory_mib"`
	GroupMiB  float64          `json:"group_mib,omitempty"`
	CPU       float64          `json:"cpu_seconds"`
	Killed    bool             `json:"killed,omitempty"`
}

func runAssault(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("assault", fmt.Sprintf("All attacks at once, by attackers that have one core, beside %d honest posts a second of every kind: in a control group with little memory,\n"+
		"over TLS in one, and without one. Exit code 1 when the relay is killed, an honest post is refused or its delivery missing, their p99 is above %v,\n"+
		"or without the limit the relay takes more than %d MiB; or when a server without our limits bears the same in the same group. 3 without control groups,\n"+
		"or when only the time is too long and the machine is busy: above %v without any attacker.", assaultRate, assaultP99, attackMemory, assaultQuiet))
	var s site
	s.flags(fs)
	d := fs.Duration("d", 30*time.Second, "how long to post, each time")
	mib := fs.Int("m", 256, "`MiB` of memory")
	only := fs.String("only", "", "only the runs whose name has this `text` in it")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *d <= 0 || *d > 10*time.Minute || *mib < 64 {
		return usageError("-d must be more than 0 and at most 10m, -m at least 64")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	if err := provesToKill(*mib); err != nil {
		return err
	}
	var failed, late error
	busy := false
	for _, one := range []struct {
		name                     string
		mib                      int
		attacked, secure, strong bool
	}{
		{"alone", *mib, false, false, true}, {"attacked", *mib, true, false, true}, {"attacked over TLS", *mib, true, true, true},
		{"attacked, without a limit of memory", 0, true, false, true}, {"attacked over TLS, without a limit of memory", 0, true, true, true},
		{"a server without limits, attacked", *mib, true, false, false}, {"a server without limits, attacked over TLS", *mib, true, true, false},
	} {
		if !strings.Contains(one.name, *only) {
			continue
		}
		a := assault{site: &s, name: one.name, mib: one.mib, attacked: one.attacked, secure: one.secure, duration: *d}
		var r assaultResult
		var err error
		if one.strong {
			r, err = a.relay(ctx)
		} else {
			r, err = a.yardstick(ctx)
		}
		if err != nil {
			return fmt.Errorf("assault, %s: %w", one.name, err)
		}
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
		p99 := time.Duration(r.Load.P99us) * time.Microsecond
		fmt.Fprintf(out, "%s: p50 %.1f, p99 %.1f ms; %.0f MiB of its own; %.1f s of processor time\n", one.name, float64(r.Load.P50us)/1000, float64(r.Load.P99us)/1000, r.MemoryMiB, r.CPU)
		for _, name := range slices.Sorted(maps.Keys(r.Load.Classes)) {
			q := r.Load.Classes[name]
			fmt.Fprintf(out, "\t%-29s %5d posts, p50 %6.1f, p99 %6.1f, max %6.1f ms\n", name, q.Count, float64(q.P50us)/1000, float64(q.P99us)/1000, float64(q.MaxUs)/1000)
		}
		wrong := r.wrong(&a)
		switch {
		case !one.strong:
			if wrong == nil && p99 <= assaultP99 {
				failed = errors.Join(failed, errors.New("assault: the control holds: this attack shows nothing"))
			}
			continue
		case !one.attacked:
			busy = p99 > assaultQuiet
		default:
			busy = busy || r.Load.Late*100 > r.Load.Sent // who posts lacks processor time: others have it
			failed = errors.Join(failed, idle(one.name, r.Attackers))
			if p99 > a.mostP99() {
				late = errors.Join(late, fmt.Errorf("assault, %s: honest posts had a p99 of %v", one.name, p99.Round(time.Millisecond)))
			}
		}
		if wrong != nil {
			failed = errors.Join(failed, fmt.Errorf("assault, %s: %w", one.name, wrong))
		}
	}
	if failed == nil && late != nil && busy {
		return unableError(fmt.Sprintf("the machine is too busy to tell how long honest posts wait (%v)", late))
	}
	return errors.Join(failed, late)
}

// wrong says in what a run did not hold, but for how long posts waited.
func (r *assaultResult) wrong(a *assault) error {
	switch {
	case r.Killed:
		return errors.New("it was killed")
	case len(r.Load.Errors) > 0 || r.Load.OK == 0:
		return fmt.Errorf("of %d honest posts %d were answered 200, others: %v", r.Load.Sent, r.Load.OK, r.Load.Errors)
	case r.Missing > 0:
		return fmt.Errorf("%d deliveries to endpoints that are well are missing", r.Missing)
	case a.mib == 0 && r.MemoryMiB > a.mostMemory():
		return fmt.Errorf("it took %.0f MiB", r.MemoryMiB)
	}
	return nil
}

// idle names the kinds of attackers that got nothing done.
func idle(name string, done map[string]int64) (failed error) {
	for kind, n := range done {
		if n == 0 {
			failed = errors.Join(failed, fmt.Errorf("assault, %s: the attackers of the kind %q got nothing done, which shows nothing", name, kind))
		}
	}
	return failed
}

// assault is one run.
type assault struct {
	*site
	name     string
	mib      int // 0: no limit
	attacked bool
	secure   bool // over TLS
	duration time.Duration
}

// mostP99 is how long honest posts may wait.
func (a *assault) mostP99() time.Duration {
	if a.mib == 0 && a.secure {
		return assaultSecureP99
	}
	return assaultP99
}

// mostMemory is how many MiB the relay may take without a limit.
func (a *assault) mostMemory() float64 {
	if a.secure {
		return assaultSecureMemory
	}
	return attackMemory
}

// relay attacks a relay of its own.
func (a *assault) relay(ctx context.Context) (r assaultResult, err error) {
	var healthy []*receiver
	var endpoints []endpoint
	for i := range assaultHealthy {
		well := newReceiver()
		addr, err := startReceiver(well)
		if err != nil {
			return r, err
		}
		defer well.close()
		healthy = append(healthy, well)
		endpoints = append(endpoints, endpoint{name: fmt.Sprintf("well-%d", i), url: "http://" + addr + "/events", events: []string{"lead.*"}})
	}
	var bad []string // addresses of the attackers' own receivers
	for i := range len(endless) + 2 {
		addr, err := freeAddress()
		if err != nil {
			return r, err
		}
		bad = append(bad, addr)
		switch {
		case i < len(endless):
			endpoints = append(endpoints, endpoint{name: fmt.Sprint("endless", i), url: "http://" + addr + "/", events: []string{"bot.created"}, timeout: "5s"})
		case i == len(endless):
			endpoints = append(endpoints, endpoint{name: "sick", url: "http://" + addr + "/", events: []string{"bot.*"}, retry: []string{"1s", "1s", "1s"}})
		default:
			for n := range assaultHangs {
				endpoints = append(endpoints, endpoint{name: fmt.Sprintf("hangs-%d", n), url: fmt.Sprintf("http://%s/%d", addr, n), events: []string{"bot.updated"}})
			}
		}
	}
	relay, err := a.newRelay(fmt.Sprintf("%s-%d-%t", strings.Fields(a.name)[0], a.mib, a.secure), endpoints)
	if err != nil {
		return r, err
	}
	config := string(configText(relay, endpoints))
	config = strings.Replace(config, "[admin]\n", fmt.Sprintf("[admin]\ntoken = %q\n", attackAdminToken), 1)
	if a.secure {
		cert, key, err := writeCertificate(relay.dir)
		if err != nil {
			return r, err
		}
		pair := fmt.Sprintf("tls_cert = %q\ntls_key = %q\n", cert, key)
		config = strings.NewReplacer("[server]\n", "[server]\n"+pair, "[admin]\n", "[admin]\n"+pair).Replace(config)
	}
	config += fmt.Sprintf("\n[[source]]\nname = \"honest\"\npath = \"/events\"\n[[source]]\nname = \"known\"\npath = \"/token\"\ntoken = %q\n"+
		"[[source]]\nname = \"signed\"\npath = \"/signed\"\nsecret = %q\n[[source]]\nname = \"standard\"\npath = \"/standard\"\nsecret = %q\nscheme = \"standard\"\n"+
		"[[source]]\nname = \"flood\"\npath = \"/flood\"\nmax_queued = %q\n", attackToken, attackSecret, labSecret, assaultShare)
	if err := os.WriteFile(relay.config, []byte(config), 0o600); err != nil {
		return r, err
	}
	g, err := a.group()
	if err != nil {
		return r, err
	}
	if g != nil {
		defer g.remove()
		relay.under = g.under()
	}
	ready := func(ctx context.Context) error {
		if status := tellBy(ctx, dialsFrom(1, a.secure), relay.ingest, asking("GET", "/health", "", "")); status != 200 {
			return fmt.Errorf("its health is answered %d", status)
		}
		return nil
	}
	if _, err := relay.startUntil(ctx, ready); err != nil {
		return r, err
	}
	defer func() { relay.proc.kill() }()
	if r, err = a.besiege(ctx, relay.proc, g, relay.ingest, relay.admin, bad); err != nil || r.Killed {
		return r, err
	}
	r.Missing = relay.missing(ctx, crowdWait, healthy, r.Load.OK)
	for _, w := range healthy {
		if q := w.latency.quantiles(); q.P99us >= r.Delivered.P99us {
			r.Delivered = q
		}
	}
	return r, relay.alive()
}

// yardstick attacks the server that stores nothing, as fasthttp comes.
func (a *assault) yardstick(ctx context.Context) (r assaultResult, err error) {
	addr, err := freeAddress()
	if err != nil {
		return r, err
	}
	nobody, err := freeAddress()
	if err != nil {
		return r, err
	}
	own, err := os.Executable()
	if err != nil {
		return r, err
	}
	g, err := a.group()
	if err != nil {
		return r, err
	}
	defer g.remove()
	command := append(g.under(), own, "keep-nothing", "-unpack", "-listen", addr)
	if a.secure {
		cert, key, err := writeCertificate(a.dir)
		if err != nil {
			return r, err
		}
		command = append(command, "-cert", cert, "-key", key)
	}
	proc, err := startProcess("yardstick", a.dir, command[0], command[1:]...)
	if err != nil {
		return r, err
	}
	defer proc.kill()
	if err := await(ctx, startLimit, func() bool {
		return tellBy(ctx, dialsFrom(1, a.secure), addr, posting("/events", "", attackEvent)) == 200
	}); err != nil {
		return r, fmt.Errorf("start: %w: %s", err, proc.lastWords())
	}
	return a.besiege(ctx, proc, g, addr, nobody, nil)
}

func (a *assault) group() (*group, error) {
	if a.mib == 0 {
		return nil, nil
	}
	return newGroup(a.mib)
}

// besiege posts for some time, beside the attackers if there are to be any.
func (a *assault) besiege(ctx context.Context, proc *process, g *group, ingest, admin string, bad []string) (r assaultResult, err error) {
	r.Run = a.name
	done := filepath.Join(a.dir, "attackers.json")
	var attackers *process
	if a.attacked {
		own, err := os.Executable()
		if err != nil {
			return r, err
		}
		args := []string{"attackers", "-intake", ingest, "-admin", admin, "-receivers", strings.Join(bad, ","), "-d", (a.duration + 2*assaultMuster).String(), "-out", done, fmt.Sprintf("-tls=%t", a.secure)}
		err = onOneCore(func() (err error) {
			attackers, err = startProcess("attackers", a.dir, own, args...)
			return err
		})
		if err != nil {
			return r, err
		}
		defer attackers.kill()
		pause(ctx, assaultMuster)
	}
	var memory memoryMeter
	memory.watch(proc.pid())
	defer memory.stop()
	l, err := newLoad(loadPlan{addr: ingest, conns: assaultConns, rate: assaultRate, duration: a.duration, mix: realMix(), hosts: assaultSources, secure: a.secure}, newRun())
	if err != nil {
		return r, err
	}
	if r.Load, r.GroupMiB, err = l.postIn(ctx, g); err != nil {
		return r, err
	}
	if attackers != nil {
		select {
		case <-attackers.ended:
		case <-time.After(stopLimit):
			return r, errors.New("the attackers do not end")
		}
		text, err := os.ReadFile(done)
		if err == nil {
			err = json.Unmarshal(text, &r.Attackers)
		}
		if err != nil {
			return r, fmt.Errorf("the attackers: %w: %s", err, attackers.lastWords())
		}
	}
	memory.stop()
	r.MemoryMiB = memory.max()
	if g != nil {
		kills, err := g.kills()
		if err != nil {
			return r, err
		}
		r.Killed = kills > 0
	}
	select {
	case <-proc.ended:
		if !r.Killed {
			return r, fmt.Errorf("it ended: %s", proc.lastWords())
		}
	default:
		cpu, err := cpuTime(proc.pid())
		r.CPU = cpu.Seconds()
		return r, err
	}
	return r, ctx.Err()
}

// onOneCore runs what starts a process, which then has one core, the first that we have.
func onOneCore(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("ask for our cores: %w", err)
	}
	for n := range 1024 {
		if all.IsSet(n) {
			one.Set(n)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on one core: %w", err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &all))
}
