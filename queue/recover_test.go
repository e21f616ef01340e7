package queue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crash returns a queue opened on a copy of b's directory, as it would be found had b's process died now, between two
// saves of the keeper. The committer goes on while the journal is copied.
func (b *bench) crash(change func(dir string)) *bench {
	b.t.Helper()
	after := &bench{t: b.t, opts: b.opts}
	after.opts.Dir = filepath.Join(b.t.TempDir(), "data")
	after.opts.Notice = func(line string) {
		after.mu.Lock()
		after.said = append(after.said, line)
		after.mu.Unlock()
	}
	err := b.update(func(*batch) (err error) {
		// Badger merges tables by itself: a copy that saw it change its mind is not what a crash would leave.
		manifest := filepath.Join(b.opts.Dir, "store", "MANIFEST")
		for range 50 {
			before := mustRead(b.t, manifest)
			err = errors.Join(os.RemoveAll(after.opts.Dir), copyTree(after.opts.Dir, b.opts.Dir))
			if err == nil && string(before) == string(mustRead(b.t, manifest)) {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("copy %q: it does not come to rest: %w", b.opts.Dir, err)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if change != nil {
		change(after.opts.Dir)
	}
	after.open()
	b.t.Cleanup(func() { _ = after.Queue.Close() })
	return after
}

// copyTree copies files without the zeros that most of the store's and journal's are made of.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.Create(target)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(int64(len(raw))); err != nil {
			return err
		}
		var zeros [4096]byte
		for at := 0; at < len(raw); at += len(zeros) {
			page := raw[at:min(at+len(zeros), len(raw))]
			if string(page) == string(zeros[:len(page)]) {
				continue
			}
			if _, err := f.WriteAt(page, int64(at)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) activeSlot(dir string) (name string, end int64) {
	s := b.journal.active()
	return filepath.Join(dir, "journal", filepath.Base(s.file.Name())), s.end
}

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
		if lost > 0 || s.Pending != 0 || s.Retrying != 0 || s.Delivered+s.Failed != given || lane.matched.Load() != given {
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

// A crash in the midst of a save, between two of its transactions, leaves blocks that the store does not count yet.
func TestASaveCutShortIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.slotSize, o.saveEvery = 4<<20, time.Hour })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 20)...)
	b.append(NewLaneSet(crm.ID()), ids(20, 40)...)
	release := b.hold()
	// What a save writes, up to the moment of the crash.
	tx := b.store.batch()
	frames := b.tail.above(b.keeper.applied.next)
	var block []byte
	for _, f := range frames[:1] {
		block = append(block, f.raw...)
	}
	writeBlock(tx, kindBlock, frames[0].end()-1, block)
	if err := tx.flush(); err != nil {
		t.Fatal(err)
	}
	release()
	after := b.crash(nil)
	after.saveAll()
	if n := after.Stats().Events; n != 40 {
		t.Errorf("%d events are counted, want 40", n)
	}
	blocks := 0
	if err := after.store.scan([]byte{kindBlock}, []byte{kindBlock}, true, func([]byte, func() ([]byte, error)) (bool, error) {
		blocks++
		return true, nil
	}); err != nil || blocks != 1 {
		t.Errorf("%d blocks, want one with both frames; %v", blocks, err)
	}
	lane := after.lane("crm")
	for _, id := range ids(0, 40) {
		lane.Delivered(mustTake(t, lane, id), ok(1))
	}
	mustBeEmpty(t, lane)
}

