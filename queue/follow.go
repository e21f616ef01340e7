package queue

import (
	"errors"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// Follower reads the log in order, beside all lanes. It takes nothing from them, nothing is kept for it, and it holds at
// most one block in memory, however slow its reader is. It misses events that are deleted before it reaches them. One
// goroutine uses it at a time.
type Follower struct {
	q        *Queue
	returned uint64 // behind the last event that Next returned
	next     uint64 // behind the last event that was read or passed over
	reader   entry.Reader
	ahead    []*entry.Frame
}

// Follow returns a follower that begins with event seq, or with the first kept one behind it. It reads nothing.
func (q *Queue) Follow(seq uint64) *Follower { return &Follower{q: q, returned: seq, next: seq} }

// End is the sequence number behind the newest event. It waits for nothing.
func (q *Queue) End() uint64 { return q.end.Load() }

// Next returns the next event. ok is false when there is none yet. missed is how many events before it are not kept any more
// or can't be read. The bytes are shared and must not be written to. It may read one block from disk and holds no lock
// meanwhile.
func (f *Follower) Next() (ev Stored, missed uint64, ok bool, err error) {
	for {
		ev, ok, err := f.reader.Next()
		switch {
		case err != nil:
			f.passOver(f.reader.Frame().End(), err)
			continue
		case ok && ev.Seq < f.next:
			continue
		case ok:
			missed = ev.Seq - f.returned
			f.returned, f.next = ev.Seq+1, ev.Seq+1
			ev.At = f.q.shown(ev.At)
			return ev, missed, true, nil
		}
		if len(f.ahead) == 0 {
			var damagedTo uint64
			f.ahead, damagedTo, err = f.q.frames(f.next)
			if errors.Is(err, codec.ErrDamaged) {
				f.passOver(damagedTo, err)
				continue
			}
			if err != nil || len(f.ahead) == 0 {
				f.reader = entry.Reader{}
				return Stored{}, 0, false, err
			}
		}
		f.reader = f.ahead[0].Reader()
		f.ahead = f.ahead[1:]
	}
}

// passOver steps over events that can't be read any more.
func (f *Follower) passOver(to uint64, err error) {
	from := f.next
	f.next, f.reader = max(to, f.next+1), entry.Reader{}
	f.q.unreadable(from, f.next, err)
}
