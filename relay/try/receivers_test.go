package try

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"realtorbot-relay/scripts/needed"
)

// TestReceiversOfTheManualVerify runs each receiver as the manual shows it, against signatures of package sign.
func TestReceiversOfTheManualVerify(t *testing.T) {
	for name, command := range map[string]func(t *testing.T) []string{
		"node":   func(t *testing.T) []string { return []string{"node", receiverFile(t, "receiver.js")} },
		"python": func(t *testing.T) []string { return []string{"python3", receiverFile(t, "receiver.py")} },
		"go": func(t *testing.T) []string {
			binary := filepath.Join(t.TempDir(), "receiver")
			if out, err := exec.Command("go", "build", "-o", binary, receiverFile(t, "receiver.go")).CombinedOutput(); err != nil {
				t.Fatalf("build receiver.go: %v\n%s", err, out)
			}
			return []string{binary}
		},
		"php": func(t *testing.T) []string {
			return []string{"php", "-S", freeAddress(t), receiverFile(t, "receiver.php")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, url := startReceiver(t, command(t))

			const accented = `{"id":"evt_2","type":"lead.created","data":{"1":"Zoë / 東京 🏠","price":40.712776}}`
			good, goodAccented := realtorBotHeader(testSecret, testEvent), realtorBotHeader(testSecret, accented)
			for i, c := range []struct {
				name, body, signature string
				status                int
				line                  string
			}{
				{"signed", testEvent, good, 200, "ok evt_abc123"},
				{"signed, beyond ASCII", accented, goodAccented, 200, "ok evt_2"},
				{"another body", strings.Replace(testEvent, "75", "99", 1), good, 401, "bad"},
				{"another secret", testEvent, realtorBotHeader("another", testEvent), 401, "bad"},
				{"empty secret", testEvent, emptyKeyed(testEvent), 401, "bad"},
				{"unsigned", testEvent, "", 401, "bad"},
				{"not hex", testEvent, strings.Repeat("é", 32), 401, "bad"},
				{"not JSON", "{", good, 401, "bad"},
			} {
				status, _ := mustPost(t, url, c.body, "X-RealtorBot-Signature", c.signature)
				// Besides the line that may say where it listens, one line per POST.
				if line := out.await(t, `^(?:listening .*\n)?(?:(?:ok|bad).*\n){`+strconv.Itoa(i)+`}((?:ok|bad).*)\n`)[1]; status != c.status || line != c.line {
					t.Errorf("%s: status %d, line %q; want %d, %q", c.name, status, line, c.status, c.line)
				}
			}
		})
	}
}

// receiverFile is the path of a receiver. It reads the file although another program will: go test sees by that that a
// change of the file makes a kept result worthless.
func receiverFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("testdata", "receivers", name)
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// startReceiver runs command until the test ends.
func startReceiver(t *testing.T, command []string) (out *screen, url string) {
	t.Helper()
	path := needed.Program(t, command[0])
	out, stderr := newScreen(), newScreen()
	receiver := exec.Command(path, command[1:]...)
	receiver.Env = append(os.Environ(), "PORT=0", "SECRET="+testSecret)
	receiver.Stdout, receiver.Stderr = out, stderr
	if err := receiver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = receiver.Process.Kill()
		_ = receiver.Wait()
		if t.Failed() {
			t.Logf("stderr of %s:\n%s", command[0], stderr)
		}
	})
	says, pattern := out, `listening on (\d+)\n`
	if command[0] == "php" {
		says, pattern = stderr, `Server \(http://127\.0\.0\.1:(\d+)\) started`
	}
	return out, "http://127.0.0.1:" + says.await(t, pattern)[1] + "/webhooks/realtorbot"
}

// freeAddress is one for a server that can't be told to choose. Somebody else may take it, if only for an instant.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// emptyKeyed is what anyone can compute: the signature of body under an empty secret, which package sign won't make.
func emptyKeyed(body string) string {
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}
