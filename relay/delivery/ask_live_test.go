package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
)

// Everything that can happen to a lane comes in any order, while the disk answers or does not and the clock leaps: what is
// counted as under way is under way, a pause lets nothing out that it has not counted, and in the end each delivery is
// where it belongs.
func TestALaneCountsRightWhateverComesInBetween(t *testing.T) {
	var waited int64
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			status := &atomic.Int32{}
			status.Store(200)
			got := &ledger{}
			url, _ := quickReceiver(t, func(req *http.Request) int {
				if status.Load() == 200 {
					got.enter(req.Header.Get("webhook-id"))
				}
				return int(status.Load())
			})
			waited += live(t, r, url, status, got)
		})
	}
	if waited == 0 {
		t.Error("no read waited: this shows nothing")
	}
}

func live(t *testing.T, r *rand.Rand, url string, status *atomic.Int32, got *ledger) (waited int64) {
	ep := subscriber("crm", url)
	ep.Delivery.Retry = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
	s := &disk{place: log.PlaceRead}
	d := openHarness(t, ep)
	d.stop(context.Background())
	d.fault = s.fault
	d.open(ep)
	t.Cleanup(s.release)
	d.endHousekeeping()
	lane := d.dispatcher.Lane("crm")
	accepted, served := 0, true
	started := func() int64 {
		lane.mu.Lock()
		defer lane.mu.Unlock()
		g := &lane.gate
		probes, most := 0, 0
		for _, f := range lane.inFlight {
			if f.probe {
				probes++
			}
			most = max(most, f.generation.endpoint.Delivery.Concurrency)
		}
		if g.inFlight != len(lane.inFlight) || g.probesInFlight != probes || probes > 1 || len(lane.inFlight) > max(most, 1) {
			t.Errorf("%d count as under way and %d as probes, of %d with %d probes and at most %d at a time",
				g.inFlight, g.probesInFlight, len(lane.inFlight), probes, most)
		}
		lane.probes.mu.Lock()
		defer lane.probes.mu.Unlock()
		if busy := lane.probes.inFlight - probes; busy < 0 || busy > 1 || busy == 1 && lane.askingSince.IsZero() {
			t.Errorf("the budget counts %d probes, %d are under way", lane.probes.inFlight, probes)
		}
		return lane.stats.attempts + int64(len(lane.inFlight))
	}
	// settles waits until nothing goes on, unless the disk keeps it from that.
	settles := func() {
		d.comeTo(lane, func() bool {
			asking := 0
			if !lane.askingSince.IsZero() {
				asking = 1
			}
			return len(lane.inFlight) == 0 && lane.idle+asking == lane.senders && (asking == 0 || s.waiting.Load() > 0) &&
				(len(lane.wake) == 0 || lane.idle == 0)
		})
	}
	held, since := false, int64(0)
	for step := range 150 {
		switch what := r.IntN(12); what {
		case 0, 1:
			n := 1 + r.IntN(30)
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf("evt_%d_%d", step, i)
			}
			if served && ep.Enabled {
				d.accept("lead.created", ids...)
				accepted += n
			}
			if r.IntN(4) == 0 && served {
				d.fill()
				held, since = true, started()
			}
		case 2:
			s.stick()
		case 3:
			s.release()
		case 4:
			if err := lane.Pause("by the test"); err != nil {
				t.Error(err)
			}
			held, since = true, started()
		case 5:
			if err := lane.Resume(); err == nil {
				held = false
			} else if !errors.Is(err, ErrDisabled) {
				t.Error(err)
			}
		case 6:
			ep.Delivery.Concurrency = 1 + r.IntN(6)
			ep.Delivery.Rate = float64(r.IntN(2) * 5)
			if ep.Enabled = r.IntN(6) > 0; served {
				d.apply(ep)
			}
		case 7:
			if served = !served; served {
				d.apply(ep)
			} else {
				d.apply()
			}
		case 8, 9:
			status.Store([]int32{200, 200, 500, 503, 429, 400}[r.IntN(6)])
		default:
			s.release()
			d.skip(time.Duration(r.IntN(int(20 * time.Second))))
			d.dispatcher.checkLanes([]*Lane{lane})
			lane.reportLasting(d.now())
			lane.requestExpiry()
		}
		if r.IntN(2) == 0 {
			settles()
		}
		if now := started(); held && now > since {
			t.Fatalf("step %d: %d attempts began after the pause was answered", step, now-since)
		}
	}
	s.release()
	status.Store(200)
	ep.Enabled, ep.Delivery.Rate = true, 0
	d.apply(ep)
	if err := lane.Resume(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); !settled(d.status("crm")) && time.Now().Before(end); <-time.After(time.Millisecond) {
		d.skip(time.Second)
		settles()
	}
	settles()
	last := d.status("crm")
	if !settled(last) || last.Delivered+last.Failed != int64(accepted) || last.InFlight != 0 {
		t.Errorf("of %d accepted: %+v", accepted, last)
	}
	times := map[string]int{}
	for _, id := range got.arrived() {
		if times[id]++; times[id] > 1 {
			t.Errorf("%s was taken twice", id)
		}
	}
	if int64(len(times)) != last.Delivered {
		t.Errorf("%d were taken, %d count as delivered", len(times), last.Delivered)
	}
	started()
	d.close()
	return s.waited.Load()
}
