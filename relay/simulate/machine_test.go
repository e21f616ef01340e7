package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// machine is one on which a relay runs. The fate that owns it starts, stops and kills the relay.
type machine struct {
	w             *world
	name          string
	folder        string // of everything that the machine has
	intake, admin netip.AddrPort
	ghosts        sync.WaitGroup // lives that were killed and have not come to their end
	lives         int
	off           atomic.Int64 // of the wall clock, nanoseconds

	mu      sync.Mutex
	booted  time.Time
	boot    byte
	life    *life // nil while the relay does not run
	outages []outage
}

// outage is a time without a relay, from when it began to end until it served again.
type outage struct {
	from, until time.Time // until is zero while it lasts
	crash       bool
}

// life is one run of the relay. One that was killed goes on as a ghost, on the disk of before and without a network, until it has
// come to its end: a goroutine can't be killed.
type life struct {
	relay *relay.Relay
	disk  *disk
	dead  atomic.Bool
	over  context.CancelFunc // of its watchers
	doors []net.Listener
}

func (w *world) newMachine(name string, number byte) *machine {
	m := &machine{w: w, name: name, folder: filepath.Join(w.folder, name), booted: time.Now(), boot: 1,
		intake: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, number}), 8080),
		admin:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, number}), 8081)}
	w.must(os.MkdirAll(m.folder, 0o700))
	return m
}

func (m *machine) configPath() string { return filepath.Join(m.folder, "relay.toml") }

func (m *machine) dataDir(life int) string { return filepath.Join(m.folder, fmt.Sprint("data", life)) }

// start starts the relay on what the last life left.
func (m *machine) start(slow time.Duration, merges bool) {
	w, dir := m.w, m.dataDir(m.lives)
	followed := w.file.count()
	cfg, err := config.Parse(m.configPath(), []byte(w.file.text(m, dir)), nil)
	w.must(err)
	l := &life{disk: &disk{dir: dir, rand: w.rand("disk of "+m.name, m.lives), slow: slow}}
	on := relay.Machine{
		Machine: client.Machine{Now: m.now, Dial: w.net.dialFrom(l)},
		Queue: func(o queue.Options) queue.Options {
			o.Free, o.Now = w.disk.bytes, m.now
			return o.On(queue.Machine{Fault: l.disk.fault, Up: m.up, Merges: merges, Disk: w.smaller, Tail: w.tail})
		},
	}
	intake, admin := w.net.listen(m.intake, l), w.net.listen(m.admin, l)
	l.doors = []net.Listener{intake, admin}
	log := zerolog.New(relayLog{w, m.name}).Level(w.level)
	l.relay, err = relay.StartOn(on, cfg, "0", log, nil, []net.Listener{intake}, []net.Listener{admin})
	w.must(err)
	w.file.followTo(followed)
	ctx, over := context.WithCancel(context.Background())
	l.over = over
	go l.relay.Watch(ctx)
	go func() {
		select {
		case err := <-l.relay.Broken():
			w.fail("the relay on %s broke: %v", m.name, err)
		case <-ctx.Done():
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life = l
	if n := len(m.outages); n > 0 {
		m.outages[n-1].until = time.Now()
	}
	w.say(m.name, "the relay runs, life %d, merges %v, a sync takes up to %s", m.lives, merges, slow)
}

// up is for how long the machine has been up, and which boot that is.
func (m *machine) up() (int64, [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.booted).Milliseconds() + 1, [16]byte{m.boot}
}

// leave ends the life for the world: from here on nothing of it is heard.
func (m *machine) leave(crash bool) *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.life
	m.life = nil
	m.outages = append(m.outages, outage{from: time.Now(), crash: crash})
	return l
}

// stop stops the relay as a signal does.
func (m *machine) stop() {
	m.w.say(m.name, "the relay is stopped")
	l := m.leave(false)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.relay.Stop(ctx); err != nil {
		m.w.fail("the stop of %s: %v", m.name, err)
	}
	l.over()
	for _, door := range l.doors {
		_ = door.Close()
	}
	m.mu.Lock()
	m.outages[len(m.outages)-1].from = time.Now() // until then the attempts under way were waited for
	m.mu.Unlock()
	m.w.say(m.name, "the relay has stopped")
}

// kill ends the relay between two writes, at the nth write from now or after so long, whichever comes first. The next life begins
// with the files as they are then.
func (m *machine) kill(nth int, within time.Duration) { m.end(nth, within, "is killed", nil) }

// cutPower is a kill that takes with it what was not synced, and a new boot.
func (m *machine) cutPower(nth int, within time.Duration, r *rand.Rand) {
	d := m.life.disk
	m.w.must(d.expectCut(d.dir + ".image"))
	m.end(nth, within, "loses its power", func(dir string) error { return d.cut(dir, r) })
	m.reboot()
}

func (m *machine) reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.booted, m.boot = time.Now(), m.boot+1
}

