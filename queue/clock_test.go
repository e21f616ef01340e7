package queue

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	aHour  = int64(time.Hour / time.Millisecond)
	aDay   = 24 * aHour
	noonIn = 1_767_225_600_000 // of 2026-01-01
)

func TestQueueTimeGoesOnFromWhatIsKnown(t *testing.T) {
	one, two := [16]byte{1}, [16]byte{2}
	last := clockState{now: noonIn, wall: noonIn, up: aDay, boot: one}
	tests := []struct {
		name       string
		last, read clockState
		want       int64
	}{
		{"the first start", clockState{}, clockState{wall: noonIn, up: 5, boot: one}, noonIn},
		{"the first start, in 1970", clockState{}, clockState{wall: 5, up: 5, boot: one}, 5},
		{"a restart", last, clockState{wall: noonIn + 1000, up: aDay + 1000, boot: one}, noonIn + 1000},
		{"a restart, the clock set a little back", last, clockState{wall: noonIn + 500, up: aDay + 1000, boot: one}, noonIn + 500},
		{"a restart, the clock an hour ahead", last, clockState{wall: noonIn + aHour + 1000, up: aDay + 1000, boot: one}, noonIn + 1000},
		{"a restart, the clock an hour behind", last, clockState{wall: noonIn - aHour, up: aDay + 1000, boot: one}, noonIn + 1000},
		{"a reboot after three hours", last, clockState{wall: noonIn + 3*aHour, up: 5, boot: two}, noonIn + 3*aHour},
		{"a reboot in 1970", last, clockState{wall: 5000, up: 5, boot: two}, noonIn},
		{"a reboot, apart from the wall clock before", clockState{now: noonIn - aDay, wall: noonIn, up: 7, boot: one},
			clockState{wall: noonIn + aHour, up: 5, boot: two}, noonIn - aDay + aHour},
		{"a restart, agreed again", clockState{now: noonIn, wall: noonIn - aHour, up: 7, boot: one},
			clockState{wall: noonIn + 60_000, up: 60_007, boot: one}, noonIn + 60_000},
		{"the time since the boot can't be told", last, clockState{wall: noonIn + aHour}, noonIn + aHour},
	}
	for _, test := range tests {
		if got := startClock(test.last, test.read, 77).at(77); got != test.want {
			t.Errorf("%s: queue time is %d, want %d", test.name, got, test.want)
		}
	}
}

