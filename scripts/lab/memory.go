package main

import (
	"sync"
	"time"
)

const memoryInterval = 20 * time.Millisecond

// memoryMeter remembers the most anonymous memory that a process had. watch and stop are called by one goroutine, in
// turns; a meter that is stopped can watch again, and forgets.
type memoryMeter struct {
	quit  chan struct{}
	ended sync.WaitGroup
	mu    sync.Mutex
	most  uint64 // bytes
}

// watch begins to look at a process.
func (m *memoryMeter) watch(pid int) {
	m.quit = make(chan struct{})
	m.most = 0
	m.look(pid)
	quit := m.quit
	m.ended.Go(func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				m.look(pid)
			}
		}
	})
}

func (m *memoryMeter) look(pid int) {
	now, err := rssAnon(pid)
	if err != nil {
		return // the process has ended; its starter says so
	}
	m.mu.Lock()
	m.most = max(m.most, now)
	m.mu.Unlock()
}

// stop ends the watch; a second call does nothing.
func (m *memoryMeter) stop() {
	if m.quit != nil {
		close(m.quit)
		m.quit = nil
		m.ended.Wait()
	}
}

// max is the most that was seen since watch, in MiB.
func (m *memoryMeter) max() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return float64(m.most) / (1 << 20)
}
