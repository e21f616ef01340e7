package queue

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// retryAll has the next n deliveries of a lane attempted again after waits.
func (b *bench) retryAll(l *Lane, n int, now time.Time, wait func(i int) time.Duration) {
	b.t.Helper()
	for i := range n {
		l.Retry(b.take(l), broken(1), now.Add(wait(i)))
	}
}

// Another's retries fill the memory that all share; a lane goes on all the same, however many it has itself.
func TestALaneGoesOnWhateverOthersAreRetrying(t *testing.T) {
	t.Parallel()
	const room, many = 4, 400
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = room, room })
	orphan, crm := b.lane("orphan"), b.lane("crm")
	now := time.Now()
	b.append(NewLaneSet(orphan.ID()), ids(0, many)...)
	b.retryAll(orphan, many, now, func(i int) time.Duration { return 24 * time.Hour })
	b.append(NewLaneSet(crm.ID()), ids(many, 3*many)...)
	for i := many; i < 3*many; i++ {
		d := b.take(crm)
		if want := fmt.Sprint("evt_", i); string(d.Event.ID) != want {
			t.Fatalf("took %s, want %s", d.Event.ID, want)
		}
		if i%2 == 0 {
			crm.Retry(d, broken(1), now.Add(time.Hour))
		} else {
			crm.Delivered(d, ok(1))
		}
	}
	if s := crm.Stats(); s.Delivered != many || s.Retrying != many || s.Pending != 0 {
		t.Errorf("it has %+v", s)
	}
	if n := b.retriesInMemory.Load(); n > 2*room {
		t.Errorf("%d retries are in memory, want at most %d", n, 2*room)
	}
	b.reopen()
	if n := b.retriesInMemory.Load(); n > 2*room {
		t.Errorf("%d retries are in memory after a start, want at most %d", n, 2*room)
	}
}

// However few retries are in memory, they come in the order in which they are due: after restarts and saves, and beside new
// ones.
func TestRetriesComeInTheirOrderThatHaveNoRoomInMemory(t *testing.T) {
	t.Parallel()
	for _, room := range []int{1, 2, 7, 1000} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			t.Parallel()
			const n = 600
			b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries, o.saveEvery = room, 1, time.Millisecond })
			crm := b.lane("crm")
			b.append(NewLaneSet(crm.ID()), ids(0, n)...)
			r := rand.New(rand.NewSource(int64(room)))
			now := time.Now().Add(time.Hour).Truncate(time.Millisecond)
			waits := r.Perm(n)
			b.retryAll(crm, n, now, func(i int) time.Duration { return time.Duration(waits[i]) * time.Second })
			want, later := 0, n // every third fails again, and is due behind all others
			for settled := 0; settled < n; {
				if s := crm.Stats(); s.Retrying != int64(n-settled) {
					t.Fatalf("%d are retrying, want %d", s.Retrying, n-settled)
				}
				if r.Intn(200) == 0 {
					b.saveAll()
					b.reopen()
					crm = b.lane("crm")
				}
				due := now.Add(time.Duration(want) * time.Second)
				if next := crm.Outlook().Due; next.After(due.Add(100 * time.Millisecond)) { // queue time may differ by a little
					t.Fatalf("the next is due %v late", next.Sub(due))
				}
				if d, in := takeDue(crm, due.Add(-500*time.Millisecond)); in {
					t.Fatalf("%s came before its time", d.Event.ID)
				}
				d, in := takeDue(crm, due.Add(500*time.Millisecond))
				if !in {
					t.Fatalf("number %d did not come; %+v", want, crm.Outlook())
				}
				if i := slices.Index(waits, want); want < n && string(d.Event.ID) != fmt.Sprint("evt_", i) {
					t.Fatalf("took %s, want evt_%d", d.Event.ID, i)
				}
				if want++; want < n && want%3 == 0 {
					crm.Retry(d, broken(d.Attempts+1), now.Add(time.Duration(later)*time.Second))
					later++
				} else {
					crm.Delivered(d, ok(d.Attempts+1))
					settled++
				}
			}
		})
	}
}

