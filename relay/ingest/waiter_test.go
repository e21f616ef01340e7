package ingest

import (
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/canonical"
)

// woken is about how many times a goroutine was woken so far. The runtime counts one in eight.
func woken() (n uint64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	for _, one := range sample[0].Value.Float64Histogram().Counts {
		n += 8 * one
	}
	return n
}

// Strangers who wait for room are woken when there is some for them, and not with each byte that comes back: a hundred of them would keep
// the processors from everybody else.
func TestWhoWaitsForRoomIsNotWokenInVain(t *testing.T) {
	const waiters, gives = 100, 500
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		first := new(reservation)
		first.begin(b, owner{source: "first"}, 1000, nil)
		if err := first.Take(950); err != nil {
			t.Fatal(err)
		}
		first.hasty = true // or it would let them go first
		took := make(chan error, waiters)
		for range waiters {
			go func() {
				h := new(reservation)
				h.begin(b, owner{source: "other"}, 1000, nil)
				err := h.Take(100)
				took <- err
				if err == nil {
					h.end()
				}
			}()
		}
		synctest.Wait()
		before := woken()
		for range gives {
			first.Give(1)
			synctest.Wait() // whoever was woken waits again
			if err := first.Take(1); err != nil {
				t.Fatal(err)
			}
		}
		if n := woken() - before; n > waiters*gives/10 {
			t.Errorf("about %d times somebody was woken, by %d times that nobody found room", n, gives)
		}
		first.end()
		for range waiters {
			if err := <-took; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if b.held != 0 || len(b.owners) != 0 || len(b.waiting) != 0 {
			t.Errorf("in the end %d bytes are held, %d wait", b.held, len(b.waiting))
		}
	})
}

// Who needs little is not kept waiting by who needs much, and who waits in vain is told so and counts no more.
func TestRoomGoesToThoseForWhomThereIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		first, large, small := new(reservation), new(reservation), new(reservation)
		for _, h := range []*reservation{first, large, small} {
			h.begin(b, owner{}, 1000, nil)
		}
		if err := first.Take(1000); err != nil {
			t.Fatal(err)
		}
		tookLarge, tookSmall := make(chan error, 1), make(chan error, 1)
		go func() { tookLarge <- large.Take(900) }()
		synctest.Wait()
		go func() { tookSmall <- small.Take(200) }()
		synctest.Wait()
		first.Give(300)
		if err := <-tookSmall; err != nil {
			t.Error(err)
		}
		if err := <-tookLarge; err != errNoRoom { // when time is over
			t.Errorf("900 of 1000 bytes beside 900: %v", err)
		}
		small.end()
		first.end()
		synctest.Wait()
		if b.held != 0 || len(b.waiting) != 0 || large.bytes != 0 {
			t.Errorf("in the end %d bytes are held, %d by who was refused, %d wait", b.held, large.bytes, len(b.waiting))
		}
	})
}

// Of several owners who wait the one that holds the least is served first, and nobody who holds more takes what comes back before
// that is enough, neither by asking for less nor by coming later. Who works in his turn does not wait for anybody.
func TestRoomGoesFirstToWhoHoldsTheLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		of := func(name string, bytes int) *reservation {
			h := new(reservation)
			h.begin(b, owner{source: name}, 800, nil)
			if err := h.Take(bytes); err != nil {
				t.Fatal(err)
			}
			return h
		}
		take := func(h *reservation, bytes int) chan error {
			took := make(chan error, 1)
			go func() { took <- h.Take(bytes) }()
			synctest.Wait()
			return took
		}
		much, more, little := of("much", 390), of("more", 600), of("little", 0)
		early := take(much, 20)
		poor := take(little, 100)
		much.Give(60)
		late := take(more, 10)
		inTurn := of("more", 0)
		inTurn.hasty = true
		if err := inTurn.Take(5); err != nil {
			t.Errorf("in his turn: %v", err)
		}
		synctest.Wait()
		if len(early)+len(poor)+len(late) > 0 {
			t.Errorf("%d, %d and %d were served, with 65 bytes and one who holds nothing waiting for 100", len(early), len(poor), len(late))
		}
		more.Give(50)
		synctest.Wait()
		if len(poor) != 1 || len(early)+len(late) > 0 {
			t.Errorf("who holds nothing: %d served with 115 bytes, others %d and %d", len(poor), len(early), len(late))
		}
		more.Give(5)
		for name, took := range map[string]chan error{"early": early, "poor": poor, "late": late} {
			if err := <-took; (err != nil) != (name == "late") { // there is nothing left for it until its time is over
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Owners that hold much leave a part to those who hold little, who then wait for nobody.
func TestALittleRoomIsKeptForThoseWhoHoldLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		b.spare = 125
		var much, little reservation
		much.begin(b, owner{source: "much"}, 1000, nil)
		little.begin(b, owner{source: "little"}, 1000, nil)
		if err := much.Take(876); err != errNoRoom {
			t.Errorf("876 of 1000 with 125 to spare: %v", err)
		}
		if err := much.Take(875); err != nil {
			t.Fatal(err)
		}
		began := time.Now() // of the bubble's clock
		if err := little.Take(1000 / littlePart); err != nil || time.Since(began) > 0 {
			t.Errorf("who holds nothing takes a little: %v after %v", err, time.Since(began))
		}
		for name, h := range map[string]*reservation{"little": &little, "much": &much} {
			if err := h.Take(1); err != errNoRoom {
				t.Errorf("%s takes more: %v", name, err)
			}
		}
		much.Give(100)
		if err := little.Take(1); err != nil {
			t.Errorf("beside %v: %v", b.owners, err)
		}
	})
}

