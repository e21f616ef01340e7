package delivery

import (
	"reflect"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// course is where a lane's attempts go: an endpoint as it is configured, and the client made for it. A reload gives a lane
// another one; attempts under way end with the one they began with.
type course struct {
	endpoint *config.Endpoint
	client   *client.Client
	under    int  // attempts under way; under the lane's lock
	former   bool // another one has taken its place; under the lane's lock
}

// leadsTo reports whether two configurations mean the same receiver: what the one says holds for the other.
func leadsTo(a, b *config.Endpoint) bool {
	return a.URL.Equal(b.URL) && reflect.DeepEqual(a.Delivery.Proxy, b.Delivery.Proxy)
}

// endpoint is the configuration that the lane follows, nil when none of its name is configured.
func (l *Lane) endpoint() *config.Endpoint {
	if c := l.course.Load(); c != nil {
		return c.endpoint
	}
	return nil
}

// follow has the lane go by another configuration, and start if it had none. What it knows of the endpoint stays, unless
// the endpoint is at another place now.
func (l *Lane) follow(c *course) {
	l.mu.Lock()
	former := l.course.Load()
	l.course.Store(c)
	if l.last != nil && !leadsTo(l.last, c.endpoint) {
		l.beginAnewLocked()
	} else if l.gate.isDown() && former != nil {
		l.gate.NextProbe, l.gate.awaits = l.now(), l.now() // it may be mended
	}
	l.last = c.endpoint
	l.gate.configure(c.endpoint)
	l.keepHealthLocked()
	l.stopped = false
	l.deaf.Store(false)
	if l.idle == 0 && l.senders < c.endpoint.Delivery.Concurrency {
		l.spawnLocked()
	}
	over := l.partLocked(former)
	l.mu.Unlock()
	l.kept.OnReady(func() {
		if !l.deaf.Load() {
			l.poke()
		}
	})
	over()
	l.poke()
}

// leave stops a lane whose endpoint is not configured any more. It keeps what it has, and what it knows.
func (l *Lane) leave() {
	l.kept.OnReady(func() {})
	l.mu.Lock()
	over := l.partLocked(l.course.Swap(nil))
	l.haltLocked()
	l.mu.Unlock()
	over()
	l.tellExpired()
}

// partLocked has a course take no more attempts. What it returns closes its connections, those that are in use when their
// attempts are done; it is to be called without the lock.
func (l *Lane) partLocked(c *course) (over func()) {
	if c == nil {
		return func() {}
	}
	c.former = true
	if c.under == 0 {
		return c.client.Close
	}
	return c.client.Drain
}

// haltLocked makes the senders end after what they have under way.
func (l *Lane) haltLocked() {
	l.stopped = true
	l.uplink.leave(l)
	l.timer.Stop()
	l.poke()
}

// halt is haltLocked for a relay that stops.
func (l *Lane) halt() {
	l.kept.OnReady(func() {})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.haltLocked()
}

// end waits for the senders of a lane that was halted. Once hurry is closed it cuts short the attempts under way and waits for
// these alone: a disk that does not answer can't be cut short, and the sender that asks it ends when it has.
func (l *Lane) end(hurry <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		l.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-hurry:
		l.cut()
		l.attempts.Wait()
	}
	l.tellExpired()
	if c := l.course.Load(); c != nil {
		c.client.Close()
	}
}

// cut ends the attempts under way at once; they are put back.
func (l *Lane) cut() {
	l.mu.Lock()
	clients := map[*client.Client]bool{}
	for _, f := range l.under {
		clients[f.course.client] = true
	}
	l.mu.Unlock()
	for c := range clients {
		c.Close()
	}
}
