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

// Three marks of free space. Below Options.MinFree, which is at least mergeRoom above the next mark, nothing new is
// accepted. Below criticalFree nothing is written to the store but deletions, and no journal slot is made: what the lanes
// do is remembered in memory, and the lanes stop when that is full. Below cleanFree nothing is written at all.
//
// Lest the queue's own data leave no room to delete any of it, the queue holds a ballast: a file of allocated blocks. At
// the critical mark it is given up. Half of it goes to what the lanes have to save, the rest is left to the clean-up. It
// is taken back when there is room again.
const (
	criticalFree = 48 << 20
	cleanFree    = criticalFree / 2
	mergeRoom    = 64 << 20 // for tables that are merged
	ballastFile  = "ballast"
)

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space at %q: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Room is how many bytes are free where the options' Dir is, or will be, and how many it takes to accept an event: for
// whoever looks while the queue is not open. free is -1 when nobody can tell.
func Room(o Options) (free, needed int64) {
	for there := false; !there; {
		_, err := os.Stat(o.Dir)
		if there = !errors.Is(err, os.ErrNotExist) || o.Dir == filepath.Dir(o.Dir); !there {
			o.Dir = filepath.Dir(o.Dir) // the first start makes it
		}
	}
	o = o.withDefaults()
	var d disk
	d.held.Store(true) // or it is taken before the first event
	free, err := o.Free()
	if err != nil {
		free = -1
	}
	return free, d.acceptFloor(o)
}

// disk knows how much space is free and holds the ballast.
type disk struct {
	held  atomic.Bool          // the ballast is there; changed by recovery and the keeper
	asked atomic.Int64         // when check last asked, Unix nanoseconds
	low   atomic.Pointer[Lack] // what it found; nil: there is enough
	full  atomic.Bool          // the committer found the journal full while nothing could be saved
	unfit atomic.Pointer[Lack] // why nothing could be saved the last time; the keeper's
	tight atomic.Bool          // so little is free that events will soon be refused; changed by the keeper
	told  bool                 // that nothing is saved; the keeper's
}

// diskAsk is for how long an answer about free space is good enough to refuse or accept events by.
const diskAsk = 100 * time.Millisecond

// check reports why no event is accepted, nil when one is. It remembers for a moment, so that not every event asks.
//
// What the file system says of itself is not all: a quota or the limit of descriptors shows only when something is made. So
// events are refused, too, while nothing can be saved and the journal has no room left for them; the keeper goes on trying,
// and ends that.
func (d *disk) check(q *Queue) error {
	now := time.Now().UnixNano()
	if asked := d.asked.Load(); now-asked > int64(diskAsk) && d.asked.CompareAndSwap(asked, now) {
		d.low.Store(d.lacks(q.opts))
	}
	if low := d.low.Load(); low != nil {
		return low
	}
	if !q.keeper.starved.Load() {
		d.full.Store(false)
	} else if unfit := d.unfit.Load(); unfit != nil && (d.full.Load() || q.keeper.unsaved.Load() >= q.opts.maxUnsaved()) {
		return unfit
	}
	return nil
}

// Lack is an ErrDiskLow that says what there is too little of.
type Lack struct {
	Resource string // bytes, inodes, quota, descriptors or disk
	text     string
}

// Error is one line with the figures and what to do.
func (l *Lack) Error() string { return l.text }

// Is makes it an ErrDiskLow.
func (l *Lack) Is(target error) bool { return target == ErrDiskLow }

// needFiles is how many files the queue may be about to make: the store's next logs and the tables of a merge, and a slot of
// the journal.
const needFiles = 12

// lacks says what there is too little of to accept an event, nil when there is enough of all that the file system tells.
func (d *disk) lacks(o Options) *Lack {
	if free, floor := o.free(), d.acceptFloor(o); free < floor {
		return &Lack{"bytes", fmt.Sprintf("%d MiB of disk are free, less than the %d MiB that are needed (queue.min_free): make room", free>>20, floor>>20)}
	}
	if files, known := o.freeFiles(); known && files < needFiles {
		return &Lack{"inodes", fmt.Sprintf("the file system of queue.dir has only %d inodes left, and %d are needed: delete files, many small ones use them up (df -i)", files, needFiles)}
	}
	return nil
}

// freeFiles is how many files can be made where Dir is. Some file systems have no such limit.
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

// lackOf says of an error of making a file what there is too little of.
func (d *disk) lackOf(o Options, err error) *Lack {
	low := d.lacks(o)
	switch {
	case errors.Is(err, store.ErrNoReserve):
		return &Lack{"disk", "the kernel or the container does not let the relay reserve disk space (fallocate): allow it that call"}
	case errors.Is(err, unix.EDQUOT):
		return &Lack{"quota", "the disk quota of the relay's user, group or project is used up: raise it or make room (quota, xfs_quota)"}
	case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
		return &Lack{"descriptors", "no more files can be opened: raise LimitNOFILE in the unit, or fs.file-max"}
	case errors.Is(err, unix.ENOMEM):
		return &Lack{"disk", "the kernel gives no memory to map a file of the store into: raise vm.max_map_count or the memory of the relay's control group"}
	case low != nil:
		return low
	case err == nil || errors.Is(err, unix.ENOSPC):
		return &Lack{"disk", "the file system of queue.dir refuses to give space: make room"}
	}
	return &Lack{"disk", fmt.Sprintf("nothing can be saved: %v", err)}
}

