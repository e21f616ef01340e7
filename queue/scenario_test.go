package queue

import (
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writeFault is a way in which the writes at a place go wrong.
type writeFault struct {
	place string
	made  bool   // the write is made first
	how   string // once, for a while, from then on, every third
	err   error
}

func (h writeFault) String() string {
	when := "before"
	if h.made {
		when = "after"
	}
	return fmt.Sprintf("%s, %s it, %s, %v", h.place, when, h.how, h.err)
}

// hits says whether the visit of the place, counted from 1, goes wrong.
func (h *writeFault) hits(visit int) bool {
	switch h.how {
	case "once":
		return visit == 1
	case "for a while":
		return visit <= 4
	case "every third":
		return visit%3 == 1
	}
	return true
}

// scenario uses a queue at random and writes down what its user knows.
type scenario struct {
	*Queue
	t      *testing.T
	opts   Options
	ledger *ledger
	r      *rand.Rand
	clock  atomic.Int64
	free   atomic.Int64 // bytes of disk
	n      int          // events so far
	died   bool         // what was not saved may be lost

	mu      sync.Mutex
	harm    *writeFault
	visits  int
	fired   int
	visited map[string]bool // places, while armed
	armed   bool
	copyAt  string // at the next visit of this place the directory is copied, as a death would leave it
	copyTo  string
	said    []string
}

const (
	scenarioStart     = 1_700_000_000_000 // of the clock, Unix milliseconds
	scenarioWindow    = 3 * time.Minute
	scenarioRetention = time.Minute
	scenarioUnserved  = 200 * time.Hour
)

func newScenario(t *testing.T, seed int64) *scenario {
	p := &scenario{t: t, ledger: newLedger(), r: rand.New(rand.NewSource(seed)), visited: map[string]bool{}}
	p.clock.Store(scenarioStart)
	p.free.Store(1 << 40)
	p.opts = Options{
		Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: scenarioWindow, Retention: scenarioRetention, FailedRetention: 1000 * time.Hour, UnservedRetention: scenarioUnserved,
		Now: func() time.Time { return time.UnixMilli(p.clock.Load()) }, AppendTimeout: time.Second,
		slotSize: 256 << 10, saveEvery: 5 * time.Millisecond, tailBytes: 1, ballast: 64 << 10, fault: p.fault, laneRetries: 2, allRetries: 1,
		Free: func() (int64, error) { return p.free.Load(), nil },
		Notice: func(line string) {
			p.mu.Lock()
			p.said = append(p.said, line)
			p.mu.Unlock()
		},
	}
	return p
}

func (p *scenario) fault(place string, made bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.copyAt == place && !made {
		p.copyAt = ""
		if err := copyTree(p.copyTo, p.opts.Dir); err != nil {
			p.t.Error(err)
		}
	}
	if !p.armed {
		return nil
	}
	p.visited[place] = true
	if p.harm == nil || p.harm.place != place || p.harm.made != made {
		return nil
	}
	p.visits++
	if !p.harm.hits(p.visits) {
		return nil
	}
	p.fired++
	return p.harm.err
}

func (p *scenario) arm(armed bool) {
	p.mu.Lock()
	p.armed = armed
	p.mu.Unlock()
}

// capture has the directory copied at the next visit of a place.
func (p *scenario) capture(place, dir string) {
	p.mu.Lock()
	p.copyAt, p.copyTo = place, dir
	p.mu.Unlock()
}

func (p *scenario) now() int64 { return p.clock.Load() }

func (p *scenario) advance(d time.Duration) { p.clock.Add(d.Milliseconds()) }

func (p *scenario) must(err error) {
	p.t.Helper()
	if err != nil {
		p.mu.Lock()
		said := p.said
		p.mu.Unlock()
		p.t.Fatalf("%v: %v; said %q", p.harm, err, said[max(0, len(said)-6):])
	}
}

func (p *scenario) open() error {
	q, err := openUnforked(p.opts)
	if err == nil {
		p.Queue = q
	}
	return err
}

// lane makes a lane, or returns the one there is; nil when that fails.
func (p *scenario) lane(name string) *Lane {
	l, err := p.Lane(name)
	if err != nil {
		return nil
	}
	p.ledger.lanes[name], p.ledger.discarded[name] = true, false
	return l
}

// mustLane is lane while no fault is armed.
func (p *scenario) mustLane(name string) *Lane {
	p.t.Helper()
	var l *Lane
	await(p.t, "lane "+name, func() bool { l = p.lane(name); return l != nil })
	return l
}

// scenarioBody is the body of an event: large and incompressible when its id says so.
func scenarioBody(id string) []byte {
	if !strings.HasPrefix(id, "big") {
		return body(id)
	}
	raw := make([]byte, 100<<10)
	seed := int64(0)
	for _, b := range []byte(id) {
		seed = seed*131 + int64(b)
	}
	rand.New(rand.NewSource(seed)).Read(raw)
	return raw
}

// append stores n events for all lanes.
func (p *scenario) append(n int, prefix string) error {
	var set []LaneID
	var names []string
	for _, l := range p.Lanes() {
		set, names = append(set, l.ID()), append(names, l.Name())
	}
	events, receipts := make([]Event, n), make([]Receipt, n)
	for i := range events {
		id := fmt.Sprintf("%s_%d", prefix, p.n)
		p.n++
		p.ledger.tried[id] = true
		events[i] = Event{ID: []byte(id), Type: []byte("x"), Body: scenarioBody(id), Lanes: NewLaneSet(set...)}
	}
	err := p.Append("platform", events, receipts)
	for i := range events {
		id := string(events[i].ID)
		switch {
		case err == nil:
			p.ledger.acknowledge(id, acked{receipts[i].Seq, p.now(), names})
		case errors.Is(err, ErrDiskLow) || errors.Is(err, ErrOverloaded) || errors.Is(err, ErrClosed):
			p.ledger.refused[id] = true
		}
	}
	return err
}

// mustAppend is append while no fault is armed.
func (p *scenario) mustAppend(n int, prefix string) {
	p.t.Helper()
	await(p.t, "an append", func() bool {
		err := p.append(n, prefix)
		if err != nil && !errors.Is(err, ErrOverloaded) && !errors.Is(err, ErrDiskLow) {
			p.must(err)
		}
		return err == nil
	})
}

// settle settles a delivery.
func (p *scenario) settle(l *Lane, d *Delivery, state string) {
	p.ledger.settle(l.Name(), string(d.Event.ID), state, p.now())
	switch state {
	case Delivered:
		l.Delivered(d, ok(d.Attempts+1))
	case Retrying:
		l.Retry(d, broken(d.Attempts+1), p.opts.Now().Add(time.Second))
	case Failed:
		l.Failed(d, broken(d.Attempts+1), "answered 500")
	}
}

// work takes up to n deliveries of a lane and settles them at random.
func (p *scenario) work(l *Lane, n int) {
	for range n {
		d, in := l.TakeDue(p.opts.Now())
		if !in {
			if d, _ = l.Take(); d == nil {
				return
			}
		}
		p.settle(l, d, []string{Delivered, Delivered, Delivered, Retrying, Failed}[p.r.Intn(5)])
	}
}

// save reports whether everything so far was saved.
func (p *scenario) save() bool {
	if p.writer.awaitSave(p.Queue) != nil {
		return false
	}
	p.ledger.save()
	return true
}

// mustSave saves, once what kept the queue from it is over.
func (p *scenario) mustSave() {
	p.t.Helper()
	await(p.t, "a save", func() bool { return p.save() || p.Err() != nil })
	p.must(p.Err())
}

func (p *scenario) pause(l *Lane, why string) {
	may := p.ledger.paused[l.Name()]
	if len(may) == 0 {
		may = []string{""}
	}
	p.ledger.paused[l.Name()] = append(may, why)
	if l.Pause(why) == nil {
		p.ledger.paused[l.Name()] = []string{why}
	}
}

func (p *scenario) discard(l *Lane) {
	p.ledger.lanes[l.Name()] = false
	if p.Discard(l) == nil {
		p.ledger.discard(l.Name())
	}
}

// discardFailed discards what has failed for a lane. The store then shows no difference to what is delivered.
func (p *scenario) discardFailed(l *Lane) {
	for _, id := range p.ledger.ids() {
		key := l.Name() + " " + id
		if changes := p.ledger.deliveries[key]; len(changes) > 0 && changes[len(changes)-1].state == Failed {
			p.ledger.settle(l.Name(), id, Delivered, p.now())
		}
	}
	if _, err := l.DiscardFailed(ReplaySpec{}); err == nil {
		p.ledger.save()
	}
}

// begin brings the queue into a state that has some of everything: saved, in the journal alone, and in memory alone; a
// sealed segment, something carried, a lane that is paused, one that is to be discarded and one that nobody serves.
func (p *scenario) begin() {
	p.t.Helper()
	p.must(p.open())
	crm, mail, old, left := p.mustLane("crm"), p.mustLane("mail"), p.mustLane("old"), p.mustLane("left")
	p.mustAppend(30, "evt")
	for _, l := range []*Lane{crm, mail, old} {
		p.work(l, 25)
	}
	p.work(left, 8)
	p.leave(left)
	p.mustSave()
	p.must(p.update(func() error { return p.log.Seal() }))
	p.finish(crm)
	p.finish(mail)
	p.finish(old)
	p.mustSave()
	p.advance(2 * scenarioRetention)
	p.tidy()
	p.advance(2 * scenarioRetention)
	p.tidy()
	p.mustAppend(20, "evt")
	p.pause(mail, "by hand")
	p.work(crm, 10)
	if _, err := crm.StartReplay(ReplaySpec{Failed: true}, -1); err != nil {
		p.must(err)
	}
	p.replay(crm, 2)
	p.mustSave()
	p.mustAppend(10, "evt")
	p.work(crm, 5)
	p.work(old, 8)
}

// leave has all lanes but one, nil for none, served.
func (p *scenario) leave(left *Lane) {
	if left != nil {
		p.ledger.unserved[left.Name()] = true
	}
	var names []string
	for _, l := range p.Lanes() {
		if l != left {
			names = append(names, l.Name())
		}
	}
	p.SetServed(names)
}

// expire has what an unserved lane holds become failed, as far as the armed fault lets it.
func (p *scenario) expire(l *Lane) {
	for _, id := range p.ledger.ids() {
		key := l.Name() + " " + id
		if changes := p.ledger.deliveries[key]; len(changes) > 0 && (changes[len(changes)-1].state == Pending || changes[len(changes)-1].state == Retrying) {
			p.ledger.settle(l.Name(), id, Failed, p.now())
		}
	}
	p.tidy()
}

// finish settles what of a lane is pending, in some way.
func (p *scenario) finish(l *Lane) {
	for d, _ := l.Take(); d != nil; d, _ = l.Take() {
		p.settle(l, d, []string{Delivered, Delivered, Delivered, Delivered, Retrying, Failed}[p.r.Intn(6)])
	}
}

// replay settles up to n deliveries of the replays of a lane.
func (p *scenario) replay(l *Lane, n int) {
	for range n {
		d, _ := l.TakeReplay(p.opts.Now())
		if d == nil {
			return
		}
		p.settle(l, d, []string{Delivered, Retrying, Failed}[p.r.Intn(3)])
	}
}

// tidy has what nobody needs deleted; how far that comes depends on the armed fault.
func (p *scenario) tidy() {
	for range 3 {
		err := p.update(func() error {
			p.writer.retain.sweep.notBefore = 0
			err := p.writer.retain.run(p.Queue)
			for more := true; more && err == nil; {
				more, err = p.log.Shorten()
			}
			if err != nil && p.Queue.disk.noteShortage(p.Queue, err) {
				err = nil
			} else if err != nil {
				p.fail(err) // as the writer does
			}
			return err
		})
		if err != nil {
			return
		}
	}
}

// end settles everything that is left, and saves it. No fault is armed any more.
func (p *scenario) end() {
	p.t.Helper()
	for name, wanted := range p.ledger.lanes {
		if l := p.Find(name); !wanted && l != nil {
			p.discard(l)
		}
	}
	p.leave(nil)
	for _, l := range p.Lanes() {
		p.pause(l, "")
		for again := true; again; {
			p.advance(2 * time.Second)
			again = false
			for {
				d, in := takeDue(l, p.opts.Now())
				if !in {
					if d, _ = l.Take(); d == nil {
						if d, _ = l.TakeReplay(p.opts.Now()); d == nil {
							break
						}
					}
				}
				p.settle(l, d, Delivered)
				again = true
			}
			p.mustSave()
		}
		if s := l.Stats(); s.Pending != 0 || s.Retrying != 0 {
			p.t.Errorf("%v: %s has %+v left", p.harm, l.Name(), s)
		}
	}
}

// repeat posts all ids again that are in their window.
func (p *scenario) repeat(when string) {
	p.t.Helper()
	for _, id := range p.ledger.ids() {
		was := p.ledger.acked[id]
		if p.now()-was.at >= scenarioWindow.Milliseconds() {
			continue
		}
		receipts := make([]Receipt, 1)
		p.must(p.Append("platform", []Event{{ID: []byte(id), Type: []byte("x"), Body: scenarioBody(id)}}, receipts))
		if !receipts[0].Duplicate || receipts[0].Seq != was.seq {
			p.t.Errorf("%v: %s: %s again is answered %+v, want a duplicate of %d", p.harm, when, id, receipts[0], was.seq)
		}
	}
}

// look checks the queue.
func (p *scenario) look(when string) {
	p.t.Helper()
	list := check(p.Queue, p.ledger, p.now())
	if len(list) > 0 {
		p.mu.Lock()
		said := slices.Clone(p.said)
		p.mu.Unlock()
		p.t.Errorf("%v (%d times): %s: %d complaints: %s; said %q", p.harm, p.fired, when, len(list), strings.Join(list[:min(len(list), 6)], "; "), said[max(0, len(said)-5):])
	}
}