// Whom nobody serves holds up nobody once his time is over.
func TestWhoWaitsInVainLeavesTheRoomToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		var much, little reservation
		much.begin(b, owner{source: "much"}, 1000, nil)
		little.begin(b, owner{source: "little"}, 1000, nil)
		if err := much.Take(900); err != nil {
			t.Fatal(err)
		}
		vain := make(chan error, 1)
		go func() { vain <- little.Take(200) }()
		synctest.Wait()
		time.Sleep(roomWait / 2)
		if err := much.Take(50); err != nil {
			t.Errorf("when the other has given up: %v", err)
		}
		if err := <-vain; err != errNoRoom {
			t.Errorf("200 of 1000 bytes beside 900: %v", err)
		}
	})
}

// Who works on a large body lets others have the processor meanwhile: without that they wait for 10 ms each time, and a commit needs it
// again and again.
func TestALargeBodyLeavesTheProcessorToOthersNowAndThen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	numbers := "[" + strings.Repeat("5e-324,", 100_000) + "0]"
	strays := "[" + strings.Repeat(`{"b":0,"1":0},`, 50_000) + "0]"
	packed := []byte(gzipOf(numbers))
	for name, one := range map[string]struct {
		turns int64
		do    func() error
	}{
		"values": {500, func() error { _, err := new(canonical.Parser).Canonical([]byte(numbers)); return err }},
		"order":  {500, func() error { _, err := new(canonical.Parser).Canonical([]byte(strays)); return err }},
		"unpacking": {5, func() error {
			_, err := newBodies(1<<20).decompress(packed, gzipped, nil, nil, newBudget(1<<20))
			return err
		}},
	} {
		var turns atomic.Int64
		var over atomic.Bool
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for !over.Load() {
				turns.Add(1)
				runtime.Gosched()
			}
		}()
		err := one.do()
		had := turns.Load()
		over.Store(true)
		<-ended
		if err != nil || had < one.turns {
			t.Errorf("%s: others had %d turns, want %d at least (%v)", name, had, one.turns, err)
		}
	}
}

// Whoever takes of what is kept for those who hold little does not wait for one who holds nothing and wants much: that is not his.
// Beyond what is kept who holds less goes first again.
func TestWhoHoldsLittleWaitsForNobodyWhoWantsMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		b.spare = 125
		of := func(name string, bytes int) *reservation {
			h := new(reservation)
			h.begin(b, owner{source: name}, 1000, nil)
			if err := h.Take(bytes); err != nil {
				t.Fatal(err)
			}
			return h
		}
		most, one, wants := of("most", 860), of("one", 10), new(reservation)
		wants.begin(b, owner{source: "wants much"}, 1000, nil)
		took := make(chan error, 1)
		go func() { took <- wants.Take(300) }()
		synctest.Wait()
		began := time.Now() // of the bubble's clock
		if err := one.Take(10); err != nil || time.Since(began) > 0 {
			t.Errorf("who holds 10 takes 10: %v after %v", err, time.Since(began))
		}
		for i := range 3 { // 110 of 125
			of([]string{"two", "three", "four"}[i], 30)
		}
		if time.Since(began) > 0 {
			t.Errorf("others wait %v", time.Since(began))
		}
		late := make(chan error, 1)
		of("five", 10)
		go func() { late <- one.Take(8) }() // which would be 128
		synctest.Wait()
		select {
		case <-late:
			t.Error("who holds 20 takes more than is kept, before who holds nothing")
		default:
		}
		most.Give(410)
		synctest.Wait()
		select {
		case err := <-took:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("who holds nothing still waits")
		}
		if err := <-late; err != nil {
			t.Error(err)
		}
	})
}

// A request that has not shown its credential begins with no more memory than it needs: what is kept of large requests is for others.
func TestStrangersGetNoLargeBuffers(t *testing.T) {
	pools, large := newBufferPools(), &buffers{posted: make([]byte, 0, mostKept)}
	pools.large <- large
	h := new(fasthttp.RequestHeader)
	h.SetContentLength(64 << 10)
	if w := pools.get(h, false); w == large || w.held() > keptBytes {
		t.Errorf("a stranger begins with %d bytes", w.held())
	}
	if w := pools.get(h, true); w != large {
		t.Error("who has shown a credential gets other buffers")
	}
}