func TestRetriesThatHaveNoRoomInMemoryAreHastenedToo(t *testing.T) {
	t.Parallel()
	const n = 100
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = 3, 1 })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 2*n)...)
	now := time.Now()
	b.retryAll(crm, n, now, func(i int) time.Duration { return time.Duration(n-i) * time.Hour })
	crm.Hasten(now)
	hastened := b.now()
	await(t, "queue time to go on", func() bool { return b.now() > hastened })
	b.retryAll(crm, n, now, func(i int) time.Duration { return time.Minute })
	b.saveAll()
	for i := range n {
		d, in := takeDue(crm, now)
		if !in || string(d.Event.ID) != fmt.Sprint("evt_", i) {
			t.Fatalf("took %+v, %v, want evt_%d", d, in, i)
		}
		crm.Delivered(d, ok(2))
	}
	if d, in := takeDue(crm, now.Add(59*time.Second)); in {
		t.Errorf("%s was hastened, which began to wait later", d.Event.ID)
	}
}

// Senders take, settle and fail at once while the lane reads its records again and again: each retry is handed out to one
// sender at a time, and none is forgotten.
func TestManyTakeRetriesThatHaveNoRoomInMemory(t *testing.T) {
	t.Parallel()
	const n, attempts = 500, 3
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries, o.saveEvery = 2, 1, time.Millisecond })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, n)...)
	b.retryAll(crm, n, time.Now(), func(i int) time.Duration { return time.Duration(i%50) * time.Microsecond })
	var mu sync.Mutex
	out, made := map[uint64]bool{}, map[uint64]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for crm.Stats().Retrying > 0 {
				d, in := crm.TakeDue(time.Now().Add(time.Second))
				if !in {
					time.Sleep(50 * time.Microsecond)
					continue
				}
				mu.Lock()
				if out[d.Event.Seq] || made[d.Event.Seq] != d.Attempts-1 {
					t.Errorf("event %d came with %d attempts, after %d; under way %v", d.Event.Seq, d.Attempts, made[d.Event.Seq]+1, out[d.Event.Seq])
				}
				out[d.Event.Seq] = true
				mu.Unlock()
				how := d.Attempts
				mu.Lock()
				delete(out, d.Event.Seq)
				made[d.Event.Seq]++
				mu.Unlock()
				if how < attempts {
					crm.Retry(d, broken(d.Attempts+1), time.Now().Add(time.Duration(how)*10*time.Microsecond))
				} else {
					crm.Delivered(d, ok(d.Attempts+1))
				}
			}
		})
	}
	wg.Wait()
	if s := crm.Stats(); s.Delivered != n || s.Retrying != 0 || len(made) != n {
		t.Errorf("it has %+v", s)
	}
}

// Loading retries shows that Badger lost a record, and the record comes back from the log.
func TestARetryThatTheStoreLostIsMissedAndComesBack(t *testing.T) {
	t.Parallel()
	const n = 50
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = 1, 1 })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, n)...)
	now := time.Now()
	b.retryAll(crm, n, now, func(i int) time.Duration { return time.Duration(n-i) * time.Minute })
	b.saveAll()
	await(t, "the start's comparison", func() bool { return !b.writer.checkRunning.Load() })
	if err := b.update(func() error { return drop(b.index.store, store.Retry) }); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	await(t, "all retries", func() bool {
		if d, in := crm.TakeDue(now.Add(time.Hour)); in {
			got[string(d.Event.ID)] = true
			crm.Delivered(d, ok(2))
		}
		return len(got) == n
	})
	if s := crm.Stats(); s.Retrying != 0 || s.Delivered != n {
		t.Errorf("it has %+v", s)
	}
	if !b.heard("made again from the log") {
		t.Errorf("it said %q", b.said)
	}
}

func TestWhatIsRetryingForNobodyBecomesFailedHoweverMuchItIs(t *testing.T) {
	t.Parallel()
	const n = 5000
	b, clock := openStill(t, func(o *Options) { o.laneRetries, o.allRetries, o.UnservedRetention = 16, 1, 50*time.Hour })
	old := b.lane("old")
	b.addMany(clock, NewLaneSet(old.ID()), 0, n)
	for i := range n {
		d, _ := old.Take()
		if d == nil {
			b.saveAll()
			d = b.take(old)
		}
		old.Retry(d, broken(1), b.opts.Now().Add(time.Duration(n-i)*time.Hour))
	}
	b.SetServed(nil)
	b.saveAll()
	clock.Add((51 * time.Hour).Milliseconds())
	b.rest(clock)
	if s := old.Stats(); s.Failed != n || s.Retrying != 0 || s.Expired != n {
		t.Errorf("it has %+v", s)
	}
}

