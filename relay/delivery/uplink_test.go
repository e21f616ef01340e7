package delivery

import (
	"container/list"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

const lineRate = 64 << 10 // bytes a second

// sentBody is one body that a lane was let send.
type sentBody struct {
	lane  int
	bytes int
	at    time.Time
	asked time.Time
}

// line is an uplink in virtual time, with lanes that have nothing but their turns.
type line struct {
	*uplink
	lanes []*Lane
	mu    sync.Mutex
	sent  []sentBody
	stop  chan struct{}
	done  sync.WaitGroup
}

func newLine(lanes int) *line {
	x := &line{uplink: newUplink(lineRate, time.Now), stop: make(chan struct{})}
	for range lanes {
		x.lanes = append(x.lanes, &Lane{wake: make(chan struct{}, 1)})
	}
	return x
}

// sends has a lane send bodies of a size, one after the other, the next one pause after it was let send the one before.
func (x *line) sends(lane, bytes int, pause time.Duration) {
	l := x.lanes[lane]
	x.done.Go(func() {
		for {
			asked := time.Now()
			for {
				if x.admits(l, time.Now()) {
					if x.take(l, bytes, time.Now()) {
						break
					}
					continue // another one was let go meanwhile
				}
				select {
				case <-l.wake:
				case <-x.stop:
					x.leave(l)
					return
				}
			}
			x.mu.Lock()
			x.sent = append(x.sent, sentBody{lane, bytes, time.Now(), asked})
			x.mu.Unlock()
			select {
			case <-time.After(pause):
			case <-x.stop:
				x.leave(l)
				return
			}
		}
	})
}

// runs lets time pass and returns what was sent.
func (x *line) runs(duration time.Duration) []sentBody {
	time.Sleep(duration)
	close(x.stop)
	x.done.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer.Stop()
	return x.sent
}

func bytesOf(sent []sentBody, lane int) (sum int) {
	for _, s := range sent {
		if s.lane == lane {
			sum += s.bytes
		}
	}
	return sum
}

// The first has as much as fits in ten minutes, in bodies of half a second; nine have one small event a second.
func TestAnEndpointWithMuchHoldsUpNoneWithLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLine(10)
		x.sends(0, lineRate/2, 0)
		for lane := 1; lane < 10; lane++ {
			x.sends(lane, 260, time.Second)
		}
		began := time.Now()
		sent := x.runs(10 * time.Minute)
		total, largest := 0, 0 // all that was sent, and the largest body of those at the moment at hand
		for i, s := range sent {
			if i == 0 || !s.at.Equal(sent[i-1].at) {
				largest = 0
			}
			total, largest = total+s.bytes, max(largest, s.bytes)
			if most := lineRate*(s.at.Sub(began)+uplinkAhead).Seconds() + 1; float64(total-largest) > most {
				t.Fatalf("after %v %d bytes were sent, of at most %.0f and one body", s.at.Sub(began), total, most)
			}
			if waited := s.at.Sub(s.asked); s.lane > 0 && waited > time.Second+50*time.Millisecond {
				t.Errorf("lane %d waited %v for one small body: longer than two bodies of another take", s.lane, waited)
			}
		}
		if least := lineRate * 599; total < least {
			t.Errorf("%d bytes were sent in ten minutes, want at least %d: the line was idle", total, least)
		}
		for lane := 1; lane < 10; lane++ {
			if n := bytesOf(sent, lane) / 260; n < 300 {
				t.Errorf("lane %d sent %d events in ten minutes", lane, n)
			}
		}
	})
}

func TestLanesThatAllHaveMuchShareTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLine(40)
		for lane := range x.lanes {
			x.sends(lane, 4<<10, 0)
		}
		sent := x.runs(10 * time.Minute)
		least, most := 1<<62, 0
		for lane := range x.lanes {
			n := bytesOf(sent, lane)
			least, most = min(least, n), max(most, n)
		}
		if most-least > 2*4<<10 {
			t.Errorf("one lane sent %d bytes and another %d", least, most)
		}
	})
}

