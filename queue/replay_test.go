package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"realtorbot-relay/queue/store"
)

// givenUp stores events for the lane of which every third is delivered, and the others fail.
func (b *bench) givenUp(l *Lane, n int) {
	b.t.Helper()
	for from := 0; from < n; from += 100 {
		b.append(NewLaneSet(l.ID()), ids(from, min(from+100, n))...)
	}
	for i := range n {
		d := b.take(l)
		if i%3 == 0 {
			l.Delivered(d, ok(1))
		} else {
			l.Failed(d, broken(1), "answered 500")
		}
	}
	b.saveAll()
}

// take waits for the next delivery.
func (b *bench) take(l *Lane) *Delivery {
	b.t.Helper()
	d, _ := l.Take()
	for d == nil {
		b.saveAll()
		d, _ = l.Take()
	}
	return d
}

func (b *bench) startReplay(l *Lane, spec ReplaySpec) ReplayStatus {
	b.t.Helper()
	count, complete, err := l.CountReplay(spec, time.Minute)
	if err != nil || !complete {
		b.t.Fatal(count, complete, err)
	}
	status, err := l.StartReplay(spec, count)
	if err != nil {
		b.t.Fatal(err)
	}
	return status
}

// replayAll hands every first attempt of the replays to settle until there is none.
func (b *bench) replayAll(l *Lane, settle func(*Delivery)) {
	b.t.Helper()
	for l.Outlook().Replays {
		d, again := l.TakeReplay(time.Now())
		if d != nil {
			settle(d)
		} else if again.IsZero() {
			b.saveAll()
		}
	}
}

func TestAReplayAttemptsWhatFailedAndNothingElse(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 3000)
	status := b.startReplay(crm, ReplaySpec{Failed: true})
	if status.Total != 2000 || status.State != ReplayRunning || !strings.HasPrefix(status.ID, "rpl_") {
		t.Fatalf("begins as %+v", status)
	}
	b.append(NewLaneSet(crm.ID()), "live")
	i, seen := 0, map[string]bool{}
	b.replayAll(crm, func(d *Delivery) {
		if d.Attempts != 0 || ReplayID(d.Replay) != status.ID || string(d.Event.Body) != string(body(string(d.Event.ID))) || seen[string(d.Event.ID)] {
			t.Fatalf("took %+v", d)
		}
		seen[string(d.Event.ID)] = true
		switch i++; i % 4 {
		case 0:
			crm.Retry(d, broken(1), time.Now())
		case 1:
			crm.Failed(d, broken(1), "answered 500 again")
		default:
			crm.Delivered(d, ok(1))
		}
	})
	if s := crm.Replays()[0]; s.TakenUp != 2000 || s.Delivered != 1000 || s.Failed != 500 || s.Retrying != 500 || s.Passed != 0 || s.State != ReplayRunning {
		t.Errorf("once all were attempted: %+v", s)
	}
	for n := 0; ; n++ {
		d, in := crm.TakeDue(time.Now().Add(time.Second))
		if !in {
			if crm.Stats().Retrying == 0 {
				break
			}
			b.saveAll()
			continue
		}
		if d.Attempts != 1 || ReplayID(d.Replay) != status.ID {
			t.Fatalf("retry %+v", d)
		}
		crm.Delivered(d, ok(2))
	}
	b.reopen()
	crm = b.lane("crm")
	if s := crm.Replays()[0]; s.Delivered != 1500 || s.Failed != 500 || s.Retrying != 0 || s.State != ReplayDone || s.Ended.IsZero() {
		t.Errorf("at the end: %+v", s)
	}
	if s := crm.Stats(); s.Pending != 1 || s.Failed != 500 || s.Delivered != 2500 || s.Retrying != 0 {
		t.Errorf("the lane has %+v", s)
	}
	mustTake(t, crm, "live")
}

