package config

import (
	"os"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLinesOfEveryWayToWriteAKey(t *testing.T) {
	text := "\ufeff# a comment with [a] = 1\n" + // 1
		"top = 1\r\n" +
		"  \t\n" +
		"[server] # [x]\n" + // 4
		"listen = \"[::1]:8080\" # = [\n" +
		"multi = \"\"\"\n" + // 6
		"[fake]\n" +
		"fake = 1 \\\"\"\" still\n" +
		"two quotes at the end\"\"\"\"\"\n" +
		"literal = '''\n" + // 10
		"fake = '\\'''\n" +
		"after = [ # comment ]\n" + // 12
		"  \"a]\", 'b\\', # \"\n" +
		"  [1,\n" +
		"   1979-05-27 07:32:00],\n" + // 15
		"  { in = 1,\n" +
		"    \"q.\\u0065\" = 2 },\n" +
		"]\n" +
		"dotted . 'key' . \"x\\ty\" = 3\n" + // 19
		"[[endpoint]]\n" +
		"name = \"a\"\n" +
		"[endpoint.headers]\n" + // 22
		"X = \"1\"\n" +
		"[[endpoint]]\n" +
		"name = \"b\"\n" + // 25
		"[endpoint.headers]\n" +
		"X = \"2\"\n" +
		"[[endpoint.deep]]\n" + // 28
		"[[endpoint.deep]]\n" +
		"x = {}\n"
	root := place("")
	server := root.key("server")
	second := root.key("endpoint").index(1)
	var values map[string]any
	meta, err := toml.Decode(text, &values)
	if err != nil {
		t.Fatal(err)
	}
	lines := locate(text, meta.Keys())
	for _, test := range []struct {
		at   place
		line int
	}{
		{root.key("top"), 2},
		{server, 4},
		{server.key("listen"), 5},
		{server.key("multi"), 6},
		{server.key("literal"), 10},
		{server.key("after"), 12},
		{server.key("after").index(0), 13},
		{server.key("after").index(1), 13},
		{server.key("after").index(2), 14},
		{server.key("after").index(2).index(1), 15},
		{server.key("after").index(3).key("in"), 16},
		{server.key("after").index(3).key("q.e"), 17},
		{server.key("dotted").key("key").key("x\ty"), 19},
		{root.key("endpoint"), 20},
		{root.key("endpoint").index(0).key("name"), 21},
		{root.key("endpoint").index(0).key("headers").key("X"), 23},
		{second, 24},
		{second.key("name"), 25},
		{second.key("headers").key("X"), 27},
		{second.key("deep").index(0), 28},
		{second.key("deep").index(1).key("x"), 30},
		{second.key("absent"), 24},
		{root.key("absent").key("absent"), 0},
		{root, 0},
	} {
		if got := lines.find(test.at); got != test.line {
			t.Errorf("%q: line %d, want %d", strings.NewReplacer(keyStep, "/", indexStep, "#").Replace(string(test.at)), got, test.line)
		}
	}
	if _, ok := lines.lines[root.key("fake")]; ok {
		t.Error("a key was found inside a text")
	}
	mustHaveLines(t, lines, root, values, strings.Count(text, "\n")+1)
}

// mustHaveLines fails for any key or element of the values that has no line of its own.
func mustHaveLines(t *testing.T, lines lineMap, at place, value any, most int) {
	t.Helper()
	if at != "" {
		if line, ok := lines.lines[at]; !ok || line < 1 || line > most {
			t.Fatalf("%q has line %d of %d", at, line, most)
		}
	}
	if table, ok := value.(map[string]any); ok {
		for key, inner := range table {
			mustHaveLines(t, lines, at.key(key), inner, most)
		}
	}
	if elements, ok := list(value); ok {
		for i, inner := range elements {
			mustHaveLines(t, lines, at.index(i), inner, most)
		}
	}
}

func TestLinesOfATextOfNothingButBracketsCostLittle(t *testing.T) {
	const n, keys = 50_000, 500 // of keys the library itself takes the square
	for _, text := range []string{
		"a = " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"a = " + strings.Repeat("{a=", keys) + "1" + strings.Repeat("}", keys),
		strings.Repeat("a.", keys) + "a = 1",
		"[" + strings.Repeat("a.", keys) + "a]",
	} {
		var values map[string]any
		meta, err := toml.Decode(text, &values)
		if err != nil {
			t.Fatal(err)
		}
		for at := range locate(text, meta.Keys()).lines {
			if len(at) > 3*2*deepestPlace {
				t.Fatalf("a place of %d bytes", len(at))
			}
		}
	}
}

// FuzzLines: the scan ends and never panics; in what the library takes for TOML, every key and element has a line.
func FuzzLines(f *testing.F) {
	example, err := os.ReadFile(examplePath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	for _, text := range []string{
		"", "a", "a=", "a=\"", "a='''", "[", "[[", "[[a]]\n[a.b]\nc=1\n[[a]]", "\"a\\", "a = [[[", "a={b=[{c=1}]}", "a=\"\\\n\"",
		"\ufeffa=1", "\xff\xfea=1", "\xfe\xff\ufeff=1", "a.\"b\".'c'=1", "a=\"\"\"\"\"\"\"\"\nb=1", "a=1\rb=2", "\"\\x41\\u0042\\U00000043\\e\"=1", "\"\"=1", "a=[\n#]\n1]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		var values map[string]any
		if meta, err := toml.Decode(text, &values); err == nil {
			lines := locate(text, meta.Keys())
			mustHaveLines(t, lines, "", values, strings.Count(text, "\n")+1)
		}
	})
}
