package queue

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestNothingThatWasAnsweredIsLostInACrash(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	b := openBench(t, func(o *Options) { o.saveEvery = 3 * time.Millisecond })
	crm := b.lane("crm")
	set := NewLaneSet(crm.ID())
	var answered, received sync.Map
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := fmt.Sprintf("evt_%d_%d", g, i)
				if _, err := b.tryAppend(set, id); err != nil {
					t.Errorf("append says %v", err)
					return
				}
				answered.Store(id, true)
			}
		})
	}
	for g := range 3 {
		r := rand.New(rand.NewSource(seed + int64(g)))
		wg.Go(func() {
			for !stop.Load() {
				d, in := crm.TakeDue(time.Now())
				if !in {
					if d, _ = crm.Take(); d == nil {
						continue
					}
				}
				switch r.Intn(10) {
				case 0:
					crm.Retry(d, broken(d.Attempts+1), time.Now().Add(time.Millisecond))
				case 1:
					received.Store(string(d.Event.ID), true) // failed: visibly so
					crm.Failed(d, broken(d.Attempts+1), "answered 500")
				default:
					received.Store(string(d.Event.ID), true)
					crm.Delivered(d, ok(d.Attempts+1))
				}
			}
		})
	}
	r := rand.New(rand.NewSource(seed + 100))
	for range 3 {
		time.Sleep(time.Duration(r.Intn(20)) * time.Millisecond)
		before, done := map[string]bool{}, map[string]bool{}
		answered.Range(func(id, _ any) bool { before[id.(string)] = true; return true })
		after := b.crash(nil)
		received.Range(func(id, _ any) bool { done[id.(string)] = true; return true })
		lane := after.lane("crm")
		repeats := 0
		handle := func(d *Delivery) {
			id := string(d.Event.ID)
			if done[id] {
				repeats++
			}
			done[id] = true
			lane.Delivered(d, ok(d.Attempts+1))
		}
		for d, _ := lane.Take(); d != nil; d, _ = lane.Take() {
			handle(d)
			awaitSave(lane)
		}
		for d, in := takeDue(lane, time.Now().Add(time.Hour)); in; d, in = takeDue(lane, time.Now().Add(time.Hour)) {
			handle(d)
		}
		lost := 0
		for id := range before {
			if !done[id] {
				lost++
			}
		}
		given := int64(after.end.Load() - 1)
		s := lane.Stats()
		if lost > 0 || s.Pending != 0 || s.Retrying != 0 || s.Delivered+s.Failed != given || lane.assignedCount() != given {
			t.Errorf("seed %d: %d of %d answered events are lost; %d in the log, the lane has %+v", seed, lost, len(before), given, s)
		}
		for id := range before {
			if r := after.append("", id); !r[0].Duplicate {
				t.Errorf("seed %d: %s is not known after the crash", seed, id)
			}
			break
		}
		if len(after.said) > 0 && !strings.Contains(after.said[0], "torn") {
			t.Errorf("seed %d: the queue says %q", seed, after.said)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("%d answered, %d handed out again", len(before), repeats)
	}
	stop.Store(true)
	wg.Wait()
}

// model is what a queue must have, in the simplest form.
type model struct {
	events map[string]uint64 // seq by id
	names  []string
	lanes  map[string]*modelLane
}

type modelLane struct {
	lane      *Lane
	pending   map[uint64]string // by seq
	flights   map[uint64]*Delivery
	retrying  map[uint64]modelRetry
	due       map[uint64]*Delivery // retries under way
	failed    map[uint64]bool
	delivered int64
	paused    string
}

type modelRetry struct {
	id       string
	at       int64
	attempts int
}

func TestAQueueDoesWhatItsModelDoes(t *testing.T) {
	seed := time.Now().UnixNano()
	for round := range int64(4) {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed+round, 400)
		})
	}
}

