package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/store"
)

// openOnDisk opens a queue on a disk whose free space the test decides, in MiB.
func openOnDisk(t *testing.T, change func(*Options)) (b *bench, free *atomic.Int64) {
	t.Helper()
	free = &atomic.Int64{}
	free.Store(1 << 20)
	return openBench(t, func(o *Options) {
		o.MinFree = 256 << 20
		o.Free = func() (int64, error) { return free.Load() << 20, nil }
		if change != nil {
			change(o)
		}
	}), free
}

func (b *bench) saw(what string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.Join(b.said, "\n"), what)
}

// With MinFree 0 there is still room between the last event and the last save: else a paused endpoint that filled the disk
// could not even be resumed.
func TestEventsAreRefusedWhileThereIsRoomToDeliverThem(t *testing.T) {
	t.Parallel()
	b, free := openOnDisk(t, func(o *Options) { o.MinFree = 0 })
	crm := b.lane("crm")
	free.Store((criticalFree + mergeRoom) >> 20)
	b.append(NewLaneSet(crm.ID()), "last")
	if err := crm.Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	free.Add(-1)
	await(t, "events to be refused", func() bool { return errors.Is(b.Ready(), ErrDiskLow) })
	b.saveAll()                    // what was accepted before
	free.Store(criticalFree >> 20) // a merge takes the room
	if err := crm.Pause(""); err != nil {
		t.Errorf("with the room for a merge taken, a resume says: %v", err)
	}
	crm.Delivered(mustTake(t, crm, "last"), ok(1))
	b.saveAll()
	if s := b.Stats(); s.MinFree != criticalFree+mergeRoom || !there(filepath.Join(b.opts.Dir, ballastFile)) {
		t.Errorf("%d MiB are needed, and the ballast is held: %v", s.MinFree>>20, there(filepath.Join(b.opts.Dir, ballastFile)))
	}
}

func TestAFullDiskCostsTheBallastAndGivesItBack(t *testing.T) {
	t.Parallel()
	b, free := openOnDisk(t, nil)
	crm := b.lane("crm")
	ballast := filepath.Join(b.opts.Dir, ballastFile)
	b.append(NewLaneSet(crm.ID()), "a", "b")
	b.saveAll()
	if !there(ballast) {
		t.Fatal("no ballast is held")
	}
	free.Store(47)
	await(t, "the ballast to be deleted", func() bool { wakeUp(b.writer.saveNow); return !there(ballast) })
	await(t, "events to be refused", func() bool { return errors.Is(b.Ready(), ErrDiskLow) })
	crm.Delivered(mustTake(t, crm, "a"), ok(1)) // deliveries go on
	before := b.storeAt()
	for range 20 {
		wakeUp(b.writer.saveNow)
		time.Sleep(time.Millisecond)
	}
	if err := b.writer.awaitSave(b.Queue); !errors.Is(err, ErrDiskLow) {
		t.Errorf("a save on a full disk says %v", err)
	}
	if now := b.storeAt(); now != before {
		t.Errorf("the store was written to %d times on a full disk", now-before)
	}
	free.Store(1 << 20)
	await(t, "events to be accepted", func() bool { _, err := b.tryAppend(NewLaneSet(crm.ID()), "c"); return err == nil })
	await(t, "the ballast to be taken back", func() bool { return there(ballast) })
	for _, line := range []string{"the ballast of", "nothing is saved until there are 48 MiB", "there is disk space again"} {
		await(t, line, func() bool { return b.saw(line) })
	}
	b.reopen()
	mustTake(t, b.lane("crm"), "b")
}

// When the queue's own data fill the disk, what nobody needs any more is deleted all the same.
func TestTheCleanUpGoesOnBelowTheCriticalMark(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		free int64
		left bool
	}{{30, false}, {20, true}} {
		t.Run(fmt.Sprint(test.free, " MiB"), func(t *testing.T) {
			t.Parallel()
			var clock atomic.Int64
			clock.Store(1_700_000_000_000)
			b, free := openOnDisk(t, func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(clock.Load()) } })
			crm := b.lane("crm")
			b.append(NewLaneSet(crm.ID()), "a")
			crm.Delivered(mustTake(t, crm, "a"), ok(1))
			b.saveAll()
			b.tidy()
			free.Store(test.free)
			clock.Add(3 * time.Hour.Milliseconds())
			c := &call{clean: true, done: make(chan error, 1), fn: func() error { return b.writer.retain.run(b.Queue) }}
			b.writer.calls <- c
			if err := <-c.done; errors.Is(err, ErrDiskLow) != test.left {
				t.Errorf("the clean-up says %v", err)
			}
			if left := len(b.log.Segments()) > 1 || b.log.FirstKeptEvent() == 1; left != test.left {
				t.Errorf("the segment is left: %v, want %v", left, test.left)
			}
		})
	}
}

