package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"realtorbot-relay/scripts/needed"
)

func openSynced(t *testing.T) (*syncer, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := newSyncer()
	t.Cleanup(s.close)
	return s, f
}

// Each sync ends, also one of nothing, and one that was done before the goroutine waited.
func TestSyncerEnds(t *testing.T) {
	t.Parallel()
	s, f := openSynced(t)
	needed.Kernel(t, s.queue != 0, "asynchronous sync")
	for i := range 2000 {
		if i%2 == 0 {
			if _, err := f.WriteAt([]byte{byte(i)}, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.sync(f); err != nil {
			t.Fatalf("sync %d: %v", i, err)
		}
	}
	if s.queue == 0 {
		t.Error("it fell back to fdatasync")
	}
}

// linux/aio_abi.h: the kernel reads and writes so many bytes.
func TestSyncerHasTheKernelsLayout(t *testing.T) {
	t.Parallel()
	var order iocb
	if n := unsafe.Sizeof(order); n != 64 || unsafe.Offsetof(order.opcode) != 16 || unsafe.Offsetof(order.fd) != 20 ||
		unsafe.Offsetof(order.flags) != 56 || unsafe.Offsetof(order.event) != 60 {
		t.Errorf("an order has %d bytes: %+v", n, order)
	}
	var done ioEvent
	if n := unsafe.Sizeof(done); n != 32 || unsafe.Offsetof(done.result) != 16 {
		t.Errorf("its end has %d bytes: %+v", n, done)
	}
}

// What can't be synced is refused or fails; either way it is an error and not a success.
func TestSyncerTellsErrors(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, *syncer) *os.File{
		"a pipe": func(t *testing.T, _ *syncer) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			return w
		},
		"a closed file": func(t *testing.T, _ *syncer) *os.File {
			_, f := openSynced(t)
			f.Close()
			return f
		},
		"a bell that is gone": func(t *testing.T, s *syncer) *os.File {
			_, f := openSynced(t)
			needed.Kernel(t, s.queue != 0, "asynchronous sync")
			s.event.Close()
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSyncer()
			defer s.close()
			if err := s.sync(prepare(t, s)); err == nil {
				t.Error("it says that all is well")
			}
		})
	}
}

// A refusal must cost no event: the same sync is made with fdatasync, and so are all that follow.
func TestSyncerFallsBack(t *testing.T) {
	t.Parallel()
	s, f := openSynced(t)
	needed.Kernel(t, s.queue != 0, "asynchronous sync")
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, s.queue, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	s.queue = 1 // no context has this name; that of the old one may be given to another queue's
	for range 2 {
		if err := s.sync(f); err != nil {
			t.Fatal(err)
		}
	}
	if s.queue != 0 {
		t.Error("it goes on asking a kernel that refused")
	}
	f.Close()
	if err := s.sync(f); !errors.Is(err, unix.EBADF) {
		t.Errorf("then a closed file gives %v", err)
	}
}

// BenchmarkSync compares the two syncs, with nothing else to do for the processors.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	s := newSyncer()
	defer s.close()
	for name, sync := range map[string]func(*os.File) error{"fdatasync": fdatasync, "syncer": s.sync} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.WriteAt([]byte("x"), 0); err != nil {
					b.Fatal(err)
				}
				if err := sync(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
