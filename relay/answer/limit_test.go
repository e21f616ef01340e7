package answer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/testca"
)

// hall is a server behind a limited listener whose clock the test turns.
type hall struct {
	t       *testing.T
	address string
	limited *limited
	ahead   atomic.Int64 // of its clock
}

func openHall(t *testing.T, s Share, handle fasthttp.RequestHandler) *hall {
	t.Helper()
	return openHallAt(t, s, handle, time.Now)
}

// standing is a clock that stands still but for what the test turns.
func standing() func() time.Time {
	at := time.Now()
	return func() time.Time { return at }
}

func openHallAt(t *testing.T, s Share, handle fasthttp.RequestHandler, now func() time.Time) *hall {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return openHallOn(t, ln, s, handle, now)
}

func openHallOn(t *testing.T, ln net.Listener, s Share, handle fasthttp.RequestHandler, now func() time.Time) *hall {
	t.Helper()
	h := &hall{t: t, address: ln.Addr().String()}
	h.limited = Limit(Introduced(ln, s.Proxies), s).(*limited)
	h.limited.now = func() time.Time { return now().Add(time.Duration(h.ahead.Load())) }
	server := Server(handle, Limits{Body: 1 << 20, Connections: s.All + 8}, func(any) {})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(h.limited)
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return h
}

// enter opens a connection from 127.0.0.n and sends text on it.
func (h *hall) enter(n byte, text string) net.Conn {
	h.t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}, Timeout: patience}
	conn, err := from.Dial("tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		h.t.Fatal(err)
	}
	return conn
}

// fill opens so many connections from 127.0.0.n that say nothing, and waits until they have their places.
func (h *hall) fill(n byte, connections int) (opened []net.Conn) {
	h.t.Helper()
	before := h.open()
	for range connections {
		opened = append(opened, h.enter(n, "POST / HT"))
	}
	for deadline := time.Now().Add(patience); h.open() < before+connections; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("%d of %d connections have a place", h.open()-before, connections)
		}
	}
	return opened
}

func (h *hall) open() int {
	h.limited.mu.Lock()
	defer h.limited.mu.Unlock()
	return len(h.limited.open)
}

const knock = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

func (h *hall) status(conn net.Conn) (int, string) {
	h.t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	mustHaveAll(h.t, answer)
	if answer.StatusCode == 503 && answer.Header.Get("Retry-After") == "" {
		h.t.Error("503 without Retry-After")
	}
	return answer.StatusCode, string(body)
}

func isCut(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
}

func TestTooManyConnectionsAreAnsweredInOurForm(t *testing.T) {
	h := openHall(t, Share{All: 4, PerAddress: 4}, welcome)
	for n := range byte(4) {
		h.fill(1+n, 1)
	}
	if status, body := h.status(h.enter(1, knock)); status != 503 || body != tooMany {
		t.Errorf("answered %d %q", status, body)
	}
	if status, body := h.status(h.enter(9, "")); status != 503 || body != tooMany {
		t.Errorf("to one that says nothing it answers %d %q", status, body)
	}
}

// Whoever looks at a proxy that answers 502 finds the reason here.
func TestRefusedConnectionsAreCountedAndTold(t *testing.T) {
	var told lockedText
	refused := NewRefusals("intake", zerolog.New(&told))
	h := openHall(t, Share{All: 6, PerAddress: 4, Refused: refused}, welcome)
	h.fill(1, 4)
	if counts := refused.Counts(); counts[RefusedAddress]+counts[RefusedFull] != 0 || told.String() != "" {
		t.Errorf("the control: %v %s", counts, told.String())
	}
	h.ahead.Store(-int64(time.Hour)) // nobody has kept us waiting for long, however long this takes
	for range 3 {
		h.status(h.enter(1, knock))
	}
	h.fill(2, 2)
	h.ahead.Store(-2 * int64(time.Hour))
	h.status(h.enter(2, knock)) // which has its part
	if counts := refused.Counts(); counts[RefusedAddress] != 3 || counts[RefusedFull] != 1 {
		t.Errorf("counted %v", counts)
	}
	for _, part := range []string{`"listener":"intake"`, `"from":"127.0.0.1"`, `"refused":1`, "one address has as many as one may have"} {
		if !strings.Contains(told.String(), part) {
			t.Errorf("%s is not in %s", part, told.String())
		}
	}
}