// When the third slot can't be made, the committer waits for the writer, and no client notices.
func TestASlotIsNotMadeOnAFullDisk(t *testing.T) {
	t.Parallel()
	b, free := openOnDisk(t, func(o *Options) { o.saveEvery, o.MinFree, o.tailBytes = time.Hour, 0, 1 })
	release := b.hold()
	big := func(id string) error { // as Append, behind its look at the free space
		r := &request{source: "s", events: []Event{{ID: []byte(id), Type: []byte("test"), Body: make([]byte, 200<<10)}}, receipts: make([]Receipt, 1), done: make(chan error, 1)}
		if _, err := b.lookUpIDs(r); err != nil {
			return err
		}
		b.requests <- r
		return <-r.done
	}
	slots := func() (n int64) { return b.writer.journalBytes.Load() / b.opts.slotSize }
	for _, id := range []string{"big_a", "big_b"} {
		if err := big(id); err != nil {
			t.Fatal(err)
		}
	}
	before := slots()
	free.Store(criticalFree >> 20)
	done := make(chan error)
	go func() {
		var err error
		for i := range 4 {
			err = errors.Join(err, big(fmt.Sprint("big_", i)))
		}
		done <- err
	}()
	// For the third the journal has no free slot: the committer asks for room.
	await(t, "the committer to ask for room", func() bool { return len(b.writer.spaceWanted) > 0 })
	release()
	if err := <-done; err != nil {
		t.Errorf("append says %v, though the writer can free a slot", err)
	}
	if now := slots(); now > before {
		t.Errorf("%d slots on a full disk, were %d", now, before)
	}
}

func TestOpenSaysThatTheDiskIsFull(t *testing.T) {
	t.Parallel()
	b, free := openOnDisk(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), "a")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.opts.Dir, ballastFile)); err != nil {
		t.Fatal(err)
	}
	free.Store(47)
	before := listing(t, b.opts.Dir)
	if _, err := openUnforked(b.opts); !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "only 47 MiB are free") {
		t.Errorf("open says %v", err)
	}
	if after := listing(t, b.opts.Dir); after != before {
		t.Errorf("the directory changed:\n%s\nwas:\n%s", after, before)
	}
	free.Store(1 << 20)
	b.open()
	mustTake(t, b.lane("crm"), "a")
}

// A start that is tried again every second says what it lacks in its error. What Badger says of each try is not logged.
func TestAStartThatIsRefusedSpaceHasNoWordsOfTheStore(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EDQUOT, unix.ENOSPC, unix.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			var out atomic.Bool
			b, _ := openOnDisk(t, func(o *Options) {
				o.fault = func(place string, made bool) error {
					if place == store.AtMapLog && !made && out.Load() {
						return errno
					}
					return nil
				}
			})
			b.append(NewLaneSet(b.lane("crm").ID()), "a")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			out.Store(true)
			for range 3 {
				if _, err := openUnforked(b.opts); !errors.Is(err, ErrUnwritable) {
					t.Errorf("open says %v", err)
				}
			}
			if b.saw("store: ") {
				t.Errorf("three tries are told as %q", b.said)
			}
			out.Store(false)
			b.open()
			mustTake(t, b.lane("crm"), "a")
		})
	}
}

