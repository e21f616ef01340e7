package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
)

// backUp writes a backup into a file.
func (b *bench) backUp() (path string) {
	b.t.Helper()
	k, err := b.Backup("1.2.3")
	if err != nil {
		b.t.Fatal(err)
	}
	defer k.Close()
	return b.write(k)
}

func (b *bench) write(k *Backup) (path string) {
	b.t.Helper()
	path = filepath.Join(b.t.TempDir(), "backup")
	f, err := os.Create(path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if damaged, err := k.Write(f); err != nil || damaged > 0 {
		b.t.Fatalf("write a backup: %d damaged, %v", damaged, err)
	}
	return path
}

// restored is a queue made of a backup of b.
func (b *bench) restored(path string) *bench {
	b.t.Helper()
	after := &bench{t: b.t, opts: b.opts}
	after.opts.Dir = filepath.Join(b.t.TempDir(), "data")
	after.opts.Notice = func(line string) {
		after.mu.Lock()
		after.said = append(after.said, line)
		after.mu.Unlock()
	}
	if _, err := Restore(path, after.opts.Dir); err != nil {
		b.t.Fatal(err)
	}
	after.open()
	b.t.Cleanup(func() { _ = after.Queue.Close() })
	return after
}

// audit returns everything that a queue says of lanes and of events, but for how many were delivered and when.
func (b *bench) audit(lanes, ids []string) string {
	b.t.Helper()
	var out strings.Builder
	for _, name := range lanes {
		l := b.lane(name)
		s := l.Stats()
		fmt.Fprintf(&out, "%s: %d pending, %d retrying, %d failed, %d delivered, paused %q\n", name, s.Pending, s.Retrying, s.Failed, s.Delivered, s.Paused)
		for _, r := range l.Replays() {
			fmt.Fprintf(&out, "  replay %s %s\n", r.ID, r.State)
		}
	}
	for _, id := range ids {
		ev, stories, found, err := b.Story([]byte(id))
		if err != nil || !found {
			b.t.Fatalf("story of %s: %v, %v", id, found, err)
		}
		fmt.Fprintf(&out, "%s %d %x:", id, ev.Seq, ev.Body)
		for _, s := range stories {
			fmt.Fprintf(&out, " %s %s %d attempts;", s.Lane, s.State, len(s.Attempts))
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

func TestARestoredQueueIsAsTheOneThatWasBackedUp(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.segmentSize = 1 << 10 })
	crm, erp, gone := b.lane("crm"), b.lane("erp"), b.lane("gone")
	set := NewLaneSet(crm.ID(), erp.ID(), gone.ID())
	all := ids(0, 300)
	for from := 0; from < len(all); from += 50 {
		b.append(set, all[from:from+50]...)
		b.saveAll()
	}
	for i := range 200 {
		d := b.take(crm)
		switch {
		case i%7 == 0:
			crm.Failed(d, broken(1), "answered 500")
		case i%11 == 0:
			crm.Retry(d, broken(1), time.Now().Add(time.Hour))
		default:
			crm.Delivered(d, ok(1))
		}
	}
	if err := erp.Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	if err := b.Discard(gone); err != nil {
		t.Fatal(err)
	}
	b.startReplay(crm, ReplaySpec{Seqs: []uint64{2}})
	b.append(NewLaneSet(crm.ID()), "last")
	all = append(all, "last")
	lanes := []string{"crm", "erp"}
	want := b.audit(lanes, all)
	path := b.backUp()
	if n := len(b.log.Segments()); n < 3 {
		t.Fatalf("the log has only %d segments", n)
	}

	// What comes after is not in it.
	if err := erp.Pause(""); err != nil {
		t.Fatal(err)
	}
	b.append(NewLaneSet(erp.ID()), "later")
	for i := 200; i < 280; i++ {
		crm.Delivered(b.take(crm), ok(1))
	}

	after := b.restored(path)
	if got := after.audit(lanes, all); got != want {
		t.Errorf("restored it is\n%s\nand was\n%s", got, want)
	}
	for _, r := range after.append(NewLaneSet(after.lane("crm").ID()), all...) {
		if !r.Duplicate {
			t.Fatalf("event %d is not known any more", r.Seq)
		}
	}
	if r := after.append(NewLaneSet(after.lane("erp").ID()), "later"); r[0].Duplicate {
		t.Error("what came after the backup is known")
	}
	if l := after.lane("gone"); l.Stats().Pending > 0 {
		t.Errorf("what was discarded is there again: %+v", l.Stats())
	}
	if !after.saw("restored from a backup of 20") || !after.saw("under the same event ids") || after.saw("damaged") || after.Stats().Damaged > 0 {
		t.Errorf("it says %q", after.said)
	}
	said := len(after.said)
	after.reopen()
	if len(after.said) != said || there(filepath.Join(after.opts.Dir, restoredFile)) {
		t.Errorf("at the second start it says %q", after.said[said:])
	}
	for d, _ := after.lane("crm").Take(); d != nil; d, _ = after.lane("crm").Take() {
		after.lane("crm").Delivered(d, ok(1))
		awaitSave(after.lane("crm"))
	}
}

func TestABackupUnderLoadHasAllThatWasAnsweredBefore(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.saveEvery, o.segmentSize = 3*time.Millisecond, 8<<10 })
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
	seed := rand.Int63()
	for g := range 2 {
		r := rand.New(rand.NewSource(seed + int64(g)))
		wg.Go(func() {
			for !stop.Load() {
				d, in := crm.TakeDue(time.Now())
				if !in {
					if d, _ = crm.Take(); d == nil {
						continue
					}
				}
				id := string(d.Event.ID)
				switch r.Intn(8) {
				case 0:
					crm.Retry(d, broken(d.Attempts+1), time.Now().Add(time.Millisecond))
				case 1:
					received.Store(id, true) // failed: visibly so
					crm.Failed(d, broken(d.Attempts+1), "answered 500")
				default:
					received.Store(id, true)
					crm.Delivered(d, ok(d.Attempts+1))
				}
			}
		})
	}
	for round := range 3 {
		for n := 0; n < 200*(round+1); {
			n = 0
			answered.Range(func(_, _ any) bool { n++; return true })
			time.Sleep(time.Millisecond)
		}
		before := map[string]bool{}
		answered.Range(func(id, _ any) bool { before[id.(string)] = true; return true })
		path := b.backUp()
		done := map[string]bool{}
		received.Range(func(id, _ any) bool { done[id.(string)] = true; return true })
		after := b.restored(path)
		lane := after.lane("crm")
		for d := after.next(lane); d != nil; d = after.next(lane) {
			done[string(d.Event.ID)] = true
			lane.Delivered(d, ok(d.Attempts+1))
		}
		for id := range before {
			if !done[id] {
				t.Errorf("round %d, seed %d: %s was answered before, and is neither received nor restored", round, seed, id)
			}
			if _, _, found, err := after.Story([]byte(id)); !found || err != nil {
				t.Errorf("round %d, seed %d: %s is not known: %v", round, seed, id, err)
			}
		}
		if n := after.Stats().Damaged; n > 0 {
			t.Errorf("%d things are damaged: %q", n, after.said)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// next takes what is due within an hour or pending, nil when there is nothing.
func (b *bench) next(l *Lane) *Delivery {
	if d, in := takeDue(l, time.Now().Add(time.Hour)); in {
		return d
	}
	d, _ := l.Take()
	return d
}

func TestABackupKeepsWhatRetentionTakesMeanwhile(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.segmentSize, o.DedupWindow = 4<<10, 10*time.Hour })
	crm := b.lane("crm")
	all := ids(0, 200)
	b.append(NewLaneSet(crm.ID()), all...)
	crm.Failed(b.take(crm), broken(1), "answered 500") // it is carried
	for range all[1:] {
		crm.Delivered(b.take(crm), ok(1))
	}
	b.saveAll()
	b.tidy()
	clock.Add(2 * time.Hour.Milliseconds())
	held, err := b.Backup("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Backup("1.2.3"); !errors.Is(err, ErrBackingUp) {
		t.Errorf("a second one says %v", err)
	}
	want := b.audit([]string{"crm"}, all)
	for range 3 { // first what is left are ids, then nothing
		b.tidy()
		clock.Add(20 * time.Hour.Milliseconds())
	}
	if n := b.Stats().Events; n != 1 || b.log.PinnedBytes() == 0 {
		t.Fatalf("%d events are kept, %d bytes are held back", n, b.log.PinnedBytes())
	}
	path := b.write(held)
	held.Close()
	gone := func() []string {
		names, _ := filepath.Glob(filepath.Join(b.opts.Dir, logName, "*.gone"))
		return names
	}
	await(t, "what is deleted is gone from the disk", func() bool { return len(gone()) == 0 && b.log.PinnedBytes() == 0 })
	if got, want := b.restored(b.backUp()).audit([]string{"crm"}, all[:1]), b.audit([]string{"crm"}, all[:1]); got != want {
		t.Errorf("of what was carried it has\n%s\nwant\n%s", got, want)
	}
	clock.Add(-60 * time.Hour.Milliseconds())
	if got := b.restored(path).audit([]string{"crm"}, all); got != want {
		t.Errorf("restored it is\n%s\nand was\n%s", got, want)
	}
}

func TestABackupEndsWhenItHoldsTooLong(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.segmentSize = 4 << 10 })
	var free atomic.Int64
	free.Store(10 << 30)
	b.opts.Free, b.opts.MinFree = func() (int64, error) { return free.Load(), nil }, 256<<20
	b.reopen()
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), ids(0, 200)...)
	for range 200 {
		crm.Delivered(b.take(crm), ok(1))
	}
	b.saveAll()
	b.tidy()
	k, err := b.Backup("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for range 3 {
		clock.Add(20 * time.Hour.Milliseconds())
		b.tidy()
	}
	free.Store(100 << 20)
	await(t, "the disk to be short", func() bool { return errors.Is(b.Ready(), ErrDiskLow) })
	var out bytes.Buffer
	if _, err := k.Write(&out); !errors.Is(err, ErrDiskLow) {
		t.Errorf("on a disk that is short it says %v", err)
	}
	if _, err := ExamineBackup(&out); err == nil {
		t.Error("what was written counts")
	}
	free.Store(10 << 30)
	await(t, "there to be room", func() bool { return b.Ready() == nil })
	k.until = 1
	if _, err := k.Write(io.Discard); !errors.Is(err, ErrBackupSlow) {
		t.Errorf("after its time it says %v", err)
	}
}