// Killed at any moment, a replay continues: all deliveries are attempted, and none that was settled and saved is attempted
// again.
func TestAReplayGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	for _, spec := range []ReplaySpec{{Failed: true}, {}, {Seqs: []uint64{2, 3, 5, 700, 701, 899}}} {
		b := openBench(t, nil)
		crm := b.lane("crm")
		b.givenUp(crm, 900)
		b.startReplay(crm, spec)
		total := crm.Replays()[0].Total
		var saved []string
		for round := range 5 {
			var held []*Delivery
			for i := range int(total) / 5 {
				d, _ := crm.TakeReplay(time.Now())
				for n := 0; d == nil; n++ {
					if b.saveAll(); n > 100 {
						t.Fatalf("round %d, %d of %d: nothing is handed out: %+v", round, i, total, crm.Replays())
					}
					d, _ = crm.TakeReplay(time.Now())
				}
				if slices.Contains(saved, string(d.Event.ID)) {
					t.Fatalf("round %d: %s was settled and saved, and is attempted again", round, d.Event.ID)
				}
				if i%10 == 3 {
					held = append(held, d) // under way when we die
					continue
				}
				if i%10 == 4 {
					crm.Failed(d, broken(1), "again")
				} else {
					crm.Delivered(d, ok(1))
				}
				saved = append(saved, string(d.Event.ID))
			}
			if len(held) > 1 {
				crm.Release(held[0], time.Now())
			}
			b.saveAll()
			b = b.crash(nil)
			crm = b.lane("crm")
		}
		b.replayAll(crm, func(d *Delivery) {
			if slices.Contains(saved, string(d.Event.ID)) {
				t.Fatalf("%s was settled and saved, and is attempted again", d.Event.ID)
			}
			saved = append(saved, string(d.Event.ID))
			crm.Delivered(d, ok(1))
		})
		s := crm.Replays()[0]
		if s.State != ReplayDone || s.TakenUp != total || int64(len(saved)) != total || s.Passed != 0 {
			t.Errorf("%+v: attempted %d of %d: %+v", spec, len(saved), total, s)
		}
	}
}

func TestAReplayTakesWhatItsSpecSays(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, mail := b.lane("crm"), b.lane("mail")
	began := b.opts.Now()
	for i := range 12 {
		kind := "lead.created"
		if i%2 == 1 {
			kind = "bot.created"
		}
		set := NewLaneSet(crm.ID(), mail.ID())
		if i == 11 {
			set = NewLaneSet(mail.ID())
		}
		id := fmt.Sprint("evt_", i)
		if err := b.Append("platform", []Event{{ID: []byte(id), Type: []byte(kind), Body: body(id), Lanes: set}}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
		if i < 8 {
			d := mustTake(t, crm, id)
			switch i % 4 {
			case 0, 1:
				crm.Delivered(d, ok(1))
			case 2:
				a := broken(1)
				if i == 6 {
					a = &Attempt{Number: 1, At: time.Now(), Class: "dns"}
				}
				crm.Failed(d, a, "no")
			case 3:
				crm.Retry(d, broken(1), b.opts.Now().Add(time.Hour))
			}
		}
		clock.Add(time.Minute.Milliseconds())
	}
	at := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	for _, test := range []struct {
		spec ReplaySpec
		want string
	}{
		{ReplaySpec{}, "0 1 2 4 5 6"},
		{ReplaySpec{Types: []string{"bot.*"}}, "1 5"},
		{ReplaySpec{Since: at(1), Until: at(5)}, "1 2 4"},
		{ReplaySpec{Since: at(1), Types: []string{"lead.created"}}, "2 4 6"},
		{ReplaySpec{Failed: true}, "2 6"},
		{ReplaySpec{Failed: true, Classes: []string{"dns", "tls"}}, "6"},
		{ReplaySpec{Failed: true, Since: at(3)}, "6"},
		{ReplaySpec{Failed: true, Until: at(3)}, "2"},
		{ReplaySpec{Failed: true, Types: []string{"bot.*"}}, ""},
		{ReplaySpec{Seqs: []uint64{1, 3, 4, 9, 12, 77}}, "0 2"},
		{ReplaySpec{Types: []string{"never.was"}}, ""},
	} {
		status := b.startReplay(crm, test.spec)
		var got []string
		for {
			d, _ := crm.TakeReplay(time.Now())
			if d == nil {
				break
			}
			got = append(got, strings.TrimPrefix(string(d.Event.ID), "evt_"))
			crm.Release(d, time.Now())
			if len(got) > 20 || int64(len(got)) == status.Total {
				break
			}
			if d, _ = crm.TakeReplay(time.Now()); string(d.Event.ID) != "evt_"+got[len(got)-1] {
				t.Fatalf("what was released comes after %s", d.Event.ID)
			}
		}
		if s := strings.Join(got, " "); s != test.want || status.Total != int64(len(got)) {
			t.Errorf("%+v replays %q of %d, want %q", test.spec, s, status.Total, test.want)
		}
		if crm.Replays()[0].State == ReplayRunning {
			if _, err := crm.CancelReplay(status.ID); err != nil {
				t.Fatal(err)
			}
		}
		if d, _ := crm.TakeReplay(time.Now()); d != nil {
			t.Errorf("a cancelled replay hands out %s", d.Event.ID)
		}
		if crm.replaying = nil; len(crm.Replays()) > maxReplays {
			t.Errorf("%d replays are remembered", len(crm.Replays()))
		}
	}
	if s := crm.Stats(); s.Failed != 2 || s.Retrying != 2 || s.Delivered != 4 {
		t.Errorf("the lane has %+v", s)
	}
}

func TestWhatOneReplayHasUnderWayNoOtherTakes(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Hour })
	crm := b.lane("crm")
	b.givenUp(crm, 30)
	b.startReplay(crm, ReplaySpec{Failed: true})
	second := b.startReplay(crm, ReplaySpec{Failed: true})
	seen := map[string]bool{}
	b.replayAll(crm, func(d *Delivery) {
		if seen[string(d.Event.ID)] {
			t.Fatalf("%s is attempted twice", d.Event.ID)
		}
		seen[string(d.Event.ID)] = true
		crm.Delivered(d, ok(1)) // not saved when the other reads the store
	})
	if s := crm.Stats(); len(seen) != 20 || s.Failed != 0 || s.Delivered != 30 {
		t.Errorf("%d attempted, the lane has %+v", len(seen), s)
	}
	if s := crm.Replays()[0]; s.ID != second.ID || s.State != ReplayDone || s.TakenUp+s.Passed != 20 {
		t.Errorf("the second is %+v", s)
	}
	if _, err := crm.CancelReplay(second.ID); err != ErrNoReplay {
		t.Errorf("cancelling one that is done says %v", err)
	}
}

