package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// harmed counts the open stores that have a fault.Func, so that in life no name is looked up.
var harmed atomic.Int64

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
	if harmed.Load() == 0 {
		return nil, ""
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, ""
	}
	inside.Lock()
	defer inside.Unlock()
	switch filepath.Ext(path) {
	case ".sst":
		return inside.dirs[filepath.Dir(path)], AtMapTable
	case logSuffix:
		return inside.dirs[filepath.Dir(path)], AtMapLog
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

// spare makes sure that the spare is there. Only the writer calls it.
func (s *Store) spare() error {
	for ; ; s.nextLog++ {
		path := filepath.Join(s.dir, fmt.Sprintf("%05d%s", s.nextLog, logSuffix))
		info, err := os.Stat(path)
		if err == nil && info.Size() > 0 {
			continue // in use by now
		}
		if err == nil && path == s.spared {
			return nil
		}
		if err = makeSpare(path, s.memTable, s.fault); errors.Is(err, unix.ENOSPC) && s.relief() {
			err = makeSpare(path, s.memTable, s.fault)
		}
		if err != nil {
			return fmt.Errorf("make a log of the store: %w", err)
		}
		s.spared = path
		return nil
	}
}

func makeSpare(path string, memTable int64, f fault.Func) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = f.Before(AtSpare); err == nil {
		// Twice the size of the table, as Badger makes them.
		err = f.After(AtSpare, unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 2*memTable))
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	}
	if err = errors.Join(refusal(err), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

const logSuffix = ".mem"

// dropEmptyLogs removes spares, and logs that a crash left without length: Badger does not open a store that has one. It
// returns the number of the next log.
func dropEmptyLogs(dir string) (next int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		number, isLog := strings.CutSuffix(entry.Name(), logSuffix)
		if !isLog && filepath.Ext(entry.Name()) != ".vlog" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		if info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return 0, err
			}
			continue
		}
		if n, err := strconv.Atoi(number); isLog && err == nil {
			next = max(next, n)
		}
	}
	return next + 1, nil
}
