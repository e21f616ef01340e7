package admin

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWrongTokensWaitLongerEachTime(t *testing.T) {
	o := openOffice(t, testToken)
	var waits []time.Duration
	o.strikes.sleep = func(d time.Duration) { waits = append(waits, d) }
	now := time.Now()
	o.strikes.now = func() time.Time { return now }
	wrong := func(times int) {
		for range times {
			if status, _ := o.ask("GET", "/stats", "Authorization: Bearer wrong"); status != 401 {
				t.Fatalf("answered %d", status)
			}
		}
	}
	wrong(freeStrikes)
	for range 10 { // asking without a token is no guess
		o.ask("GET", "/stats")
	}
	if len(waits) != 0 {
		t.Errorf("the first ones wait %v", waits)
	}
	wrong(7)
	want := []time.Duration{100e6, 200e6, 400e6, 800e6, 1600e6, 2e9, 2e9}
	for i := range want {
		if i >= len(waits) || waits[i] != want[i] {
			t.Fatalf("waits %v, want %v", waits, want)
		}
	}
	// The right one does not wait, and wipes the slate clean.
	waits = nil
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 200 || len(waits) != 0 {
		t.Errorf("the right token is answered %d after %v", status, waits)
	}
	wrong(freeStrikes + 1)
	if len(waits) != 1 || waits[0] != firstWait {
		t.Errorf("afterwards waits %v", waits)
	}
	now = now.Add(forgetAfter + time.Second)
	waits = nil
	wrong(freeStrikes)
	if len(waits) != 0 {
		t.Errorf("long afterwards waits %v", waits)
	}
}

func TestGuessingInParallelIsNotFaster(t *testing.T) {
	o := openOffice(t, testToken)
	leave := make(chan struct{})
	o.strikes.sleep = func(time.Duration) { <-leave }
	for range freeStrikes {
		o.ask("GET", "/stats", "Authorization: Bearer wrong")
	}
	var guessing sync.WaitGroup
	for range mostWaiting {
		guessing.Go(func() { o.ask("GET", "/stats", "Authorization: Bearer wrong") })
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		o.strikes.mu.Lock()
		waiting := o.strikes.waiting
		o.strikes.mu.Unlock()
		if waiting == mostWaiting {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d guesses wait", waiting)
		}
	}
	// One more is not even looked at: it might be right.
	if status, body := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 429 || code(body) != "too_many_requests" {
		t.Errorf("answered %d %s", status, body)
	}
	if !o.strikes.mayTry(netip.MustParseAddr("192.0.2.1")) {
		t.Error("another address pays for it")
	}
	close(leave)
	guessing.Wait()
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 200 {
		t.Errorf("afterwards answered %d", status)
	}
}

func TestStrikesTakeLittleMemory(t *testing.T) {
	var s strikes
	now := time.Now()
	s.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	first := netip.MustParseAddr("10.0.0.0")
	for address := first; len(s.of) < mostStruck; address = address.Next() {
		s.serve(address)
	}
	s.serve(netip.MustParseAddr("192.0.2.1"))
	if len(s.of) != mostStruck || s.of[first].count != 0 || s.of[netip.MustParseAddr("192.0.2.1")].count != 1 {
		t.Errorf("%d addresses are remembered, the oldest %d times", len(s.of), s.of[first].count)
	}
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	o := openOffice(t, testToken)
	begin := time.Now()
	for range 50 {
		o.ask("GET", "/stats")
	}
	most := 5 * (2 + int(time.Since(begin)/time.Second))
	if n := strings.Count(o.log.String(), "token is missing or wrong"); n == 0 || n > most {
		t.Errorf("%d lines in the log, want 1 to %d", n, most)
	}
}

func TestHealthTellsAForeignPageNoReasons(t *testing.T) {
	o := openOffice(t, "")
	if status, body := o.ask("POST", "/endpoints/crm/pause"); status != 200 {
		t.Fatalf("pause: %d %s", status, body)
	}
	if _, body := o.ask("GET", "/health"); !strings.Contains(body, "crm") {
		t.Errorf("to the operator: %s", body)
	}
	if status, body := o.ask("GET", "/health", "Host: evil.example"); status != 200 || strings.Contains(body, "crm") {
		t.Errorf("to a page: %d %s", status, body)
	}
}
