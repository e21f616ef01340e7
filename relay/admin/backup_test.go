package admin

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
)

// filled events make a backup that is larger than what the kernel takes of an answer that nobody reads.
const filled = 200

// fill has the queue keep them, each of 128 KiB that can't be packed.
func (o *harness) fill() {
	o.t.Helper()
	noise := rand.New(rand.NewSource(1))
	for i := range filled {
		body := make([]byte, 128<<10)
		_, _ = noise.Read(body)
		events := []queue.Event{{ID: fmt.Append(nil, "big_", i), Type: []byte("test"), Body: body, Lanes: queue.NewLaneSet()}}
		if err := o.Queue.Append("platform", events, make([]queue.Receipt, 1)); err != nil {
			o.t.Fatal(err)
		}
	}
}

// begin asks for a backup. The answer's body is the caller's.
func (o *harness) begin(header ...string) *http.Response {
	o.t.Helper()
	r, err := http.NewRequest("GET", o.url+"/backup", nil)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func TestABackupIsAnAnswerThatEnds(t *testing.T) {
	o := openHarness(t, testToken)
	o.fill()
	answer := o.begin("Authorization", "Bearer "+testToken)
	report, err := queue.ExamineBackup(answer.Body)
	if err != nil || report.Events != filled || report.Relay != "1.2.3" || report.Stored < filled<<17 || len(report.Endpoints) != 1 || report.Endpoints[0].Name != "crm" {
		t.Errorf("it holds %+v, %v", report, err)
	}
	if h := answer.Header; answer.StatusCode != 200 || h.Get("Content-Type") != "application/zstd" || h.Get("Cache-Control") != "no-store" ||
		!strings.HasPrefix(h.Get("Content-Disposition"), `attachment; filename="relay-`) {
		t.Errorf("it answers %d with %v", answer.StatusCode, h)
	}
	if rest, err := io.ReadAll(answer.Body); len(rest) > 0 || err != nil {
		t.Errorf("behind it stand %d bytes, %v", len(rest), err)
	}
	if status, _ := o.ask("GET", "/backup"); status != 401 {
		t.Errorf("without the token it answers %d", status)
	}
}

// Each holds what retention would delete, so there is one, and it ends with its reader.
func TestABackupEndsWithItsReader(t *testing.T) {
	o := openHarness(t, "")
	o.fill()
	answer := o.begin()
	if _, err := io.ReadFull(answer.Body, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	if status, body := o.ask("GET", "/backup"); status != 409 || code(body) != "backup_running" {
		t.Errorf("a second one is answered %d %s", status, body)
	}
	_ = answer.Body.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		b, err := o.Queue.Backup("")
		if err == nil {
			b.Close()
			break
		}
		if !errors.Is(err, queue.ErrBackingUp) || time.Now().After(deadline) {
			t.Fatalf("after its reader has left: %v", err)
		}
	}
	if _, err := queue.ExamineBackup(o.begin().Body); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// What breaks off is no answer that ended, and no backup.
func TestABackupThatBreaksOffIsNone(t *testing.T) {
	o := openHarness(t, "")
	o.fill()
	answer := o.begin()
	if _, err := io.ReadFull(answer.Body, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	o.streams.mu.Lock()
	for l := range o.streams.open {
		l.end()
	}
	o.streams.mu.Unlock()
	if _, err := io.Copy(io.Discard, answer.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("it ends with %v", err)
	}
	o.free.Store(1 << 20)
	if status, body := o.ask("GET", "/backup"); status != 503 || code(body) != "unavailable" || !strings.Contains(body, "MiB of disk are free") {
		t.Errorf("with a full disk it is answered %d %s", status, body)
	}
	o.free.Store(10 << 30)
}
