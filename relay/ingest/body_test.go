package ingest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

const patience = 30 * time.Second

// open has the counter's intake served on a listener, and returns its address.
func (c *counter) open(readTimeout time.Duration) (address string) {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.serve(ln, readTimeout)
	return ln.Addr().String()
}

func (c *counter) serve(ln net.Listener, readTimeout time.Duration) {
	server := answer.Server(c.Handle, answer.Limits{Body: 1 << 20, Connections: 2048, Stream: true, Refuses: c.Refuses}, func(what any) { c.t.Error(what) })
	server.ReadTimeout = readTimeout
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(answer.Limit(ln, answer.Share{All: 2048, PerAddress: 2048}))
	}()
	c.t.Cleanup(func() {
		_ = server.Shutdown() // and with it every connection, whose clients are gone by now
		<-done
	})
}

// held is what all requests hold, once those that were answered have given back what theirs was.
func (c *counter) held() int64 {
	held := func(b *budget) int64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.held
	}
	return held(c.memory.known) + held(c.memory.strangers)
}

// say opens a connection and writes raw bytes.
func say(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// hear reads the next answer.
func hear(t *testing.T, in *bufio.Reader) (status int, body string) {
	t.Helper()
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func inChunks(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

const postHead = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

func longEvent(id string, size int) string {
	return `{"id":"` + id + `","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"x":"` + strings.Repeat("x", size) + `"}}`
}

func TestBodiesOfEverySizeAndFraming(t *testing.T) {
	c := openCounter(t)
	address := c.open(patience)
	conn := say(t, address, "")
	in := bufio.NewReader(conn)
	for i, size := range []int{0, 1, 4 << 10, 8<<10 - 90, 8 << 10, 16 << 10, 100_000, 1<<20 - 100} {
		for _, chunk := range []int{0, 7000, 1 << 20} {
			body := longEvent(fmt.Sprintf("evt_%d_%d", i, chunk), size)
			text := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, len(body), body)
			if chunk > 0 {
				text = postHead + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body, chunk)
			}
			if i%2 == 1 {
				text = strings.Replace(text, "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1)
			}
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			status, said := hear(t, in)
			if status == 100 {
				status, said = hear(t, in)
			}
			if status != 200 {
				t.Fatalf("%d bytes, chunks of %d: answered %d %s", len(body), chunk, status, said)
			}
			if kept := c.shelf.bodies[len(c.shelf.bodies)-1]; kept != body {
				t.Fatalf("%d bytes, chunks of %d: kept %d bytes", len(body), chunk, len(kept))
			}
		}
	}
	if held := c.held(); held != 0 {
		t.Errorf("%d bytes of the budget did not come back", held)
	}
}

func TestBodiesThatEndBadly(t *testing.T) {
	c := openCounter(t)
	address := c.open(200 * time.Millisecond)
	large := strings.Repeat("x", 1<<20+1)
	tests := []struct {
		name, text string
		status     int
		code       string
	}{
		{"too large", fmt.Sprintf("%sContent-Length: %d\r\n\r\n", postHead, len(large)), 413, "too_large"},
		{"too large, in chunks", postHead + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(large, 60_000), 413, "too_large"},
		{"too large, in one chunk", postHead + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(large, len(large)), 413, "too_large"},
		{"slow", postHead + "Content-Length: 10\r\n\r\n12345", 408, "timeout"},
		{"slow after a while", postHead + "Content-Length: 100000\r\n\r\n" + large[:50_000], 408, "timeout"},
		{"slow in chunks", postHead + "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", 408, "timeout"},
		{"no chunk", postHead + "Transfer-Encoding: chunked\r\n\r\nhello\r\n", 400, "bad_request"},
		{"chunk without an end", postHead + "Transfer-Encoding: chunked\r\n\r\n5\r\n1234567\r\n", 400, "bad_request"},
	}
	for _, tt := range tests {
		status, body := hear(t, bufio.NewReader(say(t, address, tt.text)))
		if status != tt.status || !strings.HasPrefix(body, `{"error":{"code":"`+tt.code+`",`) {
			t.Errorf("%s: answered %d %s, want %d %s", tt.name, status, body, tt.status, tt.code)
		}
	}
	if len(c.shelf.bodies) > 0 {
		t.Errorf("kept %q", c.shelf.bodies)
	}
	if held := c.held(); held != 0 {
		t.Errorf("%d bytes of the budget did not come back", held)
	}
}

// Five hundred clients announce a mebibyte each and send 20 KB of it: what they take is what they sent, and others are
// served.
func TestAnnouncedBodiesTakeNoMemory(t *testing.T) {
	c := openCounter(t)
	address := c.open(patience)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients, sent = 500, 20_000
	for range clients {
		say(t, address, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, 1<<20, strings.Repeat(" ", sent)))
	}
	waiting := func() bool { return c.held() >= clients*sent }
	for deadline := time.Now().Add(patience); !waiting(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the bodies are not waited for")
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys+after.StackSys) - int64(before.HeapSys+before.StackSys); grown > clients*(1<<20)/4 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if status, body := hear(t, bufio.NewReader(say(t, address, fmt.Sprintf("%sContent-Length: 25\r\n\r\n%s", postHead, `{"type":"test","data":{}}`)))); status != 200 {
		t.Errorf("meanwhile answered %d %s", status, body)
	}
}

func TestLargeBodiesShareABudget(t *testing.T) {
	c := openCounter(t)
	address := c.open(patience)
	c.memory.known.all = 100_000
	large := longEvent("evt_large", 200_000)
	status, body := hear(t, bufio.NewReader(say(t, address, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, len(large), large))))
	if status != 503 || body != refused("unavailable", "the relay is overloaded")+"\n" {
		t.Errorf("answered %d %s", status, body)
	}
	small := longEvent("evt_small", 1000)
	if status, body = hear(t, bufio.NewReader(say(t, address, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, len(small), small)))); status != 200 {
		t.Errorf("a small one is answered %d %s", status, body)
	}
	if held := c.held(); held != 0 {
		t.Errorf("%d bytes of the budget did not come back", held)
	}
}

