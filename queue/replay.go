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

// ReplaySpec says which deliveries of a lane are attempted again on purpose. Whatever it says, deliveries that are pending
// or retrying are passed over: they are attempted anyway.
type ReplaySpec struct {
	Seqs   []uint64 // the deliveries of these events, ascending, at most MaxReplaySeqs; or
	Failed bool     // those that failed before the replay began; or, with neither, all that are settled

	// The rest narrows the last two down.
	Types        []string  // see Query
	Classes      []string  // of the failure; with Failed alone
	Since, Until time.Time // with Failed when it was given up, else when the event was accepted

	Rate float64 // of first attempts a second; 0: as fast as the endpoint takes them
}

// ReplayStatus tells how a replay is getting on. A delivery that was taken up is delivered, failed again or retrying.
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

// The states of a replay. A cancelled one takes up nothing more; what is retrying goes on.
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
	// maxReplayWindow bounds how far a replay may settle deliveries ahead of one that is slow.
	maxReplayWindow = 1024
	// What a replay reads at a time, while the lane waits.
	replayRead      = 128     // deliveries
	replayReadBytes = 1 << 18 // of blocks, but for the last one
	replayReads     = 4       // before it lets the lane go on
)

// What StartReplay and CancelReplay may answer.
var (
	// ErrReplays: maxReplays of the lane are running.
	ErrReplays = fmt.Errorf("%d replays of this endpoint are running: wait for one to end, or cancel one", maxReplays)
	// ErrNoReplay: the lane has no such replay running.
	ErrNoReplay = errors.New("no such replay of this endpoint is running")
)

// replay is a cursor of its own over what a lane has settled. It hands out first attempts beside those of the log; a
// delivery keeps the state and the record that it has until its attempt is settled. So a replay that is cut short has lost
// nothing, and its record, which is saved in one transaction with what it changed, says where to go on.
//
// Everything is under the lane's mu; what is read is changed under reviewing as well, so that either is enough to look at it.
type replay struct {
	number  uint64 // when it began, Unix milliseconds, made unique
	spec    ReplaySpec
	to      uint64 // it takes up no event from here on
	state   string
	ended   int64 // Unix milliseconds
	total   int64
	taken   int64
	good    int64
	failed  int64
	waiting int64 // retrying
	passed  int64

	next   uint64              // everything below was handed out or passed over
	skip   map[uint64]struct{} // settled before the last start, not below next
	window []*flight           // handed out, by event; the first one is not settled
	again  []*flight           // released, to be handed out before anything else

	read   uint64 // everything below was read
	finder *log.Finder
	ahead  []Stored // read and not handed out
	bare   bool     // read failed deliveries without their events
	walked bool     // there is nothing more to read or to hand out
	due    time.Time
	dirty  bool
}

// ReplayID is how a replay is called in headers, logs and answers; empty for 0, which is none.
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

