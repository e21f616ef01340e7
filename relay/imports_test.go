package relay

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "realtorbot-relay/"

// importedBy is what each directory's files import, but for its tests: packages of the module by their directories, others by
// their paths.
func importedBy(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, _ := filepath.Rel("..", filepath.Dir(path)) // both are relative
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value) // it was parsed
			imported = strings.TrimPrefix(imported, module)
			if !slices.Contains(imports[dir], imported) {
				imports[dir] = append(imports[dir], imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}

// What is imported where: the way from the relay to queue and sign is one way, and Badger is opened and written in queue/store
// alone (queue/format1 reads tables with its parsers).
func TestImportsRunOneWay(t *testing.T) {
	rules := []struct {
		imported string   // a package, with all below it
		by       []string // directories, with all below them, that may; "." is main.go's; none: only tests do
	}{
		{"github.com/dgraph-io/badger", []string{"queue/store", "queue/format1"}},
		{"github.com/valyala/fasthttp", []string{".", "relay", "scripts"}},
		{"github.com/rs/zerolog", []string{".", "relay", "scripts"}},
		{"github.com/BurntSushi/toml", []string{"relay/config"}},
		{"relay", []string{".", "relay", "scripts"}},
		{"queue", []string{".", "relay", "queue", "scripts"}},
		{"sign", []string{".", "relay", "sign", "scripts"}},
		{"relay/testca", nil},
	}
	seen := make([]int, len(rules))
	for dir, all := range importedBy(t) {
		for _, imported := range all {
			for i, r := range rules {
				if !under(imported, r.imported) {
					continue
				}
				seen[i]++
				if !slices.ContainsFunc(r.by, func(d string) bool { return under(dir, d) }) {
					t.Errorf("%s imports %s", dir, imported)
				}
			}
		}
	}
	for i, r := range rules {
		if seen[i] == 0 && r.by != nil {
			t.Errorf("nothing imports %s: the rule shows nothing", r.imported)
		}
	}
}

// What a package must not depend on, whether it imports that itself or something that it imports does. What makes an attempt
// knows neither lanes nor queue, the canonical form knows neither requests nor queue, and rooms of the relay don't know each other
// but where package relay's picture has an arrow.
func TestRoomsDoNotDependOnEachOther(t *testing.T) {
	imports := importedBy(t)
	joins := []string{".", "relay", "relay/serve", "relay/admin", "relay/endtoend"} // what knows all rooms: who joins them, and who shows them
	rules := []struct {
		of    []string // directories, with all below them; "*" is all but those that join
		never []string // packages, with all below them
	}{
		{[]string{"*"}, []string{"relay/ingest", "relay/admin"}},
		{[]string{"sign", "queue"}, []string{"relay"}},
		{[]string{"sign"}, []string{"queue"}},
		{[]string{"queue"}, []string{"sign"}},
		{[]string{"relay/canonical"}, []string{"queue", "relay/delivery", "relay/answer", "github.com/valyala/fasthttp", "github.com/rs/zerolog"}},
		{[]string{"relay/config", "relay/address", "relay/memory"}, []string{"queue", "relay/delivery", "relay/answer", "github.com/valyala/fasthttp"}},
		{[]string{"relay/answer", "relay/delivery/client", "relay/try"}, []string{"queue", "relay/delivery", "relay/alert"}},
		{[]string{"relay/delivery"}, []string{"relay/alert"}},
		{[]string{"relay/ingest"}, []string{"relay/delivery", "relay/alert", "relay/admin"}},
	}
	used := make([]int, len(rules))
	for _, dir := range slices.Sorted(maps.Keys(imports)) {
		reached := reachedFrom(imports, dir)
		for i, r := range rules {
			if !slices.ContainsFunc(r.of, func(d string) bool { return under(dir, d) || d == "*" && !slices.Contains(joins, dir) }) {
				continue
			}
			used[i]++
			for to, through := range reached {
				if to != dir && slices.ContainsFunc(r.never, func(n string) bool { return under(to, n) && !under(n, dir) }) {
					t.Errorf("%s depends on %s, by %s", dir, to, through)
				}
			}
		}
	}
	for i, r := range rules {
		if used[i] < len(r.of) {
			t.Errorf("there is none of %v: the rule shows nothing", r.of)
		}
	}
	if through := reachedFrom(imports, "relay/alert")["github.com/dgraph-io/badger/v4"]; strings.Count(through, " ▶ ") < 2 {
		t.Errorf("package alert reaches Badger through delivery and queue, but was found to do so by %q: the rules show nothing", through)
	}
}

// reachedFrom is what a directory depends on, and by which way.
func reachedFrom(imports map[string][]string, dir string) map[string]string {
	reached, next := map[string]string{}, []string{dir}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for _, to := range imports[from] {
			if _, known := reached[to]; !known {
				reached[to] = strings.TrimPrefix(reached[from]+" ▶ "+to, " ▶ ")
				next = append(next, to)
			}
		}
	}
	return reached
}

// under reports whether path is dir or below it; below "." nothing is.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// What all answers have is added in one place: all are answered by a server of relay/answer, and those that are written past it begin
// with its Head.
func TestAnswersAreBegunInOnePlace(t *testing.T) {
	heads, servers := 0, 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel("..", path) // both are relative
		if d.IsDir() && (name == "scripts" || name == "relay/try" || d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir // listen is a receiver, and no listener of a relay
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if n.Kind == token.STRING && statusLine.MatchString(n.Value) {
					if heads++; name != "relay/answer/answer.go" {
						t.Errorf("%s begins an answer by itself: %s", name, n.Value)
					}
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "Hijack" && name != "relay/admin/eventstream.go" {
					t.Errorf("%s takes a connection from its server", name)
				}
			case *ast.CompositeLit:
				if of, ok := n.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "Server" {
					if servers++; name != "relay/answer/server.go" {
						t.Errorf("%s makes a server of its own", name)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if heads != 1 || servers != 1 {
		t.Errorf("%d heads of answers and %d servers were found, not one of each", heads, servers)
	}
}

var statusLine = regexp.MustCompile(`HTTP/1\.[01] [0-9%]`)
