package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/fault"
)

// entry tells what entry n of the log does to the store: a dozen records of each kind, some written again, some deleted.
func entry(n uint64, set func(key Key, value string, fresh bool), del func(Key)) {
	for i := range 12 {
		for _, k := range Kinds {
			at := int(n)*12 + i
			set(keyOf(k, at), fmt.Sprintf("%d of %d %s", i, n, strings.Repeat("y", 250)), true)
			if n > 1 && i%4 == 1 {
				set(keyOf(k, at-12), fmt.Sprint("again by ", n), false)
			}
			if n > 1 && i%4 == 2 {
				del(keyOf(k, at-12))
			}
		}
	}
}

// model is what is in the store when entry n is.
func model(n uint64) map[Key]string {
	truth := map[Key]string{}
	for i := uint64(1); i <= n; i++ {
		entry(i, func(key Key, value string, _ bool) { truth[key] = value }, func(key Key) { delete(truth, key) })
	}
	return truth
}

func (s *Store) commitEntry(n uint64) error {
	b := s.Batch()
	var failed error
	entry(n, func(key Key, value string, fresh bool) {
		write := b.Set
		if fresh {
			write = b.SetNew
		}
		failed = errors.Join(failed, write(key, []byte(value)))
	}, func(key Key) { failed = errors.Join(failed, b.Delete(key)) })
	if failed != nil || len(b.Missing()) > 0 {
		return fmt.Errorf("%v are missing: %w", b.Missing(), failed)
	}
	return b.Commit(n)
}

// goOn opens the store and commits entries up to one, each of which it tells.
func goOn(o Options, to uint64, tell func(uint64)) error {
	s, err := openUnforked(o)
	if err != nil {
		return err
	}
	for n := s.Applied() + 1; n <= to && err == nil; n++ {
		if err = s.commitEntry(n); err == nil {
			tell(n)
		}
	}
	if err == nil {
		err = s.Opened()
	}
	return errors.Join(err, s.Close(testLimit))
}

// play is the life of a store: it is made, opened again, made anew from the log, and goes on.
func play(dir string, f fault.Func, tell func(uint64)) error {
	o := Options{Dir: dir, MemTable: 1 << 20, Fault: f}
	if err := goOn(o, 15, tell); err != nil {
		return err
	}
	if err := goOn(o, 30, tell); err != nil {
		return err
	}
	fresh := o
	fresh.Dir, fresh.Fresh = dir+".new", true
	s, err := openUnforked(fresh)
	if err != nil {
		return err
	}
	for n := uint64(1); n <= 30; n++ {
		if err := s.commitEntry(n); err != nil {
			return errors.Join(err, s.Close(testLimit))
		}
	}
	if err := s.Seal(testLimit); err != nil {
		return errors.Join(err, s.Close(testLimit))
	}
	if err := SetAside(dir, filepath.Join(filepath.Dir(dir), "aside", "store"), f); err != nil {
		return err
	}
	if err := Install(fresh.Dir, dir, f); err != nil {
		return err
	}
	return goOn(o, 40, tell)
}

// playUntil commits entries and copies the directory as a crash would leave it, over which the store is left alone.
func playUntil(t *testing.T, dir string, f fault.Func, to uint64) uint64 {
	t.Helper()
	running := filepath.Join(t.TempDir(), "store")
	s, err := openUnforked(Options{Dir: running, MemTable: 1 << 20, Fault: f})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(testLimit)
	for n := uint64(1); n <= to; n++ {
		if err := s.commitEntry(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(running)); err != nil {
		t.Fatal(err)
	}
	return s.Applied()
}

// scene is a place and the visit of it at which something happens.
type scene struct {
	place string
	nth   int64
}

func scenes() []scene {
	return []scene{
		{AtCommit, 1}, {AtCommit, 16}, {AtCommit, 61}, {AtSpare, 1}, {AtSpare, 4}, {AtMapLog, 1}, {AtMapLog, 3},
		{AtMapTable, 1}, {AtMapTable, 3}, {AtGuard, 1}, {AtGuard, 3}, {AtGuardRemove, 1}, {AtGuardRemove, 3},
		{AtSeal, 1}, {AtSetAside, 1}, {AtInstallNew, 1},
	}
}

// at makes a fault that does something at a scene, before the write or after it.
func (sc scene) at(made bool, do func() error) fault.Func {
	var visits atomic.Int64
	return func(place string, was bool) error {
		if place == sc.place && was == made && visits.Add(1) == sc.nth {
			return do()
		}
		return nil
	}
}

// mustBeAtAnEntry opens what a fault left and compares it with what its own position says.
func mustBeAtAnEntry(t *testing.T, dir string, told uint64, mayLose bool) {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && told > 0 {
		if err := Install(dir+".new", dir, nil); err != nil { // between two names
			t.Fatal(err)
		}
	}
	sh := &shelf{t: t, o: Options{Dir: dir, MemTable: 1 << 20}}
	s, err := openUnforked(sh.o)
	if mayLose && errors.Is(err, codec.ErrDamaged) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	sh.Store = s
	defer s.Close(testLimit)
	if s.Applied() < told {
		t.Errorf("the store is at %d, and %d was told", s.Applied(), told)
	}
	if list, _ := s.Check(); mayLose && len(list) > 0 {
		return
	}
	sh.truth = model(s.Applied())
	sh.mustHold()
	if err := s.Opened(); err != nil {
		t.Error(err)
	}
	for n := s.Applied() + 1; n <= 45; n++ {
		if err := s.commitEntry(n); err != nil {
			t.Fatal(err)
		}
	}
	sh.truth = model(45)
	sh.mustHold()
}

func TestAfterAFailedWriteTheStoreIsAtAnEntry(t *testing.T) {
	t.Parallel()
	for _, sc := range scenes() {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprint(sc.place, " ", sc.nth, ", made ", made), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "store")
				var fired atomic.Bool
				told := uint64(0)
				err := play(dir, sc.at(made, func() error { fired.Store(true); return unix.EIO }), func(n uint64) { told = n })
				if !fired.Load() {
					t.Fatal("the fault did not happen")
				}
				retried := sc.place == AtMapTable // by Badger
				if (err == nil) != retried && !retried || err != nil && !errors.Is(err, ErrNoAnswer) {
					t.Errorf("the store says %v", err)
				}
				mustBeAtAnEntry(t, dir, told, retried)
			})
		}
	}
}