func gzipOf(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func zstdOf(text string) string {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func TestCompressedBodies(t *testing.T) {
	const limit = 1 << 20
	text := longEvent("evt_1", 5000)
	bomb := strings.Repeat(" ", 4<<20)
	exact, beyond := text+strings.Repeat(" ", limit-len(text)), text+strings.Repeat(" ", limit-len(text)+1)
	for name, squeeze := range map[string]func(string) string{"gzip": gzipOf, "zstd": zstdOf} {
		good := squeeze(text)
		tests := []struct {
			name, body string
			status     int
			code       string
		}{
			{"an event", good, 200, ""},
			{"in two members", squeeze(text[:100]) + squeeze(text[100:]), 200, ""},
			{"as large as may be", squeeze(exact), 200, ""},
			{"a byte larger", squeeze(beyond), 413, "too_large"},
			{"a bomb", squeeze(bomb), 413, "too_large"},
			{"bombs in a row", strings.Repeat(squeeze(bomb[:1<<19]), 16), 413, "too_large"},
			{"cut short", good[:len(good)-5], 400, "invalid_encoding"},
			{"with something behind it", good + "hello", 400, "invalid_encoding"},
			{"damaged", good[:20] + "xxxx" + good[24:], 400, "invalid_encoding"},
			{"nothing", "", 400, ""},
			{"not JSON in it", squeeze("hello"), 400, "invalid_json"},
		}
		for _, tt := range tests {
			c := openCounter(t)
			answer, got := c.ask("POST", "/events", tt.body, asJSON, "Content-Encoding: "+name)
			if answer.status != tt.status || tt.code != "" && !strings.HasPrefix(got, `{"error":{"code":"`+tt.code+`",`) {
				t.Errorf("%s, %s: answered %d %s, want %d %s", name, tt.name, answer.status, got, tt.status, tt.code)
			}
			if tt.status == 200 && c.shelf.bodies[0] != text {
				t.Errorf("%s, %s: kept %.100s", name, tt.name, c.shelf.bodies[0])
			}
			if held := c.held(); held != 0 {
				t.Errorf("%s, %s: %d bytes of the budget did not come back", name, tt.name, held)
			}
		}
	}
}

// A bomb costs what a body may cost, not what it would become.
func TestABombTakesLittleMemory(t *testing.T) {
	piece := strings.Repeat(" ", 1<<20)
	for name, body := range map[string]string{"gzip": strings.Repeat(gzipOf(piece), 256), "zstd": strings.Repeat(zstdOf(piece), 256)} {
		c := openCounter(t)
		c.ask("POST", "/events", gzipOf("{}"), asJSON, "Content-Encoding: gzip")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 4 {
			if answer, got := c.ask("POST", "/events", body, asJSON, "Content-Encoding: "+name); answer.status != 413 {
				t.Errorf("%s: answered %d %s", name, answer.status, got)
			}
		}
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 4*16<<20 {
			t.Errorf("%s: four bombs of 256 MiB took %d MiB", name, taken>>20)
		}
	}
}

// The sender signs what it has to say, and something on the way compresses it.
func TestTheSignatureIsOverWhatWasCompressed(t *testing.T) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot})
	text := longEvent("evt_1", 10)
	body := gzipOf(text)
	if answer, got := c.ask("POST", "/events", body, asJSON, "Content-Encoding: gzip", realtorBotHeader(text)); answer.status != 200 {
		t.Errorf("answered %d %s", answer.status, got)
	}
	if answer, _ := c.ask("POST", "/events", body, asJSON, "Content-Encoding: gzip", realtorBotHeader(body)); answer.status != 401 {
		t.Errorf("signed in its compressed form: answered %d", answer.status)
	}
}