func runModel(t *testing.T, seed int64, steps int) {
	r := rand.New(rand.NewSource(seed))
	var clock atomic.Int64
	clock.Store(1_700_000_000_000)
	b := openBench(t, func(o *Options) {
		o.tailBytes, o.saveEvery = int64(1+r.Intn(4<<10)), time.Duration(1+r.Intn(5))*time.Millisecond
		o.slotSize = 32 << 10
		o.laneRetries, o.allRetries = 1, 1+r.Intn(24)
	})
	m := &model{events: map[string]uint64{}, lanes: map[string]*modelLane{}}
	failf := func(step int, format string, args ...any) {
		t.Helper()
		t.Fatalf("seed %d, step %d: %s", seed, step, fmt.Sprintf(format, args...))
	}
	add := func(name string) {
		m.names = append(m.names, name)
		m.lanes[name] = &modelLane{
			lane: b.lane(name), pending: map[uint64]string{}, flights: map[uint64]*Delivery{},
			retrying: map[uint64]modelRetry{}, due: map[uint64]*Delivery{}, failed: map[uint64]bool{},
		}
	}
	check := func(step int) {
		t.Helper()
		for _, name := range m.names {
			l := m.lanes[name]
			s := l.lane.Stats()
			if s.Pending != int64(len(l.pending)) || s.Retrying != int64(len(l.retrying)) || s.Failed != int64(len(l.failed)) || s.Delivered != l.delivered || s.Paused != l.paused {
				failf(step, "%s has %+v, want %d pending, %d retrying, %d failed, %d delivered, paused %q",
					name, s, len(l.pending), len(l.retrying), len(l.failed), l.delivered, l.paused)
			}
		}
	}
	add("lane_0")
	add("lane_1")
	for step := range steps {
		l := m.lanes[m.names[r.Intn(len(m.names))]]
		switch n := r.Intn(100); {
		case n < 20:
			batch := make([]Event, 1+r.Intn(12))
			for i := range batch {
				id := fmt.Sprint("evt_", r.Intn(steps*4))
				var set []LaneID
				for _, name := range m.names {
					if r.Intn(3) > 0 {
						set = append(set, m.lanes[name].lane.ID())
					}
				}
				batch[i] = Event{ID: []byte(id), Type: []byte("test"), Body: body(id), Lanes: NewLaneSet(set...)}
			}
			receipts := make([]Receipt, len(batch))
			if err := b.Append("platform", batch, receipts); err != nil {
				failf(step, "append: %v", err)
			}
			for i, receipt := range receipts {
				id := string(batch[i].ID)
				seq, known := m.events[id]
				if receipt.Duplicate != known || known && seq != receipt.Seq {
					failf(step, "%s got %+v, want seq %d, duplicate %v", id, receipt, seq, known)
				}
				if known {
					continue
				}
				m.events[id] = receipt.Seq
				for _, name := range m.names {
					if batch[i].Lanes.Has(m.lanes[name].lane.ID()) {
						m.lanes[name].pending[receipt.Seq] = id
					}
				}
			}
		case n < 45:
			want := uint64(0)
			for _, seq := range slices.Sorted(maps.Keys(l.pending)) {
				if l.flights[seq] == nil {
					want = seq
					break
				}
			}
			d, _ := l.lane.Take()
			switch {
			case d == nil && want != 0:
				failf(step, "%s has nothing to take, want %s", l.lane.Name(), l.pending[want])
			case d != nil && (d.Event.Seq != want || string(d.Event.Body) != string(body(l.pending[want])) || d.Attempts != 0):
				failf(step, "%s took event %d, %q, attempts %d; want %d, %q", l.lane.Name(), d.Event.Seq, d.Event.Body, d.Attempts, want, l.pending[want])
			case d != nil:
				l.flights[want] = d
			}
		case n < 53:
			now := clock.Load()
			first := int64(0)
			for seq, retry := range l.retrying {
				if l.due[seq] == nil && retry.at <= now && (first == 0 || retry.at < first) {
					first = retry.at
				}
			}
			d, in := takeDue(l.lane, time.UnixMilli(now))
			if in != (first != 0) {
				failf(step, "%s has a retry: %v, want %v", l.lane.Name(), in, first != 0)
			}
			if in {
				want := l.retrying[d.Event.Seq]
				if l.due[d.Event.Seq] != nil || want.at != first || d.Attempts != want.attempts || string(d.Event.Body) != string(body(want.id)) {
					failf(step, "%s has retry %+v, want %+v", l.lane.Name(), d, want)
				}
				l.due[d.Event.Seq] = d
			}
		case n < 76:
			flights := l.flights
			if len(flights) == 0 || len(l.due) > 0 && r.Intn(2) == 0 {
				flights = l.due
			}
			if len(flights) == 0 {
				continue
			}
			seqs := slices.Sorted(maps.Keys(flights))
			l.settle(flights[seqs[r.Intn(len(seqs))]], r.Intn(8), clock.Load()+r.Int63n(5000))
		case n < 85:
			clock.Add(r.Int63n(3000))
		case n < 88 && len(m.names) < 6:
			add(fmt.Sprint("late_", step)) // a name of its own: lane_1 is there
		case n < 89 && len(m.names) > 2:
			if err := b.Discard(l.lane); err != nil {
				failf(step, "give up: %v", err)
			}
			delete(m.lanes, l.lane.Name())
			m.names = slices.DeleteFunc(m.names, func(name string) bool { return name == l.lane.Name() })
		case n < 91:
			l.paused = []string{"", "by hand"}[r.Intn(2)]
			if err := l.lane.Pause(l.paused); err != nil {
				failf(step, "pause: %v", err)
			}
		case n < 95:
			if r.Intn(4) > 0 {
				b.reopen()
			} else {
				b.saveAll()
				old := b.Queue
				b.Queue = b.crash(nil).Queue
				b.opts.Dir = b.Queue.opts.Dir
				if err := old.Close(); err != nil {
					failf(step, "close: %v", err)
				}
			}
			for _, name := range m.names {
				l := m.lanes[name]
				l.lane = b.lane(name)
				clear(l.flights)
				clear(l.due)
			}
			check(step)
		default:
			check(step)
			if len(m.events) == 0 {
				continue
			}
			all := slices.SortedFunc(maps.Keys(m.events), func(x, y string) int { return cmp.Compare(m.events[x], m.events[y]) })
			id := all[r.Intn(len(all))]
			m.compare(b, id, func(format string, args ...any) { t.Helper(); failf(step, format, args...) })
		}
	}
	b.reopen()
	for _, name := range m.names {
		m.lanes[name].lane = b.lane(name)
	}
	check(steps)
	if n := b.Stats(); n.Damaged != 0 || n.Events != int64(len(m.events)) {
		failf(steps, "%d events are kept, want %d; %d damaged: %q", n.Events, len(m.events), n.Damaged, b.said)
	}
	if err := b.Close(); err != nil {
		failf(steps, "close: %v", err)
	}
}

