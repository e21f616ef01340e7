package simulate

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// world is everything there is: the network, the machines that run relays, and the actors. Whatever is random in it comes from the
// seed.
type world struct {
	seed    uint64
	folder  string
	without map[string]bool // actors, or "actor/step", that do nothing
	level   zerolog.Level   // of the relay's log
	began   time.Time
	ends    time.Time // of the play; then all is made well, and the end is judged

	net    *network
	relays []*machine
	file   *file
	ledger *ledger
	disk   space

	byAccount bool  // endpoints ask for some accounts' events alone
	smaller   int   // how many times smaller than elsewhere the files are that a queue makes beforehand
	tail      int64 // bytes of events that a queue keeps in memory; 0: as elsewhere

	over   chan struct{} // closed when the play ends
	actors sync.WaitGroup
	steps  atomic.Int64
	events atomic.Int64 // requests at receivers

	mu     sync.Mutex
	log    []string
	faults []string       // what was found
	taken  map[string]int // steps, by actor
}

func newWorld(seed uint64, folder string, length time.Duration) *world {
	w := &world{seed: seed, folder: folder, without: map[string]bool{}, taken: map[string]int{}, level: zerolog.InfoLevel, began: time.Now(), net: newNetwork(), over: make(chan struct{})}
	w.ends = w.began.Add(length)
	w.disk.set(1 << 40)
	w.ledger = newLedger(w)
	return w
}

// relay is the one of a world with one.
func (w *world) relay() *machine { return w.relays[0] }

// rand is the random numbers of one step of an actor.
func (w *world) rand(actor string, step int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, actor, "/", step)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// act has an actor take one step after the other until the play ends. wait is how long until a step; do takes it. A step that was
// left out takes its time all the same.
func (w *world) act(actor string, wait func(*rand.Rand) time.Duration, do func(*rand.Rand)) {
	w.actors.Go(func() {
		for step := 0; ; step++ {
			r := w.rand(actor, step)
			if !w.sleep(wait(r)) {
				return
			}
			if w.without[actor] || w.without[fmt.Sprint(actor, "/", step)] {
				continue
			}
			w.mu.Lock()
			w.taken[actor] = step + 1
			w.mu.Unlock()
			w.steps.Add(1)
			do(r)
		}
	})
}

// sleep waits; it returns false when the play has ended before.
func (w *world) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Now().Before(w.ends)
	case <-w.over:
		return false
	}
}

// around is a random time of about this length, mostly shorter, sometimes much longer.
func around(mean time.Duration, r *rand.Rand) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

func (w *world) clock() string {
	passed := time.Since(w.began)
	return fmt.Sprintf("%dd %s", passed/(24*time.Hour), time.Time{}.Add(passed%(24*time.Hour)).Format("15:04:05.000"))
}

func (w *world) say(who, format string, args ...any) {
	line := w.clock() + " " + who + ": " + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, line)
}

// fail notes that a promise was broken.
func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.say("BROKEN", "%s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, w.clockLocked()+" "+text)
}

func (w *world) clockLocked() string { return w.clock() }

func (w *world) broken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.faults...)
}

func (w *world) must(err error) {
	if err != nil {
		panic(err)
	}
}

// relayLog has the relay's lines in the world's log.
type relayLog struct {
	w    *world
	name string
}

// Write is io.Writer's.
func (l relayLog) Write(p []byte) (int, error) {
	l.w.say(l.name+" log", "%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// endpoints are those of the file as it is.
func (w *world) endpoints() []endpoint {
	w.file.mu.Lock()
	defer w.file.mu.Unlock()
	return w.file.versions[len(w.file.versions)-1].endpoints
}

// secretsOf are those with which an endpoint's attempts may be signed now.
func (w *world) secretsOf(name string) (list []string) {
	for _, v := range w.file.between(time.Now().Add(-2*time.Second), time.Now()) {
		for _, e := range v.endpoints {
			if e.name == name {
				list = append(list, e.secret)
			}
		}
	}
	return list
}