// Between the headers and the handler a reload may change the mind that left the body unread.
func TestAnUnreadBodyIsNoEmptyOne(t *testing.T) {
	c := openCounter(t)
	answer, got := c.ask("POST", "/events", "", asJSON, "Relay-Unread: refused")
	if answer.status != 503 || string(answer.header.Peek("Retry-After")) != "1" || got != refused("unavailable", "the relay was reloaded while this request came") {
		t.Errorf("answered %d %s", answer.status, got)
	}
}

func TestWhatTheHeadersDecideNeedsNoBody(t *testing.T) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)},
		config.Source{Name: "edge", Path: "/edge", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot},
		config.Source{Name: "standard", Path: "/standard", Secret: sign.NewSecret(whsec), Scheme: sign.SchemeStandard})
	address := c.open(patience)
	token := "Authorization: Bearer " + testToken
	stale := strings.Join(standardHeaders("msg_1", time.Now().Add(-time.Hour), "x"), "\r\n")
	fresh := strings.Join(standardHeaders("msg_1", time.Now(), "x"), "\r\n")
	for _, tt := range []struct {
		line, headers string
		status        int
	}{
		{"POST /elsewhere", "", 404},
		{"PUT /events", token, 405},
		{"POST /events", "", 401},
		{"POST /events", token + "x", 401},
		{"POST /events", token, 415},
		{"POST /events", token + "\r\n" + asJSON + "\r\nContent-Encoding: br", 415},
		{"POST /edge", asJSON, 401},
		{"POST /edge", asJSON + "\r\n" + realtorBotHeader("x") + "0", 401},
		{"POST /standard", asJSON + "\r\n" + stale, 401},
		{"POST /edge", realtorBotHeader("x"), 415},
		{"POST /standard", fresh, 415},
	} {
		conn := say(t, address, tt.line+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"+tt.headers+"\r\n\r\n")
		if status, body := hear(t, bufio.NewReader(conn)); status != tt.status {
			t.Errorf("%s with %q: answered %d %s, want %d", tt.line, tt.headers, status, body, tt.status)
		}
	}
}
