package queue

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
)

// ReplaySpec says which deliveries of a lane are attempted again on purpose. Deliveries that are pending or retrying are
// passed over in any case: they are attempted anyway.
type ReplaySpec struct {
	Seqs   []uint64 // the deliveries of these events, ascending, at most MaxReplaySeqs; or
	Failed bool     // those that failed before the replay began; or, with neither, all that are settled

	// Filters of the last two.
	Types        []string  // see Query
	Classes      []string  // of the failure; with Failed alone
	Since, Until time.Time // from Since on and before Until: with Failed of the failure, else of the event's acceptance

	Rate float64 // first attempts a second; 0: as fast as the endpoint takes them
}

// ReplayStatus says how a replay is getting on. A delivery that it took up is delivered, failed again or retrying.
type ReplayStatus struct {
	ID        string
	Spec      ReplaySpec
	State     string // ReplayRunning, ReplayDone or ReplayCancelled
	Began     time.Time
	Ended     time.Time // zero while it runs
	Total     int64     // deliveries that it was for when it began; -1 when they were too many to count at once
	TakenUp   int64     // attempted at least once
	Delivered int64
	Failed    int64
	Retrying  int64
	Passed    int64 // not taken up: attempted anyway, or not kept any more
}

// States of a replay. A cancelled one takes up nothing more; its retries go on.
const (
	ReplayRunning   = "running"
	ReplayDone      = "done"
	ReplayCancelled = "cancelled"
)

const (
	// MaxReplaySeqs bounds the record of a replay, which is saved with the lane's progress.
	MaxReplaySeqs = 1000
	// maxReplays is how many replays of a lane may run at a time, and how many that ended are remembered.
	maxReplays = 4
	// maxReplayWindow bounds how many deliveries of a replay may be settled above one that is slow.
	maxReplayWindow = 1024
	// How much a replay reads at a time, while the lane waits.
	replayReadEvents = 128     // deliveries
	replayReadBytes  = 1 << 18 // of blocks, but for the last one
	replayReads      = 4       // before it lets the lane go on
)

// Errors of StartReplay and CancelReplay.
var (
	// ErrReplays: maxReplays replays of the lane are running.
	ErrReplays = fmt.Errorf("%d replays of this endpoint are running: wait for one to end, or cancel one", maxReplays)
	// ErrNoReplay: no such replay of the lane is running.
	ErrNoReplay = errors.New("no such replay of this endpoint is running")
)

// replay has a cursor of its own over what the lane has settled. It hands out first attempts beside those of the log. A
// delivery keeps its state and record until the attempt is settled. So a replay that is cut short loses nothing, and its
// record, which is saved in one transaction with what it changed, says where to go on.
//
// Everything is under the lane's mu. What is read is changed under replayReading as well, so either is enough to look at it.
type replay struct {
	number    uint64 // when it began, Unix milliseconds, made unique
	spec      ReplaySpec
	end       uint64 // it takes up no event from here on
	state     string
	ended     int64 // Unix milliseconds
	total     int64
	takenUp   int64 // attempted at least once
	delivered int64
	failed    int64
	retrying  int64
	passed    int64

	cursor
	read          uint64 // all events below it were read
	finder        *log.Finder
	ahead         []Stored   // read and not handed out
	walked        soundStore // of failed deliveries: the store when the reading began
	confirmed     bool       // and that store had them all when the reading had ended
	withoutEvents bool       // it reads failed deliveries without their events
	exhausted     bool       // there is nothing left to read or to hand out
	due           time.Time  // when the next first attempt is due, with a rate
	dirty         bool
}

// ReplayID is the name of a replay in headers, logs and answers; empty for 0, which is no replay.
func ReplayID(number uint64) string {
	if number == 0 {
		return ""
	}
	return replayPrefix + strconv.FormatUint(number, 10)
}

const replayPrefix = "rpl_"

