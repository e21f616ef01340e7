package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/fault"
	"realtorbot-relay/queue/store"
)

// There are three thresholds of free space. Below Options.MinFree, which is at least mergeRoom above the next one, no event
// is accepted. Below criticalFree the ballast is deleted, and no journal slot is made. While, after that, less than saveFloor
// is free, only deletions are written to the store: what lanes do stays in memory, and a lane stops when its part of that is
// full. Below cleanFree nothing is written at all.
//
// So that the queue's own data leaves room to delete some of it, the queue holds a ballast: a file of allocated blocks. Half of it
// goes to what lanes have to save, the rest to deletions. It is made again when there is room.
const (
	criticalFree = 48 << 20
	cleanFree    = criticalFree / 2
	mergeRoom    = 64 << 20 // for the tables that Badger merges
	ballastFile  = "ballast"
)

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space at %q: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// FreeSpace returns how many bytes are free on the file system where Dir is, or will be, and how many it takes to accept an
// event. It asks the file system, for callers that have no open queue. free is -1 when the file system does not say.
func FreeSpace(o Options) (free, needed int64) {
	for there := false; !there; {
		_, err := os.Stat(o.Dir)
		if there = !errors.Is(err, os.ErrNotExist) || o.Dir == filepath.Dir(o.Dir); !there {
			o.Dir = filepath.Dir(o.Dir) // the first start makes it
		}
	}
	o = o.withDefaults()
	var d disk
	d.ballast.Store(true) // else it is made before the first event
	free, err := o.Free()
	if err != nil {
		free = -1
	}
	return free, d.acceptFloor(o)
}

// disk knows how much space is free, and owns the ballast.
type disk struct {
	ballast      atomic.Bool              // the ballast exists; changed by Open and the writer
	asked        atomic.Int64             // when check last asked the file system, Unix nanoseconds
	shortage     atomic.Pointer[Shortage] // of what there is too little; nil: there is enough
	journalFull  atomic.Bool              // the committer found the journal full while nothing could be saved
	saveShortage atomic.Pointer[Shortage] // why the last save was refused; the writer's
	nearlyFull   atomic.Bool              // events will soon be refused; changed by the writer
	reported     bool                     // that nothing is saved; the writer's
}

// diskAsk is for how long an answer of the file system counts.
const diskAsk = 100 * time.Millisecond

// check returns why no event is accepted, nil when one is. It asks the file system at most every diskAsk.
//
// The file system does not know everything: a quota or the limit of open files shows only when a file is made. So events are
// also refused while nothing can be saved and the journal has no room for them. The writer keeps trying, and ends that.
func (d *disk) check(q *Queue) error {
	now := time.Now().UnixNano()
	if asked := d.asked.Load(); now-asked > int64(diskAsk) && d.asked.CompareAndSwap(asked, now) {
		d.shortage.Store(d.measureShortage(q.opts))
	}
	if low := d.shortage.Load(); low != nil {
		return low
	}
	if !q.writer.saveRefused.Load() {
		d.journalFull.Store(false)
	} else if unfit := d.saveShortage.Load(); unfit != nil && (d.journalFull.Load() || q.writer.backlogBytes.Load() >= q.opts.maxUnsaved()) {
		return unfit
	}
	return nil
}

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

// acceptFloor is the free space that it takes to accept an event. It is well above saveFloor: an accepted event still has to
// be saved, delivered and deleted, and the store merges tables into new ones before it deletes the old. Otherwise one
// endpoint's events could fill the disk until not even its resumption could be saved.
func (d *disk) acceptFloor(o Options) int64 { return max(o.MinFree, d.saveFloor(o)+mergeRoom) }

// saveFloor is the free space that it takes to save progress.
func (d *disk) saveFloor(o Options) int64 {
	if d.ballast.Load() {
		return criticalFree
	}
	return criticalFree + o.ballast/2
}

// adjustBallast deletes or makes the ballast as free space requires. It returns whether progress and frames may be saved,
// and whether deletions may be written.
func (d *disk) adjustBallast(q *Queue) (save, clean bool) {
	free := q.opts.free()
	switch ballast := d.ballast.Load(); {
	case ballast && free < criticalFree:
		_ = d.releaseBallast(q.opts) // it has reported the error, and the next save tries again
		free = q.opts.free()
	case !ballast && free >= max(q.opts.MinFree, criticalFree)+q.opts.ballast:
		_ = d.takeBallast(q.opts) // after an error there is none until the next save
	}
	d.nearlyFull.Store(free < 2*d.acceptFloor(q.opts))
	save = free >= d.saveFloor(q.opts)
	if d.reported == save {
		d.reported = !save
		if save {
			q.opts.Notice("there is disk space again: progress is saved and events are accepted as before")
		} else {
			q.opts.Notice(fmt.Sprintf("only %d MiB of disk are free: nothing is saved until there are %d MiB, and deliveries will stop", free>>20, d.saveFloor(q.opts)>>20))
		}
	}
	return save, free >= cleanFree
}

// free is the free space in bytes, or more than there ever is when the file system does not say: writing will tell then.
func (o *Options) free() int64 {
	free, err := o.Free()
	if err != nil {
		return 1 << 62
	}
	return free
}

// takeBallast makes the ballast, whole or not at all.
func (d *disk) takeBallast(o Options) error {
	path := filepath.Join(o.Dir, ballastFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = o.fault.Before(placeBallast); err == nil {
		err = o.fault.After(placeBallast, unix.Fallocate(int(f.Fd()), 0, 0, o.ballast))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	d.ballast.Store(true)
	return nil
}

// errNoBallast: the ballast is gone already.
var errNoBallast = errors.New("there is no ballast to delete")

// releaseBallast deletes the ballast.
func (d *disk) releaseBallast(o Options) error {
	if !d.ballast.Load() {
		return errNoBallast
	}
	err := o.fault.Before(placeDropBallast)
	if err == nil {
		err = os.Remove(filepath.Join(o.Dir, ballastFile))
		if errors.Is(err, os.ErrNotExist) {
			err = nil // an earlier error may have come from a removal that was made
		}
		err = o.fault.After(placeDropBallast, err)
	}
	if err != nil {
		o.Notice(fmt.Sprintf("the ballast can't be deleted: %v", err))
		return err
	}
	d.ballast.Store(false)
	o.Notice(fmt.Sprintf("the disk is full: events are refused, and the ballast of %d MiB is deleted, so that old events can be", o.ballast>>20))
	return nil
}

// requireSpace returns an error when the store could not be written. It deletes the ballast first.
func (d *disk) requireSpace(o Options) error {
	info, err := os.Stat(filepath.Join(o.Dir, ballastFile))
	d.ballast.Store(err == nil && info.Size() == o.ballast)
	if o.free() < criticalFree {
		_ = d.releaseBallast(o)
	}
	if free := o.free(); free < criticalFree {
		return fmt.Errorf("%w: only %d MiB are free on its disk, %d MiB are needed to open it: make room", ErrUnwritable, free>>20, int64(criticalFree)>>20)
	}
	return nil
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

// isShortage reports whether an error comes from a full disk, from another resource that is used up, or from a store that is
// yet to be made again.
func isShortage(err error) bool {
	return fault.UsedUp(err) || errors.Is(err, store.ErrNoSpace) || errors.Is(err, store.ErrNoReserve) || errors.Is(err, errNotRemade)
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