// A backup that is cut or damaged leaves no trace, and neither does one for a directory that has something in it.
func TestARestoreThatIsRefusedWritesNothing(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), ids(0, 50)...)
	whole := mustRead(t, b.backUp())
	seed := rand.Int63()
	r := rand.New(rand.NewSource(seed))
	path, dir := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "data")
	for range 40 {
		at := r.Intn(len(whole))
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1 << r.Intn(8)
		for what, raw := range map[string][]byte{"cut": whole[:at], "flipped": flipped} {
			mustPut(t, path, raw)
			if _, err := Restore(path, dir); err == nil || there(dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("seed %d, %s at byte %d of %d: restore says %v, something is there: %v", seed, what, at, len(whole), err, there(dir))
			}
		}
	}
	mustPut(t, path, whole)
	other := filepath.Join(dir, "something")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mustPut(t, other, nil)
	if _, err := Restore(path, dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a directory with a file: %v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("it has %q then", names)
	}
	if _, err := Restore(path, b.opts.Dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over the queue that runs: %v", err)
	}
	// What one that was cut short left is no obstacle, nor is a file system's own.
	if err := errors.Join(os.Remove(other), os.MkdirAll(filepath.Join(dir, restoreName, "x"), 0o700), os.Mkdir(filepath.Join(dir, "lost+found"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if report, err := Restore(path, dir); err != nil || report.Events != 50 || there(filepath.Join(dir, restoreName)) {
		t.Errorf("the whole one: %+v, %v", report, err)
	}
}

// What can't be read goes along as it is, and is told: a queue with a damaged block can be backed up too.
func TestABackupTellsWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	b := openBench(t, func(o *Options) { o.segmentSize = 2 << 10 })
	crm := b.lane("crm")
	for i := range 40 {
		b.append(NewLaneSet(crm.ID()), ids(i*10, i*10+10)...)
		b.saveAll()
	}
	var first log.Place
	if err := b.log.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		if first.Segment == 0 && info.Events > 0 {
			first = p
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(b.opts.Dir, logName, fmt.Sprintf("%010d.seg", first.Segment))
	raw := mustRead(t, name)
	raw[first.Offset+100] ^= 1
	mustPut(t, name, raw)
	k, err := b.Backup("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	path := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged, err := k.Write(f)
	if err := errors.Join(err, f.Close()); err != nil || damaged != 1 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	report, err := ExamineBackup(bytes.NewReader(mustRead(t, path)))
	if err != nil || len(report.Damage) != 1 || !strings.Contains(report.Damage[0], filepath.Base(name)+": the block at byte") || !strings.Contains(report.Damage[0], "with events ") {
		t.Errorf("the report is %q, %v", report.Damage, err)
	}
	after := b.restored(path)
	lost := 0
	for i := range 400 {
		if _, _, found, err := after.Story([]byte(fmt.Sprint("evt_", i))); !found || err != nil {
			lost++
		}
	}
	if lost == 0 || lost > 40 {
		t.Errorf("%d events are lost", lost)
	}
}

// The first start after a restore may die at any moment.
func TestARestoredQueueOutlivesACrashAtItsFirstStart(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	all := ids(0, 50)
	b.append(NewLaneSet(b.lane("crm").ID()), all...)
	path := b.backUp()
	after := b.restored(path)
	first := after.crash(nil)
	if n := first.lane("crm").Stats().Pending; n != 50 || first.Stats().Damaged > 0 {
		t.Errorf("%d are pending: %q", n, first.said)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Restore(path, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, checkpointName)); err != nil {
		t.Fatal(err)
	}
	opts := b.opts
	opts.Dir = dir
	q, err := openUnforked(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if l, err := q.Lane("crm"); err != nil || l.Stats().Pending != 50 {
		t.Errorf("without its checkpoint: %v", err)
	}
}

// Whatever write of a restore fails, the directory is empty again, and the next restore is whole.
func TestARestoreThatFailsIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), ids(0, 50)...)
	path := b.backUp()
	for n := 1; ; n++ {
		for _, fresh := range []bool{true, false} {
			dir := filepath.Join(t.TempDir(), "data")
			if !fresh {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			asked, full := 0, errors.New("full")
			_, err := restore(path, dir, func(string, bool) error {
				if asked++; asked == n {
					return full
				}
				return nil
			})
			if err == nil && asked < n {
				if n < 12 {
					t.Errorf("only %d times was it asked for a fault", n)
				}
				return
			}
			if names, _ := filepath.Glob(filepath.Join(dir, "*")); !errors.Is(err, full) || len(names) > 0 || there(dir) == fresh {
				t.Errorf("fault %d: %v, and it has %q", n, err, names)
			}
			if report, err := Restore(path, dir); err != nil || report.Events != 50 {
				t.Errorf("after fault %d: %v", n, err)
			}
		}
	}
}

// Root restores for the service's user, who could not use the files else.
func TestARestoredQueueBelongsToWhomItsDirectoryBelongsTo(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), ids(0, 50)...)
	path := b.backUp()
	uid := os.Geteuid()
	above := t.TempDir()
	there := filepath.Join(above, "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	if uid == 0 {
		uid = 12345
		if err := errors.Join(os.Chown(above, uid, uid), os.Chown(there, uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{there, filepath.Join(above, "new")} {
		if _, err := Restore(path, dir); err != nil {
			t.Fatal(err)
		}
		mustBelongTo(t, dir, uid)
	}
	// So does what is made while a stopped one is backed up.
	var out bytes.Buffer
	opts := b.opts
	opts.Dir = there
	if _, err := BackupStopped(opts, "1.2.3", &out); err != nil {
		t.Fatal(err)
	}
	mustBelongTo(t, there, uid)
	if report, err := ExamineBackup(&out); err != nil || report.Events != 50 {
		t.Errorf("the backup of the stopped one: %+v, %v", report, err)
	}
	if _, err := BackupStopped(b.opts, "1.2.3", io.Discard); !errors.Is(err, ErrInUse) {
		t.Errorf("of one that is open: %v", err)
	}
	opts.Dir = filepath.Join(above, "none")
	if _, err := BackupStopped(opts, "1.2.3", io.Discard); err == nil || !strings.Contains(err.Error(), "there is no queue") {
		t.Errorf("where there is none: %v", err)
	}
}

func mustBelongTo(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if at := info.Sys().(*syscall.Stat_t); int(at.Uid) != uid {
			t.Errorf("%s belongs to %d, want %d", path, at.Uid, uid)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Periods go on where they were, whatever the wall clock was set to before the backup.
func TestARestoredQueueGoesOnInItsOwnTime(t *testing.T) {
	t.Parallel()
	var mono, wall atomic.Int64
	wall.Store(time.Now().UnixMilli())
	b := openBench(t, func(o *Options) {
		o.Now = func() time.Time { return time.UnixMilli(wall.Load()) }
		o.clocks = func() (time.Time, int64, int64) { return o.Now(), mono.Load(), wall.Load() }
	})
	set := NewLaneSet(b.lane("crm").ID())
	b.append(set, "evt_1")
	wall.Add(30 * 24 * time.Hour.Milliseconds())
	after := b.restored(b.backUp())
	if r := after.append(set, "evt_1"); !r[0].Duplicate {
		t.Error("an id is forgotten for a wall clock that was set")
	}
	mono.Add(2 * time.Hour.Milliseconds())
	wall.Add(2 * time.Hour.Milliseconds())
	if r := after.append(set, "evt_1"); r[0].Duplicate {
		t.Error("an id is known after its window")
	}
}
