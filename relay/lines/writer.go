package lines

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// room is how many bytes of lines wait for a reader: twice what all stacks of a stall take.
const room = 2 << 20

// slow is how long a line may take until health tells that nobody reads the log.
const slow = 10 * time.Second

// writer has one goroutine write lines, in order. add never waits.
type writer struct {
	out    io.Writer
	notice func(missing int64) []byte // the line that stands where others are missing

	dropped atomic.Int64 // lines that were not written, ever
	untold  atomic.Int64 // those of them that the log does not tell of yet; changed by the goroutine, but for lost
	since   atomic.Int64 // when the write under way was begun, nanoseconds after started; 0 when none is

	mu     sync.Mutex
	queue  []line
	bytes  int
	lost   int64 // lines that had no room behind the last of queue
	failed error // of the last write, nil when it went well
	ending bool
	more   chan struct{} // holds one when there is something to do
	ended  chan struct{} // closed when the goroutine has left
}

// line waits to be written. missing is how many had no room before it.
type line struct {
	text    []byte
	missing int64
}

var started = time.Now()

func newWriter(out io.Writer, notice func(int64) []byte) *writer {
	w := &writer{out: out, notice: notice, more: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.run()
	return w
}

// add takes a line, which it copies.
func (w *writer) add(text []byte) {
	w.mu.Lock()
	if w.ending || w.bytes+len(text) > room {
		w.lost++
		w.dropped.Add(1)
	} else {
		w.queue = append(w.queue, line{append([]byte(nil), text...), w.lost})
		w.bytes += len(text)
		w.untold.Add(w.lost)
		w.lost = 0
	}
	w.mu.Unlock()
	w.wake()
}

func (w *writer) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next is the line to write, and whether there is one; over when there is none and none will come.
func (w *writer) next() (l line, ok, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 {
		l, w.queue = w.queue[0], w.queue[1:]
		w.bytes -= len(l.text)
		return l, true, false
	}
	w.queue = nil // its array may be large
	if w.lost > 0 && !w.ending {
		l.missing, w.lost = w.lost, 0
		w.untold.Add(l.missing)
		return l, true, false
	}
	return line{}, false, w.ending
}

func (w *writer) run() {
	defer close(w.ended)
	missing, torn := int64(0), false // what the log does not tell of yet; its last line has no end
	write := func(text []byte) bool {
		if torn {
			text = append([]byte("\n"), text...)
		}
		w.since.Store(int64(time.Since(started)) + 1)
		n, err := w.out.Write(text)
		w.since.Store(0)
		torn = err != nil && (torn || n > 0) && n < len(text)
		w.mu.Lock()
		w.failed = err
		w.mu.Unlock()
		return err == nil
	}
	for {
		l, ok, over := w.next()
		if over {
			return
		}
		if !ok {
			<-w.more
			continue
		}
		missing += l.missing
		well := missing == 0 || write(w.notice(missing))
		if well {
			w.untold.Add(-missing)
			missing = 0
		}
		if len(l.text) > 0 && (!well || !write(l.text)) {
			missing++
			w.dropped.Add(1)
			w.untold.Add(1)
		}
	}
}

// trouble says what is wrong with the log, "" when nothing is.
func (w *writer) trouble() string {
	w.mu.Lock()
	failed, missing := w.failed, w.lost+w.untold.Load()
	w.mu.Unlock()
	lost := ""
	if missing > 0 {
		lost = fmt.Sprintf(": %d lines of it are lost", missing)
	}
	if at := w.since.Load(); at != 0 {
		if waits := time.Since(started) - time.Duration(at); waits > slow || missing > 0 {
			return fmt.Sprintf("nobody reads the log, whose next line has been waiting for %s%s", waits.Round(time.Second), lost)
		}
		return ""
	}
	switch {
	case failed != nil:
		return fmt.Sprintf("the log can't be written (%s)%s", failed, lost)
	case missing > 0:
		return "the log was not read" + lost
	}
	return ""
}

// close takes no more lines and waits for those that there are, but no longer than within: a write that does not end
// keeps its goroutine. It reports whether all were written.
func (w *writer) close(within time.Duration) bool {
	w.mu.Lock()
	w.ending = true
	w.mu.Unlock()
	w.wake()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-w.ended:
		return true
	case <-limit.C:
		return false
	}
}
