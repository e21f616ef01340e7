package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// addMany appends events, some hundred at a time, and has the clock go on so that segments are cut.
func (b *bench) addMany(clock *atomic.Int64, set LaneSet, from, to int) {
	b.t.Helper()
	for from < to {
		n := min(500, to-from)
		events := make([]Event, n)
		for i := range events {
			id := fmt.Sprint("evt_", from+i)
			events[i] = Event{ID: []byte(id), Type: []byte("x"), Body: body(id), Lanes: set}
		}
		if err := b.Append("platform", events, make([]Receipt, n)); err != nil {
			b.t.Fatal(err)
		}
		from += n
	}
	b.saveAll()
	clock.Add(5 * time.Minute.Milliseconds())
	b.tidy()
}

// drainAll has a lane deliver all that is pending, and lists the events.
func (b *bench) drainAll(l *Lane) (ids []string) {
	b.t.Helper()
	for {
		d, _ := l.Take()
		if d != nil {
			ids = append(ids, string(d.Event.ID))
			l.Delivered(d, ok(1))
			continue
		}
		b.saveAll()
		if d, _ = l.Take(); d == nil {
			return ids
		}
		l.Release(d, b.opts.Now())
	}
}

// rest has the time of retention pass, twice, with what that deletes.
func (b *bench) rest(clock *atomic.Int64) {
	b.t.Helper()
	for range 3 {
		b.saveAll()
		b.tidy()
		clock.Add(b.opts.Retention.Milliseconds() + 1)
	}
	b.saveAll()
	b.tidy()
}

// outlive has the segments of the events up to last deleted, which what is needed of them outlives.
func (b *bench) outlive(clock *atomic.Int64, last uint64) {
	b.t.Helper()
	other := b.lane("other")
	for i := range 4 {
		b.addMany(clock, NewLaneSet(other.ID()), i*500, (i+1)*500)
		b.drainAll(other)
		if err := b.update(b.log.Seal); err != nil {
			b.t.Fatal(err)
		}
	}
	b.rest(clock)
	if low := b.log.FirstKeptEvent(); low <= last {
		b.t.Fatalf("the segment of event %d is there still: the log begins with %d", last, low)
	}
}

// An event that an endpoint needed while it was served has retention's time from then on, also when the endpoint was disabled before.
func TestRetentionCountsFromWhenALaneThatIsServedAgainNeededAnEvent(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.Retention = 10 * time.Hour })
	crm, old := b.lane("crm"), b.lane("old")
	b.append(NewLaneSet(crm.ID(), old.ID()), "evt")
	b.drainAll(crm)
	pass := func(d time.Duration) {
		for range 10 {
			clock.Add(d.Milliseconds() / 10)
			b.tidy()
		}
	}
	b.SetServed([]string{"crm"})
	pass(5 * time.Hour)
	b.SetServed([]string{"crm", "old"})
	pass(time.Hour)
	if got := b.drainAll(old); len(got) != 1 {
		t.Fatalf("%q is delivered", got)
	}
	pass(9 * time.Hour)
	if _, _, found, err := b.Story([]byte("evt")); !found || err != nil {
		t.Errorf("9 h after the delivery the event is gone: %v", err)
	}
	pass(3 * time.Hour)
	if _, _, found, err := b.Story([]byte("evt")); found || err != nil {
		t.Errorf("12 h after the delivery the event is there: %v", err)
	}
}

func names(prefix string, from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

func (b *bench) mustSayNothing() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.Stats().Damaged; n != 0 {
		b.t.Errorf("%d things were damaged: %q", n, b.said)
	}
}

func (b *bench) heard(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.Join(b.said, "\n"), text)
}

