package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bench has a queue in a temporary folder.
type bench struct {
	*Queue
	t    *testing.T
	opts Options
	mu   sync.Mutex
	said []string
}

func openBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t}
	b.opts = Options{
		Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		slotSize: 256 << 10, saveEvery: 5 * time.Millisecond, ballast: 64 << 10,
		Notice: func(line string) {
			b.mu.Lock()
			b.said = append(b.said, line)
			b.mu.Unlock()
		},
	}
	if change != nil {
		change(&b.opts)
	}
	b.open()
	t.Cleanup(func() { _ = b.Queue.Close() })
	return b
}

// openUnforked opens a queue while no child is between fork and exec. Until exec a child has every file of its parent open:
// the locks of a queue that was closed meanwhile, and the files of the store that was just made again.
func openUnforked(opts Options) (*Queue, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return Open(opts)
}

func (b *bench) open() {
	b.t.Helper()
	q, err := openUnforked(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Queue = q
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bench) lane(name string) *Lane {
	b.t.Helper()
	l, err := b.Lane(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

func (b *bench) append(set LaneSet, ids ...string) []Receipt {
	b.t.Helper()
	receipts, err := b.tryAppend(set, ids...)
	if err != nil {
		b.t.Fatal(err)
	}
	return receipts
}

func (b *bench) tryAppend(set LaneSet, ids ...string) ([]Receipt, error) {
	events := make([]Event, len(ids))
	for i, id := range ids {
		events[i] = Event{ID: []byte(id), Type: []byte("lead.created"), Body: body(id), Lanes: set}
	}
	receipts := make([]Receipt, len(ids))
	return receipts, b.Append("platform", events, receipts)
}

func body(id string) []byte {
	return []byte(`{"id":"` + id + `","type":"lead.created","data":{"padding":"` + strings.Repeat("x", 100) + `"}}`)
}

// awaitSave waits while the lane hands out nothing because it has too much to save. A queue that has failed saves no more.
func awaitSave(l *Lane) {
	for l.q.Err() == nil {
		l.mu.Lock()
		full := l.full()
		l.mu.Unlock()
		if !full {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// takeDue is TakeDue of a lane that may have too much to save.
func takeDue(l *Lane, now time.Time) (*Delivery, bool) {
	awaitSave(l)
	return l.TakeDue(now)
}

func mustTake(t *testing.T, l *Lane, id string) *Delivery {
	t.Helper()
	awaitSave(l)
	d, _ := l.Take()
	if d == nil {
		t.Fatalf("nothing to take, want %s", id)
	}
	if got := string(d.Event.ID); got != id {
		t.Fatalf("took %s, want %s", got, id)
	}
	if got, want := string(d.Event.Body), string(body(id)); got != want {
		t.Fatalf("event %s has body %s, want %s", id, got, want)
	}
	return d
}

func mustBeEmpty(t *testing.T, l *Lane) {
	t.Helper()
	if d, _ := l.Take(); d != nil {
		t.Fatalf("took %s, want nothing", d.Event.ID)
	}
}

func ids(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("evt_%d", i))
	}
	return list
}

func ok(n int) *Attempt {
	return &Attempt{Number: n, At: time.Now(), Took: time.Millisecond, Status: 200, Excerpt: []byte("fine")}
}

func broken(n int) *Attempt {
	return &Attempt{Number: n, At: time.Now(), Took: time.Millisecond, Status: 500, Class: "status", Excerpt: []byte("oops")}
}

func TestEventsArriveInOrderAtTheLanesTheyAreFor(t *testing.T) {
	b := openBench(t, nil)
	crm, mail := b.lane("crm"), b.lane("mail")
	b.append(NewLaneSet(crm.ID()), "a")
	b.append(NewLaneSet(crm.ID(), mail.ID()), "b", "c")
	b.append("", "nobody")
	for _, id := range []string{"a", "b", "c"} {
		crm.Delivered(mustTake(t, crm, id), ok(1))
	}
	mustBeEmpty(t, crm)
	mustTake(t, mail, "b")
	if s := mail.Stats(); s.Pending != 2 || s.Delivered != 0 {
		t.Errorf("mail has %+v, want 2 pending", s)
	}
	if s := crm.Stats(); s.Pending != 0 || s.Delivered != 3 {
		t.Errorf("crm has %+v, want 3 delivered", s)
	}
}

func TestARepeatIsADuplicate(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	set := NewLaneSet(crm.ID())
	first := b.append(set, "a", "b", "a")
	if first[0].Duplicate || first[1].Duplicate || !first[2].Duplicate || first[2].Seq != first[0].Seq {
		t.Errorf("inside one batch: %+v", first)
	}
	for range 2 {
		again := b.append(set, "b", "c", "a")
		if !again[0].Duplicate || again[0].Seq != first[1].Seq || !again[2].Duplicate {
			t.Errorf("in a later batch: %+v", again)
		}
		b.reopen()
		crm = b.lane("crm")
	}
	for _, id := range []string{"a", "b", "c"} {
		mustTake(t, crm, id)
	}
	mustBeEmpty(t, crm)
}

func TestTheSameIDAtOnceIsAcceptedOnce(t *testing.T) {
	b := openBench(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]int{}
	for range 16 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("evt_%d", i)
				receipts, err := b.tryAppend("", id)
				if err != nil {
					t.Error(err)
					return
				}
				if !receipts[0].Duplicate {
					mu.Lock()
					accepted[id]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for id, n := range accepted {
		if n != 1 {
			t.Errorf("%s was accepted %d times", id, n)
		}
	}
	if len(accepted) != 200 {
		t.Errorf("%d ids were accepted, want 200", len(accepted))
	}
}

func TestAnIDIsAcceptedAgainAfterTheWindow(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	b := openBench(t, func(o *Options) {
		o.DedupWindow = time.Minute
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	b.append("", "a")
	b.reopen() // what is only in memory is no older than seconds
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	if r := b.append("", "a"); r[0].Duplicate {
		t.Error("a is a duplicate after the dedup window")
	}
	if r := b.append("", "a"); !r[0].Duplicate {
		t.Error("a is no duplicate within the dedup window")
	}
}

func TestProgressSurvivesARestart(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 10)...)
	var taken []*Delivery
	for _, id := range ids(0, 6) {
		taken = append(taken, mustTake(t, crm, id))
	}
	due := time.Now().Add(time.Hour)
	crm.Delivered(taken[0], ok(1))
	crm.Delivered(taken[2], ok(1))
	crm.Retry(taken[3], broken(1), due)
	crm.Failed(taken[5], broken(1), "answered 500")
	b.reopen()
	crm = b.lane("crm")
	if s := crm.Stats(); s.Pending != 6 || s.Retrying != 1 || s.Failed != 1 || s.Delivered != 2 {
		t.Errorf("after the restart: %+v", s)
	}
	for _, id := range []string{"evt_1", "evt_4", "evt_6", "evt_7", "evt_8", "evt_9"} {
		crm.Delivered(mustTake(t, crm, id), ok(1))
	}
	mustBeEmpty(t, crm)
	if _, early := crm.TakeDue(time.Now()); early {
		t.Error("a retry was handed out an hour early")
	}
	d, in := crm.TakeDue(due.Add(time.Second))
	if !in || string(d.Event.ID) != "evt_3" || d.Attempts != 1 {
		t.Fatalf("the retry after the restart is %+v, want evt_3 with one attempt", d)
	}
	crm.Delivered(d, ok(2))
	if s := crm.Stats(); s.Pending != 0 || s.Retrying != 0 || s.Delivered != 9 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestAReleasedDeliveryComesFirst(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 3)...)
	first, second := mustTake(t, crm, "evt_0"), mustTake(t, crm, "evt_1")
	crm.Release(second, time.Time{})
	crm.Release(first, time.Time{})
	for _, id := range ids(0, 3) {
		mustTake(t, crm, id)
	}
}

func TestStoryTellsEveryAttempt(t *testing.T) {
	b := openBench(t, nil)
	crm, mail, slow := b.lane("crm"), b.lane("mail"), b.lane("slow")
	b.append(NewLaneSet(crm.ID(), mail.ID(), slow.ID()), "a")
	crm.Delivered(mustTake(t, crm, "a"), ok(1))
	d := mustTake(t, mail, "a")
	mail.Retry(d, broken(1), time.Now())
	d, _ = mail.TakeDue(time.Now().Add(time.Second))
	mail.Failed(d, broken(2), "answered 500")
	ev, stories, found, err := b.Story([]byte("a"))
	if err != nil || !found || ev.Source != "platform" {
		t.Fatalf("story: %+v %v %v", ev, found, err)
	}
	want := []struct {
		state    string
		attempts int
	}{{Delivered, 1}, {Failed, 2}, {Pending, 0}}
	for i, w := range want {
		if s := stories[i]; s.State != w.state || len(s.Attempts) != w.attempts {
			t.Errorf("%s is %+v, want %+v", s.Lane, s, w)
		}
	}
	if f := stories[1].Failure; f == nil || f.Attempts != 2 || f.Status != 500 || f.Reason != "answered 500" {
		t.Errorf("failure is %+v", f)
	}
	if a := stories[0].Attempts[0]; a.Status != 200 || string(a.Excerpt) != "fine" || a.Took != time.Millisecond {
		t.Errorf("attempt is %+v", a)
	}
	if _, _, found, err := b.Story([]byte("never")); found || err != nil {
		t.Errorf("an event that never was: %v %v", found, err)
	}
}

func TestANewLaneBeginsAtTheEndAndARemovedOneKeepsItsPlace(t *testing.T) {
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a")
	late := b.lane("late")
	b.append(NewLaneSet(crm.ID(), late.ID()), "b")
	mustTake(t, late, "b")
	mustBeEmpty(t, late)
	b.reopen()
	if names := len(b.Lanes()); names != 2 {
		t.Fatalf("%d lanes after the restart, want 2", names)
	}
	crm = b.lane("crm")
	mustTake(t, crm, "a")
	mustTake(t, crm, "b")
	if err := b.Discard(b.lane("late")); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if names := len(b.Lanes()); names != 1 {
		t.Fatalf("%d lanes after one was discarded, want 1", names)
	}
	if again := b.lane("late"); again.ID() == late.ID() {
		t.Error("the number of a lane that was discarded was used again")
	} else {
		mustBeEmpty(t, again)
	}
}

func TestALongBacklogIsReadFromTheStore(t *testing.T) {
	b := openBench(t, func(o *Options) { o.tailBytes = 1 << 10 })
	crm := b.lane("crm")
	all := ids(0, 5000)
	for i := 0; i < len(all); i += 50 {
		b.append(NewLaneSet(crm.ID()), all[i:i+50]...)
	}
	for i, id := range all {
		d := mustTake(t, crm, id)
		if i%7 == 0 {
			crm.Retry(d, broken(1), time.Now())
		} else {
			crm.Delivered(d, ok(1))
		}
	}
	mustBeEmpty(t, crm)
	seen := map[string]bool{}
	for {
		d, in := takeDue(crm, time.Now())
		if !in {
			break
		}
		if string(d.Event.Body) != string(body(string(d.Event.ID))) {
			t.Fatalf("retry %s has body %s", d.Event.ID, d.Event.Body)
		}
		seen[string(d.Event.ID)] = true
		crm.Delivered(d, ok(2))
	}
	if want := (len(all) + 6) / 7; len(seen) != want {
		t.Errorf("%d retries, want %d", len(seen), want)
	}
}

func TestABodyLargerThanABlockComesBackWhole(t *testing.T) {
	b := openBench(t, func(o *Options) { o.tailBytes = 1 })
	crm := b.lane("crm")
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * i >> 8)
	}
	receipts := make([]Receipt, 1)
	for round := range 4 {
		id := []byte(fmt.Sprint("big_", round))
		if err := b.Append("platform", []Event{{ID: id, Type: []byte("x"), Body: big, Lanes: NewLaneSet(crm.ID())}}, receipts); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen()
	crm = b.lane("crm")
	for range 4 {
		d, _ := crm.Take()
		if d == nil || string(d.Event.Body) != string(big) {
			t.Fatalf("the body came back with %d bytes", len(d.Event.Body))
		}
	}
}

func TestWhatIsSettledAndOldIsDeletedAndItsSpaceComesBack(t *testing.T) {
	b := openBench(t, func(o *Options) { o.Retention, o.DedupWindow, o.tailBytes = 10*time.Millisecond, 0, 1 })
	crm := b.lane("crm")
	all := ids(0, 20000)
	for i := 0; i < len(all); i += 500 {
		b.append(NewLaneSet(crm.ID()), all[i:i+500]...)
	}
	for i := range all {
		d, _ := crm.Take()
		if d == nil {
			t.Fatalf("event %d is not there", i)
		}
		switch i {
		case 7:
			crm.Failed(d, broken(1), "answered 500")
		case 8:
			crm.Retry(d, broken(1), time.Now().Add(time.Hour))
		default:
			crm.Delivered(d, ok(1))
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for b.Stats().Events > 2 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if s := b.Stats(); s.Events != 2 {
		t.Fatalf("%d events are left, want the failed and the retrying one", s.Events)
	}
	b.reopen()
	crm = b.lane("crm")
	d, in := crm.TakeDue(time.Now().Add(2 * time.Hour))
	if !in || string(d.Event.ID) != "evt_8" || string(d.Event.Body) != string(body("evt_8")) {
		t.Fatalf("the retry is %+v, want evt_8", d)
	}
	if _, stories, found, err := b.Story([]byte("evt_7")); err != nil || !found || stories[0].State != Failed || len(stories[0].Attempts) != 1 {
		t.Errorf("evt_7: %+v %v %v", stories, found, err)
	}
	if _, _, found, _ := b.Story([]byte("evt_100")); found {
		t.Error("evt_100 can still be looked up")
	}
	if r := b.append(NewLaneSet(crm.ID()), "evt_100"); r[0].Duplicate {
		t.Error("evt_100 is still known")
	}
}

func TestAnIDIsKnownLongerThanItsEventIsKept(t *testing.T) {
	b := openBench(t, func(o *Options) { o.Retention, o.DedupWindow, o.tailBytes = time.Millisecond, 3*time.Second, 1 })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a", "b")
	crm.Delivered(mustTake(t, crm, "a"), ok(1))
	crm.Delivered(mustTake(t, crm, "b"), ok(1))
	await(t, "the events to be deleted", func() bool {
		_, _, found, err := b.Story([]byte("a"))
		return !found && err == nil
	})
	if r := b.append(NewLaneSet(crm.ID()), "a"); !r[0].Duplicate {
		t.Error("a is no duplicate within the dedup window")
	}
	await(t, "the ids to be forgotten", func() bool {
		h := b.log.Key().Hash([]byte("b"))
		_, known, err := b.known(&h, b.now())
		return !known && err == nil
	})
	if r := b.append(NewLaneSet(crm.ID()), "a"); r[0].Duplicate {
		t.Error("a is a duplicate after the dedup window")
	}
}

func TestARecentIDIsAcceptedAgainAfterTheWindow(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	b := openBench(t, func(o *Options) {
		o.DedupWindow = time.Minute
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	b.append("", "a")
	mu.Lock()
	now = now.Add(61 * time.Second)
	mu.Unlock()
	if r := b.append("", "a", "a"); r[0].Duplicate || !r[1].Duplicate {
		t.Errorf("after the dedup window, without a restart: %+v", r)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestAppendRefusesWhenTheDiskIsLow(t *testing.T) {
	var mu sync.Mutex
	free := int64(1 << 40)
	b := openBench(t, func(o *Options) {
		o.MinFree = 1 << 30
		o.Free = func() (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil }
	})
	b.append("", "a")
	mu.Lock()
	free = 1 << 29
	mu.Unlock()
	time.Sleep(2 * diskAsk)
	if _, err := b.tryAppend("", "b"); !errors.Is(err, ErrDiskLow) {
		t.Errorf("append says %v, want %v", err, ErrDiskLow)
	}
	mu.Lock()
	free = 1 << 40
	mu.Unlock()
	time.Sleep(2 * diskAsk)
	b.append("", "b")
}

func TestADirectoryInUseIsRefused(t *testing.T) {
	b := openBench(t, nil)
	if _, err := openUnforked(b.opts); !errors.Is(err, ErrInUse) {
		t.Errorf("open says %v, want %v", err, ErrInUse)
	}
}

func TestANewerFormatIsRefusedAndNotTouched(t *testing.T) {
	b := openBench(t, nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.opts.Dir, "FORMAT")
	if err := os.WriteFile(path, []byte("realtorbot-relay queue, format 99, memtable 8388608\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := listing(t, b.opts.Dir)
	if _, err := openUnforked(b.opts); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("open says %v", err)
	}
	if after := listing(t, b.opts.Dir); after != before {
		t.Errorf("the directory changed:\n%s\nwas:\n%s", after, before)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var lines strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&lines, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines.String()
}