func TestReplaysOfALaneAreFew(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 3)
	for range maxReplays {
		b.startReplay(crm, ReplaySpec{Failed: true, Rate: 0.001})
	}
	if _, err := crm.StartReplay(ReplaySpec{Failed: true}, 0); err != ErrReplays {
		t.Errorf("one more says %v", err)
	}
}

func TestAReplayKeepsItsPace(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 300)
	b.startReplay(crm, ReplaySpec{Failed: true, Rate: 10})
	now, taken := time.Now(), 0
	for end := now.Add(10 * time.Second); now.Before(end); {
		d, again := crm.TakeReplay(now)
		if d != nil {
			taken++
			crm.Delivered(d, ok(1))
			continue
		}
		if !again.After(now) {
			t.Fatalf("asks for another look at %v, now is %v", again, now)
		}
		now = again
	}
	if taken < 99 || taken > 103 {
		t.Errorf("%d were handed out in 10 s, want 10 a second", taken)
	}
}

// While one delivery hangs, a replay must not settle so many above it that its record grows without bound.
func TestAReplayWaitsForOneThatIsFarBehind(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 2000)
	b.startReplay(crm, ReplaySpec{Failed: true})
	slow, _ := crm.TakeReplay(time.Now())
	taken := 0
	for range 3000 {
		d, _ := crm.TakeReplay(time.Now())
		if d == nil {
			b.saveAll()
			if d, _ = crm.TakeReplay(time.Now()); d == nil {
				break
			}
		}
		taken++
		crm.Delivered(d, ok(1))
	}
	if taken != maxReplayWindow-1 {
		t.Errorf("%d were settled ahead of one that hangs, want %d", taken, maxReplayWindow-1)
	}
	crm.Delivered(slow, ok(1))
	if d, _ := crm.TakeReplay(time.Now()); d == nil {
		t.Error("nothing follows once it is settled")
	}
}

// What Badger lost of a lane's failed deliveries is in the log: whoever asks for all of them before anybody noticed gets them
// all.
func TestNoFailedDeliveryIsOverlookedThatTheStoreLost(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*bench, *Lane) (int64, error){
		"discard": func(_ *bench, l *Lane) (int64, error) { return l.DiscardFailed(ReplaySpec{}) },
		"count": func(_ *bench, l *Lane) (n int64, err error) {
			n, _, err = l.CountReplay(ReplaySpec{Failed: true}, time.Minute)
			return n, err
		},
		"replay": func(b *bench, l *Lane) (n int64, err error) {
			if _, err = l.StartReplay(ReplaySpec{Failed: true}, -1); err == nil {
				b.replayAll(l, func(d *Delivery) {
					l.Delivered(d, ok(1))
					n++
				})
			}
			return n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openBench(t, nil)
			crm := b.lane("crm")
			b.givenUp(crm, 300)
			await(t, "the start's comparison", func() bool { return !b.writer.checkRunning.Load() })
			if err := b.update(func() error { return drop(b.index.store, store.Failed) }); err != nil {
				t.Fatal(err)
			}
			if n, err := ask(b, crm); n != 200 || err != nil {
				t.Errorf("%d of 200 failed deliveries, %v", n, err)
			}
		})
	}
}