// lockedText is what was written to it.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestWhoKeepsUsWaitingLongestGivesUpItsPlace(t *testing.T) {
	h := openHall(t, Share{All: 4, PerAddress: 4}, welcome)
	slow := h.fill(1, 4)
	h.ahead.Store(int64(grace + time.Minute))
	for range 3 {
		if status, _ := h.status(h.enter(2, knock)); status != 200 {
			t.Fatalf("answered %d", status)
		}
	}
	cut := 0
	for _, conn := range slow {
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if isCut(conn) {
			cut++
		}
	}
	if cut == 0 || cut == 4 {
		t.Errorf("%d of 4 slow connections were cut, want 1 to 3", cut)
	}
	if n := h.open(); n > 4 {
		t.Errorf("%d connections have a place, want at most 4", n)
	}
}

// A client asks and asks and reads no answer: its own requests stop, it costs no more than what is in between, and when
// places are short its is the one that is given up.
func TestWhoReadsNoAnswersGivesUpItsPlace(t *testing.T) {
	var asked atomic.Int64
	h := openHall(t, Share{All: 1, PerAddress: 1}, func(ctx *fasthttp.RequestCtx) {
		asked.Add(1)
		JSON(ctx, 200, bytes.Repeat([]byte(" "), 64<<10))
	})
	flood := h.enter(1, "")
	_ = flood.(*net.TCPConn).SetReadBuffer(4 << 10)
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for {
			if _, err := io.WriteString(flood, strings.Repeat(knock, 100)); err != nil {
				return
			}
		}
	}()
	for last, deadline := int64(-1), time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if now := asked.Load(); now > 0 && now == last {
			break
		} else if last = now; time.Now().After(deadline) {
			t.Fatalf("%d requests were answered, and it goes on", now)
		}
	}
	for deadline := time.Now().Add(patience); ; {
		h.ahead.Add(int64(time.Hour)) // again, should it have been a pause and not the end
		status, _ := h.status(h.enter(2, knock))
		if status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an honest client is answered %d", status)
		}
	}
	<-flooded // its connection is gone
}

// Those who wait for us are not the ones to blame.
func TestAConnectionThatWaitsForItsAnswerIsKept(t *testing.T) {
	leave := make(chan struct{})
	h := openHall(t, Share{All: 1, PerAddress: 1}, func(ctx *fasthttp.RequestCtx) { <-leave; welcome(ctx) })
	waiting := h.enter(1, knock)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		h.limited.mu.Lock()
		served := len(h.limited.open) == 1 && h.limited.open[0].since.Load() == 0
		h.limited.mu.Unlock()
		if served {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the request is not served")
		}
	}
	h.ahead.Store(int64(time.Hour))
	if status, _ := h.status(h.enter(2, knock)); status != 503 {
		t.Errorf("answered %d", status)
	}
	close(leave)
	if status, _ := h.status(waiting); status != 200 {
		t.Errorf("answered %d", status)
	}
}

// Where fasthttp has nobody for a connection, who only begins a handshake does not keep out those who come behind.
func TestNobodyWaitsForAHandshakeToRefuseIt(t *testing.T) {
	ca := testca.New(t, "ca")
	cert, key := testca.Pair(t, ca.Leaf(-time.Hour, time.Hour, "localhost", "127.0.0.1"))
	s := startSecure(t, cert, key, nil) // for its certificate
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secured := []net.Listener{ln}
	s.certificate.Secure(secured)
	server := Server(welcome, Limits{Body: 1 << 10, Connections: 1}, func(any) {})
	server.Concurrency = 1
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(Limit(secured[0], Share{All: 8, PerAddress: 8})) }()
	t.Cleanup(func() {
		_ = ln.Close()
		_ = server.Shutdown()
		<-ended
	})
	first := dial(t, ln.Addr().String()) // which has the only one there is
	defer first.Close()
	for range 3 {
		conn := dial(t, ln.Addr().String())
		_ = conn.SetDeadline(time.Now().Add(patience / 3))
		if !isCut(conn) {
			t.Fatal("it is waited for what one says that is refused")
		}
	}
}

// Two addresses have all places, none for long. One that has few gets one, of the address that has the most: none of those that have
// no more than their part, nor of one that waits for us, nor for the address that has many.
func TestAddressesWithManyPlacesGiveWayToThoseWithFew(t *testing.T) {
	leave := make(chan struct{})
	h := openHallAt(t, Share{All: 32, PerAddress: 32}, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/wait" {
			<-leave
		}
		welcome(ctx)
	}, standing())
	waiting := h.enter(1, strings.Replace(knock, "/", "/wait", 1))
	few := h.fill(3, 2)
	some := h.fill(2, 12)
	many := h.fill(1, 17)
	if status, _ := h.status(h.enter(4, knock)); status != 200 {
		t.Errorf("an address with none is answered %d", status)
	}
	if status, _ := h.status(h.enter(4, knock)); status != 200 {
		t.Errorf("an address with one is answered %d", status)
	}
	for n := byte(2); n < 5; n++ {
		if status, body := h.status(h.enter(n, knock)); status != 503 || body != tooMany {
			t.Errorf("address %d, which has its part, is answered %d %s", n, status, body)
		}
	}
	cutOf := func(all []net.Conn) (n int) {
		for _, conn := range all {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
			if isCut(conn) {
				n++
			}
		}
		return n
	}
	if a, b, c := cutOf(few), cutOf(some), cutOf(many); a != 0 || b != 0 || c != 2 {
		t.Errorf("%d, %d and %d were cut of those with 2, 12 and 18, want 2 of the last", a, b, c)
	}
	close(leave)
	if status, _ := h.status(waiting); status != 200 {
		t.Errorf("who waited for us is answered %d", status)
	}
}

