package main

import "testing"

func TestAReplayIsJudged(t *testing.T) {
	total := uint64(100)
	well := replayResult{Failed: 100, Replayed: 100, LiveAccepted: 50}
	well.Status.State, well.Status.Total, well.Status.TakenUp, well.Status.Delivered = "done", &total, 100, 100
	if err := well.judge(); err != nil {
		t.Errorf("well: %v", err)
	}
	for name, spoil := range map[string]func(*replayResult){
		"missing":       func(r *replayResult) { r.Missing = 1 },
		"too many":      func(r *replayResult) { r.Missing = -1 },
		"strangers":     func(r *replayResult) { r.Strangers = 1 },
		"live lost":     func(r *replayResult) { r.LiveLost = 1 },
		"not done":      func(r *replayResult) { r.Status.State = "running" },
		"miscounted":    func(r *replayResult) { r.Status.TakenUp = 99 },
		"failed again":  func(r *replayResult) { r.Status.Failed, r.Status.Delivered = 1, 99 },
		"passed over":   func(r *replayResult) { r.Status.Passed = 1 },
		"another total": func(r *replayResult) { other := uint64(99); r.Status.Total = &other },
		"still failed":  func(r *replayResult) { r.FailedLeft = 1 },
	} {
		r := well
		spoil(&r)
		if r.judge() == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func TestTheReplayRunTellsWhatArrives(t *testing.T) {
	r := replayRun{fill: 7, fresh: 8, repeats: newRepeats(7, 1, 10), got: map[uint64]struct{}{}}
	ask := func(run uint32, seq uint64, replay string) bool {
		return r.refuses(appendID(nil, run, seq), []byte(replay), nil, r.repeats.seen[0][9])
	}
	if !ask(7, 1, "") || ask(7, 2, "") || ask(8, 1, "") {
		t.Error("before the replay it refuses every second event of the fill, and no other")
	}
	r.replaying.Store(true)
	for _, again := range []struct {
		run    uint32
		seq    uint64
		replay string
	}{{7, 1, "rpl_1"}, {7, 1, "rpl_1"}, {7, 3, "rpl_1"}, {7, 5, ""}, {7, 5, "rpl_2"}, {7, 2, "rpl_1"}, {8, 2, "rpl_1"}} {
		if ask(again.run, again.seq, again.replay) {
			t.Errorf("%+v was refused", again)
		}
	}
	if n := r.arrived.Load(); n != 3 || len(r.got) != 2 || r.strangers.Load() != 4 {
		t.Errorf("%d arrived, %d of them different, %d strangers; want 3, 2 and 4", n, len(r.got), r.strangers.Load())
	}
}