// merge has the store believe that Badger merged tables.
func merge(t testing.TB, o *Options) {
	t.Helper()
	name := filepath.Join(o.Dir, storeName, badger.ManifestFilename)
	at, err := os.Stat(name)
	if err == nil {
		err = os.Chtimes(name, time.Time{}, at.ModTime().Add(time.Second))
	}
	if err != nil {
		t.Error(err)
	}
}

// Badger may also lose failed deliveries while somebody reads all of them.
func TestNoFailedDeliveryIsOverlookedThatTheStoreLosesMeanwhile(t *testing.T) {
	t.Parallel()
	const n, failed = 6000, 4000
	for name, ask := range map[string]func(b *bench, l *Lane, losing *atomic.Pointer[func()], lose func()) (int64, error){
		"discard": func(_ *bench, l *Lane, losing *atomic.Pointer[func()], lose func()) (int64, error) {
			losing.Store(&lose) // with the first save of what is deleted
			return l.DiscardFailed(ReplaySpec{})
		},
		"replay": func(b *bench, l *Lane, _ *atomic.Pointer[func()], lose func()) (n int64, err error) {
			b.startReplay(l, ReplaySpec{Failed: true})
			b.replayAll(l, func(d *Delivery) {
				if n++; n == 10 {
					if err := b.update(func() error { lose(); return nil }); err != nil {
						b.t.Error(err)
					}
				}
				l.Delivered(d, ok(1))
			})
			if r := l.Replays()[0]; r.State != ReplayDone || r.Delivered != n {
				b.t.Errorf("the replay is %+v", r)
			}
			return n, nil
		},
		"replay and restart": func(b *bench, l *Lane, _ *atomic.Pointer[func()], lose func()) (n int64, err error) {
			b.startReplay(l, ReplaySpec{Failed: true})
			var last *Delivery
			for n = range int64(1000) {
				if n == 10 {
					if err := b.update(func() error { lose(); return nil }); err != nil {
						b.t.Error(err)
					}
				}
				if last, _ = l.TakeReplay(time.Now()); last == nil {
					b.saveAll()
					last, _ = l.TakeReplay(time.Now())
				}
				l.Delivered(last, ok(1))
			}
			n++
			b.reopen()
			l = b.lane(l.Name())
			b.replayAll(l, func(d *Delivery) {
				l.Delivered(d, ok(1))
				n++
			})
			return n, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var losing atomic.Pointer[func()]
			saves := 0
			b := openBench(t, func(o *Options) {
				o.fault = func(place string, made bool) error {
					if place != store.AtCommit || made || losing.Load() == nil {
						return nil
					}
					if saves++; saves == 1 {
						(*losing.Load())()
					}
					return nil
				}
			})
			crm := b.lane("crm")
			b.givenUp(crm, n)
			await(t, "the start's comparison", func() bool { return !b.writer.checkRunning.Load() })
			lost := 0
			lose := func() {
				from := uint64(n / 4) // behind what was read
				if name == "discard" {
					from = n - 200
				}
				for seq := from; lost < 100 && seq <= n; seq++ {
					if dropOne(b.index.store, store.FailedKey(uint32(crm.ID()), seq)) == nil {
						lost++
					}
				}
				merge(t, &b.opts)
			}
			got, err := ask(b, crm, &losing, lose)
			if got != failed || err != nil || lost != 100 {
				t.Errorf("%d of %d failed deliveries, %d lost meanwhile, %v", got, failed, lost, err)
			}
			if s := b.lane("crm").Stats(); s.Failed != 0 {
				t.Errorf("in the end %d are failed", s.Failed)
			}
		})
	}
}

