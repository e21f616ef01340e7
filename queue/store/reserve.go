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

// Badger makes a file long, maps it into memory and writes to it there. A page that the file system then finds no block
// for is a SIGBUS, which ends the process and can't be caught. So a file gets its blocks before it is mapped: on a full
// disk that is an error like any other, and whoever wanted the file hears of it.
//
// Badger has no place for that. But whatever maps a file goes through one variable of golang.org/x/sys/unix, whose
// function is replaced here by one that reserves first. TestAMappedFileHasItsBlocks fails when a later version of either
// goes another way.

//go:linkname mapper golang.org/x/sys/unix.mapper
var mapper *struct {
	sync.Mutex
	active map[*byte][]byte
	mmap   func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error)
}

// openFaults counts the open stores that have a fault.Func, so that in life no name is looked up.
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

// faultOf returns the fault of the store that a file belongs to, and the name of its place.
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

// reserve gives a part of a file its blocks. After an error a file that had none is gone: nobody learns its name, and what
// a full disk gave of it is given back. File systems that can't reserve are left to their ways.
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

// refusal is the error of an fallocate, as ErrNoReserve when it tells of the call and not of the file: a container's rules, for
// one, answer so for calls that they don't let through.
func refusal(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", ErrNoReserve, err)
	}
	return err
}

// A spare is the log of the store's next table in memory, made beforehand: a file of no length that has its blocks. Badger
// does not survive that it can't make one.
