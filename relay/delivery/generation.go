package delivery

import (
	"reflect"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/match"
)

// generation is an endpoint as one reload configured it, with the client made for it. The next reload that changes the endpoint
// gives the lane another generation; attempts under way end with the one that they began with.
type generation struct {
	endpoint *config.Endpoint
	client   *client.Client
	judge    *match.Judge // of which events are the endpoint's own
	inFlight int          // attempts under way; under the lane's lock
	replaced bool         // by another generation; under the lane's lock
}

// sameReceiver reports whether two configurations mean the same receiver, so that what is known of one holds for the other.
func sameReceiver(a, b *config.Endpoint) bool {
	return a.URL.Equal(b.URL) && reflect.DeepEqual(a.Delivery.Proxy, b.Delivery.Proxy)
}

// endpoint returns the configuration that the lane follows, nil when no endpoint of its name is configured. It takes no lock.
func (l *Lane) endpoint() *config.Endpoint {
	if g := l.generation.Load(); g != nil {
		return g.endpoint
	}
	return nil
}

// hold has no attempt begin until the lane is configured.
func (l *Lane) hold() {
	l.mu.Lock()
	l.held = true
	l.mu.Unlock()
}

// configure gives the lane another generation, and starts it if it had none. What the lane knows of the endpoint stays, unless the
// configuration means another receiver now.
func (l *Lane) configure(g *generation) {
	l.mu.Lock()
	old := l.generation.Load()
	l.generation.Store(g)
	l.held = false
	if l.lastEndpoint != nil && !sameReceiver(l.lastEndpoint, g.endpoint) {
		l.resetLocked()
	} else if l.gate.isDown() && old != nil {
		l.gate.NextProbe, l.gate.probeWaitSince = l.now(), l.now() // somebody may have repaired it
	}
	l.lastEndpoint = g.endpoint
	l.gate.configure(g.endpoint)
	l.saveHealthLocked()
	l.stopped = false
	l.noWake.Store(false)
	if l.idle == 0 && l.senders < g.endpoint.Delivery.Concurrency {
		l.spawnLocked()
	}
	closeIdle := l.retireLocked(old)
	l.mu.Unlock()
	l.queueLane.OnReady(func() {
		if !l.noWake.Load() {
			l.wakeSender()
		}
	})
	closeIdle()
	l.wakeSender()
}

// unconfigure stops a lane whose endpoint is not configured any more. The lane keeps its deliveries and what it knows.
func (l *Lane) unconfigure() {
	l.queueLane.OnReady(func() {})
	l.mu.Lock()
	closeIdle := l.retireLocked(l.generation.Swap(nil))
	l.haltLocked()
	l.mu.Unlock()
	closeIdle()
	l.logUnsent()
}

// retireLocked marks a generation as replaced. What it returns closes the generation's connections, those in use when their
// attempts end; it must be called without the lock.
func (l *Lane) retireLocked(g *generation) (closeIdle func()) {
	if g == nil {
		return func() {}
	}
	g.replaced = true
	if g.inFlight == 0 {
		return g.client.Close
	}
	return g.client.Drain
}

// haltLocked makes the senders end after their attempts under way.
func (l *Lane) haltLocked() {
	l.stopped = true
	l.uplink.leave(l)
	l.timer.Stop()
	l.wakeSender()
}

// halt makes the senders end, for a relay that stops.
func (l *Lane) halt() {
	l.queueLane.OnReady(func() {})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.haltLocked()
}

// waitEnded waits for the senders of a lane that was halted. Once hurry is closed it cuts short the attempts under way and waits
// for these alone: a sender that asks a disk which does not answer can't be cut short, and ends when the disk answers.
func (l *Lane) waitEnded(hurry <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		l.sendersEnded.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-hurry:
		l.cutShort()
		l.attemptsEnded.Wait()
	}
	l.logUnsent()
	if g := l.generation.Load(); g != nil {
		g.client.Close()
	}
}

// cutShort ends the attempts under way at once; they are put back.
func (l *Lane) cutShort() {
	l.mu.Lock()
	clients := map[*client.Client]bool{}
	for _, f := range l.inFlight {
		clients[f.generation.client] = true
	}
	l.mu.Unlock()
	for c := range clients {
		c.Close()
	}
}
