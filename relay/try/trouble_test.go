package try

import (
	"strings"
	"testing"
	"time"
)

func TestListenRehearsesTrouble(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0", "-status", "503", "-delay", "30ms")
	began := time.Now()
	status, body := mustPost(t, l.url, testEvent)
	if took := time.Since(began); status != 503 || !strings.Contains(body, `"code":"rehearsed"`) || took < 30*time.Millisecond {
		t.Errorf("answered %d %s after %s", status, body, took)
	}
	l.screen.await(t, "rehearsing: 100% of events are answered 503, each answer takes 30ms")
	l.screen.await(t, "evt_abc123  .*answered 503 on purpose")

	// A signature that is wrong is so whatever is rehearsed.
	l = startListen(t, "-addr", "127.0.0.1:0", "-fail", "100%", "-secret", testSecret)
	if status, _ := mustPost(t, l.url, testEvent); status != 401 {
		t.Errorf("unsigned: answered %d", status)
	}
	if status, _ := mustPost(t, l.url, testEvent, "X-RealtorBot-Signature", realtorBotHeader(testSecret, testEvent)); status != 500 {
		t.Errorf("signed: answered %d", status)
	}
}

// An answer that is being delayed does not keep the command from ending.
func TestADelayEndsWithTheCommand(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0", "-delay", "10m")
	go func() {
		l.screen.await(t, "evt_abc123")
		l.stop()
	}()
	if status, _ := mustPost(t, l.url, testEvent); status != 200 {
		t.Errorf("answered %d", status)
	}
}

func TestTheShareOfTrouble(t *testing.T) {
	rehearsed, err := newTrouble(t.Context(), "30%", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for chance, want := range map[float64]int{0: 500, 0.29: 500, 0.3: 0, 0.99: 0} {
		rehearsed.chance = func() float64 { return chance }
		if got := rehearsed.decide(); got != want {
			t.Errorf("at chance %v: %d, want %d", chance, got, want)
		}
	}
	if none, _ := newTrouble(t.Context(), "0", 503, 0); none.decide() != 0 || none.String() != "" {
		t.Errorf("-fail 0 rehearses %q", none.String())
	}
}