func TestOneAddressCantTakeAllPlaces(t *testing.T) {
	h := openHall(t, Share{All: 8, PerAddress: 3}, welcome)
	h.fill(1, 3)
	if status, _ := h.status(h.enter(1, knock)); status != 503 {
		t.Errorf("the fourth of one address is answered %d", status)
	}
	if status, _ := h.status(h.enter(2, knock)); status != 200 {
		t.Errorf("another address is answered %d", status)
	}
	// Its own slow ones make room for its honest ones, and nobody else's.
	others := h.fill(3, 2)
	h.ahead.Store(int64(time.Hour))
	if status, _ := h.status(h.enter(1, knock)); status != 200 {
		t.Errorf("the same address, a while later, is answered %d", status)
	}
	for _, conn := range others {
		_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if isCut(conn) {
			t.Error("another address paid for it")
		}
	}
}

func TestHealthIsAnsweredWhenAllPlacesAreTaken(t *testing.T) {
	health := func() (int, string) { return 200, `{"status":"ok"}` + "\n" }
	h := openHall(t, Share{All: 2, PerAddress: 2, Health: health}, welcome)
	h.fill(1, 1)
	h.fill(3, 1)
	if status, body := h.status(h.enter(2, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")); status != 200 || body != `{"status":"ok"}`+"\n" {
		t.Errorf("answered %d %q", status, body)
	}
	if status, _ := h.status(h.enter(2, "GET /healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")); status != 503 {
		t.Errorf("another path is answered %d", status)
	}
}

func TestPlacesComeBack(t *testing.T) {
	h := openHall(t, Share{All: 4, PerAddress: 2}, welcome)
	for range 20 {
		conn := h.enter(1, knock)
		if status, _ := h.status(conn); status != 200 {
			t.Fatalf("answered %d", status)
		}
		_ = conn.Close()
		for deadline := time.Now().Add(patience); h.open() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a closed connection keeps its place")
			}
		}
	}
	h.limited.mu.Lock()
	defer h.limited.mu.Unlock()
	if len(h.limited.addresses) > 0 || len(h.limited.open) > 0 {
		t.Errorf("left: %v, %v", h.limited.addresses, h.limited.open)
	}
}

func TestAddressesAreCountedByWhatOneClientHas(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "[2001:db8:1:2::9]:80": "2001:db8:1:2::", "[fe80::1%lo]:80": "fe80::",
	} {
		at, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		if got := Group(addressOf(at)).String(); got != want {
			t.Errorf("%s is counted as %s, want %s", text, got, want)
		}
	}
	if addressOf(&net.UnixAddr{Name: "@", Net: "unix"}).IsValid() {
		t.Error("a unix socket's client has an address")
	}
}

// Most clients write a whole request before they read: an answer given halfway must not be lost to a reset.
func TestARefusalReachesAClientThatWritesFirst(t *testing.T) {
	h := openHall(t, Share{All: 8, PerAddress: 8}, welcome)
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n" + strings.Repeat("x", 8<<20),
		"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		if status, _ := h.status(h.enter(1, request)); status != 413 && status != 431 {
			t.Errorf("answered %d", status)
		}
	}
}

// exhausted is a listener of a process that has no descriptor left, for so many times, and is then closed.
type exhausted struct {
	net.Listener
	times int
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.times--; e.times >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return nil, net.ErrClosed
}

func TestServingGoesOnWhenThereAreNoDescriptors(t *testing.T) {
	l := Limit(&exhausted{times: 2}, Share{All: 4, PerAddress: 4}).(*limited)
	var clients []net.Conn
	for i := range 3 {
		ours, theirs := net.Pipe()
		c := &counted{Conn: ours, at: l}
		c.since.Store(int64(3 - i)) // the last has kept us waiting for the longest
		if l.admit(c) != "" {
			t.Fatal("no place")
		}
		clients = append(clients, theirs)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accepting ends with %v", err)
	}
	for i, conn := range clients {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
		if isCut(conn) != (i > 0) {
			t.Errorf("connection %d is cut: %v", i, i == 0)
		}
	}
}