// A machine without a battery boots in 1970, is told the time, or is not, and boots again.
func TestABootIn1970AddsNothingToTheNextOne(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{false, true} {
		var m machine
		m.mono.Store(aDay)
		m.wall.Store(noonIn)
		boot := byte(1)
		b := openBench(t, func(o *Options) {
			m.change(o)
			o.up = func() (int64, [16]byte) { return m.mono.Load(), [16]byte{boot} }
		})
		b.append("", "a")
		b.saveAll()
		restart := func(wall int64) {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			boot++
			m.mono.Store(5)
			m.wall.Store(wall)
			b.open()
		}
		restart(1000)
		b.append("", "b")
		m.pass(aHour)
		if told {
			m.wall.Store(noonIn + 2*aHour)
		}
		b.append("", "c")
		b.saveAll()
		restart(noonIn + 2*aHour)
		if now := b.now(); now < noonIn || now > noonIn+2*aHour {
			t.Errorf("told the time: %v: queue time is %v ahead of the time that passed", told, time.Duration(now-noonIn-2*aHour)*time.Millisecond)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The checkpoint, which says where queue time stood, is lost or is that of long before, and the clock is in 1970: what is in the log
// was not written in the future, and the boot after that adds nothing either.
func TestQueueTimeIsNeverBehindTheLog(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"lost", "an older one"} {
		for _, sealed := range []bool{false, true} {
			var m machine
			m.mono.Store(aDay)
			m.wall.Store(noonIn)
			boot := byte(1)
			b := openBench(t, func(o *Options) {
				m.change(o)
				o.up = func() (int64, [16]byte) { return m.mono.Load(), [16]byte{boot} }
			})
			path := filepath.Join(b.opts.Dir, checkpointName)
			reboot := func(harm func(), wall int64) {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				harm()
				boot++
				m.mono.Store(5)
				m.wall.Store(wall)
				b.open()
			}
			b.append("", "a")
			b.saveAll()
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m.pass(2 * aHour)
			b.append("", "b")
			if sealed { // and nothing of it is in the journal any more
				b.saveAll()
				if err := b.update(func() error { return b.log.Seal() }); err != nil {
					t.Fatal(err)
				}
			}
			reboot(func() {
				err := os.Remove(path)
				if how != "lost" {
					err = os.WriteFile(path, before, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}, 1000)
			if now, want := b.now(), int64(noonIn+2*aHour); now != want {
				t.Errorf("%s, sealed %v: queue time is %v from that of the last event", how, sealed, time.Duration(now-want)*time.Millisecond)
			}
			b.saveAll()
			reboot(func() {}, noonIn+3*aHour)
			if now, want := b.now(), int64(noonIn+3*aHour); now != want {
				t.Errorf("%s, sealed %v: at the next boot queue time is %v ahead", how, sealed, time.Duration(now-want)*time.Millisecond)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// machine has clocks that a test sets, in milliseconds.
type machine struct{ mono, wall atomic.Int64 }

func (m *machine) pass(ms int64) {
	m.mono.Add(ms)
	m.wall.Add(ms)
}

func (m *machine) change(o *Options) {
	o.Now = func() time.Time { return time.UnixMilli(m.wall.Load()) }
	o.clocks = func() (time.Time, int64, int64) { return o.Now(), m.mono.Load(), m.wall.Load() }
	o.up = func() (int64, [16]byte) { return m.mono.Load(), [16]byte{1} }
	o.DedupWindow, o.Retention, o.FailedRetention = 3*time.Hour, 3*time.Hour, 3*time.Hour
	o.saveEvery = time.Hour // nothing is saved but on purpose
}

func TestJumpsOfTheWallClockChangeNoPeriod(t *testing.T) {
	t.Parallel()
	jumps := map[string]int64{"an hour ahead": aHour, "an hour back": -aHour, "ten years ahead": 3650 * aDay, "to 1970": -noonIn, "none": 0}
	for name, jump := range jumps {
		for _, restart := range []bool{false, true} {
			if restart {
				name += ", and a restart"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var m machine
				m.mono.Store(aDay)
				m.wall.Store(noonIn)
				b := openBench(t, m.change)
				crm := b.lane("crm")
				b.append(NewLaneSet(crm.ID()), "delivered", "failed", "retrying", "pending")
				crm.Delivered(mustTake(t, crm, "delivered"), ok(1))
				crm.Failed(mustTake(t, crm, "failed"), broken(1), "answered 500")
				crm.Retry(mustTake(t, crm, "retrying"), broken(1), b.opts.Now().Add(10*time.Minute))
				b.saveAll()
				b.tidy()
				m.wall.Add(jump)
				if restart {
					b.reopen()
					crm = b.lane("crm")
				}
				if in := crm.Outlook().Due.Sub(b.opts.Now()); restart && in != 10*time.Minute {
					t.Errorf("the retry is due in %v", in)
				}
				m.pass(3*aHour - 2000)
				b.tidy()
				for _, id := range []string{"delivered", "failed", "pending"} {
					if r := b.append("", id); !r[0].Duplicate {
						t.Errorf("%s is forgotten early", id)
					}
					if _, _, found, err := b.Story([]byte(id)); !found || err != nil {
						t.Errorf("the story of %s is gone early: %v", id, err)
					}
				}
				if s := crm.Stats(); s.Failed != 1 || s.Pending != 1 {
					t.Errorf("the lane has %+v", s)
				}
				d := mustTake(t, crm, "pending")
				if age := b.opts.Now().Sub(time.UnixMilli(d.Event.At)); age != 3*time.Hour-2*time.Second {
					t.Errorf("the age of the pending event is %v", age)
				}
				crm.Release(d, b.opts.Now())
				m.pass(4000)
				b.tidy()
				if s := crm.Stats(); s.Failed != 0 {
					t.Errorf("a failed delivery is kept beyond its time: %+v", s)
				}
				if r := b.append("", "failed"); r[0].Duplicate {
					t.Error("an id is known beyond its time")
				}
			})
		}
	}
}

// A machine that booted in 1970 is told the time while deliveries wait that were handed out and put back: they are no older for that.
func TestADeliveryThatIsPutBackIsAsOldAsItIsWhateverTheClock(t *testing.T) {
	t.Parallel()
	var m machine
	m.mono.Store(aDay)
	m.wall.Store(5000)
	b := openBench(t, m.change)
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "first", "retried")
	first, _ := crm.Take()
	retried, _ := crm.Take()
	m.pass(aHour)
	crm.Release(first, time.Time{})
	m.wall.Add(noonIn)
	if retried.Age() != time.Hour {
		t.Errorf("an attempt under way is of a delivery that is %s old, want 1h", retried.Age())
	}
	first, _ = crm.Take()
	if first.Age() != time.Hour || first.Event.At != m.wall.Load()-aHour {
		t.Errorf("what was put back is %s old, accepted at %d, want 1h and %d", first.Age(), first.Event.At, m.wall.Load()-aHour)
	}
	if at := crm.Stats().Oldest.UnixMilli(); at != m.wall.Load()-aHour {
		t.Errorf("the oldest pending event is of %d, want %d", at, m.wall.Load()-aHour)
	}
	crm.Retry(retried, broken(1), time.Now())
	if again, ok := crm.TakeDue(time.Now().Add(time.Hour)); !ok || again.Age() != time.Hour {
		t.Errorf("a retry is %s old, want 1h", again.Age())
	}
}

// A wall clock that is set between a time was read and the time was saved, or after it was loaded, moves nothing: an endpoint that asked
// for an hour gets its hour.
func TestTimesThatAreSavedAreMeasuredByTheMonotonicClock(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{2 * time.Hour, -2 * time.Hour, 0} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64 // of the wall clock, milliseconds
			began := time.Now()
			mono := func() int64 { return time.Since(began).Milliseconds() }
			b := openBench(t, func(o *Options) {
				o.Now = time.Now // its readings have the monotonic clock, which counts
				o.clocks = func() (time.Time, int64, int64) { return time.Now(), mono(), time.Now().UnixMilli() + ahead.Load() }
				o.up = func() (int64, [16]byte) { return aDay + mono(), [16]byte{1} }
				o.saveEvery = time.Hour
			})
			crm := b.lane("crm")
			b.append(NewLaneSet(crm.ID()), "a")
			inAnHour := time.Now().Add(time.Hour)
			crm.SetHealth(Health{HeldUntil: inAnHour})
			crm.Retry(mustTake(t, crm, "a"), broken(1), inAnHour)
			check := func(when string, at time.Time) {
				t.Helper()
				if off := at.Sub(inAnHour).Abs(); off > 10*time.Second { // of an hour, on a slow machine
					t.Errorf("%s: it is %s, want %s", when, at, inAnHour)
				}
				if jump == 0 && at.UnixMilli() != inAnHour.UnixMilli() {
					t.Errorf("%s: it is %s, and nobody set a clock, want %s", when, at, inAnHour)
				}
				if !strings.Contains(at.String(), " m=") {
					t.Errorf("%s: %s moves when somebody sets the wall clock", when, at)
				}
			}
			ahead.Add(jump.Milliseconds())
			b.saveAll()
			for range 2 { // what was loaded is saved again
				b.reopen()
				crm = b.lane("crm")
				check("held until", crm.Health().HeldUntil)
				check("retry", crm.Outlook().Due)
				crm.SetHealth(Health{HeldUntil: crm.Health().HeldUntil, LastError: "answered 503"})
				d, due := crm.TakeDue(time.Now().Add(2 * time.Hour))
				if !due {
					t.Fatal("no retry is due within two hours")
				}
				crm.Release(d, d.Due)
				ahead.Add(jump.Milliseconds())
				b.saveAll()
			}
		})
	}
}