// One former customer's lane must not keep the log of all, and loses nothing: when the endpoint comes back, each delivery is
// made once, in order, whatever happened in between.
func TestAnOrphanKeepsItsEventsAndNotTheLogOfAll(t *testing.T) {
	t.Parallel()
	const held, others = 800, 9_200
	b, clock := openStill(t, func(o *Options) { o.segmentSize = 64 << 10 })
	crm, old := b.lane("crm"), b.lane("old")
	b.addMany(clock, NewLaneSet(crm.ID(), old.ID()), 0, held/2)
	b.drainAll(crm)
	b.addMany(clock, NewLaneSet(crm.ID()), held/2, held/2+others/2)
	b.drainAll(crm)
	b.addMany(clock, NewLaneSet(crm.ID(), old.ID()), held/2+others/2, held+others/2)
	b.addMany(clock, NewLaneSet(crm.ID()), held+others/2, held+others)
	b.drainAll(crm)
	want := append(names("evt_", 0, held/2), names("evt_", held/2+others/2, held+others/2)...)
	b.rest(clock)
	if n := b.Stats().Events; n != held+others {
		t.Fatalf("while its endpoint is served the lane keeps the log, and %d events are kept", n)
	}
	_, _, full := b.log.Totals()
	b.SetServed([]string{"crm"})
	b.rest(clock)
	if n := b.Stats().Events; n != held {
		t.Fatalf("%d events are kept, want the %d that the orphan holds", n, held)
	}
	if s := b.Stats(); s.Unserved < held*carriedCost || s.Expired != 0 {
		t.Errorf("the orphan's %d events are counted as %d bytes", held, s.Unserved)
	}
	if _, _, left := b.log.Totals(); left > full/4 {
		t.Errorf("the log had %d bytes and has %d still", full, left)
	}
	b.reopen()
	old = b.lane("old")
	if s := old.Stats(); s.Pending != held || s.Unserved.IsZero() {
		t.Fatalf("opened again the orphan is %+v", s)
	}
	b.rest(clock) // what was carried is carried on
	b.rest(clock)
	b.SetServed([]string{"crm", "old"})
	var got []string
	for range 700 {
		d, _ := old.Take()
		got = append(got, string(d.Event.ID))
		old.Delivered(d, ok(1))
	}
	b.saveAll()
	b = b.crash(nil)
	old = b.lane("old")
	b.tidy()
	got = append(got, b.drainAll(old)...)
	if !slices.Equal(got, want) {
		t.Errorf("%d deliveries were made, want %d, each once and in order", len(got), len(want))
	}
	b.addMany(clock, NewLaneSet(old.ID()), held+others, held+others+10)
	if got := b.drainAll(old); !slices.Equal(got, names("evt_", held+others, held+others+10)) {
		t.Errorf("what came later is delivered as %q", got)
	}
	b.saveAll()
	b.tidy()
	b.rest(clock)
	if s := b.Stats(); s.Events != 0 || s.Unserved != 0 {
		t.Errorf("in the end %d events are kept, %d bytes of them for nobody", s.Events, s.Unserved)
	}
	b.mustSayNothing()
}

// orphaned opens a queue with a lane whose n events were carried out of the way of retention, each twelfth in a state that
// is not pending.
func orphaned(t *testing.T, n int, change func(*Options)) (b *bench, clock *atomic.Int64, pending []string) {
	b, clock = openStill(t, func(o *Options) {
		o.segmentSize = 64 << 10
		if change != nil {
			change(o)
		}
	})
	crm, old := b.lane("crm"), b.lane("old")
	b.addMany(clock, NewLaneSet(crm.ID(), old.ID()), 0, n)
	b.drainAll(crm)
	var held []*Delivery
	for i := range n {
		d := mustTake(t, old, fmt.Sprint("evt_", i))
		switch i % 12 {
		case 3:
			old.Delivered(d, ok(1))
		case 5:
			old.Failed(d, broken(1), "answered 500")
		case 7:
			old.Retry(d, broken(1), b.opts.Now().Add(100*time.Hour))
		default:
			held = append(held, d)
			pending = append(pending, fmt.Sprint("evt_", i))
		}
		if i%1000 == 999 {
			b.saveAll()
		}
	}
	for _, d := range held {
		old.Release(d, b.opts.Now())
	}
	b.SetServed([]string{"crm"})
	b.reopen()
	return b, clock, pending
}

func TestAStoreMadeFromTheLogHasWhatAnOrphanHolds(t *testing.T) {
	t.Parallel()
	b, clock, pending := orphaned(t, 600, nil)
	b.rest(clock)
	before := b.lane("old").Stats()
	after := b.crash(func(dir string) {
		if err := os.RemoveAll(filepath.Join(dir, storeName)); err != nil {
			t.Fatal(err)
		}
	})
	old := after.lane("old")
	s := old.Stats()
	if s.Pending != int64(len(pending)) || s.Retrying != before.Retrying || s.Failed != before.Failed || !s.Unserved.Equal(before.Unserved) {
		t.Errorf("the lane is %+v, and was %+v", s, before)
	}
	_, had := b.index.store.Sums()
	_, has := after.index.store.Sums()
	for _, k := range []store.Kind{store.Carried, store.Lane, store.Retry, store.Failed} {
		if had.Of(k).Count != has.Of(k).Count {
			t.Errorf("the store has %d %v, and had %d", has.Of(k).Count, k, had.Of(k).Count)
		}
	}
	after.SetServed([]string{"crm", "old"})
	if got := after.drainAll(old); !slices.Equal(got, pending) {
		t.Errorf("%d deliveries were made, want %d in order", len(got), len(pending))
	}
}

