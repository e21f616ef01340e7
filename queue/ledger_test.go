package queue

import (
	"maps"
	"slices"
	"time"
)

// ledger is what the one who uses a queue knows of it, whatever became of the queue.
type ledger struct {
	tried      map[string]bool     // appended, with whatever answer
	refused    map[string]bool     // answered that nothing was stored
	acked      map[string]acked    // answered 200
	lanes      map[string]bool     // made; false when giving it up has begun
	discarded  map[string]bool     // giving it up was answered
	paused     map[string][]string // why, since the last answer: what it may be
	deliveries map[string][]change // by lane and event: what became of it, beginning with pending
	saved      map[string]int      // of these changes, the last that must be on disk
	unserved   map[string]bool     // lanes that were unserved once: what they hold may have been carried
	gone       map[string]bool     // events that were found to be deleted when they could be
}

type acked struct {
	seq   uint64
	at    int64
	lanes []string
}

type change struct {
	state string
	at    int64
}

func newLedger() *ledger {
	return &ledger{
		tried: map[string]bool{}, refused: map[string]bool{}, acked: map[string]acked{}, lanes: map[string]bool{}, discarded: map[string]bool{},
		paused: map[string][]string{}, deliveries: map[string][]change{}, saved: map[string]int{}, unserved: map[string]bool{}, gone: map[string]bool{},
	}
}

func (l *ledger) acknowledge(id string, was acked) {
	l.acked[id] = was
	for _, name := range was.lanes {
		l.deliveries[name+" "+id] = []change{{Pending, was.at}}
	}
}

func (l *ledger) settle(lane, id, state string, at int64) {
	key := lane + " " + id
	if len(l.deliveries[key]) == 0 { // it was never acknowledged, and is there all the same
		l.deliveries[key] = []change{{Pending, at}}
	}
	l.deliveries[key] = append(l.deliveries[key], change{state, at})
}

// found notes in which of the states that were possible a delivery is.
func (l *ledger) found(lane, id, state string) {
	key := lane + " " + id
	changes := l.deliveries[key]
	for i := len(changes) - 1; i >= l.saved[key]; i-- {
		if changes[i].state == state {
			l.deliveries[key], l.saved[key] = changes[:i+1], i
			return
		}
	}
}

// save notes that all so far must be on disk.
func (l *ledger) save() {
	for key, changes := range l.deliveries {
		l.saved[key] = len(changes) - 1
	}
}

// discard notes that a lane was discarded.
func (l *ledger) discard(lane string) {
	l.discarded[lane], l.lanes[lane] = true, false
	for id, was := range l.acked {
		was.lanes = slices.DeleteFunc(slices.Clone(was.lanes), func(name string) bool { return name == lane })
		l.acked[id] = was
	}
}

// may are the states in which a delivery may be found.
func (l *ledger) may(lane, id string) []change {
	key := lane + " " + id
	changes := l.deliveries[key]
	if len(changes) == 0 {
		return []change{{Pending, 0}}
	}
	return changes[l.saved[key]:]
}

// mayBeGone: every lane is done with the event for the time of retention.
func (l *ledger) mayBeGone(id string, now int64, retention time.Duration) bool {
	if l.gone[id] {
		return true
	}
	for _, lane := range l.acked[id].lanes {
		if !l.lanes[lane] {
			continue
		}
		may := l.may(lane, id)
		last := may[len(may)-1]
		// An event that was carried for a retry goes as soon as that is settled.
		began := l.deliveries[lane+" "+id][0].at
		if last.state != Delivered || now-began < retention.Milliseconds() {
			return false
		}
	}
	return true
}

func (l *ledger) ids() []string { return slices.Sorted(maps.Keys(l.acked)) }