// What the log has lost as well is reported with its number, and does not count for ever.
func TestRetriesThatAreLostAreToldAndNotCountedAnyMore(t *testing.T) {
	t.Parallel()
	const n = 50
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = 1, 1 })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, n)...)
	now := time.Now()
	b.retryAll(crm, n, now, func(i int) time.Duration { return time.Duration(i) * time.Minute })
	b.saveAll()
	err := b.update(func() error {
		a := newApplier(b.index.store) // the sums tell the same
		return errors.Join(a.delete(recordKey(crm.ID(), entry.Retry, 1+n/2)), a.finish())
	})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	await(t, "all but one", func() bool {
		if d, in := crm.TakeDue(now.Add(100 * time.Hour)); in {
			got++
			crm.Delivered(d, ok(2))
		}
		return crm.Stats().Retrying == 0
	})
	if got != n-1 || b.Stats().Damaged == 0 || !b.heard("1 retrying deliveries are lost") {
		t.Errorf("%d came; %d damaged; it said %q", got, b.Stats().Damaged, b.said)
	}
}

// Times in records are queue time. Whatever the wall clock is set to, a retry comes when its wait is over, whether its record
// is read from the store or is not saved yet.
func TestRetriesFromRecordsWaitAsLongAsTheyWereToldWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	for _, saved := range []bool{false, true} {
		for _, step := range []int64{-aHour, aHour} {
			const n = 20
			var m machine
			m.mono.Store(aDay)
			m.wall.Store(noonIn)
			b := openBench(t, func(o *Options) {
				m.change(o)
				o.laneRetries, o.allRetries, o.saveEvery = 1, 1, time.Hour
			})
			crm := b.lane("crm")
			m.wall.Add(step)
			b.append(NewLaneSet(crm.ID()), ids(0, n)...)
			b.retryAll(crm, n, b.opts.Now(), func(i int) time.Duration { return time.Duration(i+1) * time.Second })
			if saved {
				b.saveAll()
			}
			for i := range n {
				m.pass(900)
				if d, in := takeDue(crm, b.opts.Now()); in {
					t.Fatalf("saved %v, clock %d: %s came 100 ms early", saved, step, d.Event.ID)
				}
				m.pass(100)
				d, in := takeDue(crm, b.opts.Now())
				if !in || string(d.Event.ID) != fmt.Sprint("evt_", i) {
					t.Fatalf("saved %v, clock %d: number %d did not come; the next in %v", saved, step, i, crm.Outlook().Due.Sub(b.opts.Now()))
				}
				crm.Delivered(d, ok(2))
			}
		}
	}
}

// Setting the wall clock while retries wait in memory delays none of them: their times have a monotonic reading.
func TestRetriesFromRecordsFollowTheMonotonicClock(t *testing.T) {
	t.Parallel()
	const n = 100
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries, o.saveEvery = 1, 1, time.Millisecond })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, n)...)
	b.retryAll(crm, n, time.Now(), func(i int) time.Duration { return time.Duration(n-i) * time.Minute })
	for i := range n {
		if i == n/2 {
			b.saveAll()
		}
		d, in := takeDue(crm, time.Now().Add(time.Hour*3))
		if !in {
			t.Fatalf("number %d did not come", i)
		}
		if !strings.Contains(d.Due.String(), " m=") {
			t.Fatalf("number %d is due at %v", i, d.Due)
		}
		crm.Delivered(d, ok(2))
	}
}

// oneLargePage has n deliveries attempted again from a moment on, a second apart, the last to arrive first. They have one page.
func oneLargePage(b *bench, l *Lane, n int, from time.Time) {
	b.t.Helper()
	for at := 0; at < n; at += 2000 {
		b.append(NewLaneSet(l.ID()), ids(at, min(at+2000, n))...)
	}
	var held []*Delivery
	for range n {
		held = append(held, b.take(l))
	}
	slices.Reverse(held)
	for i, d := range held {
		l.Retry(d, broken(1), from.Add(time.Duration(i)*time.Second))
		if i%500 == 499 {
			b.saveAll()
		}
	}
	b.saveAll()
	l.mu.Lock()
	defer l.mu.Unlock()
	if pages := len(l.retries.unloaded.list); pages != 1 {
		b.t.Fatalf("they have %d pages", pages)
	}
}

