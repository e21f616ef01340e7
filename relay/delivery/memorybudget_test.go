package delivery

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
)

// guest is an endpoint of a simulation that always has something to do.
type guest struct {
	memoryShare
	takes int // steps until it answers; 0: it hangs
	seats []seat
	most  int
}

// seat is an attempt under way.
type seat struct {
	cost int64
	ends int // step
}

// stepAt is when a step is: an answer takes half a second.
func stepAt(step int) time.Time { return gateStart.Add(time.Duration(step) * 100 * time.Millisecond) }

// step has attempts end that are answered, and others begin.
func (g *guest) step(p *memoryBudget, now, concurrency, body int) {
	for i := len(g.seats) - 1; i >= 0; i-- {
		if s := g.seats[i]; g.takes > 0 && s.ends <= now {
			p.end(&g.memoryShare, s.cost, true, stepAt(now))
			g.seats = append(g.seats[:i], g.seats[i+1:]...)
		}
	}
	for len(g.seats) < concurrency && p.admits(&g.memoryShare, stepAt(now)) {
		g.seats = append(g.seats, seat{p.begin(&g.memoryShare, body), now + g.takes})
	}
	g.most = max(g.most, len(g.seats))
}

func TestAttemptsUnderWayAreBoundedAndWhoAnswersHasAsManyAsItNeeds(t *testing.T) {
	const concurrency, well, steps = 16, 10, 200
	for _, c := range []struct {
		hanging, body int
		most          int64 // bytes
		alone         bool  // so few hang that all they want is free
	}{
		{1, 300, 64 << 20, true},
		{50, 300, 64 << 20, true},
		{500, 300, 64 << 20, false},
		{1000, 300, 64 << 20, false},
		{1000, 8 << 10, 64 << 20, false},
		{20, 1 << 20, 384 << 20, false},
	} {
		t.Run(fmt.Sprintf("%d that hang, %d bytes", c.hanging, c.body), func(t *testing.T) {
			p := memoryBudgetOf(c.most)
			var bad, good []*guest
			for range c.hanging {
				bad = append(bad, &guest{})
			}
			for range well {
				good = append(good, &guest{takes: 5})
			}
			var most int64
			for now := range steps {
				for _, g := range append(bad[:c.hanging:c.hanging], good...) {
					g.step(p, now, concurrency, c.body)
				}
				most = max(most, p.used.Load())
			}
			one := int64(c.body + attemptCost)
			if most > c.most+one {
				t.Errorf("%d MiB are held at most, want no more than %d", most>>20, c.most>>20)
			}
			free := int64(c.hanging+well) * concurrency * one
			if control := free > c.most; control == c.alone {
				t.Fatalf("without a bound %d MiB were held: this shows nothing", free>>20)
			}
			for _, g := range bad {
				if n := len(g.seats); n < 1 || c.alone && n < concurrency {
					t.Errorf("one that hangs has %d under way", n)
					break
				}
			}
			for _, g := range good {
				if g.most != concurrency || len(g.seats) < concurrency/2 {
					t.Errorf("one that is well has %d under way, and had %d at most", len(g.seats), g.most)
				}
			}
		})
	}
}

func TestMemoryComesBackWhenAttemptsEnd(t *testing.T) {
	p := memoryBudgetOf(1 << 20)
	var s memoryShare
	var costs []int64
	for p.admits(&s, stepAt(0)) {
		costs = append(costs, p.begin(&s, 10_000))
	}
	if p.used.Load() != s.bytes || s.bytes == 0 || s.bytes > p.limit.Load() {
		t.Fatalf("%d bytes are held, %d of them by the only one", p.used.Load(), s.bytes)
	}
	for _, cost := range costs {
		p.end(&s, cost, false, stepAt(1))
	}
	if p.used.Load() != 0 || s.bytes != 0 || s.earned != 0 {
		t.Errorf("in the end %d bytes are held, and %+v", p.used.Load(), s)
	}
}

// muster lets nobody go for a while, until so many are there at once; then it is over.
type muster struct {
	most int
	over chan struct{}
	once sync.Once

	mu    sync.Mutex
	there int
}

func (m *muster) join() {
	m.mu.Lock()
	if m.there++; m.there == m.most {
		m.once.Do(func() { close(m.over) })
	}
	m.mu.Unlock()
	select {
	case <-m.over:
	case <-time.After(200 * time.Millisecond): // how slow it is
		m.mu.Lock()
		m.there--
		m.mu.Unlock()
	}
}

// Real lanes: those that hang have a share each, and the one that answers, slowly, gets all that it may have beside them.
func TestLanesThatHangLeaveMemoryToOneThatAnswers(t *testing.T) {
	const hanging, concurrency, events = 20, 8, 400
	hung, err := net.Listen("tcp", "127.0.0.1:0") // and no answer: nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hung.Close() })
	crowd := &muster{most: concurrency, over: make(chan struct{})}
	url, got := quickReceiver(t, func(*http.Request) int { crowd.join(); return 200 })
	endpoints := []config.Endpoint{subscriber("well", url)}
	for i := range hanging {
		endpoints = append(endpoints, subscriber(fmt.Sprint("hangs-", i), "http://"+hung.Addr().String()))
	}
	for i := range endpoints {
		endpoints[i].Delivery.Concurrency, endpoints[i].Delivery.Timeout = concurrency, time.Hour
	}
	d := openHarness(t, endpoints...)
	const attempts = 2 * (hanging + 2*concurrency)
	d.dispatcher.budget.limit.Store(attempts * (attemptCost + 200))
	for i := range events {
		d.accept("lead.created", fmt.Sprint("evt_", i))
	}
	for i := range hanging {
		d.until(fmt.Sprint("hangs-", i), "trying", func(s Status) bool { return s.InFlight > 0 })
	}
	select {
	case <-crowd.over:
	case <-time.After(patience):
		t.Fatal("the one that is well does not get what it may have")
	}
	d.until("well", "settled", settled)
	if n := len(got.arrived()); n != events {
		t.Errorf("%d events came, want %d", n, events)
	}
	under := 0
	for _, s := range d.dispatcher.Statuses() {
		under += s.InFlight
	}
	if under < hanging || under > attempts/2+hanging {
		t.Errorf("%d attempts hang, want at least one for each of %d and about half of %d", under, hanging, attempts)
	}
	d.dispatcher.budget.limit.Store(1 << 40) // the control: without a bound each takes all that it may
	for i := range hanging {
		d.until(fmt.Sprint("hangs-", i), "as busy as it may be", func(s Status) bool { return s.InFlight == concurrency })
	}
}
