package queue

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// criticalFree is the free space below which nothing at all is written to the store: its files are mapped into memory,
// and touching a page that the file system has no block for would end the process.
const criticalFree = 48 << 20

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space at %q: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// disk remembers for a moment how much space is free, so that not every event asks.
type disk struct {
	asked atomic.Int64 // Unix nanoseconds
	low   atomic.Bool
	least atomic.Int64 // free bytes as last seen
}

const diskAsk = 100 * time.Millisecond

func (d *disk) check(q *Queue) error {
	now := time.Now().UnixNano()
	if asked := d.asked.Load(); now-asked > int64(diskAsk) && d.asked.CompareAndSwap(asked, now) {
		if free, err := q.opts.Free(); err == nil {
			d.least.Store(free)
			d.low.Store(free < q.opts.MinFree)
		}
	}
	if d.low.Load() {
		return ErrDiskLow
	}
	return nil
}
