package simulate

import (
	"math/rand/v2"
	"time"
)

// newFate has things happen to a machine and the relay on it.
func (w *world) newFate(m *machine, mean time.Duration, merges bool) {
	w.act("fate-"+m.name, func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		pause, slow := time.Duration(0), time.Duration(0)
		if r.IntN(3) == 0 {
			pause = around(10*time.Minute, r)
		}
		if r.IntN(4) == 0 {
			slow = around(20*time.Millisecond, r)
		}
		again := func() {
			time.Sleep(pause)
			m.start(slow, merges)
		}
		switch n := r.IntN(16); {
		case n < 5:
			m.kill(1+r.IntN(40), around(20*time.Second, r))
			again()
		case n < 6:
			for range 1 + r.IntN(3) { // and again, while it comes back
				m.kill(1+r.IntN(40), around(2*time.Second, r))
				m.start(slow, merges)
			}
		case n < 9:
			if r.IntN(3) == 0 { // what was never synced in a long time goes
				m.cutPower(200+r.IntN(600), around(2*time.Hour, r), r)
			} else {
				m.cutPower(1+r.IntN(40), around(20*time.Second, r), r)
			}
			again()
		case n < 11:
			m.stop()
			if r.IntN(3) == 0 {
				m.reboot()
			}
			again()
		case n < 12:
			m.life.disk.setSlow(around(200*time.Millisecond, r))
			w.say(m.name, "its disk is slow")
			w.sleep(around(time.Minute, r))
			m.life.disk.setSlow(0)
			w.say(m.name, "its disk is as it was")
		case n < 14:
			w.fillDisk(m, r)
		default:
			w.setClock(m, r)
		}
	})
}

// fillDisk has others use up the disk for a while. The relay may be killed meanwhile.
func (w *world) fillDisk(m *machine, r *rand.Rand) {
	free := int64(r.IntN(300)) << 20
	w.disk.set(free)
	w.say(m.name, "its disk has %d MiB left", free>>20)
	w.sleep(around(5*time.Minute, r))
	if r.IntN(3) == 0 {
		m.kill(1+r.IntN(10), around(20*time.Second, r))
		m.start(0, false)
		w.sleep(around(time.Minute, r))
	}
	w.disk.set(1 << 40)
	w.say(m.name, "its disk has room again")
}

// setClock sets the machine's wall clock wrong, and after a while right. No boot comes between: across one the relay has nothing else to
// go by.
func (w *world) setClock(m *machine, r *rand.Rand) {
	off := around(time.Hour, r)
	if r.IntN(3) == 0 {
		off = 25 * 365 * 24 * time.Hour
	}
	if r.IntN(2) == 0 {
		off = -off
	}
	m.setClock(off)
	w.sleep(around(30*time.Minute, r))
	if r.IntN(3) == 0 {
		m.kill(1+r.IntN(10), around(20*time.Second, r))
		m.start(0, false)
		w.sleep(around(10*time.Minute, r))
	}
	m.setClock(0)
}

// newLine has the machine's line to the world fail, or its name server.
func (w *world) newLine(mean time.Duration) {
	w.act("line", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		t := offline
		if r.IntN(2) == 0 {
			t = failingName
		}
		w.say("line", "%s", [...]string{offline: "no network", failingName: "no name server"}[t])
		w.net.setDown(t)
		w.sleep(around(10*time.Minute, r))
		w.net.setDown(none)
		w.say("line", "back")
	})
}
