package queue

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parseSources parses the package without its tests.
func parseSources(t *testing.T) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// Every place of a fault is in the matrix, or in a test of its own that is named here.
func TestEveryPlaceOfAFaultIsCovered(t *testing.T) {
	covered := map[string]string{
		placeSetAside: "TestAMendingCutShortIsMadeAgain",
		placeMended:   "TestAMendingCutShortIsMadeAgain",
	}
	for _, a := range acts() {
		covered[a.place] = a.name
	}
	places := 0
	for _, f := range parseSources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(spec.Names[0].Name, "place") || len(spec.Values) != 1 {
				return true
			}
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil || covered[value] == "" {
				t.Errorf("no act has its fault at %s (%q)", spec.Names[0].Name, value)
			}
			places++
			return true
		})
	}
	if places < 10 {
		t.Errorf("only %d places were found", places)
	}
}

// Every function that writes has a place of faults, or a reason here why it needs none.
func TestEveryWriteHasAPlaceOfFaults(t *testing.T) {
	writes := []string{
		"WriteAt", "WriteFile", "Write", "Fprintf", "Rename", "Remove", "RemoveAll", "Fallocate", "Ftruncate", "Truncate",
		"CommitAt", "DropPrefix", "Flatten", "NewManagedWriteBatch",
	}
	without := map[string]string{
		"reserve":       "called by Badger; a full disk is real in the tests that mount one",
		"dropEmptyLogs": "removes what is empty; cut short, the next start does it",
		"finishMending": "cut short, the next start does it: TestAMendingCutShortIsMadeAgain",
		"salvage":       "writes a store that counts only from its rename on",
		"counted":       "cut short, the next start counts again: TestAMendingCutShortIsMadeAgain",
		"inspect":       "removes a request to look closer; cut short, the next start looks again",
		"suspect":       "best effort, and told when it fails",
		"copyFile":      "a copy for whoever looks at the damage; told when it fails",
		"reclaim":       "Badger's own merging, atomic by its manifest; the janitor's commits around it are in the matrix",
	}
	found := 0
	for _, f := range parseSources(t) {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			does, hooked := "", false
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
					name := sel.Sel.Name
					to, _ := sel.X.(*ast.Ident)
					if slices.Contains(writes, name) && !(name == "Fprintf" && to != nil && to.Name != "fmt") && !(name == "Remove" && to != nil && to.Name == "heap") {
						does = name
					}
					hooked = hooked || name == "before" || name == "after"
				}
				return true
			})
			if does == "" {
				continue
			}
			found++
			if !hooked && without[fn.Name.Name] == "" {
				t.Errorf("%s calls %s without asking for a fault before and after", fn.Name.Name, does)
			}
		}
	}
	if found < 12 {
		t.Errorf("only %d functions that write were found", found)
	}
}

// The matrix's own control: a queue that answers for an entry which is not on disk does not pass.
func TestTheMatrixSeesAQueueThatLies(t *testing.T) {
	t.Parallel()
	book := &bytes.Buffer{}
	p := newPlay(t, filepath.Join(t.TempDir(), "data"), act{}, harm{}, book, playStart)
	p.opts.fault = func(place string, made bool) error {
		if p.armed.Load() && place == placeSync && made {
			s := p.journal.slots[len(p.journal.slots)-1]
			_, err := s.file.WriteAt(make([]byte, 512), s.end)
			return err
		}
		return nil
	}
	p.begin()
	p.must(p.save())
	p.arm()
	p.must(p.append("x"))
	after := newPlay(t, filepath.Join(t.TempDir(), "data"), act{}, harm{}, book, playStart)
	p.must(copyTree(after.opts.Dir, p.opts.Dir))
	p.must(p.Close())
	p.must(after.open())
	defer after.Close()
	l := newLedger()
	mustTell(t, l, book)
	if said := strings.Join(check(after.Queue, l), "\n"); !strings.Contains(said, "acknowledged and is missing") {
		t.Errorf("the checker says %q", said)
	}
}
