package relay

import "runtime/debug"

// rest knows whether the relay has had anything to do lately. One goroutine uses it.
type rest struct {
	saves uint64
	given bool
}

// Rest gives memory back to the system once the relay has had nothing to do since it was last called: after a busy time
// the heap may be several times what lives, and the runtime leaves it at that for as long as nothing is allocated. It is
// called every few seconds by one goroutine.
func (r *Relay) Rest() {
	if !r.isOpen() {
		return
	}
	if r.rest.idle(r.queue.Saves()) {
		debug.FreeOSMemory()
	}
}

// idle reports, once for each time of rest, that nothing was saved since the last call: no event came, and no delivery was
// settled.
func (w *rest) idle(saves uint64) bool {
	if saves != w.saves {
		w.saves, w.given = saves, false
		return false
	}
	first := !w.given
	w.given = true
	return first
}
