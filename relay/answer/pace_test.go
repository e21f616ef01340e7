package answer

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

func TestAFloodOfNewConnectionsIsRefusedToItsAddressAlone(t *testing.T) {
	var told lockedText
	refused := NewRefusals("intake", zerolog.New(&told))
	h := openHallAt(t, Share{All: 256, PerAddress: 256, PerSecond: 1, Refused: refused}, welcome, standing())
	until := func(n uint64) {
		t.Helper()
		for deadline := time.Now().Add(patience); refused.Counts()[RefusedPace] < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("refused: %v", refused.Counts())
			}
		}
	}
	// All together have two seconds of eight times the pace of one.
	h.fill(1, 16)
	if counts := refused.Counts(); counts[RefusedPace] != 0 {
		t.Errorf("the control: %v", counts)
	}
	for range 3 {
		if conn := dialFrom(t, 1, h.address); !isCut(conn) {
			t.Error("the flood goes on")
		}
	}
	until(3)
	if text := told.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"from":"127.0.0.1"`) || !strings.Contains(text, "begins too many a second") {
		t.Errorf("told: %s", text)
	}
	if status, _ := h.status(h.enter(2, knock)); status != 200 {
		t.Errorf("another address is answered %d", status)
	}
	h.ahead.Store(int64(time.Minute))
	if status, _ := h.status(h.enter(1, knock)); status != 200 {
		t.Errorf("a minute later the same address is answered %d", status)
	}
	h.limited.mu.Lock()
	defer h.limited.mu.Unlock()
	if n := len(h.limited.pace.each); n != 1 {
		t.Errorf("%d addresses are remembered, want that of the last connection alone", n)
	}
}

// A client with a connection for each event begins as many as it likes, and guesses don't keep out who shares their address.
func TestConnectionsOnWhichARequestIsAnsweredDontCount(t *testing.T) {
	h := openHallAt(t, Share{All: 256, PerAddress: 256, PerSecond: 1}, func(ctx *fasthttp.RequestCtx) { Error(ctx, 401, "unauthorized", "no") }, standing())
	for i := range 100 {
		text, want := knock+knock, 401 // the second gives nothing more
		if i%2 == 0 {
			text, want = "GET / HTTP/1.1\n\n", 400
		}
		conn := h.enter(1, text)
		if status, _ := h.status(conn); status != want {
			t.Fatalf("request %d is answered %d", i, status)
		}
		_ = conn.Close()
	}
	h.limited.mu.Lock()
	defer h.limited.mu.Unlock()
	if owed := h.limited.pace.all.Sub(h.limited.now()); owed != 0 {
		t.Errorf("%s are owed", owed)
	}
}

func TestTheProxyProtocolNamesWhoseFloodItIs(t *testing.T) {
	refused := NewRefusals("intake", zerolog.Nop())
	address := openIntroduced(t, Share{All: 256, PerAddress: 256, PerSecond: 1, Refused: refused, Proxies: twoProxies})
	begin := func(client, text string) net.Conn {
		conn := dialFrom(t, 2, address)
		if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.8 1 2\r\n"+text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ask := func(client string) int {
		conn := begin(client, asked())
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode
	}
	if status := ask("192.0.2.7"); status != 200 {
		t.Errorf("the control is answered %d", status)
	}
	for range 17 { // one more than may be begun at once
		begin("192.0.2.7", "GET")
	}
	for deadline := time.Now().Add(patience); refused.Counts()[RefusedPace] < 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("refused: %v", refused.Counts())
		}
	}
	for range 3 {
		if status := ask("192.0.2.7"); status != 503 {
			t.Errorf("one more is answered %d, refused: %v", status, refused.Counts())
		}
	}
	if status := ask("192.0.2.9"); status != 200 {
		t.Errorf("another client is answered %d", status)
	}
}

func TestPacesComeBackSteadily(t *testing.T) {
	p, now := newPace(10), time.Now()
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	begun := func(address netip.Addr, tries int) (n int) {
		for range tries {
			if p.begin(address, now) {
				n++
			}
		}
		return n
	}
	if n := begun(one, 1000); n != 160 {
		t.Errorf("one address begins %d at once, want two seconds of what all may", n)
	}
	if n := begun(other, 1000); n != 10 {
		t.Errorf("another then begins %d, want a second of its own", n)
	}
	now = now.Add(time.Second)
	if one, other := begun(one, 1000), begun(other, 1000); one != 80 || other != 10 {
		t.Errorf("a second later one begins %d and another %d, want 80 and 10", one, other)
	}
	// Eight that flood at their own pace leave nothing for others to take beyond theirs.
	for range 20 {
		now = now.Add(100 * time.Millisecond)
		for i := range byte(8) {
			begun(netip.AddrFrom4([4]byte{198, 51, 100, i}), 100)
		}
	}
	if n := begun(one, 1000); n != 10 {
		t.Errorf("beside eight floods one address begins %d, want 10", n)
	}
	if _, kept := p.each[other]; kept || len(p.each) != 9 {
		t.Errorf("%d addresses are remembered: %v", len(p.each), p.each)
	}
	if !p.begin(netip.Addr{}, now) {
		t.Error("who has no address is refused")
	}
	none := newPace(0)
	for range 10000 {
		if !none.begin(one, now) {
			t.Fatal("without a bound there is one")
		}
	}
}
