package delivery

import (
	"testing"
	"time"

	"realtorbot-relay/relay/delivery/client"
)

func TestLanesWithoutAnAnswerBeginOneAfterTheOther(t *testing.T) {
	ss, now := newSilentLanes(), gateStart
	lanes := make([]silentLane, 1000)
	for i := range lanes {
		lanes[i].ended(&client.Outcome{Class: client.ClassTimeout})
	}
	begun := 0
	for end := now.Add(2*time.Second - time.Nanosecond); now.Before(end); now = now.Add(time.Millisecond) {
		at := 0
		for i := range lanes {
			if lanes[i].silent && ss.begin(&lanes[i], now).IsZero() {
				lanes[i].silent = false // it is under way, and asks no more
				begun, at = begun+1, at+1
			}
		}
		if at > 1 {
			t.Fatalf("%d begin at the same moment", at)
		}
	}
	if begun != len(lanes) {
		t.Errorf("%d of %d begin in two seconds", begun, len(lanes))
	}
	well := silentLane{}
	well.ended(&client.Outcome{Status: 500})
	ss.next = now.Add(time.Hour)
	if again := ss.begin(&well, now); !again.IsZero() {
		t.Errorf("who gets answers waits until %v", again)
	}
}

func TestAStartThatWasNotUsedInTimeIsLost(t *testing.T) {
	ss, now := newSilentLanes(), gateStart
	s := silentLane{silent: true}
	ss.next = now.Add(time.Second)
	at := ss.begin(&s, now)
	if !at.Equal(now.Add(time.Second)) || !ss.begin(&s, now.Add(time.Millisecond)).Equal(at) {
		t.Errorf("it starts at %v", at)
	}
	if again := ss.begin(&s, at.Add(startGrace)); !again.IsZero() {
		t.Errorf("in time: it is to come again at %v", again)
	}
	ss.next = at.Add(time.Hour)
	if again := ss.begin(&s, at.Add(2*startGrace)); !again.Equal(at.Add(time.Hour)) {
		t.Errorf("too late: it is to come again at %v", again)
	}
}

// While one that gets no answer waits for its time, or for another's record, one that gets answers does not.
func TestWhoGetsAnswersWaitsForNobodyWhoGetsNone(t *testing.T) {
	url, got := quickReceiver(t, well)
	other, otherGot := quickReceiver(t, well)
	gone := subscriber("gone", "http://127.0.0.1:1/")
	gone.Delivery.Retry = nil
	d := openHarness(t, subscriber("crm", url), subscriber("silent", other), gone)
	d.endHousekeeping()
	silent := d.dispatcher.Lane("silent")
	silent.mu.Lock()
	silent.silence.silent = true
	silent.mu.Unlock()
	ss := d.dispatcher.silent
	ss.mu.Lock()
	ss.next = d.now().Add(time.Hour)
	ss.mu.Unlock()
	ss.recordToken <- struct{}{}

	d.accept("lead.created", numbered(10)...)
	d.until("crm", "settled", func(s Status) bool { return settled(s) && s.Delivered == 10 })
	d.comeTo(silent, func() bool { return silent.noWake.Load() && len(silent.inFlight) == 0 })
	if n := len(otherGot.arrived()); n != 0 || len(got.arrived()) != 10 {
		t.Errorf("%d arrive at one that has to wait for its time", n)
	}
	if s := d.status("gone"); s.Failed > 0 {
		t.Errorf("%d are recorded out of turn", s.Failed)
	}

	<-ss.recordToken
	d.until("gone", "recorded", func(s Status) bool { return s.Failed > 0 })
	ss.mu.Lock()
	ss.next = d.now()
	ss.mu.Unlock()
	silent.mu.Lock()
	silent.silence.at = time.Time{}
	silent.mu.Unlock()
	silent.wakeSender() // as its timer does
	d.until("silent", "settled", func(s Status) bool { return settled(s) && s.Delivered == 10 })
}