func (l *modelLane) settle(d *Delivery, how int, at int64) {
	seq := d.Event.Seq
	retried := l.due[seq] != nil
	known := l.retrying[seq]
	known.id = cmp.Or(known.id, l.pending[seq])
	delete(l.flights, seq)
	delete(l.due, seq)
	if how > 1 { // all but a release
		delete(l.pending, seq)
		delete(l.retrying, seq)
	}
	switch how {
	case 0, 1:
		l.lane.Release(d, time.UnixMilli(at))
		if retried {
			known.at = at
			l.retrying[seq] = known
		}
	case 2, 3:
		l.retrying[seq] = modelRetry{known.id, at, d.Attempts + 1}
		l.lane.Retry(d, broken(d.Attempts+1), time.UnixMilli(at))
	case 4:
		l.failed[seq] = true
		l.lane.Failed(d, broken(d.Attempts+1), "answered 500")
	default:
		l.delivered++
		l.lane.Delivered(d, ok(d.Attempts+1))
	}
}

// compare compares the story of an event with the model.
func (m *model) compare(b *bench, id string, failf func(format string, args ...any)) {
	b.t.Helper()
	seq := m.events[id]
	ev, stories, found, err := b.Story([]byte(id))
	if err != nil || !found || ev.Seq != seq || string(ev.Body) != string(body(id)) {
		failf("the story of %s: %+v, %v, %v", id, ev, found, err)
	}
	for _, s := range stories {
		l := m.lanes[s.Lane]
		want, attempts := Delivered, 1
		retry, retrying := l.retrying[seq]
		switch {
		case l.pending[seq] != "":
			want, attempts = Pending, 0
		case retrying:
			want, attempts = Retrying, retry.attempts
		case l.failed[seq]:
			want = Failed
		}
		if s.State != want || len(s.Attempts) < attempts {
			failf("%s is %q at %s after %d attempts, want %q after %d", id, s.State, s.Lane, len(s.Attempts), want, attempts)
		}
	}
}