func TestABodyLargerThanASecondGoesAloneAndTheNextWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLine(2)
		began := time.Now()
		x.sends(0, 5*lineRate, time.Hour)
		synctest.Wait()
		x.sends(1, 100, time.Hour)
		sent := x.runs(time.Minute)
		if len(sent) != 2 || sent[0].at.Sub(began) != 0 || sent[1].at.Sub(began) != 5*time.Second-uplinkAhead {
			t.Errorf("sent: %+v", sent)
		}
	})
}

// A lane that is told that it is its turn and does not come, as one whose endpoint was paused just then, costs its turn alone.
func TestALaneThatDoesNotComeHoldsUpNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLine(3)
		x.take(x.lanes[0], lineRate, time.Now())
		if x.admits(x.lanes[2], time.Now()) {
			t.Fatal("the line is free")
		}
		began := time.Now()
		x.sends(1, lineRate, time.Hour)
		sent := x.runs(time.Minute)
		if len(sent) != 1 || sent[0].at.Sub(began) > time.Second+uplinkGrace {
			t.Errorf("sent: %+v", sent)
		}
		if x.waiting.Len() != 0 || x.lanes[2].uplinkEntry != nil {
			t.Error("it waits still, and nobody tells it")
		}
	})
}

// A lane that has left is not waited for.
func TestALaneThatLeavesHandsOnItsTurnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLine(3)
		x.take(x.lanes[0], lineRate, time.Now())
		x.admits(x.lanes[2], time.Now())
		began := time.Now()
		x.sends(1, lineRate, time.Hour)
		synctest.Wait()
		x.leave(x.lanes[2])
		if sent := x.runs(time.Minute); len(sent) != 1 || sent[0].at.Sub(began) != time.Second-uplinkAhead {
			t.Errorf("sent: %+v", sent)
		}
	})
}

// A lane that is let ask and finds nothing, though the queue has something for it, hands on its turn at once.
func TestALaneThatFindsNothingHandsOnItsTurn(t *testing.T) {
	for what, arrange := range map[string]func(d *harness, l *Lane, ep config.Endpoint){
		"a replay whose pace allows none": func(d *harness, l *Lane, ep config.Endpoint) {
			for range 3 {
				l.queueLane.Delivered(d.take(l), &queue.Attempt{Number: 1, At: d.now(), Status: 200})
			}
			d.replay(ep.Name, queue.ReplaySpec{Rate: 0.001})
			for one, _ := l.queueLane.TakeReplay(d.now()); one == nil; one, _ = l.queueLane.TakeReplay(d.now()) {
				<-time.After(time.Millisecond)
			}
			resume(d, l, ep)
		},
		"a probe without a place": func(d *harness, l *Lane, ep config.Endpoint) {
			breakIt(d, l, ep)
			d.dispatcher.probes.mu.Lock()
			d.dispatcher.probes.nextStart = d.now().Add(time.Hour)
			d.dispatcher.probes.mu.Unlock()
			d.skip(2 * probeEvery)
			l.mu.Lock()
			l.gate.pauseReason = "" // a resume would forget that it is down
			l.mu.Unlock()
			l.noWake.Store(false)
			l.wakeSender()
		},
	} {
		t.Run(what, func(t *testing.T) {
			url, got := quickReceiver(t, well)
			ep := subscriber("crm", url)
			d := &harness{t: t, dir: t.TempDir() + "/data", rateBytes: lineRate}
			d.open(ep)
			t.Cleanup(d.close)
			d.isBusy()
			l, u := d.dispatcher.Lane("crm"), d.dispatcher.uplink
			pause(d, l, ep)
			d.accept("lead.created", numbered(3)...)
			arrange(d, l, ep)
			turn := func() *list.Element {
				u.mu.Lock()
				defer u.mu.Unlock()
				return l.uplinkEntry
			}
			d.comeTo(l, func() bool { return turn() != nil })
			had := turn()
			next := &Lane{wake: make(chan struct{}, 1)}
			if u.admits(next, d.now()) {
				t.Fatal("the line is free")
			}
			u.mu.Lock()
			u.freeAt = time.Time{}
			u.mu.Unlock()
			d.mustHold("crm")
			if turn() == had { // it may wait for another one behind the next, for what its replay has
				t.Error("it keeps its turn")
			}
			select {
			case <-next.wake:
			case <-time.After(patience):
				t.Error("the next in the line is not told that it is its turn")
			}
			if n := len(got.arrived()); n > 0 {
				t.Errorf("%d were sent: this shows nothing", n)
			}
			u.leave(next)
		})
	}
}

