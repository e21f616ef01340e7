package queue

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources parses the package and its rooms without their tests, by path.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files[path], err = parser.ParseFile(token.NewFileSet(), path, nil, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// writing are the names of calls that change what is on disk.
var writing = []string{
	"WriteAt", "WriteFile", "Write", "Rename", "Remove", "RemoveAll", "Fallocate", "Ftruncate", "Truncate", "Unlink",
	"Link", "Sync", "Fdatasync", "Msync", "Mkdir", "MkdirAll", "CommitAt", "DropPrefix", "Flatten",
}

// Every function that writes, in all rooms, has a place of faults before and after, or a reason here why it needs none.
func TestEveryWriteHasAPlaceOfFaults(t *testing.T) {
	without := map[string]string{
		"journal.fill":          "its pages and sync are asked for one by one; the cut is what is done about their error",
		"journal.syncDir":       "at PlaceSlotName for a new slot; at a start nothing was answered yet",
		"journal.fdatasync":     "called at PlaceFill and PlaceSync",
		"log.syncDir":           "called at PlaceName, PlaceGone and PlaceRename",
		"log.fdatasync":         "called at PlaceSync and PlaceSeal",
		"log.Write":             "writes into the folder of a takeover, which begins anew until FORMAT is renamed",
		"log.reorderBlocks":     "rewrite asks at PlaceRewrite and PlaceRename; the link before is one more name of the file as it is",
		"log.openSegments":      "removes what was left half made; cut short, the next start does it",
		"store.hashOf":          "writes into a hash",
		"store.makeDir":         "at a start, before anything is answered",
		"store.SetAside":        "rename asks at AtSetAside; the folder that it makes before holds nothing yet",
		"store.syncDir":         "called at AtGuard, AtGuardGone, AtSeal, AtSetAside and AtInstallNew",
		"store.syncFiles":       "called at AtSeal",
		"store.reserve":         "called by Badger; a full disk is real in the tests that mount one",
		"store.removeEmptyLogs": "removes what is empty; cut short, the next start does it",
		"directory.makeDir":     "at a start, before anything is answered",
		"directory.syncDir":     "called by makeDir alone",
		"..open":                "at a start, before anything is answered",
		"..syncDir":             "at a start, before anything is answered",
		"..reportJournalDamage": "copies for whoever looks at the damage; told when it fails",
		"..copyFile":            "copies for whoever looks at the damage; told when it fails",
		"..deleteSegment":       "log.Remove and log.Strip ask at PlaceGone, PlaceRewrite and PlaceRename",
		"..openIndex":           "asks through faultStep",
		"..makeStore":           "removes a store that was never finished; a new one counts only from AtInstallNew on",
		"..takeOver":            "each of its steps asks through faultStep",
		"..readFormat1":         "each of its steps asks through faultStep",
		"..Backup":              "writes nothing: it rounds a time",
		"..BackupStopped":       "writes to whoever asked for a backup",
		"..Write":               "writes to whoever asked for a backup, who knows by its end whether it is whole",
		"backup.Write":          "writes to whoever asked for a backup",
		"backup.Bytes":          "writes to whoever asked for a backup",
		"backup.Close":          "writes to whoever asked for a backup",
		"log.WriteTo":           "writes to whoever asked for a backup",
		"log.copy":              "writes to whoever asked for a backup",
		"log.copyIDs":           "writes to whoever asked for a backup",
		"..clearRestore":        "removes what a restore that failed left; what is left of that is no obstacle to the next one, or is told by it",
		"..reportRestored":      "at a start, before anything is answered; when it fails it is told once more",
		"..importIDs":           "asks through faultStep",
	}
	used := map[string]bool{}
	found := 0
	for path, f := range sources(t) {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			does, before, after := "", false, false
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
					if slices.Contains(writing, sel.Sel.Name) {
						does = sel.Sel.Name
					}
					before = before || sel.Sel.Name == "Before"
					after = after || sel.Sel.Name == "After"
				}
				return true
			})
			if does == "" {
				continue
			}
			found++
			name := filepath.ToSlash(filepath.Dir(path)) + "." + fn.Name.Name
			if before && after {
				continue
			}
			used[name] = true
			if without[name] == "" {
				t.Errorf("%s calls %s (%s) without asking for a fault before and after", name, does, path)
			}
		}
	}
	for name := range without {
		if !used[name] {
			t.Errorf("%s is excused and needs no excuse", name)
		}
	}
	if found < 30 {
		t.Errorf("only %d functions that write were found", found)
	}
}
