package canonical_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay"
	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/scripts/needed"
)

var payloads = flag.Int("payloads", 3000, "how many go through the relay to the documented receiver")

const patience = 30 * time.Second

// documentedReceiver is the one that the manual shows, after Realtor Bot's documentation.
const documentedReceiver = "../try/testdata/receivers/receiver.js"

// TestDocumentedReceiverVerifiesWhatTheRelaySends posts events that were made at random, odd on purpose, and has Realtor
// Bot's own code look at what becomes of them. It hashes not the bytes that it gets but what JavaScript makes of them.
func TestDocumentedReceiverVerifiesWhatTheRelaySends(t *testing.T) {
	secret := rand.Text()
	if _, err := os.ReadFile(documentedReceiver); err != nil { // go test sees by that when a kept result is worthless
		t.Fatal(err)
	}
	receiver := exec.Command(needed.Program(t, "node"), documentedReceiver)
	receiver.Env = append(os.Environ(), "PORT=0", "SECRET="+secret)
	receiver.Stderr = os.Stderr
	out, err := receiver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(); err != nil {
		t.Fatalf("run node: %v: install Node.js 18 or later and put it on the PATH", err)
	}
	t.Cleanup(func() {
		_ = receiver.Process.Kill()
		_ = receiver.Wait()
	})
	// A receiver that gets nothing more says nothing more: then it is ended, and with it the scanner.
	silence := time.AfterFunc(patience, func() { _ = receiver.Process.Kill() })
	t.Cleanup(func() { silence.Stop() })
	lines := bufio.NewScanner(out)
	lines.Scan()
	port, ok := strings.CutPrefix(lines.Text(), "listening on ")
	if !ok {
		t.Fatalf("the receiver says %q", lines.Text())
	}
	address := startRelay(t, "http://127.0.0.1:"+port+"/", secret)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	posted := map[string][]byte{}
	const batch = 500
	seen := 0
	for len(posted) < *payloads {
		var body bytes.Buffer
		for i := range min(batch, *payloads-len(posted)) {
			id := fmt.Sprintf("evt_%d", len(posted))
			posted[id] = canonical.Payload(random, id)
			body.WriteByte("[,"[min(i, 1)])
			body.Write(posted[id])
		}
		body.WriteByte(']')
		post(t, address, &body)
		for ; seen < len(posted); seen++ {
			silence.Reset(patience)
			if !lines.Scan() {
				t.Fatalf("%d of %d events have arrived", seen, len(posted))
			}
			id, ok := strings.CutPrefix(lines.Text(), "ok ")
			if _, known := posted[id]; !ok || !known {
				t.Fatalf("one of the last %d of %d events does not verify: %q", batch, len(posted), lines.Text())
			}
		}
	}
	// The control is a number that the manual tells of: the receiver takes it for another one.
	post(t, address, strings.NewReader(`{"id":"evt_control","type":"test","data":{"n":12345678901234567890}}`))
	if !lines.Scan() || lines.Text() != "bad" {
		t.Errorf("of the control the receiver says %q", lines.Text())
	}
}

func startRelay(t *testing.T, url, secret string) (address string) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(fmt.Sprintf(`
[server]
max_body = "16MiB"
[queue]
dir = %q
min_free = "0B"
[[endpoint]]
name = "documented"
url = %q
events = ["*"]
secret = %q
retry = []
`, t.TempDir(), url, secret)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := relay.Start(cfg, "1.2.3", zerolog.Nop(), nil, listeners[:1], listeners[1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return listeners[0].Addr().String()
}

func post(t *testing.T, address string, body io.Reader) {
	t.Helper()
	response, err := http.Post("http://"+address+"/events", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); response.StatusCode != 200 || err != nil {
		t.Fatalf("answered %d %.500s %v", response.StatusCode, text, err)
	}
}
