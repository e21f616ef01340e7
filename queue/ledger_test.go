package queue

import (
	"fmt"
	"slices"
	"strings"
)

// ledger is what the one who used a queue knows of it, whatever became of the queue.
type ledger struct {
	tried      map[string]bool     // appended, with whatever answer
	acked      map[string]acked    // answered 200
	lanes      map[string]bool     // made; false when giving it up has begun
	givenUp    map[string]bool     // giving it up was answered
	deliveries map[string][]change // by lane and event: what became of it, beginning with pending
	saved      map[string]int      // of these changes, the last that must be on disk
	gone       map[string]bool     // events that were found to be deleted when they could be
	forgiving  bool                // giving up what has failed for crm has begun
	now        int64               // of the queue's clock, Unix milliseconds
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
		tried: map[string]bool{}, acked: map[string]acked{}, lanes: map[string]bool{}, givenUp: map[string]bool{},
		deliveries: map[string][]change{}, saved: map[string]int{}, gone: map[string]bool{},
	}
}

// read takes one line as play tells it.
func (l *ledger) read(line string) error {
	var id, lane, state string
	var seq uint64
	word, rest, _ := strings.Cut(line, " ")
	var err error
	switch word {
	case "clock":
		_, err = fmt.Sscan(rest, &l.now)
	case "try":
		l.tried[rest] = true
	case "ack":
		var names string
		if _, err = fmt.Sscan(rest, &seq, &id, &names); err == nil {
			l.acked[id] = acked{seq, l.now, strings.Split(names, ",")}
			for _, name := range l.acked[id].lanes {
				l.deliveries[name+" "+id] = []change{{Pending, l.now}}
			}
		}
	case "lane":
		l.lanes[rest], l.givenUp[rest] = true, false
	case "giving-up":
		l.lanes[rest] = false
	case "gave-up":
		l.givenUp[rest], l.lanes[rest] = true, false
		for id, was := range l.acked {
			was.lanes = slices.DeleteFunc(was.lanes, func(name string) bool { return name == rest })
			l.acked[id] = was
		}
	case "giving-up-failed":
		l.forgiving = true
	case "settle":
		if _, err = fmt.Sscan(rest, &lane, &id, &state); err == nil {
			l.deliveries[lane+" "+id] = append(l.deliveries[lane+" "+id], change{state, l.now})
		}
	case "saved":
		for key, changes := range l.deliveries {
			l.saved[key] = len(changes) - 1
		}
	default:
		err = fmt.Errorf("unknown line")
	}
	if err != nil {
		return fmt.Errorf("read ledger line %q: %w", line, err)
	}
	return nil
}
