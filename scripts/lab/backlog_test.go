package main

import (
	"testing"
	"time"
)

func TestBacklogRunFollowsEveryEventThroughTheOutage(t *testing.T) {
	run := backlogRun{site: mustFakeRelay(t, ""), count: 1000, wait: 30 * time.Second, alone: 100 * time.Millisecond}
	result, err := run.perform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.Acknowledged != 1000 || result.Received != 1000 || result.Missing != 0 {
		t.Errorf("got %+v", result)
	}
	for name, r := range map[string]trickleResult{"before": result.Before, "queued": result.Queued, "draining": result.Draining} {
		if r.Sent == 0 || r.Missing != 0 || r.Posted.Count != r.Sent {
			t.Errorf("live endpoint %s: %+v", name, r)
		}
	}
	if result.RestartTermMs <= 0 || result.RestartKillMs <= 0 || min(result.FillMiB, result.IdleMiB, result.DrainMiB) <= 0 {
		t.Errorf("not measured: %+v", result)
	}
}

func TestBacklogRunFindsWhatAForgetfulRelayLost(t *testing.T) {
	run := backlogRun{site: mustFakeRelay(t, "100"), count: 1000, wait: 30 * time.Second, alone: 20 * time.Millisecond}
	result, err := run.perform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.Missing < 1 || result.judge() == nil {
		t.Errorf("%d missing, though every hundredth delivery was forgotten: %+v", result.Missing, result)
	}
}

func TestBacklogIsJudged(t *testing.T) {
	well := backlogResult{FillMiB: 100, IdleMiB: 40, DrainMiB: 149, RestartTermMs: 30, RestartKillMs: 990}
	if err := well.judge(); err != nil {
		t.Errorf("well: %v", err)
	}
	for name, spoil := range map[string]func(*backlogResult){
		"lost":             func(r *backlogResult) { r.Missing = 1 },
		"failed and there": func(r *backlogResult) { r.Missing = -1 },
		"live lost":        func(r *backlogResult) { r.Filling.Missing = 1 },
		"memory":           func(r *backlogResult) { r.DrainMiB = 151 },
		"restart":          func(r *backlogResult) { r.RestartKillMs = 1001 },
	} {
		r := well
		spoil(&r)
		if r.judge() == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