// acceptFloor is the free space that it takes to accept an event. It is well above what a save needs: what was accepted is
// yet to be saved, delivered and deleted, and the store merges its tables into new ones before it deletes them. An
// endpoint's events could else fill the disk until not even its being resumed can be saved.
func (d *disk) acceptFloor(o Options) int64 { return max(o.MinFree, d.saveFloor(o)+mergeRoom) }

// saveFloor is the free space that a save needs.
func (d *disk) saveFloor(o Options) int64 {
	if d.held.Load() {
		return criticalFree
	}
	return criticalFree + o.ballast/2
}

// tend gives up the ballast or takes it back as free space asks for, and reports whether lanes and frames may be saved,
// and whether what nobody needs may be deleted.
func (d *disk) tend(q *Queue) (save, clean bool) {
	free := q.opts.free()
	switch held := d.held.Load(); {
	case held && free < criticalFree:
		_ = d.give(q.opts) // it says what went wrong, and the next round tries again
		free = q.opts.free()
	case !held && free >= max(q.opts.MinFree, criticalFree)+q.opts.ballast:
		_ = d.take(q.opts) // when it fails there is just none, until the next round
	}
	d.tight.Store(free < 2*d.acceptFloor(q.opts))
	save = free >= d.saveFloor(q.opts)
	if d.told == save {
		d.told = !save
		if save {
			q.opts.Notice("there is disk space again: progress is saved and events are accepted as before")
		} else {
			q.opts.Notice(fmt.Sprintf("only %d MiB of disk are free: nothing is saved until there are %d MiB, and deliveries will stop", free>>20, d.saveFloor(q.opts)>>20))
		}
	}
	return save, free >= cleanFree
}

// free is the free space in bytes; more than there ever is when nobody can tell, since then writing will.
func (o *Options) free() int64 {
	free, err := o.Free()
	if err != nil {
		return 1 << 62
	}
	return free
}

// take makes the ballast. A file that is not whole is not there.
func (d *disk) take(o Options) error {
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
	d.held.Store(true)
	return nil
}

// errNoBallast: there is none to give up.
var errNoBallast = errors.New("there is no ballast")

// give deletes the ballast.
func (d *disk) give(o Options) error {
	if !d.held.Load() {
		return errNoBallast
	}
	err := o.fault.Before(placeDropBallast)
	if err == nil {
		err = os.Remove(filepath.Join(o.Dir, ballastFile))
		if errors.Is(err, os.ErrNotExist) {
			err = nil // an error before may have told of a removal that was made
		}
		err = o.fault.After(placeDropBallast, err)
	}
	if err != nil {
		o.Notice(fmt.Sprintf("the ballast can't be given up: %v", err))
		return err
	}
	d.held.Store(false)
	o.Notice(fmt.Sprintf("the disk is full: events are refused, and %d MiB that were held for this are given up for the clean-up", o.ballast>>20))
	return nil
}

// requireSpace refuses to open where the store could not be written. The ballast is given up for it.
func (d *disk) requireSpace(o Options) error {
	info, err := os.Stat(filepath.Join(o.Dir, ballastFile))
	d.held.Store(err == nil && info.Size() == o.ballast)
	if o.free() < criticalFree {
		_ = d.give(o)
	}
	if free := o.free(); free < criticalFree {
		return fmt.Errorf("%w: only %d MiB are free on its disk, %d MiB are needed to open it: make room", ErrUnwritable, free>>20, int64(criticalFree)>>20)
	}
	return nil
}

// unwritable marks an error of Open that a full or read-only disk explains, a quota, or calls that are refused: it may go away
// by itself. What lacks is said in one sentence, without what the store makes of it.
func (o *Options) unwritable(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrUnwritable):
		return err
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: its file system is read-only: see what the kernel says of it (dmesg), repair it and mount it writable: %w", ErrUnwritable, err)
	case errors.Is(err, directory.ErrNoLocks):
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	case isLack(err):
		return fmt.Errorf("%w: %w", ErrUnwritable, new(disk).lackOf(*o, err))
	case o.free() < criticalFree:
		return fmt.Errorf("%w: its disk is full: make room: %w", ErrUnwritable, err)
	}
	return err
}

// isLack reports that an error tells of a full disk, of another resource that is used up, or of a store that is yet to be made again.
func isLack(err error) bool {
	return fault.UsedUp(err) || errors.Is(err, store.ErrNoSpace) || errors.Is(err, store.ErrNoReserve) || errors.Is(err, errUnmade)
}

// lacking is isLack, and remembers what there is too little of: that goes away by itself, and what was to be done is done then.
// A store that does not know any more what it has stays so.
func (d *disk) lacking(q *Queue, err error) bool {
	if errors.Is(err, store.ErrUnsure) || !isLack(err) {
		return false
	}
	d.unfit.Store(d.lackOf(q.opts, err))
	return true
}