// Damage of what only the journal had costs the events that were damaged, which is told, and no others.
func TestADamagedJournalCostsNoOtherEvents(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		harm func(raw []byte, ends []int64)
		lost []string
		said string
	}{
		{"an entry in the middle", func(raw []byte, ends []int64) { raw[ends[0]+100] ^= 1 }, []string{"evt_1"}, "events 2 to 2 can't be read"},
		{"the last entry", func(raw []byte, ends []int64) { raw[ends[2]-1] ^= 1 }, []string{"evt_2"}, "is torn"},
		{"the header of the slot", func(raw []byte, ends []int64) { raw[9] ^= 1 }, nil, "header"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := openBench(t, func(o *Options) { o.saveEvery = time.Hour })
			crm := b.lane("crm")
			set := NewLaneSet(crm.ID())
			var ends []int64
			for i := range 3 {
				id := fmt.Sprint("evt_", i)
				b.append(set, id)
				crm.Delivered(mustTake(t, crm, id), ok(1))
				ends = append(ends, b.journal.active().end)
			}
			after := b.crash(func(dir string) {
				name, _ := b.activeSlot(dir)
				raw := mustRead(t, name)
				c.harm(raw, ends)
				mustPut(t, name, raw)
			})
			if said := fmt.Sprint(after.said); !strings.Contains(said, c.said) {
				t.Errorf("the queue says %q, want %q", said, c.said)
			}
			lane := after.lane("crm")
			after.append(set, "new_0")
			after.append(set, "new_1")
			for _, id := range []string{"evt_0", "evt_1", "evt_2", "new_0", "new_1"} {
				if !slices.Contains(c.lost, id) {
					lane.Delivered(mustTake(t, lane, id), ok(1))
				}
			}
			mustBeEmpty(t, lane)
			if s := lane.Stats(); s.Pending != 0 {
				t.Errorf("the lane has %+v", s)
			}
		})
	}
}

// What the store knows of a lane is never ahead of the frames that the store has: if the journal is lost, new events
// must not fall behind a cursor.
func TestALaneIsNeverSavedAheadOfTheLog(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Hour })
	first, crm := b.lane("first"), b.lane("crm")
	set := NewLaneSet(crm.ID())
	b.append(set, "a")
	crm.Delivered(mustTake(t, crm, "a"), ok(1))
	first.mu.Lock() // holds the keeper in the midst of its save, at this lane
	before := b.keeper.saving.Load()
	signal(b.keeper.kick)
	for b.keeper.saving.Load() == before {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(5 * time.Millisecond)
	b.append(set, "b")
	crm.Delivered(mustTake(t, crm, "b"), ok(1))
	first.mu.Unlock()
	after := b.crash(func(dir string) {
		record := b.applied.Load()
		name, end := b.activeSlot(dir)
		if record == 2 { // b is in the journal alone: lose it
			raw := mustRead(t, name)
			raw[end-1] ^= 1
			mustPut(t, name, raw)
		}
	})
	lane := after.lane("crm")
	if lane.next > after.end.Load() || lane.passed.Load() > lane.matched.Load() {
		t.Errorf("the cursor is %d, the log ends at %d; %d of %d settled", lane.next, after.end.Load(), lane.passed.Load(), lane.matched.Load())
	}
	after.append(set, "c")
	after.append(set, "d")
	for d, _ := lane.Take(); ; d, _ = lane.Take() {
		if d == nil {
			t.Fatal("c was not handed out")
		}
		if string(d.Event.ID) == "c" {
			break
		}
		lane.Delivered(d, ok(1))
	}
}

// model is what a queue is to hold, in the simplest form.
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
			if err := b.GiveUp(l.lane); err != nil {
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

// compare holds the story of an event against the model.
func (m *model) compare(b *bench, id string, failf func(format string, args ...any)) {
	b.t.Helper()
	seq := m.events[id]
	ev, stories, found, err := b.Story([]byte(id))
	if err != nil || !found || ev.Seq != seq || string(ev.Body) != string(body(id)) {
		failf("the story of %s: %+v, %v, %v", id, ev, found, err)
	}
	for _, s := range stories {
		l := m.lanes[s.Lane]
		want, attempts := Settled, 1
		retry, retrying := l.retrying[seq]
		switch {
		case l.pending[seq] != "":
			want, attempts = Pending, 0
		case retrying:
			want, attempts = Retrying, retry.attempts
		case l.failed[seq]:
			want = GivenUp
		}
		if s.State != want || len(s.Attempts) < attempts {
			failf("%s is %q at %s after %d attempts, want %q after %d", id, s.State, s.Lane, len(s.Attempts), want, attempts)
		}
	}
}
