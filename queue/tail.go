package queue

import (
	"slices"
	"sync"

	"realtorbot-relay/queue/entry"
)

// tail holds the newest frames in memory: all that are not in the store, and as many more as fit, so that lanes that keep up
// never read disk. The committer adds, the writer trims, the lanes read.
type tail struct {
	mu     sync.RWMutex
	frames []*entry.Frame
	bytes  int64
}

func (t *tail) add(f *entry.Frame) {
	t.mu.Lock()
	t.frames = append(t.frames, f)
	t.bytes += memoryOf(f)
	t.mu.Unlock()
}

// memoryOf is about how many bytes of memory a frame takes.
func memoryOf(f *entry.Frame) int64 {
	const rest = 256 // of the frame itself, its source and its lane set
	return int64(cap(f.Raw)+f.Count*len(entry.Hash{})) + rest
}

// trim frees frames that are in the store, oldest first, until no more than limit bytes are held.
func (t *tail) trim(applied uint64, limit int64) {
	t.mu.Lock()
	n := 0
	for n < len(t.frames) && t.bytes > limit && t.frames[n].End() <= applied {
		t.bytes -= memoryOf(t.frames[n])
		n++
	}
	t.frames = slices.Delete(t.frames, 0, n)
	t.mu.Unlock()
}

// forget frees the frames of events below one: retention has deleted them, and nobody may find them any more.
func (t *tail) forget(below uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.frames) && t.frames[n].End() <= below {
		t.bytes -= memoryOf(t.frames[n])
		n++
	}
	t.frames = slices.Delete(t.frames, 0, n)
}

// framesFrom returns up to limit bytes of frames, one at least, from the one on that holds event seq. It returns nothing
// when that event is older than all, or beyond the newest.
func (t *tail) framesFrom(seq uint64, limit int) []*entry.Frame {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.frames) == 0 || seq < t.frames[0].First {
		return nil
	}
	at, _ := slices.BinarySearchFunc(t.frames, seq, func(f *entry.Frame, seq uint64) int {
		if f.End() <= seq {
			return -1
		}
		return 1
	})
	to := at
	for to < len(t.frames) && (to == at || limit > 0) {
		limit -= len(t.frames[to].Raw)
		to++
	}
	return slices.Clone(t.frames[at:to])
}

// noFrames is the first event of an empty tail.
const noFrames = ^uint64(0)

// first is the oldest event held, noFrames when there is none.
func (t *tail) first() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.frames) == 0 {
		return noFrames
	}
	return t.frames[0].First
}
