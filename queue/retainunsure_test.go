package queue

import (
	"sync/atomic"
	"syscall"
	"testing"

	"realtorbot-relay/queue/store"
)

// Retention writes to the store, too. When nobody knows whether that was done, the store is made again, and the queue goes on.
func TestRetentionThatTheStoreDoesNotTakeEndsNothing(t *testing.T) {
	t.Parallel()
	for _, broken := range []syscall.Errno{0, syscall.EIO, syscall.EDQUOT, syscall.ENOSPC} { // 0: the control
		t.Run(broken.Error(), func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			var failed atomic.Int64
			b, clock := openStill(t, func(o *Options) {
				o.segmentSize = 64 << 10
				o.fault = func(place string, made bool) error {
					if place == store.AtCommit && made && broken != 0 && armed.CompareAndSwap(true, false) {
						failed.Add(1)
						return broken
					}
					return nil
				}
			})
			crm := b.lane("crm")
			b.addMany(clock, NewLaneSet(crm.ID()), 0, 4000)
			b.drainAll(crm)
			had := b.Stats().Events
			for n := 0; b.Stats().Events == had || failed.Load() == 0 && broken != 0; n++ {
				if n == 20 {
					t.Fatalf("%d of %d events are left, %d writes failed", b.Stats().Events, had, failed.Load())
				}
				b.saveAll()
				err := b.update(func() error { // on the writer's goroutine: no other write of the store comes between
					armed.Store(failed.Load() == 0)
					defer armed.Store(false)
					return b.writer.tidy(b.Queue)
				})
				if err != nil {
					t.Fatal(err)
				}
				clock.Add(b.opts.Retention.Milliseconds() + 1)
				await(t, "the comparison", func() bool { return !b.writer.checkRunning.Load() }) // retention waits for it
			}
			b.append(NewLaneSet(crm.ID()), ids(1000, 1010)...)
			if got := b.drainAll(crm); len(got) != 10 {
				t.Errorf("%d of 10 events are delivered afterwards", len(got))
			}
			b.reopen()
			if s := b.lane("crm").Stats(); s.Pending != 0 || s.Failed != 0 {
				t.Errorf("the lane has %+v", s)
			}
		})
	}
}
