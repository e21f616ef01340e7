package queue

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"realtorbot-relay/queue/entry"
	"time"
)

// openSpeed opens a queue with one lane.
func openSpeed(b *testing.B, tail int64) (*Queue, *Lane) {
	b.Helper()
	q, err := Open(Options{
		Dir: filepath.Join(b.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour, tailBytes: tail,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close() })
	crm, err := q.Lane("crm")
	if err != nil {
		b.Fatal(err)
	}
	return q, crm
}

// speedBody is an event's body of 250 bytes.
var speedBody = append([]byte(`{"type":"lead.created","data":"`), append(bytes.Repeat([]byte("x"), 217), `"}`...)...)

func speedEvent(id []byte, lane *Lane) Event {
	return Event{ID: id, Type: []byte("lead.created"), Body: speedBody, Lanes: NewLaneSet(lane.ID())}
}

func mustFill(b *testing.B, q *Queue, lane *Lane, first, count int) {
	b.Helper()
	events := make([]Event, count)
	for i := range events {
		events[i] = speedEvent(fmt.Appendf(nil, "evt_%012d", first+i), lane)
	}
	if err := q.Append("platform", events, make([]Receipt, count)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommit appends events, by how many clients post at a time. The yardstick writes and syncs as much, one after the
// other.
func BenchmarkCommit(b *testing.B) {
	b.Run("yardstick", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			if _, err := f.Write(speedBody); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, posters := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(posters), func(b *testing.B) {
			q, crm := openSpeed(b, 0)
			var made atomic.Int64
			b.ReportAllocs()
			b.SetBytes(int64(len(speedBody)))
			if posters > 1 {
				b.SetParallelism(posters / runtime.GOMAXPROCS(0))
			} else {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				events, receipts := make([]Event, 1), make([]Receipt, 1)
				var id []byte
				for pb.Next() {
					id = fmt.Appendf(id[:0], "evt_%012d", made.Add(1))
					events[0] = speedEvent(id, crm)
					if err := q.Append("platform", events, receipts); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkLane takes deliveries of a lane that keeps up and settles them as gone well.
func BenchmarkLane(b *testing.B) {
	q, crm := openSpeed(b, 0)
	const batch = 1000
	attempt := ok(1)
	b.ReportAllocs()
	for made, left := 0, 0; b.Loop(); left-- {
		if left == 0 {
			b.StopTimer()
			mustFill(b, q, crm, made, batch)
			if err := q.writer.awaitSave(q); err != nil { // else it waits for a save
				b.Fatal(err)
			}
			made, left = made+batch, batch
			b.StartTimer()
		}
		d, _ := crm.Take()
		if d == nil {
			b.Fatal("nothing to take")
		}
		crm.Delivered(d, attempt)
	}
}

// BenchmarkReader reads events back from the store, as a lane does that is behind; an operation is one event.
func BenchmarkReader(b *testing.B) {
	q, crm := openSpeed(b, 1)
	const count = 50_000
	for first := 0; first < count; first += 1000 {
		mustFill(b, q, crm, first, 1000)
	}
	if err := q.writer.awaitSave(q); err != nil {
		b.Fatal(err)
	}
	var reader entry.Reader
	var ahead []*entry.Frame
	next := uint64(1)
	b.ReportAllocs()
	b.SetBytes(int64(len(speedBody)))
	for b.Loop() {
		for {
			ev, found, err := reader.Next()
			if err != nil {
				b.Fatal(err)
			}
			if found {
				next = ev.Seq + 1
				break
			}
			if len(ahead) == 0 {
				if next > count {
					next = 1
				}
				if ahead, _, err = q.frames(next); err != nil || len(ahead) == 0 {
					b.Fatalf("frames from %d: %d, %v", next, len(ahead), err)
				}
			}
			reader, ahead = ahead[0].Reader(), ahead[1:]
		}
	}
}
