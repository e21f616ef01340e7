package queue

import (
	"errors"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// How much of the carried events a lane reads at a time.
const (
	carriedAtATime = 256
	carriedBytes   = 256 << 10
	carriedLooks   = 4096 // events, of whatever lane
)

// loadCarried is loadBlock for events whose segments are deleted: those from next on and below low. The caller holds
// logReading, and also mu when it returns.
func (l *Lane) loadCarried(next, low uint64) (ok bool) {
	list, to, err := l.carriedFrom(next, low)
	l.mu.Lock()
	l.reader, l.carried = entry.Reader{}, list
	l.carriedTo = max(l.carriedTo, to)
	if err != nil && len(list) == 0 {
		l.readLater(err)
		return false
	}
	return true
}

// carriedFrom reads carried events of the lane, in order; it has looked at all below to. The store's memory says which there
// are: so a record that Badger lost is damage of the store, which is made again, and not an event that nobody needs.
func (l *Lane) carriedFrom(next, low uint64) (list []Stored, to uint64, err error) {
	q := l.q
	if l.carriedListed != low {
		l.carriedSeqs, l.carriedListed = q.index.carriedFrom(next, low), low
	}
	var at log.Place
	var frames []*entry.Frame
	var gone []uint64
	var damage error
	bytes := 0
	for looks := 0; len(l.carriedSeqs) > 0 && len(list) < carriedAtATime && bytes < carriedBytes && looks < carriedLooks; looks++ {
		seq := l.carriedSeqs[0]
		if seq < next {
			l.carriedSeqs = l.carriedSeqs[1:]
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
					continue // carried again just now
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
		l.carriedSeqs, to = l.carriedSeqs[1:], seq+1
	}
	if err == nil && len(l.carriedSeqs) == 0 {
		to, l.carriedSeqs = low, nil
	}
	q.reportCarriedLost(gone, damage)
	return list, to, err
}

// carriedIn finds an event in frames of one event each.
func carriedIn(frames []*entry.Frame, seq uint64) (ev Stored, ok bool) {
	for _, f := range frames {
		if f.First == seq {
			ev, err := f.Find(seq)
			return ev, err == nil
		}
	}
	return ev, false
}