// setClock sets the wall clock so far off.
func (m *machine) setClock(off time.Duration) {
	m.off.Store(int64(off))
	m.w.say(m.name, "its clock is %s off", off)
}

// now is the wall clock, with a reading of the monotonic one, which nobody can set. In a bubble time.Now has none.
func (m *machine) now() time.Time {
	passed := time.Since(m.w.began)
	return reading(time.Now().Add(time.Duration(m.off.Load())), passed+1)
}

// reading is what time.Now returns when the wall clock and the monotonic one say so: in its first word a bit for that, the seconds
// since 1885 and the nanoseconds, in its second word the monotonic clock.
func reading(wall time.Time, mono time.Duration) (t time.Time) {
	words := (*[2]uint64)(unsafe.Pointer(&t))
	since := wall.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	words[0] = 1<<63 | uint64(since)<<30 | uint64(wall.Nanosecond())
	words[1] = uint64(mono)
	return t
}

func (m *machine) end(nth int, within time.Duration, how string, harm func(dir string) error) {
	l := m.life
	select {
	case <-l.disk.burn(nth):
	case <-time.After(within):
	}
	l.disk.freeze()
	m.leave(true)
	l.dead.Store(true)
	m.w.net.cutOff(l)
	for _, r := range m.w.ledger.receivers {
		r.mu.Lock()
		r.health.forget(time.Now())
		r.mu.Unlock()
	}
	m.w.say(m.name, "the relay %s", how)
	m.lives++
	m.w.must(copyTree(m.dataDir(m.lives), l.disk.dir))
	if harm != nil {
		m.w.must(harm(m.dataDir(m.lives)))
	}
	l.disk.setSlow(0)
	l.disk.thaw()
	m.ghosts.Go(func() {
		l.over()
		for _, door := range l.doors {
			_ = door.Close()
		}
		ended, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_ = l.relay.Stop(ended)
		_ = errors.Join(os.RemoveAll(l.disk.dir), os.RemoveAll(l.disk.dir+".image"))
	})
}

// troubledSince reports whether the relay was not there, or may have been about to go or come, at some time since then.
func (m *machine) troubledSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outages {
		if o.until.IsZero() || !o.until.Add(3*time.Second).Before(t) {
			return true
		}
	}
	return false
}

// offSince is for how long at most the relay did not run since then.
func (m *machine) offSince(t time.Time) (off time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outages {
		if o.until.After(t) {
			off += o.until.Sub(o.from)
		}
	}
	return off
}

// restartedSince reports whether the relay was started since then.
func (m *machine) restartedSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.outages)
	return n > 0 && (m.outages[n-1].until.IsZero() || !m.outages[n-1].until.Before(t))
}

// rebootedSince reports whether the machine was started since then.
func (m *machine) rebootedSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.booted.Before(t)
}

// forgets reports whether a crash can have made the relay forget what was over at a time.
func (m *machine) forgets(began, over time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outages {
		if !began.After(o.from) && (over.IsZero() || o.from.Before(over.Add(unsaved)) && (o.crash || o.from.Before(over))) {
			return true
		}
	}
	return false
}

// unsaved is how long what was settled may not be on disk yet: a tenth of a second, and as long as the slowest syncs take.
const unsaved = 2 * time.Second

// runsSince is since when the relay has run; false when it does not.
func (m *machine) runsSince() (since time.Time, runs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.outages); n > 0 {
		return m.outages[n-1].until, m.life != nil
	}
	return m.w.began, m.life != nil
}
