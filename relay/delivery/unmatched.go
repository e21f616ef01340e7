package delivery

import (
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/match"
)

// ClassUnmatched is the class of a delivery that failed because its event is not the endpoint's own, as the endpoint is configured now.
const ClassUnmatched = "unmatched"

// unmatchedAtATime is how many deliveries a sender gives up before others of the lane come to ask.
const unmatchedAtATime = 500

// notTheirs is why deliveries are given up, for one line of the log.
const notTheirs = "the endpoint's match does not hold for them, as it is now"

// withdraw makes what was taken failed if its event is not the endpoint's own, and reports that. What the caller judges by may have
// been replaced meanwhile: then nothing is made of it, and beginLocked will not attempt it. One sender at a time calls it, without the
// lock. It reads memory.
func (l *Lane) withdraw(q *query) bool {
	path := q.generation.judge.Refuses(q.d.Event.Body, &l.found)
	if path == "" {
		return false
	}
	l.mu.Lock()
	still := l.mayBeginLocked(q)
	l.mu.Unlock()
	if !still {
		return false
	}
	// The values are the customers': the event's story shows them.
	reason := path + " is not what the endpoint's match asks for"
	l.queueLane.GiveUp(q.d, ClassUnmatched, reason)
	l.tally.failed.Add(1)
	l.reportFailed(q.d.Event.ID, q.d.Event.Type, ClassUnmatched, reason, 1)
	l.countUnsent(&unsentRun{class: ClassUnmatched, text: notTheirs, began: l.now(), count: 1, latest: string(q.d.Event.ID)})
	return true
}

// mayBeginLocked reports whether an attempt may begin of what was found: the endpoint is still configured as it was when the queue was
// asked, and the lane does not stop.
func (l *Lane) mayBeginLocked(q *query) bool {
	return !l.held && !l.stopped && q.generation != nil && l.generation.Load() == q.generation
}

// OwnEvents returns which events are an endpoint's own, by its rule. One goroutine uses it.
func OwnEvents(rule match.Rule) func(*queue.Stored) bool {
	judge := match.NewJudge(rule)
	var scratch match.Found
	return func(ev *queue.Stored) bool { return judge.Refuses(ev.Body, &scratch) == "" }
}

// foreign counts the deliveries that a lane holds whose events are not its endpoint's own any more, once this is its rule.
type foreign struct {
	pending, retrying         int
	pendingSeen, retryingSeen int  // that were looked at
	more                      bool // there are others
}

// planTime is how long a plan looks at what lanes hold; planEvents is how many deliveries of a lane it counts, those of the newest
// events. A search looks at a bounded number of them.
const (
	planTime   = time.Second
	planEvents = 1000
)

// foreignOf looks at what the lane of an endpoint holds. It reads disk, and holds no lock meanwhile.
func (d *Dispatcher) foreignOf(name string, rule match.Rule, retrying bool) (f foreign, err error) {
	lane := d.queue.Find(name)
	if lane == nil {
		return f, nil
	}
	own := OwnEvents(rule)
	count := func(state string, n, seen *int) error {
		found, err := d.queue.Search(queue.Query{Lane: lane, State: state, Limit: planEvents, Fits: func(ev *queue.Stored) bool {
			*seen++
			return !own(ev)
		}})
		*n, f.more = len(found.Events), f.more || found.Next != 0
		return err
	}
	if err = count(queue.Pending, &f.pending, &f.pendingSeen); err == nil && retrying {
		err = count(queue.Retrying, &f.retrying, &f.retryingSeen)
	}
	return f, err
}
