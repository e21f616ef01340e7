// Package directory makes sure that a queue's directory belongs to one process, before anything in it is read; it tells
// later whether the path is still the directory that was locked, and in which format the queue in it is.
package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/fault"
)

// Errors of Claim beside those of the file system.
var (
	// ErrInUse: another process has the queue's directory open.
	ErrInUse = errors.New("it is in use by another process: stop that one, or give this one a directory of its own")
	// ErrNoLocks: nobody can tell whether another process has the directory open.
	ErrNoLocks = errors.New("its file system has no locks, so two processes could write to it at once: use a local disk, or see to it that there is only one")
	// ErrNoQueue: the queue must exist, and does not.
	ErrNoQueue = errors.New("there is no queue")
)

// lockFile is locked beside the directory itself, only so that a binary of format 1, which knows no other lock, stops.
const lockFile = "lock"

// Directory is a queue's directory that this process has locked. Its methods may be called from several goroutines.
type Directory struct {
	path   string
	handle *os.File // of the directory; it carries the lock
	lock   *os.File
	fresh  bool // there was no queue in it
	device uint64
	inode  uint64
	fault  fault.Func
}

// Claim locks the directory for this process, until Close or the end of the process. With create it makes the directory. It
// reads names in it and no file.
//
// ErrInUse: another process has it. With ErrNoLocks the directory is returned as well: the caller decides whether it goes on
// without a lock. Without create, a directory without a queue is ErrNoQueue and nothing is written to it: a file system may
// have to be mounted there.
func Claim(path string, create bool, fault fault.Func) (*Directory, error) {
	return claim(path, create, fault, unix.Flock)
}

func claim(path string, create bool, fault fault.Func, flock func(fd, how int) error) (d *Directory, err error) {
	if create {
		if err := makeDir(path); err != nil {
			return nil, err
		}
	}
	handle, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w, not even the directory %q: is the file system mounted? For a new queue set create = true", ErrNoQueue, path)
	}
	if err != nil {
		return nil, err
	}
	d = &Directory{path: path, handle: handle, fault: fault}
	defer func() {
		if err != nil && !errors.Is(err, ErrNoLocks) { // which is returned alone, at the end
			err = errors.Join(err, d.Close())
			d = nil
		}
	}()
	first := tryLock(handle, flock)
	if first != nil && !errors.Is(first, ErrNoLocks) {
		return d, first
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(handle.Fd()), &st); err != nil {
		return d, fmt.Errorf("stat directory %q: %w", path, err)
	}
	d.device, d.inode = st.Dev, st.Ino
	if err := d.Check(); err != nil {
		return d, err // somebody moved it while we locked it
	}
	found, err := d.contents()
	if err != nil {
		return d, err
	}
	if d.fresh = found == ""; d.fresh && !create {
		return d, fmt.Errorf("%w: directory %q is empty, or holds other things: is the file system mounted? For a new queue set create = true", ErrNoQueue, path)
	}
	if d.lock, err = os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return d, err
	}
	second := tryLock(d.lock, flock)
	if errors.Is(second, ErrNoLocks) {
		return d, first // one lock is enough
	}
	return d, second
}

// tryLock locks an open file or directory, without waiting. The kernel drops the lock when all processes that have it open
// have closed it or died; no child has it, since Go opens all files O_CLOEXEC.
func tryLock(f *os.File, flock func(fd, how int) error) error {
	for {
		err := flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EWOULDBLOCK:
			return ErrInUse
		case err == unix.EPERM || err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.ENOLCK:
			return fmt.Errorf("lock %q: %w (%w)", f.Name(), ErrNoLocks, err)
		case err != nil:
			return fmt.Errorf("lock %q: %w", f.Name(), err)
		}
		return nil
	}
}

// makeDir makes a directory and missing ones above it, and syncs their names.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(above)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Path is the path that was claimed.
func (d *Directory) Path() string { return d.path }

// Fresh reports whether there was no queue in it when it was claimed.
func (d *Directory) Fresh() bool { return d.fresh }

// Check returns an error when the path is not the directory that was locked any more: what is written to open files could
// then be lost, and what is opened from now on belongs to another queue. It costs one system call, two when it fails.
func (d *Directory) Check() error {
	var here unix.Stat_t
	err := unix.Stat(d.path, &here)
	if err == nil && here.Dev == d.device && here.Ino == d.inode {
		return nil
	}
	var ours unix.Stat_t
	removed := unix.Fstat(int(d.handle.Fd()), &ours) == nil && ours.Nlink == 0
	switch {
	case removed && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("directory %q was removed while the queue in it was open: restore it from a backup, or start again with an empty queue", d.path)
	case removed:
		return fmt.Errorf("directory %q was removed while the queue in it was open, and something else is in its place: restore it from a backup, or start again with what is there", d.path)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("directory %q was renamed, or a directory above it, while the queue in it was open: move it back and start again", d.path)
	case err != nil:
		return fmt.Errorf("directory %q can't be reached any more while the queue in it is open: mend that and start again: %w", d.path, err)
	case here.Dev != d.device:
		return fmt.Errorf("directory %q is on another file system than the queue that was opened there: something was mounted or unmounted, undo that and start again", d.path)
	}
	return fmt.Errorf("directory %q is not the one that was opened: it was renamed and replaced; move the old one back and start again", d.path)
}

// Close unlocks the directory.
func (d *Directory) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Close()
	}
	return errors.Join(err, d.handle.Close()) // last: who locks it next finds the file unlocked, too
}