// A replay brings retries to an old page, which is then read a part at a time.
func TestAPageThatHasBecomeLargeIsReadInParts(t *testing.T) {
	t.Parallel()
	const n = 6*pageRecords + 100
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = 1, 1 })
	crm := b.lane("crm")
	now := time.Now()
	oneLargePage(b, crm, n, now)
	for i := range 50 {
		d, in := takeDue(crm, now.Add(n*time.Second))
		if want := fmt.Sprint("evt_", n-1-i); !in || string(d.Event.ID) != want {
			t.Fatalf("took %+v, %v, want %s", d, in, want)
		}
		crm.Delivered(d, ok(2))
	}
	crm.mu.Lock()
	pages, left := len(crm.retries.unloaded.list), crm.retries.unloaded.count+int64(len(crm.retries.loaded))
	crm.mu.Unlock()
	if pages < 6 || left != n-50 {
		t.Errorf("they have %d pages, and %d are left of %d", pages, left, n-50)
	}
}

// Lost retries come back, wherever they were among many, and however the pages were split meanwhile.
func TestRetriesThatTheStoreLostOfManyComeBack(t *testing.T) {
	t.Parallel()
	const n = 5300
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries, o.saveEvery = 330, 1<<20, time.Millisecond })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, n)...)
	now := time.Now()
	b.retryAll(crm, n, now, func(i int) time.Duration { return time.Duration(n-i) * time.Second })
	b.saveAll()
	await(t, "the start's comparison", func() bool { return !b.writer.checkRunning.Load() })
	err := b.update(func() error {
		return errors.Join(dropOne(b.index.store, recordKey(crm.ID(), entry.Retry, 2500)), dropOne(b.index.store, recordKey(crm.ID(), entry.Retry, 5200)))
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	await(t, "all retries", func() bool {
		for d, in := crm.TakeDue(now.Add(100 * time.Hour)); in; d, in = crm.TakeDue(now.Add(100 * time.Hour)) {
			got[string(d.Event.ID)] = true
			crm.Delivered(d, ok(2))
		}
		return len(got) == n
	})
	if s := crm.Stats(); s.Retrying != 0 || s.Delivered != n || b.heard("retrying deliveries are lost") {
		t.Errorf("it has %+v; told %q", s, b.said)
	}
}

func TestARetryOfALaneThatIsGoneIsNotHeld(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a", "b")
	first, second := b.take(crm), b.take(crm)
	crm.Retry(first, broken(1), time.Now())
	again, _ := crm.TakeDue(time.Now())
	if err := b.Discard(crm); err != nil {
		t.Fatal(err)
	}
	crm.Release(again, time.Now())
	crm.Retry(second, broken(1), time.Now())
	if n := b.retriesInMemory.Load(); n != 0 {
		t.Errorf("%d are in memory", n)
	}
}

// While records are read, the lane never says that no retry waits, and what is hastened meanwhile is hastened, read or not.
func TestRetriesWhoseRecordsAreBeingReadAreWaitedForAndHastened(t *testing.T) {
	t.Parallel()
	const n = 4 * pageRecords
	b := openBench(t, func(o *Options) { o.laneRetries, o.allRetries = 1, 1 })
	crm := b.lane("crm")
	now := time.Now()
	oneLargePage(b, crm, n, now.Add(24*time.Hour))
	done := 0
	for inMemory := true; inMemory; done++ {
		d, _ := takeDue(crm, now.Add(1000*time.Hour))
		crm.Delivered(d, ok(2))
		crm.mu.Lock()
		inMemory = len(crm.retries.loaded) > 0
		crm.mu.Unlock()
	}
	b.index.mu.Lock() // as while the store is replaced: whoever reads it waits
	goOn := sync.OnceFunc(b.index.mu.Unlock)
	defer goOn()
	first := make(chan *Delivery, 1)
	go func() {
		d, _ := crm.TakeDue(now.Add(1000 * time.Hour))
		first <- d
	}()
	await(t, "somebody to read", func() bool {
		crm.mu.Lock()
		defer crm.mu.Unlock()
		return crm.retries.loading
	})
	if s, o := crm.Stats(), crm.Outlook(); s.NextRetry.IsZero() || o.Due.IsZero() {
		t.Errorf("the next retry is due at %v, %v", s.NextRetry, o.Due)
	}
	crm.Hasten(now)
	if due := crm.Outlook().Due; due.After(now) {
		t.Errorf("the next retry is due in %v", due.Sub(now))
	}
	goOn()
	crm.Delivered(<-first, ok(2))
	for i := done + 1; i < n; i++ {
		d, in := crm.TakeDue(now)
		for ; !in && i%500 == 0; d, in = crm.TakeDue(now) {
			b.saveAll() // it hands out nothing before a save
		}
		if !in {
			t.Fatalf("number %d is not due: %v", i, crm.Outlook())
		}
		crm.Delivered(d, ok(2))
		if i%500 == 499 {
			b.saveAll()
		}
	}
}
