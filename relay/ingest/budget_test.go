package ingest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/testca"
	"realtorbot-relay/sign"
)

// stuck is a Queue that is at work until its gate opens.
type stuck struct {
	gate  chan struct{}
	here  atomic.Int64 // requests
	batch atomic.Int64 // events of the last one
}

func (s *stuck) Usage(string) (events, bytes int64) { return 0, 0 }

func (s *stuck) AppendWithin(_ int64, _ string, events []queue.Event, _ []queue.Receipt) error {
	s.batch.Store(int64(len(events)))
	s.here.Add(1)
	<-s.gate
	return nil
}

func (s *stuck) Ready() error { return nil }

// serveIntake has an intake served, and returns its address.
func serveIntake(t *testing.T, in *Intake) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := answer.Server(in.Handle, answer.Limits{Body: 1 << 20, Connections: 256, Stream: true, Refuses: in.Refuses}, func(what any) { t.Error(what) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(answer.Limit(ln, answer.Share{All: 256, PerAddress: 256}))
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return ln.Addr().String()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: ", what)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Thirty posts of the largest batches at once wait for the disk: what lives is what the budget says, and who finds no room
// is told to come again.
func TestWhatWaitsForTheDiskIsWithinTheBudget(t *testing.T) {
	for _, one := range []string{`{"id":"evt_000000000000000001","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"score":75}}`,
		`{"type":"a","data":{"n":[` + strings.Repeat("1e20,", 100) + `1]}}`} {
		s := &stuck{gate: make(chan struct{})}
		lanes := queue.NewLaneSet(0)
		in, err := New([]config.Source{{Name: "default", Path: "/events"}}, 1<<20, s, routed(func([]byte) queue.LaneSet { return lanes }), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		address := serveIntake(t, in)
		open := sync.OnceFunc(func() { close(s.gate) })
		t.Cleanup(open) // before the server is waited for
		body := strings.Repeat(one+"\n", min(maxEvents, (1<<20)/(len(one)+1)))
		before := heap()
		const clients = 30
		var refused, accepted atomic.Int64
		var all sync.WaitGroup
		for range clients {
			conn := say(t, address, "")
			all.Go(func() {
				_, _ = fmt.Fprintf(conn, "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", len(body))
				_, _ = io.WriteString(conn, body)
				switch answer, err := http.ReadResponse(bufio.NewReader(conn), nil); {
				case err != nil || answer.StatusCode == 503: // one that was slow may be cut
					refused.Add(1)
				case answer.StatusCode == 200:
					accepted.Add(1)
				default:
					t.Errorf("answered %d", answer.StatusCode)
				}
			})
		}
		eventually(t, "all are refused or wait", func() bool { return s.here.Load()+refused.Load() == clients })
		in.memory.known.mu.Lock()
		held := in.memory.known.held
		in.memory.known.mu.Unlock()
		if lives := heap() - before; lives > held+16<<20 || held > in.memory.known.all {
			t.Errorf("%.30s…: %d requests wait: %d MiB live, the budget says %d of %d MiB", one, s.here.Load(), lives>>20, held>>20, in.memory.known.all>>20)
		}
		if s.here.Load() < 2 || refused.Load() == 0 {
			t.Errorf("%.30s…: %d wait, %d were refused: this test shows nothing", one, s.here.Load(), refused.Load())
		}
		open()
		all.Wait()
		eventually(t, "all is given back", func() bool { c := counter{Intake: in}; return c.held() == 0 })
	}
}

// place is where something is allocated, and how large.
type place struct {
	stack [32]uintptr
	size  int64
}

// allocated tells how often the process has allocated something so far, as far as it was counted.
func allocated(t *testing.T) map[place]int64 {
	t.Helper()
	runtime.GC()
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 100_000)
	n, ok := runtime.MemProfile(records, true)
	if !ok {
		t.Fatalf("%d records", n)
	}
	all := make(map[place]int64, n)
	for _, r := range records[:n] {
		if r.AllocObjects > 0 {
			all[place{r.Stack0, r.AllocBytes / r.AllocObjects}] += r.AllocObjects
		}
	}
	return all
}

// manyMembers is an object of n members, not in JavaScript's order.
func manyMembers(n int) string {
	text := []byte{'{'}
	for i := n; i > 0; i -= 2 {
		text = fmt.Appendf(text, `"name%d":0,"%d":0,`, i, i)
	}
	text[len(text)-1] = '}'
	return string(text)
}

// mostOfAConnection is how large an allocation may be that each connection may have: the HTTP library's, for headers, TLS's, for a
// record, and what the rest of a request is read into that was refused. There is a bound of connections.
func mostOfAConnection(where string) int64 {
	switch {
	case strings.HasPrefix(where, "(*tlsConn).Read"), where == "(*counted).Write":
		return 48 << 10
	case where == "linger", where == "io.init.func1", where == "bufio.NewReaderSize", strings.HasPrefix(where, "github.com/valyala/fasthttp."):
		return 8 << 10
	}
	return 0
}

// Whatever is posted, an allocation above 4 KiB is made where it was taken from the budget first, or is one of those that each
// connection has.
func TestAllThatIsLargeIsTakenFromTheBudgetFirst(t *testing.T) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	signed := config.Source{Name: "signed", Path: "/signed", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot}
	c := openCounter(t, config.Source{Name: "default", Path: "/events"}, signed)
	address := c.open(patience)
	authority := testca.New(t, "of the test")
	files := config.TLSFiles{Section: "server"}
	files.Cert, files.Key = testca.Files(t, authority.Leaf(-time.Hour, time.Hour))
	certificate, err := answer.NewCertificate(files, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	secured := make([]net.Listener, 1)
	if secured[0], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	securely := secured[0].Addr().String()
	certificate.Secure(secured)
	c.serve(secured[0], patience)
	event := func(data string) string {
		return `{"type":"test","data":` + data + `}`
	}
	many := manyMembers(30_000)
	bodies := map[string]string{
		"text": longEvent("evt_1", 900_000), "members": event(many), "members twice": event(many[:len(many)-1] + `,"2":0}`),
		"strays":  event("[" + strings.Repeat(`{"b":0,"1":0},`, 40_000) + "0]"),
		"nested":  event(strings.Repeat(`{"a":`, 126) + `"` + strings.Repeat("x", 500_000) + `"` + strings.Repeat(`,"0":0}`, 126)),
		"numbers": event("[" + strings.Repeat("1e20,", 150_000) + "0]"), "batch": "[" + strings.Repeat(`{"type":"a","data":{}},`, 9_999) + `{"type":"a","data":{}}]`,
		"too many": strings.Repeat(`{"type":"a","data":{}}`+"\n", 10_001), "many of many": event(strings.Repeat(`{"a":`+manyMembers(100)+`,"b":`, 120) + "0" + strings.Repeat("}", 120)),
		"no JSON": strings.Repeat("[", 1<<20),
	}
	var requests []string
	for name, body := range bodies {
		kind := asJSON
		if name == "too many" {
			kind = asLines
		}
		encodings := map[string]string{"identity": body}
		if name == "text" || name == "nested" {
			encodings["gzip"], encodings["zstd"] = gzipOf(body), zstdOf(body)
		}
		for encoding, packed := range encodings {
			for _, path := range []string{"/events", "/signed"} {
				if path == "/signed" && name != "text" && name != "strays" {
					continue
				}
				requests = append(requests, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Encoding: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
					path, kind, encoding, realtorBotHeader(body), len(packed), packed))
			}
		}
	}
	small := event("{}")
	lines := func(n, size int) (text string) {
		for i := range n {
			text += fmt.Sprintf("A%d: %s\r\n", i, strings.Repeat("a", size))
		}
		return text
	}
	requests = append(requests,
		fmt.Sprintf("%s%sContent-Length: %d\r\n\r\n%s", postHead, lines(90, 70), len(small), small),
		fmt.Sprintf("%s%sContent-Length: %d\r\n\r\n%s", postHead, lines(1, 7000), len(small), small),
		fmt.Sprintf("%sCookie: %s\r\nContent-Length: %d\r\n\r\n%s", postHead, strings.Repeat("a=b; ", 90), len(small), small),
		postHead+"Transfer-Encoding: chunked\r\n\r\n"+strings.TrimSuffix(inChunks(small, 5), "\r\n")+lines(50, 70)+"\r\n",
		postHead+"Transfer-Encoding: chunked\r\n\r\n"+strings.TrimSuffix(inChunks(small, 5), "\r\n")+lines(1, 7000)+"\r\n",
		postHead+"Transfer-Encoding: chunked\r\n\r\n"+inChunks(longEvent("evt_2", 900_000), 1000),
		postHead+lines(1, 9000)+"\r\n", postHead+lines(300, 5)+"\r\n", "POST /events?"+strings.Repeat("a=b&", 1500)+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	before := allocated(t) // by the tests that ran before, a sample, and by what makes the requests
	runtime.MemProfileRate = 1
	for _, request := range requests {
		for _, over := range []string{address, securely} {
			conn := say(t, over, "")
			if over == securely {
				conn = tls.Client(conn, &tls.Config{RootCAs: authority.Pool(), ServerName: "127.0.0.1"})
			}
			if _, err := io.WriteString(conn, request); err != nil {
				t.Error(err)
			}
			if status, said := hear(t, bufio.NewReader(conn)); !slices.Contains([]int{200, 400, 413, 415, 431}, status) {
				t.Errorf("%.200q is answered %d %.200s", request, status, said)
			}
			_ = conn.Close()
		}
	}
	seen := map[string]bool{}
	for at, times := range allocated(t) {
		if size := at.size; size > 4<<10 && times > before[at] {
			where := allocatedBy(at.stack[:])
			seen[where] = true
			switch where {
			case "test", "GrowTo[...]", "(*canon).room": // take first
			case "(*bodies).gunzip", "(*bodies).unzstd", "(*bodies).fill": // of the decompressor, which decompress took
				if size > zstdBytes {
					t.Errorf("%d bytes at a time are allocated by %s", size, where)
				}
			default:
				if size > mostOfAConnection(where) {
					t.Errorf("%d bytes at a time are allocated by %s", size, where)
				}
			}
		}
	}
	if !seen["GrowTo[...]"] || !seen["(*canon).room"] || !seen["(*tlsConn).Read"] || !seen["github.com/valyala/fasthttp.(*RequestHeader).parse"] {
		t.Errorf("seen %v: this test shows nothing", seen)
	}
}

// allocatedBy is the innermost function on a stack of the intake, or of what it uses, or else the innermost one that is not the
// runtime's; "test" for a test's.
func allocatedBy(stack []uintptr) string {
	if n := slices.Index(stack, 0); n >= 0 {
		stack = stack[:n]
	}
	others := ""
	for frames := runtime.CallersFrames(stack); ; {
		frame, more := frames.Next()
		if others == "" && !strings.HasPrefix(frame.Function, "runtime.") {
			others = frame.Function
		}
		for _, room := range []string{"/relay/ingest.", "/relay/canonical.", "/relay/answer.", "/relay/memory."} {
			if _, name, ours := strings.Cut(frame.Function, room); ours {
				if strings.HasSuffix(frame.File, "_test.go") {
					return "test"
				}
				return name
			}
		}
		if !more {
			return others
		}
	}
}

// Seventy strangers send a mebibyte less ten bytes and wait. They take what there is for strangers, and nothing else.
func TestStrangersLeaveTheBudgetToOthers(t *testing.T) {
	for _, one := range []struct{ strangers, size int }{{70, 1 << 20}, {750, 12_000}} {
		t.Run(fmt.Sprint(one.size), func(t *testing.T) { strangersLeaveTheBudgetToOthers(t, one.strangers, one.size) })
	}
}

func strangersLeaveTheBudgetToOthers(t *testing.T, strangers, size int) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)},
		config.Source{Name: "edge", Path: "/edge", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot})
	address := c.open(time.Hour) // nobody is cut for being slow alone
	for range strangers {
		conn := say(t, address, "")
		go func() { // it may be cut, or answered 503
			_, _ = fmt.Fprintf(conn, "POST /edge HTTP/1.1\r\nHost: localhost\r\n%s\r\nX-RealtorBot-Signature: %064d\r\nContent-Length: %d\r\n\r\n", asJSON, 0, size)
			_, _ = io.WriteString(conn, strings.Repeat(" ", size-1))
		}()
	}
	eventually(t, "the strangers have their share", func() bool { return c.held() > c.memory.addressShare-min(c.memory.addressShare/2, 25*int64(size)) })
	batch := strings.Repeat(`{"type":"lead.created","data":{"score":75}}`+"\n", 8000)
	for range 3 {
		conn := say(t, address, fmt.Sprintf("POST /events HTTP/1.1\r\nHost: localhost\r\n%s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", asLines, testToken, len(batch), batch))
		if status, said := hear(t, bufio.NewReader(conn)); status != 200 {
			t.Errorf("a batch with the token is answered %d %.200s", status, said)
		}
	}
	// One that signs has to wait for a stranger that is cut, and is served from the same address.
	signed := longEvent("evt_signed", 300_000)
	eventually(t, "one that signs is served", func() bool {
		conn := say(t, address, "")
		_, _ = fmt.Fprintf(conn, "POST /edge HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", asJSON, realtorBotHeader(signed), len(signed), signed)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil) // one that was slow may be cut
		return err == nil && answer.StatusCode == 200
	})
	c.memory.strangers.mu.Lock()
	defer c.memory.strangers.mu.Unlock()
	if c.memory.strangers.held > c.memory.addressShare {
		t.Errorf("one address holds %d bytes of %d", c.memory.strangers.held, c.memory.addressShare)
	}
}