// isBusy has the uplink's line be busy for longer than a test takes.
func (d *harness) isBusy() {
	d.dispatcher.uplink.mu.Lock()
	defer d.dispatcher.uplink.mu.Unlock()
	d.dispatcher.uplink.freeAt = d.now().Add(time.Hour)
}

// The whole way: two endpoints, of which one has a backlog of large bodies.
func TestTheUplinkIsSharedByAllEndpoints(t *testing.T) {
	var large, small atomic.Int64
	receiver := func(count *atomic.Int64) string {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			count.Add(1)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	one, two := subscriber("large", receiver(&large)), subscriber("small", receiver(&small))
	one.Events, two.Events = []string{"lead.created"}, []string{"lead.scored"}
	d := &harness{t: t, dir: t.TempDir() + "/data", rateBytes: lineRate}
	d.open(one, two)
	t.Cleanup(d.close)
	const bodies, size = 20, 8 << 10
	began := time.Now()
	for i := range bodies {
		d.acceptBody("lead.created", fmt.Sprint("evt_", i), size)
	}
	d.accept("lead.scored", "evt_small")
	d.until("small", "settled", settled)
	d.until("large", "settled", settled)
	if took, least := time.Since(began), sendTime((bodies-1)*size, lineRate)-uplinkAhead; took < least {
		t.Errorf("%d bytes were sent in %v, want at least %v", bodies*size, took, least)
	}
	if small.Load() != 1 || large.Load() != bodies {
		t.Errorf("%d small ones and %d large ones arrived", small.Load(), large.Load())
	}
}

// acceptBody stores an event of a size for those who subscribed.
func (d *harness) acceptBody(eventType, id string, size int) {
	d.t.Helper()
	body := fmt.Appendf(nil, `{"id":%q,"type":%q,"timestamp":"2024-01-15T10:30:00Z","data":{"x":"`, id, eventType)
	for len(body) < size-3 {
		body = append(body, 'x')
	}
	event := queue.Event{ID: []byte(id), Type: []byte(eventType), Body: append(body, `"}}`...), Lanes: d.dispatcher.Route([]byte(eventType), nil)}
	if err := d.Append("platform", []queue.Event{event}, make([]queue.Receipt, 1)); err != nil {
		d.t.Fatal(err)
	}
}

func TestAnEndpointIsSentNoMoreBytesThanItMay(t *testing.T) {
	g := newGate(queue.Health{}, "")
	g.configure(&config.Endpoint{Enabled: true, Delivery: config.Delivery{Concurrency: 1024, RateBytes: lineRate}})
	now, sent := gateStart, 0
	for end := gateStart.Add(time.Hour); now.Before(end); {
		p := g.allow(now)
		if !p.firsts {
			if !p.until.After(now) {
				t.Fatalf("at %v it is to be asked again at %v", now, p.until)
			}
			now = p.until
			continue
		}
		body := 200 + 997*sent%(3*lineRate) // some take longer than a second
		if most := (now.Sub(gateStart) + uplinkAhead).Seconds() * lineRate; float64(sent) > most+1 {
			t.Fatalf("after %v %d bytes, of at most %.0f", now.Sub(gateStart), sent, most)
		}
		sent += body
		g.end(g.begin(now, true, body))
	}
	if least := 3595 * lineRate; sent < least {
		t.Errorf("%d bytes in an hour, want at least %d", sent, least)
	}
}

// What was sent at a former rate holds up nothing at the new one.
func TestAReloadToAnotherRateOfBytesBeginsAnew(t *testing.T) {
	ep := &config.Endpoint{Enabled: true, Delivery: config.Delivery{Concurrency: 1024, RateBytes: 1 << 10}}
	g := newGate(queue.Health{}, "")
	g.configure(ep)
	g.end(g.begin(gateStart, true, 1<<20))
	g.configure(ep)
	if g.allow(gateStart).firsts {
		t.Error("a reload that changes nothing lets it send beyond its rate")
	}
	faster := *ep
	faster.Delivery.RateBytes = 1 << 20
	g.configure(&faster)
	if p := g.allow(gateStart); !p.firsts {
		t.Errorf("it waits until %v for what was sent at the former rate", p.until.Sub(gateStart))
	}
}
