package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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

// free is the free space in bytes, or more than there ever is when the file system does not say: writing will tell then.
func (o *Options) free() int64 {
	free, err := o.Free()
	if err != nil {
		return 1 << 62
	}
	return free
}