func TestFailedDeliveriesAreListedAndGivenUp(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 6000)
	page, err := b.Search(Query{State: Failed, Lane: crm, Classes: []string{"status"}, Limit: 10})
	if err != nil || len(page.Events) != 10 || page.Next == 0 {
		t.Fatalf("%+v, %v", page, err)
	}
	if f := page.Events[0]; f.ID != "evt_5999" || f.Failure == nil || f.Failure.Reason != "answered 500" || f.Failure.Status != 500 {
		t.Errorf("the newest is %+v, %+v", f, f.Failure)
	}
	for _, q := range []Query{{Classes: []string{"dns"}}, {FailedSince: time.Now().Add(time.Minute)}, {FailedUntil: time.Now().Add(-time.Hour)}} {
		q.State, q.Lane, q.Limit = Failed, crm, 10
		for more := true; more; more = q.Below != 0 {
			page, err := b.Search(q)
			if err != nil || len(page.Events) > 0 {
				t.Fatalf("%+v finds %+v, %v", q, page, err)
			}
			q.Below = page.Next
		}
	}
	b.startReplay(crm, ReplaySpec{Failed: true})
	under, _ := crm.TakeReplay(time.Now())
	if n, err := crm.DiscardFailed(ReplaySpec{Classes: []string{"dns"}}); n != 0 || err != nil {
		t.Errorf("gave up %d, %v", n, err)
	}
	if n, err := crm.DiscardFailed(ReplaySpec{}); n != 3999 || err != nil {
		t.Errorf("gave up %d, %v, want all but the one under way", n, err)
	}
	crm.Failed(under, broken(1), "again")
	b.replayAll(crm, func(d *Delivery) { t.Errorf("%s was discarded and is attempted", d.Event.ID) })
	b.reopen()
	crm = b.lane("crm")
	if s := crm.Stats(); s.Failed != 1 {
		t.Errorf("the lane has %+v", s)
	}
	if s := crm.Replays()[0]; s.State != ReplayDone || s.TakenUp != 1 || s.Failed != 1 {
		t.Errorf("the replay is %+v", s)
	}
}

// A delivery that failed again in a replay is kept for its time; those behind it are deleted when theirs is over.
func TestWhatFailedAgainHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.FailedRetention = time.Hour })
	crm := b.lane("crm")
	b.givenUp(crm, 30)
	clock.Add(50 * time.Minute.Milliseconds())
	b.startReplay(crm, ReplaySpec{Seqs: []uint64{2}})
	b.replayAll(crm, func(d *Delivery) { crm.Failed(d, broken(1), "again") })
	clock.Add(20 * time.Minute.Milliseconds())
	b.tidy()
	b.saveAll()
	if s := crm.Stats(); s.Failed != 1 {
		t.Errorf("%d are failed, want the one that failed again", s.Failed)
	}
	clock.Add(time.Hour.Milliseconds())
	b.tidy()
	if s := crm.Stats(); s.Failed != 0 {
		t.Errorf("%d are failed, want none", s.Failed)
	}
}

func TestStoryTellsOfReplays(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	b.givenUp(crm, 2) // evt_0 is delivered
	status := b.startReplay(crm, ReplaySpec{})
	b.replayAll(crm, func(d *Delivery) {
		a := broken(1)
		a.At = time.Now().Add(time.Second)
		crm.Retry(d, a, time.Now().Add(time.Hour))
	})
	for _, id := range ids(0, 2) {
		_, stories, _, err := b.Story([]byte(id))
		if err != nil || stories[0].State != Retrying || ReplayID(stories[0].Replay) != status.ID {
			t.Fatalf("%s: %+v, %v", id, stories, err)
		}
		var replays []string
		for _, a := range stories[0].Attempts {
			replays = append(replays, ReplayID(a.Replay))
		}
		if want := []string{"", status.ID}; !slices.Equal(replays, want) {
			t.Errorf("%s has attempts of %q, want %q", id, replays, want)
		}
	}
}

func TestAReplayRecordGivesBackWhatWasPutIn(t *testing.T) {
	r := &replay{
		number: 1700000000123, state: ReplayRunning, end: 900, ended: 5, total: -1, takenUp: 7, delivered: 3, failed: 2, retrying: 2, passed: 1,
		spec:   ReplaySpec{Failed: true, Types: []string{"lead.*", "test"}, Classes: []string{"dns"}, Since: time.UnixMilli(1), Until: time.UnixMilli(2), Rate: 0.25},
		cursor: newCursor(300, []uint64{301, 305}), read: 300,
	}
	got, err := parseReplay(r.number, r.append(nil))
	if r.rewind(); err != nil || !reflect.DeepEqual(got, r) { // one of failed deliveries reads all again
		t.Errorf("got %+v, %v", got, err)
	}
	named := &replay{number: 1, state: ReplayRunning, end: 10, cursor: newCursor(3, nil), read: 3, spec: ReplaySpec{Seqs: []uint64{3, 9}}}
	if got, err := parseReplay(1, named.append(nil)); err != nil || !reflect.DeepEqual(got, named) {
		t.Errorf("got %+v, %v", got, err)
	}
}
