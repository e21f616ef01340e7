package endtoend

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

// forgery steers a terminal, ends a line, and begins one that looks like ours.
const forgery = "\x1b[2J\r\n{\"level\":\"info\",\"message\":\"forged\"}\n12:00:00.000 INF forged\u2028\x9b31m\n"

// garbled is an endpoint that answers no HTTP at all.
func garbled(t *testing.T, text string) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}()
	return "http://" + ln.Addr().String() + "/webhooks"
}

// Whatever an endpoint answers, and whatever a stranger asks: a line of the log begins with what we wrote, is one line, and
// has no character that a terminal obeys.
func TestNoLineOfTheLogCanBeForged(t *testing.T) {
	t.Parallel()
	rude := receive(t, func(w http.ResponseWriter, _ *http.Request, _ attempt) {
		w.Header().Set("X-Forged", "forged")
		w.WriteHeader(500)
		_, _ = io.WriteString(w, forgery)
	})
	for _, format := range []string{"json", "console"} {
		preamble := strings.Replace(preamble, "[queue]", "[log]\nlevel = \"debug\"\nformat = \""+format+"\"\n[queue]", 1)
		dir := t.TempDir()
		// Only the JSON form says where it serves in a way that can be read, so the ports are chosen here.
		intake, admin := freePort(t), freePort(t)
		preamble = strings.Replace(strings.Replace(preamble, "127.0.0.1:0", intake, 1), "127.0.0.1:0", admin, 1)
		writeConfig(t, dir, preamble+"[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"example-token-0123456789\"\n"+
			endpoint("rude", rude.url, `retry = ["100ms"]`)+endpoint("garbled", garbled(t, forgery), `retry = ["100ms"]`)+
			endpoint("half", garbled(t, "HTTP/1.1 200 "+forgery), `retry = ["100ms"]`)+
			endpoint("header", garbled(t, "HTTP/1.1 410 Gone\r\nRetry-After: \x1b[2J forged\r\nX: "+forgery), `retry = ["100ms"]`))
		r := &relay{process: launch(t, command(dir, "-config", "config.toml")), dir: dir}
		r.intake, r.admin = newDoor(t, intake), newDoor(t, admin)
		eventually(t, "the relay is healthy", func() bool { return r.intake.ask(t, "GET", "/health", "").status == 200 })

		r.intake.ask(t, "POST", "/events", event("evt_1"), "Content-Type", "application/json", "Authorization", "Bearer \x1b[2Jforged")
		if a := r.intake.ask(t, "POST", "/events", event("evt_1"), "Content-Type", "application/json", "Authorization", "Bearer example-token-0123456789"); a.status != 200 {
			t.Fatalf("answered %d %s", a.status, a.body)
		}
		for _, path := range []string{"/endpoints/x%0a%1b[2Jforged/pause", "/endpoints/x%0a%1b[2Jforged", "/events/x%0d%0aforged", "/forged%0a"} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				r.admin.ask(t, method, path, "")
			}
		}
		for _, name := range []string{"rude", "garbled", "half"} {
			s := r.awaitState("evt_1", name, "failed")
			for _, a := range s.Attempts {
				if strings.ContainsAny(a.Error, "\x1b\r\n") {
					t.Errorf("%s: the story's error is %q", name, a.Error)
				}
			}
		}
		eventually(t, "what failed is told of", func() bool { return r.stderr.count("failed for good") >= 3 })
		for _, line := range r.stderr.lines() {
			if why := forged(line, format); why != "" {
				t.Errorf("%s: a line %s: %q", format, why, line)
			}
		}
		for line := range strings.SplitSeq("the control: "+forgery, "\n") { // what the lines would be if they were written as they came
			if forged(line, format) == "" && line != "" {
				t.Errorf("%s: the check does not find %q", format, line)
			}
		}
		r.stop()
	}
}

// forged says what is wrong with a line of the log, or "".
func forged(line, format string) string {
	if strings.ContainsFunc(line, func(c rune) bool { return unicode.IsControl(c) || c == '\u2028' || c == unicode.ReplacementChar }) {
		return "holds characters that a terminal obeys"
	}
	var parsed struct{ Level, Message string }
	switch isJSON := json.Unmarshal([]byte(line), &parsed) == nil; {
	case isJSON != (format == "json") || parsed.Message == "forged" || strings.HasSuffix(line, "INF forged"):
		return "is not ours"
	case format == "console" && (len(line) < 13 || line[2] != ':' || line[5] != ':' || line[8] != '.' || line[12] != ' '):
		return "begins with something else"
	}
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
