package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func mustCrash(t *testing.T, run crashRun) crashResult {
	t.Helper()
	result, _, err := run.perform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(run.site.dir); err != nil {
		t.Errorf("the run's directory: %v", err)
	}
	return result
}

func TestCrashRunFindsNothingLostInAFaithfulRelay(t *testing.T) {
	result := mustCrash(t, crashRun{site: mustFakeRelay(t, ""), kills: 2, conns: 8, count: 1000, wait: 20 * time.Second})
	if result.Lost != 0 || result.NeverSent != 0 || result.Kills != 2 || result.Posted != 1000 || result.StartMs.Max <= 0 {
		t.Errorf("got %+v", result)
	}
	if result.Acknowledged+result.Unknown != 1000 || result.Unknown > 2*8 {
		t.Errorf("%d acknowledged and %d unknown of 1000, with 8 connections and 2 kills", result.Acknowledged, result.Unknown)
	}
}

func TestCrashRunFindsWhatAForgetfulRelayLost(t *testing.T) {
	result := mustCrash(t, crashRun{site: mustFakeRelay(t, "100"), kills: 1, conns: 4, count: 500, wait: 20 * time.Second})
	if result.Lost < 5 {
		t.Errorf("lost %d, though every hundredth delivery was forgotten: %+v", result.Lost, result)
	}
}

func TestCrashControlReportsOneLost(t *testing.T) {
	result := mustCrash(t, crashRun{site: mustFakeRelay(t, ""), conns: 4, count: 200, wait: 20 * time.Second, control: true})
	if result.Lost != 1 || result.Control == "" {
		t.Errorf("got %+v", result)
	}
}

func TestKillPointsLieInOrderInsideTheRun(t *testing.T) {
	points := killPoints(50, 10_000)
	if !slices.IsSorted(points) || points[0] < 500 || points[49] > 9500 {
		t.Errorf("got %v", points)
	}
}

func TestMedianOfRounds(t *testing.T) {
	values := []float64{9, 1, 5}
	if got := median(values); got != 5 || values[0] != 9 {
		t.Errorf("got %v of %v", got, values)
	}
	if got := median([]float64{4, 2}); got != 2 {
		t.Errorf("of two: %v", got)
	}
}