func parseReplayID(id string) (number uint64) {
	digits, ok := strings.CutPrefix(id, replayPrefix)
	if !ok {
		return 0
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

// StartReplay begins a replay. total is what CountReplay counted, -1 when it did not come to the end. It waits for two
// saves: deliveries that failed before are on disk when the replay begins, the store has them all
// (requireFailures), and the replay is durable when StartReplay returns nil.
func (l *Lane) StartReplay(spec ReplaySpec, total int64) (ReplayStatus, error) {
	var sound soundStore
	err := l.q.writer.awaitSave(l.q) // all that failed until now is on disk
	if err == nil && spec.Failed {
		sound, err = l.q.requireFailures(remadeWithin)
	}
	if err != nil {
		return ReplayStatus{}, fmt.Errorf("start replay of lane %q: %w", l.name, err)
	}
	l.mu.Lock()
	running := 0
	for _, r := range l.replays {
		if r.state == ReplayRunning {
			running++
		}
	}
	if running >= maxReplays {
		l.mu.Unlock()
		return ReplayStatus{}, ErrReplays
	}
	r := l.draftReplay(spec)
	r.total, r.walked = total, sound
	l.forgetReplays()
	l.replays = append(l.replays, r)
	l.setDirty()
	status := r.status()
	l.mu.Unlock()
	if err := l.q.writer.awaitSave(l.q); err != nil {
		return ReplayStatus{}, fmt.Errorf("save replay of lane %q: %w", l.name, err)
	}
	l.wake()
	return status, nil
}

// draftReplay makes a replay that nobody else knows. The caller holds mu.
func (l *Lane) draftReplay(spec ReplaySpec) *replay {
	r := &replay{spec: spec, state: ReplayRunning, end: l.q.end.Load(), dirty: true}
	for _, t := range []*time.Time{&r.spec.Since, &r.spec.Until} {
		if !t.IsZero() {
			*t = time.UnixMilli(l.q.stamp(*t))
		}
	}
	if len(spec.Seqs) > 0 {
		r.end = min(r.end, spec.Seqs[len(spec.Seqs)-1]+1)
	}
	r.rewind()
	r.number = uint64(max(l.q.now(), 1))
	if n := len(l.replays); n > 0 {
		r.number = max(r.number, l.replays[n-1].number+1)
	}
	return r
}

// rewind has the replay read from its beginning. Of failed deliveries it takes up none twice: one that it attempted is not
// failed any more, or failed after the replay began.
func (r *replay) rewind() {
	r.next, r.settledAbove = 0, nil
	if len(r.spec.Seqs) > 0 {
		r.next = r.spec.Seqs[0]
	}
	r.read = r.next
}

// forgetReplays deletes the oldest replays that have ended.
func (l *Lane) forgetReplays() {
	ended := 0
	for i := len(l.replays) - 1; i >= 0; i-- {
		r := l.replays[i]
		if r.state == ReplayRunning || r.retrying > 0 {
			continue
		}
		if ended++; ended >= maxReplays {
			l.change(entry.Replay, r.number, nil)
			l.replays = slices.Delete(l.replays, i, i+1)
		}
	}
}

// CountReplay counts the deliveries that a replay would take up now. complete is false when that took longer than limit. It
// waits for a save and reads disk, without holding a lock over it. Of failed ones it first makes sure that the store has all,
// which limit does not bound (requireFailures).
func (l *Lane) CountReplay(spec ReplaySpec, limit time.Duration) (count int64, complete bool, err error) {
	if err = l.q.saveProgress(); err == nil && spec.Failed {
		_, err = l.q.requireFailures(remadeWithin)
	}
	if err != nil {
		return 0, false, err
	}
	began := time.Now()
	l.mu.Lock()
	r := l.draftReplay(spec)
	r.withoutEvents = spec.Failed && len(spec.Types) == 0 // their records say enough
	l.mu.Unlock()
	for r.read < r.end {
		if time.Since(began) > limit {
			return count, false, nil
		}
		n, err := l.countSome(r)
		if count += n; err != nil {
			return count, false, err
		}
	}
	return count, true, nil
}

// countSome reads and counts one batch.
func (l *Lane) countSome(r *replay) (count int64, err error) {
	b, err := l.readReplay(r)
	if err != nil {
		return 0, err
	}
	r.add(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range r.ahead {
		takes := r.withoutEvents
		if !takes {
			if takes, _, err = l.takesUp(r, ev.Seq); err != nil {
				return count, err
			}
		}
		if takes {
			count++
		}
	}
	r.ahead = r.ahead[:0]
	return count, nil
}

// CancelReplay ends a replay. What it has in flight and its retries go on. It waits for a save: when it returns nil, the end
// is durable.
func (l *Lane) CancelReplay(id string) (ReplayStatus, error) {
	l.mu.Lock()
	r := l.replay(parseReplayID(id))
	if r == nil || r.state != ReplayRunning {
		l.mu.Unlock()
		return ReplayStatus{}, ErrNoReplay
	}
	for _, f := range r.released {
		l.landReplayed(f.ev.Seq)
		f.settled = true
	}
	r.released, r.ahead, r.exhausted = nil, nil, true
	l.finishReplay(r, ReplayCancelled)
	status := r.status()
	l.mu.Unlock()
	if err := l.q.writer.awaitSave(l.q); err != nil {
		return ReplayStatus{}, fmt.Errorf("save replay of lane %q: %w", l.name, err)
	}
	return status, nil
}

// Replays returns the replays that run and the latest that ended, newest first. It reads memory, under the lane's lock.
func (l *Lane) Replays() []ReplayStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]ReplayStatus, 0, len(l.replays))
	for _, r := range slices.Backward(l.replays) {
		list = append(list, r.status())
	}
	return list
}

func (r *replay) status() ReplayStatus {
	s := ReplayStatus{
		ID: ReplayID(r.number), Spec: r.spec, State: r.state, Began: time.UnixMilli(int64(r.number)), Total: r.total,
		TakenUp: r.takenUp, Delivered: r.delivered, Failed: r.failed, Retrying: r.retrying, Passed: r.passed,
	}
	if r.state != ReplayRunning {
		s.Ended = time.UnixMilli(r.ended)
	}
	return s
}

// replay returns the replay with a number, nil when there is none or it is forgotten.
func (l *Lane) replay(number uint64) *replay {
	for _, r := range l.replays {
		if r.number == number {
			return r
		}
	}
	return nil
}
