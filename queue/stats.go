package queue

import (
	"sync/atomic"
	"time"
)

// Stats is a snapshot of the queue's figures.
type Stats struct {
	Events       int64   // in the log, delivered or not
	Bytes        int64   // of their bodies
	FreeDisk     int64   // bytes, -1 when the file system does not say
	MinFree      int64   // bytes; with less, events are refused: Options.MinFree, or what the queue itself needs
	Accepted     int64   // since the queue was opened, without letters
	Duplicates   int64   // since the queue was opened
	Commits      int64   // since the queue was opened
	CommitEvents Buckets // events per commit
	CommitTimes  Buckets // nanoseconds per commit, sync included
	Unserved     int64   // bytes that are kept for unserved lanes alone: Options.UnservedBytes bounds them
	Expired      int64   // deliveries of unserved lanes that became failed, since the queue was opened
	Damaged      int64   // things that could not be read and were set aside, since the queue was opened
	StoreBytes   int64   // of the files of log and store
	JournalBytes int64
	Err          error
}

// Stats returns the queue's figures. It asks the file system for free space and reads memory otherwise.
func (q *Queue) Stats() Stats {
	free, err := q.opts.Free()
	if err != nil {
		free = -1
	}
	s := Stats{
		Events: q.writer.events.Load(), Bytes: q.writer.bytes.Load(),
		FreeDisk: free, MinFree: q.disk.acceptFloor(q.opts),
		Accepted: q.accepted.Load(), Duplicates: q.duplicates.Load(), Commits: q.commits.Load(), Damaged: q.damaged.Load(),
		Unserved: q.writer.unserved.Load(), Expired: q.expired.Load(),
		CommitEvents: q.commitEvents.Buckets(), CommitTimes: q.commitTimes.Buckets(),
		StoreBytes: q.writer.logBytes.Load() + q.writer.storeBytes.Load(), JournalBytes: q.writer.journalBytes.Load(),
		Err: q.Err(),
	}
	return s
}

// Saves is how often all progress was saved since the queue was opened. It does not grow while no event comes and no
// delivery is settled. It takes the writer's mutex, which nobody holds over disk.
func (q *Queue) Saves() uint64 {
	q.writer.mu.Lock()
	defer q.writer.mu.Unlock()
	return q.writer.round
}

// Stalled is for how long the write under way, to journal or store, has been running; 0 when there is none. It waits for
// nothing.
func (q *Queue) Stalled() time.Duration {
	var longest time.Duration
	for _, since := range []*atomic.Int64{&q.committing, &q.writer.saving} {
		if at := since.Load(); at != 0 {
			longest = max(longest, time.Duration(uptime()-at))
		}
	}
	return longest
}

// The bounds of the histograms of commits: events, and nanoseconds.
var (
	commitEventBounds = []int64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096}
	commitTimeBounds  = []int64{100_000, 250_000, 500_000, 1e6, 2_500_000, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 1e9, 5e9}
)
