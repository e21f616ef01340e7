package sign

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Others may import this package, or copy it: it brings nothing along.
func TestOnlyTheStandardLibraryIsImported(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	imports := 0
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			// Only the standard library has neither a dot nor a dash in the first part of its paths.
			if first, _, _ := strings.Cut(name, "/"); strings.ContainsAny(first, ".-") {
				t.Errorf("%s imports %s", path, name)
			}
			imports++
		}
	}
	if imports < 5 {
		t.Errorf("found %d imports", imports)
	}
}
