package try

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBodyIsShownAsItWasSigned(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"empty containers", `{"a":{ },"b":[ ]}`, "{\n  \"a\": {},\n  \"b\": []\n}\n"},
		{"numbers keep their text", `[1.0,1e3,-0]`, "[\n  1.0,\n  1e3,\n  -0\n]\n"},
		{"a string with syntax", `{"a\"b":"x, y: {[\\"}`, "{\n  \"a\\\"b\": \"x, y: {[\\\\\"\n}\n"},
		{"a scalar", ` true `, "true\n"},
		{"letters of the world", `"Zoë 東京 🏠"`, "\"Zoë 東京 🏠\"\n"},
		{"beyond 16 bits", "\"\U000e0041\"", "\"\\udb40\\udc41\"\n"},
		{"nothing", ``, "(no body)\n"},
		{"not JSON", "a=1&b=2\nx", "(not JSON)\na=1&b=2\nx\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendBody(nil, []byte(c.body), false)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestHugeBodyIsCut(t *testing.T) {
	for name, body := range map[string]string{
		"one string":   `{"a":"` + strings.Repeat("\x7f", 1<<18) + `"}`,
		"many numbers": "[" + strings.Repeat("1,", 1<<18) + "1]",
		"deep nesting": strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"not JSON":     strings.Repeat("\x00", 1<<18),
	} {
		// Escapes make a byte six at most; the longest token may come after the bound is nearly reached.
		if got := appendBody(nil, []byte(body), false); len(got) > 14*shownBody {
			t.Errorf("%s: %d bytes shown", name, len(got))
		} else if name != "one string" && !strings.HasSuffix(string(got), " bytes more)\n") {
			t.Errorf("%s: cut without a word: %q", name, got[len(got)-40:])
		}
	}
}

func TestColorsOnlyOnTerminals(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	file, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if bool(paletteOf(file)) || bool(paletteOf(&bytes.Buffer{})) || !bool(paletteOf(device)) {
		t.Error("colours depend on something else than a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if paletteOf(device) {
		t.Error("NO_COLOR is ignored")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if paletteOf(device) {
		t.Error("TERM=dumb is ignored")
	}
}

func TestColorsChangeNothingElse(t *testing.T) {
	plain := appendBody(nil, []byte(testEvent), false)
	colored := appendBody(nil, []byte(testEvent), true)
	if bytes.Equal(plain, colored) {
		t.Error("no colours")
	}
	if stripped := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAll(colored, nil); !bytes.Equal(stripped, plain) {
		t.Errorf("got %s", stripped)
	}
}

func FuzzBodyIsHarmless(f *testing.F) {
	f.Add([]byte(testEvent))
	f.Add([]byte("\x1b[2J\u009b\u202e\xff"))
	f.Add([]byte("{\"\x7f\":[[],{},1e9,\"\\\"\"]}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		shown := appendBody(nil, body, false)
		if strings.ContainsFunc(string(shown), func(r rune) bool {
			return r != '\n' && r != '\t' && (r < ' ' || (r >= 0x7f && r < 0xa0) || (r >= 0x202a && r <= 0x202e))
		}) || !utf8.Valid(shown) {
			t.Fatalf("%q", shown)
		}
		// What is shown of JSON is the same JSON.
		if !json.Valid(body) || !utf8.Valid(body) || len(body) > shownBody/8 {
			return
		}
		var before, after any
		if json.Unmarshal(body, &before) != nil { // a number beyond float64
			return
		}
		if err := json.Unmarshal(shown, &after); err != nil {
			t.Fatalf("%v in %q", err, shown)
		}
		x, _ := json.Marshal(before)
		y, _ := json.Marshal(after)
		if !bytes.Equal(x, y) {
			t.Fatalf("%q shown as %q", body, shown)
		}
	})
}
