package queue

import (
	"errors"
	"fmt"
	"strings"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// What a lane reads at a time of what was carried.
const (
	carriedAtATime = 256
	carriedBytes   = 256 << 10
	carriedLooks   = 4096 // at events that are for others
)

// loadCarried is load of events whose segments are gone: those from next on and below low. The caller holds walking, and
// mu when it returns.
func (l *Lane) loadCarried(next, low uint64) (ok bool) {
	list, to, err := l.carriedFrom(next, low)
	l.mu.Lock()
	l.reader, l.old = entry.Reader{}, list
	l.oldTo = max(l.oldTo, to)
	if err != nil && len(list) == 0 {
		l.tryLater(err)
		return false
	}
	return true
}

// carriedFrom reads carried events of the lane, in their order; everything below to was looked at. Which there are is asked
// of the store's memory: what Badger lost is then damage of the store, which is mended, and no event that nobody needs.
func (l *Lane) carriedFrom(next, low uint64) (list []Stored, to uint64, err error) {
	q := l.q
	if l.lists != low {
		l.listed, l.lists = q.index.carriedFrom(next, low), low
	}
	var at log.Place
	var frames []*entry.Frame
	var gone []uint64
	var damage error
	bytes := 0
	for looks := 0; len(l.listed) > 0 && len(list) < carriedAtATime && bytes < carriedBytes && looks < carriedLooks; looks++ {
		seq := l.listed[0]
		if seq < next {
			l.listed = l.listed[1:]
			continue
		}
		for tries := 0; ; tries++ {
			var c carried
			var value []byte
			if value, err = q.index.get(store.CarriedKey(seq)); err == nil && value != nil {
				c, err = parseCarried(value)
			}
			if err != nil || value == nil || !c.lanes.Has(l.id) {
				break
			}
			if c.Place != at || frames == nil {
				var b *log.Block
				at, frames = c.Place, nil
				if b, err = q.log.Read(at); log.Gone(err) && tries < 3 {
					continue // carried on just now
				}
				if err == nil {
					frames, err = b.Frames()
				}
				if err != nil && !errors.Is(err, codec.ErrDamaged) && !log.Gone(err) {
					break
				}
				if err != nil {
					damage, err, frames = err, nil, []*entry.Frame{}
				}
			}
			ev, ok := carriedIn(frames, seq)
			if ok {
				list, bytes = append(list, ev), bytes+len(ev.Body)
			} else {
				gone = append(gone, seq)
			}
			break
		}
		if err != nil {
			break
		}
		l.listed, to = l.listed[1:], seq+1
	}
	if err == nil && len(l.listed) == 0 {
		to, l.listed = low, nil
	}
	q.tellCarriedLost(gone, damage)
	return list, to, err
}

// carriedIn finds an event in frames of one each.
func carriedIn(frames []*entry.Frame, seq uint64) (ev Stored, ok bool) {
	for _, f := range frames {
		if f.First == seq {
			ev, err := f.Find(seq)
			return ev, err == nil
		}
	}
	return ev, false
}

// tellCarriedLost tells of carried events that can't be read any more, once, whoever finds them.
func (q *Queue) tellCarriedLost(seqs []uint64, err error) {
	n := int64(0)
	for _, seq := range seqs {
		n += q.lost.add(seq, seq+1)
	}
	if n == 0 {
		return
	}
	q.damaged.Add(n)
	if err == nil {
		err = errNotKept
	}
	q.opts.Notice(fmt.Sprintf("events %s can't be read and are passed over: %v", ranges(seqs), err))
}

// maxRanges bounds the ranges in one line.
const maxRanges = 50

// ranges writes ascending numbers for people.
func ranges(seqs []uint64) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(seqs); n++ {
		j := i
		for j+1 < len(seqs) && seqs[j+1] == seqs[j]+1 {
			j++
		}
		if n == maxRanges {
			fmt.Fprintf(&b, " and %d more", len(seqs)-i)
			break
		}
		if n > 0 {
			b.WriteString(", ")
		}
		if fmt.Fprint(&b, seqs[i]); j > i {
			fmt.Fprintf(&b, " to %d", seqs[j])
		}
		i = j + 1
	}
	return b.String()
}