// StartReplay begins a replay, on disk. total is what CountReplay counted, -1 when it did not come to the end.
func (l *Lane) StartReplay(spec ReplaySpec, total int64) (ReplayStatus, error) {
	if err := l.q.keeper.drain(l.q); err != nil { // all that failed until now is on disk
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
	r.total = total
	l.forgetReplays()
	l.replays = append(l.replays, r)
	l.dirty = true
	status := r.status()
	l.mu.Unlock()
	if err := l.q.keeper.drain(l.q); err != nil {
		return ReplayStatus{}, fmt.Errorf("save replay of lane %q: %w", l.name, err)
	}
	l.wake()
	return status, nil
}

func (l *Lane) draftReplay(spec ReplaySpec) *replay {
	r := &replay{spec: spec, state: ReplayRunning, to: l.q.end.Load(), dirty: true}
	for _, t := range []*time.Time{&r.spec.Since, &r.spec.Until} {
		if !t.IsZero() {
			*t = time.UnixMilli(l.q.stamp(*t))
		}
	}
	if len(spec.Seqs) > 0 {
		r.read, r.next = spec.Seqs[0], spec.Seqs[0]
		r.to = min(r.to, spec.Seqs[len(spec.Seqs)-1]+1)
	}
	r.number = uint64(max(l.q.now(), 1))
	if n := len(l.replays); n > 0 {
		r.number = max(r.number, l.replays[n-1].number+1)
	}
	return r
}

// forgetReplays lets go of the oldest that ended.
func (l *Lane) forgetReplays() {
	ended := 0
	for i := len(l.replays) - 1; i >= 0; i-- {
		r := l.replays[i]
		if r.state == ReplayRunning || r.waiting > 0 {
			continue
		}
		if ended++; ended >= maxReplays {
			l.change(entry.Replay, r.number, nil)
			l.replays = slices.Delete(l.replays, i, i+1)
		}
	}
}

// CountReplay counts the deliveries that a replay would take up now. complete is false when that took longer than limit.
func (l *Lane) CountReplay(spec ReplaySpec, limit time.Duration) (count int64, complete bool, err error) {
	if err := l.q.settled(); err != nil {
		return 0, false, err
	}
	began := time.Now()
	l.mu.Lock()
	r := l.draftReplay(spec)
	r.bare = spec.Failed && len(spec.Types) == 0 // what its record says is enough
	l.mu.Unlock()
	for r.read < r.to {
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

func (l *Lane) countSome(r *replay) (count int64, err error) {
	b, err := l.readReplay(r)
	if err != nil {
		return 0, err
	}
	r.add(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range r.ahead {
		takes := r.bare
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

// CancelReplay ends a replay, on disk. What it has under way, and what is retrying, goes on.
func (l *Lane) CancelReplay(id string) (ReplayStatus, error) {
	l.mu.Lock()
	r := l.replay(parseReplayID(id))
	if r == nil || r.state != ReplayRunning {
		l.mu.Unlock()
		return ReplayStatus{}, ErrNoReplay
	}
	for _, f := range r.again {
		delete(l.replaying, f.ev.Seq)
		f.settled = true
	}
	r.again, r.ahead, r.walked = nil, nil, true
	l.endReplay(r, ReplayCancelled)
	status := r.status()
	l.mu.Unlock()
	if err := l.q.keeper.drain(l.q); err != nil {
		return ReplayStatus{}, fmt.Errorf("save replay of lane %q: %w", l.name, err)
	}
	return status, nil
}

// Replays tells of the replays that run and of the latest that ended, newest first.
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
		TakenUp: r.taken, Delivered: r.good, Failed: r.failed, Retrying: r.waiting, Passed: r.passed,
	}
	if r.state != ReplayRunning {
		s.Ended = time.UnixMilli(r.ended)
	}
	return s
}

// replay finds one by its number, nil when it is forgotten or there never was one.
func (l *Lane) replay(number uint64) *replay {
	for _, r := range l.replays {
		if r.number == number {
			return r
		}
	}
	return nil
}

// mayReplay reports whether a replay may have something to hand out.
func (l *Lane) mayReplay() bool {
	return slices.ContainsFunc(l.replays, func(r *replay) bool { return !r.walked })
}

// TakeReplay hands out the first attempt of a delivery that is replayed. When there is none now, again says when to ask
// again if time alone will change that, else it is zero. It reads from disk, one caller at a time.
func (l *Lane) TakeReplay(now time.Time) (d *Delivery, again time.Time) {
	l.reviewing.Lock()
	defer l.reviewing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || l.full() || l.halfFull() {
		return nil, time.Time{}
	}
	for n := len(l.replays); n > 0 && len(l.replays) > 0; n-- {
		l.turn++
		r := l.replays[l.turn%len(l.replays)]
		d, wait := l.takeFrom(r, now)
		if d != nil {
			return d, time.Time{}
		}
		if !wait.IsZero() && (again.IsZero() || wait.Before(again)) {
			again = wait
		}
	}
	return nil, again
}

// takeFrom is TakeReplay from one of them. The caller holds reviewing and mu, and mu is let go while the disk is read: the
// replay may be cancelled then.
func (l *Lane) takeFrom(r *replay, now time.Time) (d *Delivery, again time.Time) {
	if r.walked {
		return nil, time.Time{}
	}
	if len(r.again) > 0 {
		f := r.again[0]
		r.again = slices.Delete(r.again, 0, 1)
		return &Delivery{Event: f.ev, Replay: r.number, began: l.q.shown(int64(r.number)), flight: f}, time.Time{}
	}
	if r.due.After(now) {
		return nil, r.due
	}
	if len(r.window)+len(r.skip) >= maxReplayWindow {
		return nil, time.Time{} // whoever settles the first of them looks again
	}
	for reads := 0; ; reads++ {
		for len(r.ahead) > 0 {
			ev := r.ahead[0]
			takes, failed, err := l.takesUp(r, ev.Seq)
			if err != nil {
				l.tryLater(err)
				return nil, time.Time{}
			}
			if r.walked {
				return nil, time.Time{}
			}
			r.ahead = r.ahead[1:]
			r.next, r.dirty = ev.Seq+1, true
			if takes {
				return l.takeUp(r, ev, failed, now), time.Time{}
			}
		}
		if r.read >= r.to {
			if len(r.window) == 0 { // else one of them may come back
				l.maybeEnd(r)
			}
			return nil, time.Time{}
		}
		if reads == replayReads {
			return nil, now // there is more to look through
		}
		l.mu.Unlock()
		b, err := l.readReplay(r)
		l.mu.Lock()
		if r.walked {
			return nil, time.Time{}
		}
		if err != nil {
			l.tryLater(err)
			return nil, time.Time{}
		}
		r.add(b)
		l.changed()
	}
}

// takesUp reports whether a replay is to attempt a delivery, and whether that has failed. What it is not for any more it
// passes over. The caller holds mu, and it is let go while the store is read.
func (l *Lane) takesUp(r *replay, seq uint64) (takes, failed bool, err error) {
	_, over := r.skip[seq]
	if !over {
		now, err := l.standing(seq)
		if err != nil || r.walked {
			return false, false, err
		}
		_, flies := l.replaying[seq]
		failed = now.state == GivenUp
		takes = !flies && (failed || now.state == Settled && !r.spec.Failed)
	}
	r.stepOver(seq)
	delete(r.skip, seq)
	if takes {
		return true, failed, nil
	}
	if !over {
		r.passed++
	}
	r.done(seq)
	return false, false, nil
}

// done notes that a delivery needs no attempt any more.
func (r *replay) done(seq uint64) {
	if len(r.window) > 0 {
		// The cursor stays below it: the next save must still tell.
		r.window = append(r.window, &flight{ev: Stored{Seq: seq}, settled: true})
	}
}

// stepOver takes what was settled before the last start, and is not read again since it is not failed any more, out of
// the list of those that are still ahead.
func (r *replay) stepOver(to uint64) {
	if len(r.skip) == 0 {
		return
	}
	var behind []uint64
	for seq := range r.skip {
		if seq < to {
			behind = append(behind, seq)
			delete(r.skip, seq)
		}
	}
	slices.Sort(behind)
	for _, seq := range behind {
		r.done(seq)
	}
}

func (l *Lane) takeUp(r *replay, ev Stored, failed bool, now time.Time) *Delivery {
	if r.spec.Rate > 0 {
		r.due = maxTime(r.due, now.Add(-replayCatchUp)).Add(time.Duration(float64(time.Second) / r.spec.Rate))
	}
	f := &flight{ev: ev, replay: r, failed: failed}
	r.window = append(r.window, f)
	if l.replaying == nil {
		l.replaying = map[uint64]struct{}{}
	}
	l.replaying[ev.Seq] = struct{}{}
	return &Delivery{Event: ev, Replay: r.number, began: l.q.shown(int64(r.number)), flight: f}
}

// replayCatchUp is how much of its pace a replay makes good that was kept waiting.
const replayCatchUp = 100 * time.Millisecond

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// land takes a delivery out of its replay and out of the state that it was in before: it is in state now, or retrying.
func (l *Lane) land(f *flight, state string) {
	r, seq := f.replay, f.ev.Seq
	delete(l.replaying, seq)
	if f.failed {
		l.failed--
		if state != GivenUp {
			l.change(entry.Failed, seq, nil)
		}
	} else {
		l.replayed++
	}
	r.taken++
	r.count(state, 1)
	f.settled, f.ev = true, Stored{Seq: seq}
	n := 0
	for n < len(r.window) && r.window[n].settled {
		n++
	}
	clear(r.window[:n])
	r.window = r.window[n:]
	l.maybeEnd(r)
}

// count counts a delivery that came into a state, or left it.
func (r *replay) count(state string, n int64) {
	switch state {
	case Settled:
		r.good += n
	case GivenUp:
		r.failed += n
	case Retrying:
		r.waiting += n
	}
	r.dirty = true
}

// settleRetry tells a replay that a delivery which it brought to retrying is in another state.
func (l *Lane) settleRetry(number uint64, state string) {
	if r := l.replay(number); r != nil {
		r.count(Retrying, -1)
		r.count(state, 1)
		l.maybeEnd(r)
	}
}

// takeBack has a replayed delivery handed out again.
func (l *Lane) takeBack(f *flight) {
	if r := f.replay; r.state == ReplayRunning {
		r.again = append(r.again, f)
	} else {
		delete(l.replaying, f.ev.Seq)
	}
}

// maybeEnd ends a replay that has attempted everything to its end.
func (l *Lane) maybeEnd(r *replay) {
	if r.state == ReplayRunning && len(r.window) == 0 && len(r.ahead) == 0 && r.read >= r.to {
		r.walked, r.next, r.skip = true, r.to, nil
		if r.waiting == 0 {
			l.endReplay(r, ReplayDone)
		}
	}
	r.dirty = true
	l.changed()
}

func (l *Lane) endReplay(r *replay, state string) {
	r.state, r.ended, r.dirty = state, l.q.now(), true
	l.changed()
}

// saveReplays adds the records of those that changed to what is saved with the lane.
func (l *Lane) saveReplays() {
	for _, r := range l.replays {
		if r.dirty {
			r.dirty = false
			l.change(entry.Replay, r.number, r.append(nil))
		}
	}
}
