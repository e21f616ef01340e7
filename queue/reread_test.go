package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
)

// A disk that answers a read with an error and the next one with the bytes has lost nothing: not even while the store is
// made from the log, when what is passed over is in no lane any more.
func TestAReadThatFailsOnceIsNoDamage(t *testing.T) {
	for name, fails := range map[string]func(n int64) bool{
		"now and then": func(n int64) bool { return n%2 == 1 },
		"always":       func(int64) bool { return true }, // the control
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			var reads atomic.Int64
			b := openBench(t, func(o *Options) {
				o.fault = func(place string, made bool) error {
					if place == log.PlaceRead && !made && armed.Load() && fails(reads.Add(1)) {
						return syscall.EIO
					}
					return nil
				}
			})
			crm := b.lane("crm")
			for i := range 10 {
				b.append(NewLaneSet(crm.ID()), fmt.Sprint("evt_", i))
			}
			for range 3 {
				crm.Retry(b.take(crm), broken(1), time.Now().Add(time.Hour))
				crm.Failed(b.take(crm), broken(1), "answered 500")
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(b.opts.Dir, storeName)); err != nil {
				t.Fatal(err)
			}
			armed.Store(true)
			q, err := openUnforked(b.opts)
			armed.Store(false)
			if err != nil {
				if name == "always" {
					return
				}
				t.Fatal(err)
			}
			defer q.Close()
			if reads.Load() == 0 {
				t.Fatal("nothing was read: this shows nothing")
			}
			lane := q.Find("crm")
			whole := lane != nil && lane.Stats().Pending == 4 && lane.Stats().Retrying == 3 && lane.Stats().Failed == 3
			if whole != (name != "always") {
				t.Errorf("it is whole: %v; told: %q", whole, b.said)
			}
		})
	}
}