// Whoever comes to what was carried and can't be read is told which events these were.
func TestCarriedEventsThatCantBeReadAreToldWithTheirNumbers(t *testing.T) {
	t.Parallel()
	b, clock, pending := orphaned(t, 600, nil)
	b.rest(clock)
	var place log.Place
	var lost []uint64
	if err := b.index.scan(store.CarriedKey(300), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
		c, err := parseCarried(value)
		place = c.Place
		return false, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.index.scan(store.First(store.Carried), store.Last(store.Carried), func(key store.Key, value []byte) (bool, error) {
		c, err := parseCarried(value)
		if i := (key.Number - 1) % 12; c.Place == place && i != 5 && i != 7 {
			lost = append(lost, key.Number)
		}
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	after := b.crash(func(dir string) {
		path := filepath.Join(dir, logName, fmt.Sprintf("%010d.seg", place.Segment))
		raw := mustRead(t, path)
		raw[place.Offset+100] ^= 0x55
		mustPut(t, path, raw)
	})
	old := after.lane("old")
	after.SetServed([]string{"crm", "old"})
	got := after.drainAll(old)
	want := slices.DeleteFunc(slices.Clone(pending), func(id string) bool {
		return slices.ContainsFunc(lost, func(seq uint64) bool { return id == fmt.Sprint("evt_", seq-1) })
	})
	if len(lost) == 0 || len(want) == len(pending) || !slices.Equal(got, want) {
		t.Errorf("%d of %d deliveries were made, want all but %d", len(got), len(pending), len(lost))
	}
	if !after.heard("events " + ranges(lost) + " can't be read") {
		t.Errorf("told %q, want %q", after.said, ranges(lost))
	}
	if !after.heard(fmt.Sprintf("%d pending deliveries are lost", len(lost))) || after.Stats().Damaged < int64(len(lost)) {
		t.Errorf("%d events are lost, %d are counted, told %q", len(lost), after.Stats().Damaged, after.said)
	}
	if s := old.Stats(); s.Pending != 0 {
		t.Errorf("%d are pending still", s.Pending)
	}
}

// What nobody serves becomes failed when its time is over, counted from when nobody served it, restarts or not.
func TestWhatNobodyServesBecomesFailedWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	b, clock, pending := orphaned(t, 3000, func(o *Options) { o.UnservedRetention, o.segmentSize = 50*time.Hour, 64<<10 })
	b.rest(clock)
	before := b.lane("old").Stats()
	b.reopen()
	b.SetServed([]string{"crm"})
	clock.Add(30 * time.Hour.Milliseconds())
	b.tidy()
	if s := b.lane("old").Stats(); s.Pending != before.Pending || s.Retrying != before.Retrying || s.Failed != before.Failed || s.Expired != 0 {
		t.Fatalf("before its time the lane is %+v, and was %+v", s, before)
	}
	clock.Add(20 * time.Hour.Milliseconds())
	b.saveAll()
	b.tidy()
	b.saveAll()
	n := int64(len(pending)) + before.Retrying
	s := b.lane("old").Stats()
	if s.Pending != 0 || s.Retrying != 0 || s.Failed != before.Failed+n || s.Expired != n {
		t.Errorf("after its time the lane is %+v, and was %+v", s, before)
	}
	if got := b.Stats(); got.Expired != n || got.Unserved != 0 {
		t.Errorf("%d are told to have expired, want %d; %d bytes are held for nobody", got.Expired, n, got.Unserved)
	}
	lines := 0
	for _, line := range b.said {
		if strings.Contains(line, "became failed (expired)") {
			lines++
		}
	}
	if !b.heard(fmt.Sprintf(`endpoint "old": %d deliveries became failed (expired): held longer than queue.unserved_retention (50h0m0s)`, n)) || lines != 1 {
		t.Errorf("it is told in %d lines: %q", lines, b.said)
	}
	ev, stories, found, err := b.Story([]byte(pending[0]))
	if err != nil || !found || string(ev.Body) != string(body(pending[0])) {
		t.Fatalf("a failed delivery has lost its event: %v, %v", found, err)
	}
	for _, story := range stories {
		if story.Lane == "old" && (story.State != Failed || story.Failure.Class != "expired") {
			t.Errorf("its story is %+v", story)
		}
	}
	b.reopen()
	if again := b.lane("old").Stats(); again.Failed != s.Failed || again.Pending != 0 {
		t.Errorf("opened again the lane is %+v", again)
	}
	b.mustSayNothing()
}

// Beyond the budget the lane that holds most gives its oldest, so that others keep what little they have. What several hold
// counts once.
func TestBeyondTheBudgetTheLaneThatHoldsMostGivesItsOldest(t *testing.T) {
	t.Parallel()
	cost := int64(carriedCost + len(body("evt_1000")))
	b, clock := openStill(t, func(o *Options) { o.segmentSize, o.UnservedBytes = 64<<10, 1000*cost })
	crm, large, small, twin := b.lane("crm"), b.lane("large"), b.lane("small"), b.lane("twin")
	b.addMany(clock, NewLaneSet(crm.ID(), large.ID()), 0, 1500)
	b.addMany(clock, NewLaneSet(crm.ID(), small.ID(), twin.ID()), 1500, 1800)
	b.drainAll(crm)
	const retrying = 300 // the oldest, which go first
	for i := range retrying {
		large.Retry(mustTake(t, large, fmt.Sprint("evt_", i)), broken(1), b.opts.Now().Add(10_000*time.Hour))
	}
	b.SetServed([]string{"crm"})
	b.rest(clock)
	b.rest(clock)
	s := large.Stats()
	if s.Failed <= retrying || s.Pending+s.Failed != 1500 || s.Retrying != 0 || s.Expired != s.Failed {
		t.Errorf("the large lane is %+v", s)
	}
	for _, l := range []*Lane{small, twin} {
		if s := l.Stats(); s.Pending != 300 || s.Failed != 0 {
			t.Errorf("lane %s is %+v", l.Name(), s)
		}
	}
	held := int64(0)
	for i := int(s.Failed); i < 1800; i++ {
		held += int64(len(body(fmt.Sprint("evt_", i)))) + carriedCost
	}
	if got := b.Stats().Unserved; got != held || got > b.opts.UnservedBytes || got < b.opts.UnservedBytes-2*expireAtATime*cost {
		t.Errorf("%d bytes are held for nobody, want %d, of %d", got, held, b.opts.UnservedBytes)
	}
	told := int64(0)
	for _, line := range b.said {
		if n := int64(0); strings.Contains(line, "more was held than queue.unserved_bytes") {
			if _, err := fmt.Sscanf(line, `endpoint "large": %d deliveries became failed (expired): `, &n); err != nil {
				t.Errorf("told %q", line)
			}
			told += n
		}
	}
	if told != s.Failed {
		t.Errorf("%d became failed, %d are told", s.Failed, told)
	}
	b.reopen()
	if got := b.Stats().Unserved; got != held {
		t.Errorf("opened again %d bytes are held for nobody, want %d", got, held)
	}
	large = b.lane("large")
	b.SetServed([]string{"crm", "large"})
	if got := b.drainAll(large); !slices.Equal(got, names("evt_", int(s.Failed), 1500)) {
		t.Errorf("%d deliveries are left, want the %d youngest in order", len(got), s.Pending)
	}
	b.mustSayNothing()
}

// An endpoint that comes back while its segments go must find each event once: in the log, or where it was carried.
func TestALaneIsServedAgainWhileItsSegmentsGo(t *testing.T) {
	t.Parallel()
	b, clock, pending := orphaned(t, 3000, nil)
	b.saveAll()
	b.tidy()
	clock.Add(3 * b.opts.Retention.Milliseconds())
	old := b.lane("old")
	b.SetServed([]string{"crm", "old"})
	done := make(chan error, 1)
	go func() {
		done <- b.update(func() error { return b.writer.retain.run(b.Queue) })
	}()
	got := b.drainAll(old)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got = append(got, b.drainAll(old)...)
	if !slices.Equal(got, pending) {
		t.Errorf("%d deliveries were made, want %d, each once and in order", len(got), len(pending))
	}
	b.rest(clock)
	b.mustSayNothing()
}

// What is settled and not saved would be pending again if we died now: its event stays until it is.
func TestACarriedEventStaysUntilItsDeliveryIsSaved(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.saveEvery = time.Hour })
	old := b.lane("old")
	b.append(NewLaneSet(old.ID()), "a", "b")
	b.saveAll()
	b.SetServed(nil)
	b.rest(clock)
	b.SetServed([]string{"old"})
	b.saveAll()
	old.Delivered(mustTake(t, old, "a"), ok(1))
	b.tidy()
	after := b.crash(nil)
	old = after.lane("old")
	for _, id := range []string{"a", "b"} { // a once more: that it was delivered is not on disk
		old.Delivered(mustTake(t, old, id), ok(1))
	}
	after.saveAll()
	after.tidy()
	after.saveAll()
	after.tidy()
	if n := after.Stats().Events; n != 0 {
		t.Errorf("%d events are kept in the end", n)
	}
	after.mustSayNothing()
}