// Whatever keeps the store from getting its blocks is waited for, and reported in one sentence; so are locks that are
// refused.
func TestAStartThatIsRefusedSpaceOrLocksMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	for errno, says := range map[error]string{
		unix.EDQUOT: "disk quota", unix.ENOSPC: "refuses to give space", unix.EMFILE: "LimitNOFILE", unix.EPERM: "fallocate", unix.ENOSYS: "fallocate",
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			var out atomic.Bool
			b, _ := openOnDisk(t, func(o *Options) {
				o.fault = func(place string, made bool) error {
					if place == store.AtSpare && made && out.Load() {
						return errno
					}
					return nil
				}
			})
			b.append(NewLaneSet(b.lane("crm").ID()), "a")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			out.Store(true)
			_, err := openUnforked(b.opts)
			if !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), says) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "log of the store") {
				t.Errorf("open says %v", err)
			}
			out.Store(false)
			b.open()
			mustTake(t, b.lane("crm"), "a")
		})
	}
	o := (&Options{Dir: t.TempDir()}).withDefaults()
	if err := o.unwritable(fmt.Errorf("lock: %w", directory.ErrNoLocks)); !errors.Is(err, ErrUnwritable) {
		t.Errorf("locks that are refused: %v", err)
	}
}

// A crash between the making of the store's log and its first length does not prevent the next start.
func TestALogWithoutLengthDoesNotStopTheStart(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), "a")
	b.saveAll()
	after := b.crash(func(dir string) {
		for _, name := range []string{"00077.mem", "000077.vlog", "DISCARD"} {
			mustPut(t, filepath.Join(dir, "store", name), nil)
		}
	})
	mustTake(t, after.lane("crm"), "a")
}

// Ready and Append both name the resource for which events are refused, as long as that lasts and no longer.
func TestWhatThereIsTooLittleOfIsNamed(t *testing.T) {
	t.Parallel()
	wants := func(t *testing.T, b *bench, resource string) {
		t.Helper()
		await(t, "events to be refused", func() bool { return b.Ready() != nil })
		_, err := b.tryAppend("", "refused")
		for _, err := range []error{b.Ready(), err} {
			var lack *Shortage
			if !errors.As(err, &lack) || !errors.Is(err, ErrDiskLow) || lack.Resource != resource {
				t.Errorf("it says %v, want a lack of %s", err, resource)
			}
		}
	}
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		b, free := openOnDisk(t, nil)
		free.Store(255)
		wants(t, b, "bytes")
		free.Store(1 << 20)
		await(t, "events to be accepted", func() bool { return b.Ready() == nil })
	})
	t.Run("inodes", func(t *testing.T) {
		t.Parallel()
		var files atomic.Int64
		files.Store(needFiles)
		b, _ := openOnDisk(t, func(o *Options) { o.files = files.Load })
		b.append("", "a")
		files.Add(-1)
		wants(t, b, "inodes")
		files.Add(1)
		await(t, "events to be accepted", func() bool { return b.Ready() == nil })
	})
	for resource, errno := range map[string]error{"quota": unix.EDQUOT, "descriptors": unix.EMFILE, "disk": unix.ENOSPC} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			var out atomic.Bool
			b, _ := openOnDisk(t, func(o *Options) {
				o.fault = func(place string, made bool) error {
					if place == store.AtSpare && !made && out.Load() {
						return fmt.Errorf("fallocate: %w", errno)
					}
					return nil
				}
			})
			b.append("", "a")
			b.saveAll()
			out.Store(true)
			logs, _ := filepath.Glob(filepath.Join(b.opts.Dir, "store", "*"+".mem"))
			for _, path := range logs {
				if info, err := os.Stat(path); err == nil && info.Size() == 0 {
					_ = os.Remove(path) // the spare: Badger would have taken it before long
				}
			}
			// What the journal has room for is accepted; then it is said why no more is.
			for i := 0; b.Ready() == nil; i++ {
				event := Event{ID: fmt.Appendf(nil, "e%d", i), Type: []byte("test"), Body: make([]byte, 256<<10)}
				if err := b.Append("s", []Event{event}, make([]Receipt, 1)); err != nil && b.Ready() == nil {
					t.Fatalf("an event is refused (%v) and it is said to be ready", err)
				}
				if i == 1000 {
					t.Fatal("no end of room")
				}
			}
			wants(t, b, resource)
			out.Store(false)
			await(t, "events to be accepted, without one being posted", func() bool { return b.Ready() == nil })
			b.append("", "after")
			b.saveAll()
		})
	}
}
