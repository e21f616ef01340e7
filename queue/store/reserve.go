package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/fault"
)

// Badger makes a file long, maps it into memory and writes to it there. A page for which the file system then finds no block
// is a SIGBUS, which ends the process and can't be caught. So a file gets its blocks before it is mapped: a full disk is
// then an ordinary error.
//
// Badger has no hook for that. But everything that maps a file goes through one variable of golang.org/x/sys/unix, whose
// function is replaced here by one that reserves blocks first. TestAMappedFileHasItsBlocks fails when a later version of
// either works in another way.

//go:linkname mapper golang.org/x/sys/unix.mapper
var mapper *struct {
	sync.Mutex
	active map[*byte][]byte
	mmap   func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error)
}

// openFaults counts the open stores that have a fault.Func, so that in production no name is looked up.
var openFaults atomic.Int64

func init() {
	plain := mapper.mmap
	mapper.mmap = func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error) {
		if prot&unix.PROT_WRITE == 0 || flags&unix.MAP_SHARED == 0 {
			return plain(addr, length, prot, flags, fd, offset)
		}
		f, place := faultOf(fd)
		if err := f.Before(place); err != nil {
			return 0, err
		}
		if err := reserve(fd, offset, int64(length)); err != nil {
			return 0, err
		}
		at, err := plain(addr, length, prot, flags, fd, offset)
		if err != nil {
			return at, err
		}
		if err = f.After(place, nil); err != nil {
			_, _, _ = unix.Syscall(unix.SYS_MUNMAP, at, length, 0)
			return 0, err
		}
		return at, nil
	}
}

// faultOf returns the fault.Func of the store that a file belongs to, and the name of the place.
func faultOf(fd int) (fault.Func, string) {
	if openFaults.Load() == 0 {
		return nil, ""
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, ""
	}
	openDirs.Lock()
	defer openDirs.Unlock()
	switch filepath.Ext(path) {
	case ".sst":
		return openDirs.dirs[filepath.Dir(path)], AtMapTable
	case logSuffix:
		return openDirs.dirs[filepath.Dir(path)], AtMapLog
	}
	return nil, ""
}

// reserve gives a part of a file its blocks. After an error a file that had none is removed: nobody learns its name, and
// what a full disk gave is given back. On file systems that can't reserve it does nothing.
func reserve(fd int, offset, length int64) error {
	var before unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return err
	}
	for {
		err := unix.Fallocate(fd, 0, offset, length)
		switch {
		case err == nil || errors.Is(err, unix.EOPNOTSUPP):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		}
		if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && before.Blocks == 0 {
			_ = unix.Ftruncate(fd, 0)
			_ = os.Remove(path)
		}
		return refusal(err)
	}
}

// refusal returns ErrNoReserve for an error that is about the call fallocate and not about the file: a container's rules,
// for example, return such errors for calls that they don't allow.
func refusal(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", ErrNoReserve, err)
	}
	return err
}
