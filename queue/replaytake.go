package queue

import (
	"slices"
	"time"

	"realtorbot-relay/queue/entry"
)

// mayReplay reports whether a replay may have something to hand out.
func (l *Lane) mayReplay() bool {
	return slices.ContainsFunc(l.replays, func(r *replay) bool { return !r.exhausted })
}

// TakeReplay returns the first attempt of a delivery that is replayed, nil when there is none now; then again says when to
// ask again, zero unless time alone changes it. It reads disk, one caller at a time, and does not hold the lane's lock
// meanwhile.
func (l *Lane) TakeReplay(now time.Time) (d *Delivery, again time.Time) {
	l.replayReading.Lock()
	defer l.replayReading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.discarded || l.full() || l.halfFull() {
		return nil, time.Time{}
	}
	for n := len(l.replays); n > 0 && len(l.replays) > 0; n-- {
		l.nextReplay++
		r := l.replays[l.nextReplay%len(l.replays)]
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

// takeFrom is TakeReplay from one replay. The caller holds replayReading and mu; mu is not held while the disk is read, and
// the replay may be cancelled then.
func (l *Lane) takeFrom(r *replay, now time.Time) (d *Delivery, again time.Time) {
	if r.exhausted {
		return nil, time.Time{}
	}
	if f := r.takeReleased(); f != nil {
		return l.handOut(f), time.Time{}
	}
	if r.due.After(now) {
		return nil, r.due
	}
	if r.width() >= maxReplayWindow {
		return nil, time.Time{} // the caller that settles the first of them asks again
	}
	for reads := 0; ; reads++ {
		for len(r.ahead) > 0 {
			ev := r.ahead[0]
			takes, failed, err := l.takesUp(r, ev.Seq)
			if err != nil {
				l.readLater(err)
				return nil, time.Time{}
			}
			if r.exhausted {
				return nil, time.Time{}
			}
			r.ahead = r.ahead[1:]
			r.next, r.dirty = ev.Seq+1, true
			if takes {
				return l.takeUp(r, ev, failed, now), time.Time{}
			}
		}
		if r.read >= r.end {
			if len(r.window) > 0 {
				return nil, time.Time{} // one of them may be released
			}
			if err := l.confirmWalk(r); err != nil {
				l.readLater(err)
				return nil, time.Time{}
			}
			if r.exhausted {
				return nil, time.Time{}
			}
			if r.read < r.end {
				continue
			}
			l.finishReplayIfDone(r)
			return nil, time.Time{}
		}
		if reads == replayReads {
			return nil, now // there is more to read
		}
		l.mu.Unlock()
		b, err := l.readReplay(r)
		l.mu.Lock()
		if r.exhausted {
			return nil, time.Time{}
		}
		if err != nil {
			l.readLater(err)
			return nil, time.Time{}
		}
		r.add(b)
		l.changed()
	}
}

// confirmWalk makes sure that the store lost no failed delivery while a replay of them read it. When it did, the replay reads
// them all again. The caller holds mu; mu is not held while the store is read, and the replay may be cancelled then.
func (l *Lane) confirmWalk(r *replay) error {
	if !r.spec.Failed || r.confirmed {
		return nil
	}
	was := r.walked
	l.mu.Unlock()
	still, now, err := l.q.stillSound(was, 0)
	l.mu.Lock()
	if err != nil || r.exhausted {
		return err
	}
	if r.confirmed, r.walked = still, now; !still {
		r.rewind()
	}
	return nil
}

// takesUp reports whether a replay is to attempt a delivery, and whether the delivery is failed now. It passes over any
// other. The caller holds mu; mu is not held while the store is read.
func (l *Lane) takesUp(r *replay, seq uint64) (takes, failed bool, err error) {
	_, over := r.settledAbove[seq]
	if !over {
		now, err := l.deliveryState(seq)
		if err != nil || r.exhausted {
			return false, false, err
		}
		_, flies := l.replaying[seq]
		failed = now.state == Failed
		takes = !flies && (failed || now.state == Delivered && !r.spec.Failed)
	}
	r.passSettled(seq)
	delete(r.settledAbove, seq)
	if takes {
		return true, failed, nil
	}
	if !over {
		r.passed++
	}
	r.pass(seq)
	return false, false, nil
}

// passSettled takes the events below one out of settledAbove: what was settled before the start and is not failed any more
// is not read again.
func (r *replay) passSettled(to uint64) {
	if len(r.settledAbove) == 0 {
		return
	}
	var behind []uint64
	for seq := range r.settledAbove {
		if seq < to {
			behind = append(behind, seq)
			delete(r.settledAbove, seq)
		}
	}
	slices.Sort(behind)
	for _, seq := range behind {
		r.pass(seq)
	}
}

// takeUp hands out a delivery for a replay.
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
	l.q.replaying.Add(1)
	return l.handOut(f)
}

// landReplayed notes that no replay has an event in flight any more.
func (l *Lane) landReplayed(seq uint64) {
	if _, flies := l.replaying[seq]; flies {
		delete(l.replaying, seq)
		l.q.replaying.Add(-1)
	}
}

// replayCatchUp is how much of its rate a delayed replay makes up for.
const replayCatchUp = 100 * time.Millisecond

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// settleReplayed takes a delivery out of its replay and out of the state in which it was before. It is in state now, or
// retrying.
func (l *Lane) settleReplayed(f *flight, state string) {
	r, seq := f.replay, f.ev.Seq
	l.landReplayed(seq)
	if f.failed {
		l.failed--
		if state != Failed {
			l.change(entry.Failed, seq, nil)
		}
	} else {
		l.replayed++
	}
	r.takenUp++
	r.count(state, 1)
	r.settle(f)
	l.finishReplayIfDone(r)
}

// count counts a delivery that came into a state, or left it.
func (r *replay) count(state string, n int64) {
	switch state {
	case Delivered:
		r.delivered += n
	case Failed:
		r.failed += n
	case Retrying:
		r.retrying += n
	}
	r.dirty = true
}

// settleRetry tells a replay that one of its retries is in another state now.
func (l *Lane) settleRetry(number uint64, state string) {
	if r := l.replay(number); r != nil {
		r.count(Retrying, -1)
		r.count(state, 1)
		l.finishReplayIfDone(r)
	}
}

// releaseReplayed has a replayed delivery handed out again.
func (l *Lane) releaseReplayed(f *flight) {
	if r := f.replay; r.state == ReplayRunning {
		r.release(f)
	} else {
		l.landReplayed(f.ev.Seq)
	}
}

// finishReplayIfDone ends a replay when it has nothing left to attempt.
func (l *Lane) finishReplayIfDone(r *replay) {
	if r.state == ReplayRunning && len(r.window) == 0 && len(r.ahead) == 0 && r.read >= r.end && (r.confirmed || !r.spec.Failed) {
		r.exhausted, r.next, r.settledAbove = true, r.end, nil
		if r.retrying == 0 {
			l.finishReplay(r, ReplayDone)
		}
	}
	r.dirty = true
	l.changed()
}

// finishReplay ends a replay in a state.
func (l *Lane) finishReplay(r *replay, state string) {
	r.state, r.ended, r.dirty = state, l.q.now(), true
	l.changed()
}

// saveReplays adds the records of changed replays to what is saved with the lane.
func (l *Lane) saveReplays() {
	for _, r := range l.replays {
		if r.dirty {
			r.dirty = false
			l.change(entry.Replay, r.number, r.append(nil))
		}
	}
}
