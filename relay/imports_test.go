package relay

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What is imported where: the way from the relay to queue and sign is one way, Badger is opened and written in queue/store alone
// (queue/format1 reads tables with its parsers), and what makes an attempt knows neither lanes nor queue.
func TestImportsRunOneWay(t *testing.T) {
	const module = "realtorbot-relay/"
	rules := []struct {
		imported string   // a package, with all below it
		by       []string // directories, with all below them, that may; "." is main.go's; none: only tests do
	}{
		{"github.com/dgraph-io/badger", []string{"queue/store", "queue/format1"}},
		{"github.com/valyala/fasthttp", []string{".", "relay", "scripts"}},
		{"github.com/rs/zerolog", []string{".", "relay", "scripts"}},
		{"github.com/BurntSushi/toml", []string{"relay/config"}},
		{module + "relay", []string{".", "relay", "scripts"}},
		{module + "relay/delivery", []string{".", "relay", "!relay/config", "!relay/answer", "!relay/ingest", "!relay/address", "!relay/delivery/client"}},
		{module + "relay/admin", []string{".", "relay", "!relay/delivery", "!relay/ingest", "!relay/alert", "!relay/config"}},
		{module + "queue", []string{".", "relay", "!relay/delivery/client", "!relay/config", "queue", "scripts"}},
		{module + "sign", []string{".", "relay", "sign", "scripts"}},
		{module + "relay/testca", nil},
	}
	seen := make([]int, len(rules))
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
			for i, r := range rules {
				if !under(imported, r.imported) {
					continue
				}
				seen[i]++
				may := slices.ContainsFunc(r.by, func(d string) bool { return under(dir, d) }) &&
					!slices.ContainsFunc(r.by, func(d string) bool { return d[0] == '!' && under(dir, d[1:]) })
				if !may {
					t.Errorf("%s imports %s", strings.TrimPrefix(path, "../"), imported)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rules {
		if seen[i] == 0 && r.by != nil {
			t.Errorf("nothing imports %s: the rule shows nothing", r.imported)
		}
	}
}

// under reports whether path is dir or below it; below "." nothing is.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