func TestSharesOfABudget(t *testing.T) {
	b := newBudget(1000)
	one, two := owner{address: netip.MustParseAddr("192.0.2.1")}, owner{address: netip.MustParseAddr("192.0.2.2")}
	var h, other, last reservation
	h.begin(b, one, 600, nil)
	other.begin(b, one, 600, nil)
	last.begin(b, two, 600, nil)
	if h.Take(500) != nil || other.Take(200) == nil || last.Take(500) != nil || last.Take(1) == nil {
		t.Errorf("held %d of 1000: %v", b.held, b.owners)
	}
	h.Give(200)
	if err := other.Take(200); err != nil {
		t.Errorf("beside %v: %v", b.owners, err)
	}
	to := newBudget(1000)
	if err := h.move(to, owner{source: "a"}, 299); err == nil || h.bytes != 300 || h.of != b {
		t.Errorf("moved to where there is no share: %v, %d", err, h.bytes)
	}
	if err := h.move(to, owner{source: "a"}, 300); err != nil || to.held != 300 || b.held != 700 {
		t.Errorf("%v: %d there, %d here", err, to.held, b.held)
	}
	for _, h := range []*reservation{&h, &other, &last} {
		h.end()
	}
	if to.held+b.held != 0 || len(b.owners)+len(to.owners)+len(b.reservations)+len(to.reservations) > 0 {
		t.Errorf("left: %+v, %+v", b, to)
	}
}

// An answer that is not read is held until its client goes, and no longer.
func TestALargeAnswerIsHeldUntilItWasSent(t *testing.T) {
	c := openCounter(t)
	address := c.open(patience)
	batch := "[" + strings.Repeat(`{"type":"a","data":{}},`, 9_999) + `{"type":"a","data":{}}]`
	post := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, len(batch), batch)
	conn := say(t, address, post)
	if status, said := hear(t, bufio.NewReader(conn)); status != 200 || strings.Count(said, "evt_") != 10_000 {
		t.Errorf("answered %d %.100s", status, said)
	}
	eventually(t, "it is given back", func() bool { return c.held() == 0 })
	lazy := say(t, address, "")
	_ = lazy.(*net.TCPConn).SetReadBuffer(4 << 10)
	for range 8 {
		if _, err := io.WriteString(lazy, post); err != nil {
			break
		}
	}
	eventually(t, "answers are kept for one that does not read", func() bool { return c.held() > 100_000 })
	_ = lazy.Close()
	eventually(t, "they are given back", func() bool { return c.held() == 0 })
}
