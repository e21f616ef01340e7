package try

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/relay/exit"

	"github.com/valyala/fasthttp"
)

const (
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // fits both schemes
	testEvent  = `{"id":"evt_abc123","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"leadId":"lead_xyz789","score":75}}`
)

// screen is where a command under test writes: what it shows can be awaited.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced by each Write
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	text, _ := s.read()
	return text
}

func (s *screen) read() (string, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.changed
}

// await returns the first match of pattern once it is shown.
func (s *screen) await(t *testing.T, pattern string) []string {
	t.Helper()
	expression, limit := regexp.MustCompile(pattern), time.After(10*time.Second)
	for {
		text, changed := s.read()
		if match := expression.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%q never shown in:\n%s", pattern, text)
		}
	}
}

// listening is a listen command under test.
type listening struct {
	url    string
	screen *screen
	stop   func() int // returns the exit code
}

func startListen(t *testing.T, args ...string) listening {
	t.Helper()
	out, stderr := newScreen(), newScreen()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- Listen(ctx, args, out, stderr) }()
	stop := sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(10 * time.Second):
			t.Error("listen doesn't stop")
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	return listening{out.await(t, `url = "(\S+)"`)[1], out, stop}
}

// mustPost sends body with the headers given as name, value, …; it returns the status and the answer's body.
func mustPost(t *testing.T, url, body string, headers ...string) (int, string) {
	t.Helper()
	var request fasthttp.Request
	var response fasthttp.Response
	request.SetRequestURI(url)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	request.SetBodyString(body)
	if err := post(t.Context(), &request, &response); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode(), string(response.Body())
}

func runSend(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	code = Send(t.Context(), args, strings.NewReader(stdin), &out, &complaints)
	return code, out.String(), complaints.String()
}

func runVerify(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	code = Verify(t.Context(), args, strings.NewReader(stdin), &out, &complaints)
	return code, out.String(), complaints.String()
}

func TestBadUsageExits2InOneLine(t *testing.T) {
	t.Setenv("EMPTY", "")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := map[string]func(args []string, stdout, stderr io.Writer) int{
		"listen": func(args []string, stdout, stderr io.Writer) int { return Listen(t.Context(), args, stdout, stderr) },
		"send": func(args []string, stdout, stderr io.Writer) int {
			return Send(t.Context(), args, strings.NewReader(""), stdout, stderr)
		},
		"verify": func(args []string, stdout, stderr io.Writer) int {
			return Verify(t.Context(), args, strings.NewReader(""), stdout, stderr)
		},
	}
	for _, c := range []struct{ command, args, want string }{
		{"listen", "-port 3000", "-port"},
		{"listen", "-addr 3000", "host:port"},
		{"listen", "-addr :99999", "host:port"},
		{"listen", "-addr :0 extra-hunter2", "too many"},
		{"listen", "-secret env:EMPTY", `"EMPTY" is not set or empty`},
		{"listen", "-secret file:/nonexistent/hunter", "/nonexistent/hunter"},
		{"listen", "-secret file:" + empty, "is empty"},
		{"listen", "-secret cred:name", "file:/path"},
		{"listen", "-secret=", "-secret is empty"},
		{"send", "", "-type is required"},
		{"send", "-type test -url 127.0.0.1:8080", "http://host:port/path"},
		{"send", "-type test -url http://joe:hunter2@relay/events", "without a user name"},
		{"send", "-type test -data {score:75}", "not JSON"},
		{"send", "-type test -token env:EMPTY", `"EMPTY"`},
		{"verify", "", "-secret is required"},
		{"verify", "-secret s", "-header is required"},
		{"verify", "-secret s -header v1,abc", "-id and -timestamp"},
		{"verify", "-secret s -header webhook-signature:v1,abc -id x", "-id and -timestamp"},
	} {
		t.Run(c.command+" "+c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run[c.command](strings.Fields(c.args), &stdout, &stderr)
			complaint := stderr.String()
			if code != exit.Usage || !strings.Contains(complaint, c.want) || stdout.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr %q; want 2 and %q", code, &stdout, complaint, c.want)
			}
			if strings.Count(complaint, "\n") != 1 || strings.Contains(complaint, "hunter2") {
				t.Errorf("not one line without secrets: %q", complaint)
			}
		})
	}
	for name, command := range run {
		var stdout, stderr bytes.Buffer
		if code := command([]string{"-h"}, &stdout, &stderr); code != exit.Well || stderr.Len() > 0 ||
			!strings.Contains(stdout.String(), "usage: realtorbot-relay "+name) || !strings.Contains(stdout.String(), "-secret secret") {
			t.Errorf("%s -h: exit %d, stdout %q, stderr %q", name, code, &stdout, &stderr)
		}
	}
}

func TestSecretsByEnvironmentAndFile(t *testing.T) {
	t.Setenv("TRY_SECRET", "Jefe")
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("Jefe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	crlf := filepath.Join(t.TempDir(), "crlf")
	if err := os.WriteFile(crlf, []byte("Jefe\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const body = "what do ya want for nothing?" // RFC 4231, case 2
	const header = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	for _, secret := range []string{"Jefe", "env:TRY_SECRET", "file:" + path, "file:" + crlf} {
		if code, stdout, stderr := runVerify(t, body, "-secret", secret, "-header", header); code != exit.Well {
			t.Errorf("%s: exit %d: %s%s", secret, code, stdout, stderr)
		}
	}
}
