package simulate

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// disk is what one life of a machine has its queue on. The queue asks it before and after each write.
type disk struct {
	dir string

	mu    sync.Mutex
	rand  *rand.Rand
	slow  time.Duration // most that a sync takes
	reads time.Duration // most that a read of a retry's event takes
	gate  chan struct{} // closed when the writes that wait may go on; nil while none has to wait
	fuse  int           // so many writes until burnt is told; 0 for never
	burnt chan struct{}
	image string // what is on the disk for certain, while somebody is about to cut the power; else empty
}

// stops are the places at which a write can wait: nothing that others wait for is locked there.
var stops = []string{
	journal.PlaceFill, journal.PlaceSlotName, journal.PlaceRecord, journal.PlaceSync, log.PlaceHeader, log.PlaceBlocks, log.PlaceSync,
	log.PlaceFooter, log.PlaceSeal, log.PlaceRewrite, log.PlaceDelete, store.AtCommit,
}

var syncs = []string{journal.PlaceSync, log.PlaceSync, log.PlaceSeal}

// fault is the queue's fault.Func.
func (d *disk) fault(place string, made bool) error {
	d.mu.Lock()
	if made && d.image != "" {
		d.keepLocked(place)
	}
	if slices.Contains(stops, place) {
		if d.fuse > 0 {
			if d.fuse--; d.fuse == 0 {
				d.closeLocked()
				close(d.burnt)
			}
		}
		for d.gate != nil {
			gate := d.gate
			d.mu.Unlock()
			<-gate
			d.mu.Lock()
		}
	}
	wait := time.Duration(0)
	if !made && d.slow > 0 && slices.Contains(syncs, place) {
		wait = time.Duration(d.rand.Int64N(int64(d.slow)))
	}
	if !made && d.reads > 0 && place == log.PlaceRead && readsRetry() {
		wait = time.Duration(d.rand.Int64N(int64(d.reads)))
	}
	d.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
	return nil
}

func (d *disk) closeLocked() {
	if d.gate == nil {
		d.gate = make(chan struct{})
	}
}

// burn stops all writes at the nth from now, and tells so.
func (d *disk) burn(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse, d.burnt = n, make(chan struct{})
	return d.burnt
}

// freeze waits until no write is under way; further ones wait.
func (d *disk) freeze() {
	d.mu.Lock()
	d.fuse = 0
	d.closeLocked()
	d.mu.Unlock()
	synctest.Wait()
}

// thaw lets the writes go on.
func (d *disk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.gate)
	d.gate = nil
}

func (d *disk) setSlow(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = most
}

// readsRetry reports whether the caller reads the event of a retry. Others hold what somebody waits for, and in a bubble no time passes
// for whoever waits for a mutex.
func readsRetry() bool {
	var calls [16]uintptr
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls[:])])
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); strings.HasSuffix(f.Function, ".TakeDue") {
			return true
		} else if strings.HasSuffix(f.Function, ".loadRetries") {
			return false
		}
	}
	return false
}

func (d *disk) setReads(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads = most
}

// space is how much is free on the disks of a world.
type space struct {
	mu      sync.Mutex
	free    int64
	changes []change
}

type change struct {
	at   time.Time
	free int64
}

// What the manual says of free space (guarantees): below minFree events are refused and deliveries go on; below critical nothing is
// saved any more and deliveries soon stop.
const (
	minFree  = 256 << 20
	critical = 120 << 20 // 48 MiB, and room for what the queue itself holds back
)

func (s *space) set(free int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free
	s.changes = append(s.changes, change{time.Now(), free})
}

func (s *space) bytes() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, nil
}

// tight reports whether less than so much was free at some time since then.
func (s *space) tight(since time.Time, least int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.changes) - 1; i >= 0; i-- {
		if s.changes[i].free < least {
			return true
		}
		if s.changes[i].at.Before(since) {
			return false
		}
	}
	return false
}

// copyTree copies files, without the zeros that fill most of them.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return copyFile(target, path)
	})
}

var zeros [64 << 10]byte

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	buf := make([]byte, len(zeros))
	for at := int64(0); ; {
		n, err := in.ReadAt(buf, at)
		if n > 0 && string(buf[:n]) != string(zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if at += int64(n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
