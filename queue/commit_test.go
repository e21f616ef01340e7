package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/journal"
)

// hold stops the writer between two saves until the function it returns is called.
func (b *bench) hold() (release func()) {
	b.t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		_ = b.update(func() error {
			close(held)
			<-free
			return nil
		})
	})
	<-held
	var once sync.Once
	release = func() { once.Do(func() { close(free); done.Wait() }) }
	b.t.Cleanup(release)
	return release
}

// mustReturn fails when fn takes longer than anything here should.
func mustReturn(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { fn(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not return", what)
	}
}

// syncHook is asked before each sync of the journal, and told when it was made: an error is the sync's. Set while the queue is open.
type syncHook struct {
	ask atomic.Pointer[func(made bool) error]
}

func (h *syncHook) set(ask func(made bool) error) { h.ask.Store(&ask) }

func (h *syncHook) option(o *Options) {
	o.fault = func(place string, made bool) error {
		if ask := h.ask.Load(); ask != nil && place == journal.PlaceSync {
			return (*ask)(made)
		}
		return nil
	}
}

func TestNoAnswerBeforeSync(t *testing.T) {
	t.Parallel()
	var synced atomic.Bool
	var syncs syncHook
	b := openBench(t, syncs.option)
	syncs.set(func(made bool) error {
		if !made {
			time.Sleep(time.Millisecond) // an answer that does not wait would win
		}
		synced.Store(made)
		return nil
	})
	for i := range 20 {
		synced.Store(false)
		b.append("", fmt.Sprint("evt_", i))
		if !synced.Load() {
			t.Fatalf("event %d was answered before the sync", i)
		}
	}
}

func TestAFailedSyncFailsTheQueueAndNobodyIsTold200(t *testing.T) {
	t.Parallel()
	var syncs syncHook
	b := openBench(t, syncs.option)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "before")
	syncs.set(func(bool) error { return errors.New("input/output error") })
	if _, err := b.tryAppend(NewLaneSet(crm.ID()), "lost"); !errors.Is(err, ErrFailed) {
		t.Errorf("append says %v, want %v", err, ErrFailed)
	}
	<-b.Failed()
	if _, err := b.tryAppend("", "after"); !errors.Is(err, ErrFailed) {
		t.Errorf("append to a failed queue says %v", err)
	}
	mustReturn(t, "close", func() { _ = b.Close() })
	syncs.set(func(bool) error { return nil })
	b.open()
	mustTake(t, b.lane("crm"), "before")
}

func TestAppendGivesUpWhenItsTurnDoesNotCome(t *testing.T) {
	t.Parallel()
	var syncs syncHook
	b := openBench(t, func(o *Options) {
		syncs.option(o)
		o.AppendTimeout = 20 * time.Millisecond
	})
	stuck, free := make(chan struct{}), make(chan struct{})
	syncs.set(func(made bool) error {
		if made {
			return nil
		}
		select {
		case stuck <- struct{}{}:
			<-free
		default:
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.tryAppend("", "first"); err != nil {
			t.Errorf("the append whose sync is slow says %v", err)
		}
	})
	<-stuck
	for i := range 3 {
		if _, err := b.tryAppend("", fmt.Sprint("late_", i)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("an append that waits says %v, want %v", err, ErrOverloaded)
		}
	}
	close(free)
	wg.Wait()
	if r := b.append("", "late_0", "first"); r[0].Duplicate || !r[1].Duplicate {
		t.Errorf("what was refused is stored, or what was stored is not: %+v", r)
	}
}

func TestAppendAndStoryEndWhenTheQueueCloses(t *testing.T) {
	t.Parallel()
	for round := range 8 {
		b := openBench(t, nil)
		var stored sync.Map
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("evt_%d_%d", g, i)
					if _, err := b.tryAppend("", id); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("append says %v", err)
						}
						return
					}
					stored.Store(id, true)
				}
			})
			wg.Go(func() {
				for {
					if _, _, _, err := b.Story([]byte("evt_0_0")); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(round) * time.Millisecond)
		mustReturn(t, "close", func() { _ = b.Close() })
		mustReturn(t, "an append or a story", wg.Wait)
		b.open()
		stored.Range(func(id, _ any) bool {
			if r := b.append("", id.(string)); !r[0].Duplicate {
				t.Errorf("%s was answered and is not there", id)
			}
			return true
		})
	}
}

// An id must be known at every moment of its way from the committer's memory into the store.
func TestAnIDIsAcceptedOnceWhileTheWriterSaves(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Millisecond })
	const total = 12000 // more than recentKeep, so that ids are forgotten under way
	seqs := make([]atomic.Uint64, total)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				n := int(next.Add(40))
				if n > total {
					return
				}
				batch := append(ids(n-40, n), ids(max(0, n-90), n-40)...)
				batch = append(batch, ids(max(0, n-9000), max(0, n-8990))...)
				receipts, err := b.tryAppend("", batch...)
				if err != nil {
					t.Error(err)
					return
				}
				for i, r := range receipts {
					var at int
					if _, err := fmt.Sscanf(batch[i], "evt_%d", &at); err != nil {
						t.Error(err)
					}
					if !seqs[at].CompareAndSwap(0, r.Seq) && seqs[at].Load() != r.Seq {
						t.Errorf("%s is event %d and event %d", batch[i], seqs[at].Load(), r.Seq)
					}
				}
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Accepted != total {
		t.Errorf("%d events were accepted, want %d", s.Accepted, total)
	}
}

// Frames that leave much of their slots empty fill the journal before much is unsaved.
func TestAFullJournalWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Hour })
	add := func(size int) error {
		id := fmt.Sprint("evt_", b.Stats().Accepted)
		return b.Append("platform", []Event{{ID: []byte(id), Type: []byte("test"), Body: make([]byte, size)}}, make([]Receipt, 1))
	}
	if err := add(250 << 10); err != nil {
		t.Fatal(err)
	}
	if err := b.writer.awaitSave(b.Queue); err != nil {
		t.Fatal(err)
	}
	release := b.hold()
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, size := range []int{1 << 10, 200 << 10, 60 << 10, 200 << 10, 60 << 10, 200 << 10, 60 << 10} {
			if err := add(size); err != nil {
				t.Errorf("append says %v", err)
				return
			}
		}
	})
	for deadline := time.Now().Add(time.Second); b.Stats().Accepted < 7 && b.Err() == nil && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // the last one finds the journal full
	release()
	wg.Wait()
	if err := b.Err(); err != nil {
		t.Errorf("the queue failed: %v", err)
	}
}
