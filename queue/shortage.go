package queue

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/fault"
	"realtorbot-relay/queue/store"
)

// Shortage is an ErrDiskLow that says which resource is used up.
type Shortage struct {
	Resource string // bytes, inodes, quota, descriptors or disk
	text     string
}

// Error is one line: the figures, and what to do.
func (l *Shortage) Error() string { return l.text }

// Is makes errors.Is find ErrDiskLow.
func (l *Shortage) Is(target error) bool { return target == ErrDiskLow }

// needFiles is how many files the queue may soon make: logs of the store, tables of a merge, a journal slot.
const needFiles = 12

// measureShortage asks the file system, and returns what is too short to accept an event, nil when nothing is.
func (d *disk) measureShortage(o Options) *Shortage {
	if free, floor := o.free(), d.acceptFloor(o); free < floor {
		return &Shortage{"bytes", fmt.Sprintf("%d MiB of disk are free, less than the %d MiB that are needed (queue.min_free): make room", free>>20, floor>>20)}
	}
	if files, known := o.freeFiles(); known && files < needFiles {
		return &Shortage{"inodes", fmt.Sprintf("the file system of queue.dir has only %d inodes left, and %d are needed: delete files, many small ones use them up (df -i)", files, needFiles)}
	}
	return nil
}

// freeFiles is how many files can be made on the file system of Dir. Some file systems have no such limit.
func (o *Options) freeFiles() (n int64, known bool) {
	if o.files != nil {
		return o.files(), true
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.Dir, &st); err != nil || st.Files == 0 {
		return 0, false
	}
	return int64(min(st.Ffree, 1<<62)), true
}

// shortageOf returns which resource an error of making or writing a file is about.
func (d *disk) shortageOf(o Options, err error) *Shortage {
	low := d.measureShortage(o)
	switch {
	case errors.Is(err, store.ErrNoReserve):
		return &Shortage{"disk", "the kernel or the container does not let the relay reserve disk space (fallocate): allow it that call"}
	case errors.Is(err, unix.EDQUOT):
		return &Shortage{"quota", "the disk quota of the relay's user, group or project is used up: raise it or make room (quota, xfs_quota)"}
	case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
		return &Shortage{"descriptors", "no more files can be opened: raise LimitNOFILE in the unit, or fs.file-max"}
	case errors.Is(err, unix.ENOMEM):
		return &Shortage{"disk", "the kernel gives no memory to map a file of the store into: raise vm.max_map_count or the memory of the relay's control group"}
	case low != nil:
		return low
	case err == nil || errors.Is(err, unix.ENOSPC):
		return &Shortage{"disk", "the file system of queue.dir refuses to give space: make room"}
	}
	return &Shortage{"disk", fmt.Sprintf("nothing can be saved: %v", err)}
}

// noteShortage is isShortage, and remembers the shortage. Such an error goes away by itself, and the work is done then. It
// is false for a store that does not know whether its last transaction was made: that does not go away.
func (d *disk) noteShortage(q *Queue, err error) bool {
	if errors.Is(err, store.ErrUnsure) || !isShortage(err) {
		return false
	}
	d.saveShortage.Store(d.shortageOf(q.opts, err))
	return true
}

// isShortage reports whether an error comes from a full disk, from another resource that is used up, or from a store that is
// yet to be made again.
func isShortage(err error) bool {
	return fault.UsedUp(err) || errors.Is(err, store.ErrNoSpace) || errors.Is(err, store.ErrNoReserve) || errors.Is(err, errNotRemade)
}

// unwritable marks those errors of Open that a full or read-only disk, a quota or a refused call explains: they may go away
// by themselves. The text is one sentence about what is lacking, without the store's own.
func (o *Options) unwritable(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrUnwritable):
		return err
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: its file system is read-only: see what the kernel says of it (dmesg), repair it and mount it writable: %w", ErrUnwritable, err)
	case errors.Is(err, directory.ErrNoLocks):
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	case isShortage(err):
		return fmt.Errorf("%w: %w", ErrUnwritable, new(disk).shortageOf(*o, err))
	case o.free() < criticalFree:
		return fmt.Errorf("%w: its disk is full: make room: %w", ErrUnwritable, err)
	}
	return err
}
