package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue"
	entries "realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// filler makes a queue by the queue's own writer, at a time of the filler's choice: what it makes may be a week old.
type filler struct {
	queue *queue.Queue
	now   atomic.Int64 // Unix milliseconds
	run   uint32
	next  uint64 // of the ids
	lanes map[string]*queue.Lane
}

const (
	// fillEvents is how many events a filler appends at a time.
	fillEvents = 1000
	// The periods of a filler: retention looks at a queue every 250 ms, and nothing ages while its clock stands.
	fillerRetention = 5 * time.Second
	fillerLooks     = 8 * 250 * time.Millisecond
)

// newFiller opens a queue, whose clock stands at a moment until it is set.
func newFiller(dir string, at time.Time, retention time.Duration, lanes ...string) (*filler, error) {
	f := &filler{run: newRun(), lanes: map[string]*queue.Lane{}}
	f.now.Store(at.UnixMilli())
	q, err := queue.Open(queue.Options{
		Dir: dir, DedupWindow: 72 * time.Hour, Retention: retention, FailedRetention: 720 * time.Hour,
		Now:         func() time.Time { return time.UnixMilli(f.now.Load()) },
		FilterBytes: 256 << 20, // for 100 million ids: beyond what filters have room for, each new id is looked for on disk
	})
	if err != nil {
		return nil, err
	}
	f.queue = q
	if err := q.MakeLanes(lanes); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	for _, name := range lanes {
		if f.lanes[name], err = q.Lane(name); err != nil {
			return nil, errors.Join(err, q.Close())
		}
	}
	return f, nil
}

// batchOf is a fill's: how many events of which size, and what is odd about some of them.
type batchOf struct {
	count int
	size  int
	lane  string                                      // that all are for, and which settles them; empty: nobody
	other func(n int) (eventType string, lane string) // of event n; "" for what all have. Nil for none
	fails func(n int) bool                            // the delivery of event n is given up
}

// fill appends events and settles them. What other lanes got stays pending.
func (f *filler) fill(ctx context.Context, b batchOf) error {
	failed := make(chan error, 1)
	go func() { failed <- f.settle(ctx, b) }()
	text, err := newTemplate(f.run, downType, b.size, time.UnixMilli(f.now.Load()))
	if err != nil {
		return err
	}
	all := queue.NewLaneSet()
	if b.lane != "" {
		all = queue.NewLaneSet(f.lanes[b.lane].ID())
	}
	events, receipts := make([]queue.Event, fillEvents), make([]queue.Receipt, fillEvents)
	bodies := make([]byte, fillEvents*len(text.text))
	for done := 0; done < b.count; done += fillEvents {
		for i := range events {
			body := bodies[i*len(text.text):][:len(text.text)]
			copy(body, text.text)
			text.put(body, f.next, uint64(f.now.Load())*1_000_000+f.next%1_000_000)
			id := body[text.idAt:][:idLength]
			f.next++
			events[i] = queue.Event{ID: id, Type: []byte(downType), Body: body, Lanes: all}
			if b.other == nil {
				continue
			}
			if kind, lane := b.other(done + i); kind != "" {
				events[i].Type = []byte(kind)
				if lane != "" {
					events[i].Lanes = queue.NewLaneSet(f.lanes[b.lane].ID(), f.lanes[lane].ID())
				}
			}
		}
		if err := f.queue.Append("platform", events, receipts); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return <-failed
}

// settle takes what a fill is for and settles it.
func (f *filler) settle(ctx context.Context, b batchOf) error {
	lane := f.lanes[b.lane]
	if lane == nil {
		return nil
	}
	for n := 0; n < b.count && ctx.Err() == nil; {
		d, _ := lane.Take()
		if d == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		a := &queue.Attempt{Number: 1, At: time.UnixMilli(f.now.Load()), Took: 700 * time.Microsecond, FirstByte: 600 * time.Microsecond, Status: 200, Excerpt: []byte(`{"received":true}`)}
		if b.fails != nil && b.fails(n) {
			a.Status, a.Class = 500, "http_5xx"
			lane.Failed(d, a, "answered 500 Internal Server Error")
		} else {
			lane.Delivered(d, a)
		}
		n++
	}
	return ctx.Err()
}

// failOne has each of so many lanes give up the delivery of one event.
func (f *filler) failOne(ctx context.Context, names []string, size int) error {
	text, err := newTemplate(f.run, downType, size, time.UnixMilli(f.now.Load()))
	if err != nil {
		return err
	}
	for group := range slices.Chunk(names, fillEvents) {
		events, receipts := make([]queue.Event, len(group)), make([]queue.Receipt, len(group))
		for i, name := range group {
			body := slices.Clone(text.text)
			text.put(body, f.next, 0)
			id := body[text.idAt:][:idLength]
			f.next++
			events[i] = queue.Event{ID: id, Type: []byte(downType), Body: body, Lanes: queue.NewLaneSet(f.lanes[name].ID())}
		}
		if err := f.queue.Append("platform", events, receipts); err != nil {
			return err
		}
		for _, name := range group {
			for ctx.Err() == nil {
				d, _ := f.lanes[name].Take()
				if d == nil {
					pause(ctx, time.Millisecond)
					continue
				}
				f.lanes[name].Failed(d, &queue.Attempt{Number: 1, At: time.UnixMilli(f.now.Load()), Status: 500, Class: "http_5xx"}, "answered 500 Internal Server Error")
				break
			}
		}
	}
	return ctx.Err()
}

// rest lets retention see up to where nobody needs the log any more.
func (f *filler) rest(ctx context.Context) { pause(ctx, fillerLooks) }

func (f *filler) close() error { return f.queue.Close() }

// forgetPages has the next read of each file of a directory come from the disk.
func forgetPages(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close())
	})
}

// savesIn are the moments at which progress of lanes was made durable, in Unix milliseconds, ascending, from one on and up to
// another. The relay is stopped: its log says so, and has all that its journal had.
func savesIn(data string, from, to time.Time) (saves []int64, err error) {
	l, _, err := log.Open(log.Options{Dir: filepath.Join(data, "log"), Now: func() int64 { return time.Now().UnixMilli() }, Notice: func(string) {}}, log.NoStart)
	if err != nil {
		return nil, fmt.Errorf("read saves: %w", err)
	}
	defer l.Close()
	err = l.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		if info.LastAt < from.UnixMilli() {
			return nil
		}
		b, err := l.Read(p)
		if err != nil {
			return err
		}
		return b.Unpack(func(h entries.Header, _ []byte) error {
			if h.Kind == entries.KindProgress && h.At >= from.UnixMilli() && h.At <= to.UnixMilli() {
				saves = append(saves, h.At)
			}
			return nil
		})
	})
	return saves, err
}

// longestGap is the longest time between two saves, from a moment on up to another.
func longestGap(saves []int64, from, to time.Time) time.Duration {
	last, longest := from.UnixMilli(), int64(0)
	for _, at := range append(slices.Clone(saves), to.UnixMilli()) {
		longest = max(longest, at-last)
		last = at
	}
	return time.Duration(longest) * time.Millisecond
}

// gonePieces is how many deleted segments still have their bytes.
func gonePieces(data string) int {
	list, _ := filepath.Glob(filepath.Join(data, "log", "*.gone")) // the pattern is well-formed
	return len(list)
}

// segments counts the segments of a queue's log.
func segments(data string) int {
	list, _ := filepath.Glob(filepath.Join(data, "log", "*.seg")) // the pattern is well-formed
	return len(list)
}