const playEnv = "RELAY_STORE_PLAY"

func TestAfterADeathTheStoreIsAtAnEntry(t *testing.T) {
	t.Parallel()
	for _, sc := range scenes() {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprint(sc.place, " ", sc.nth, ", made ", made), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "store")
				told := playInChild(t, sc, made, dir)
				mustBeAtAnEntry(t, dir, told, false)
			})
		}
	}
}

func playInChild(t *testing.T, sc scene, made bool, dir string) (told uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestChildPlaysAStore$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d|%t|%s", playEnv, sc.place, sc.nth, made, dir))
	cmd.ExtraFiles = []*os.File{write}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(read); lines.Scan(); { // until the child is gone
		if told, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Error(err)
		}
	}
	_ = cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGKILL || ctx.Err() != nil {
		t.Fatalf("the child ended with %v, not killed at its fault:\n%s", cmd.ProcessState, said.String())
	}
	return told
}

// TestChildPlaysAStore is the child's side; in the parent there is nothing to play.
func TestChildPlaysAStore(t *testing.T) {
	part := strings.SplitN(os.Getenv(playEnv), "|", 4)
	if len(part) != 4 {
		return
	}
	nth, _ := strconv.ParseInt(part[1], 10, 64)
	ledger := os.NewFile(3, "ledger")
	die := scene{part[0], nth}.at(part[2] == "true", func() error {
		return errors.Join(unix.Kill(os.Getpid(), unix.SIGKILL), func() error { select {} }())
	})
	err := play(part[3], die, func(n uint64) { _, _ = io.WriteString(ledger, fmt.Sprintln(n)) })
	t.Fatalf("the fault did not happen: %v", err)
}

func TestAFullDiskLeavesTheBatchAsItIs(t *testing.T) {
	t.Parallel()
	full, asked := true, 0
	sh := newShelf(t, func(o *Options) {
		o.Fault = func(place string, made bool) error {
			if place == AtSpare && !made && full {
				return unix.ENOSPC
			}
			return nil
		}
		o.MakeSpace = func() bool { asked++; full = asked < 2; return true }
	})
	b := sh.Batch()
	sh.must(b.SetNew(LaneKey(1), []byte("x")))
	if err := b.Commit(1); !errors.Is(err, ErrNoSpace) || asked != 1 {
		t.Fatalf("a full disk is answered %v, relief was asked %d times", err, asked)
	}
	if value, err := sh.Get(LaneKey(1)); value != nil || err != nil {
		t.Errorf("what was refused is %q, %v", value, err)
	}
	sh.must(b.Commit(1))
	sh.truth[LaneKey(1)] = "x"
	sh.mustHold()
	if asked != 2 {
		t.Errorf("relief was asked %d times", asked)
	}
}

func TestAfterAFailedCommitNothingIsWrittenAnyMore(t *testing.T) {
	t.Parallel()
	fail := false
	sh := newShelf(t, func(o *Options) {
		o.Fault = func(place string, made bool) error {
			if place == AtCommit && made && fail {
				return unix.EIO
			}
			return nil
		}
	})
	sh.fill(0, 20)
	b := sh.Batch()
	sh.must(b.Set(LaneKey(1), []byte("x")))
	if err := b.Commit(99); err != nil {
		t.Fatal(err)
	}
	fail = true
	b = sh.Batch()
	sh.must(b.Set(LaneKey(1), []byte("y")))
	if err := b.Commit(100); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a commit that fails is answered %v", err)
	}
	fail = false
	if err := sh.Batch().Commit(101); !errors.Is(err, ErrUnsure) || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("the next commit is answered %v", err)
	}
	sh.reopen()
	if applied := sh.Applied(); applied != 100 {
		t.Errorf("the store is at %d", applied)
	}
	if list, err := sh.Check(); err != nil || len(list) > 0 {
		t.Errorf("the check says %v, %v", list, err)
	}
	if err := sh.Batch().Commit(50); err == nil {
		t.Error("the store goes back")
	}
}
