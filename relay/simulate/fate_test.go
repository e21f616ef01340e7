package simulate

import (
	"math/rand/v2"
	"time"
)

// newFate has things happen to a machine: its relay is killed, stopped, started again; its disk gets slow.
func (w *world) newFate(m *machine, mean time.Duration, merges bool) {
	w.act("fate of "+m.name, func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		pause := time.Duration(0)
		if r.IntN(3) == 0 {
			pause = around(10*time.Minute, r)
		}
		slow := time.Duration(0)
		if r.IntN(4) == 0 {
			slow = around(20*time.Millisecond, r)
		}
		again := func() {
			time.Sleep(pause)
			m.start(slow, merges)
		}
		switch r.IntN(8) {
		case 0, 1, 2, 3:
			m.kill(1+r.IntN(40), around(20*time.Second, r), nil)
			again()
		case 4:
			for range 1 + r.IntN(3) { // and again, while it comes back
				m.kill(1+r.IntN(40), around(2*time.Second, r), nil)
				m.start(slow, merges)
			}
		case 5, 6:
			m.stop()
			again()
		default:
			m.life.disk.setSlow(around(200*time.Millisecond, r))
			w.say(m.name, "its disk is slow")
			w.sleep(around(time.Minute, r))
			m.life.disk.setSlow(0)
			w.say(m.name, "its disk is as it was")
		}
	})
}
