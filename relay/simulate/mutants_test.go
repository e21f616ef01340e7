package simulate

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// A mutant whose patch does not apply any more finds nothing and shows nothing: it is to be made anew.
func TestMutantsApply(t *testing.T) {
	if *alone {
		t.Skip("a process of one life")
	}
	list, err := filepath.Glob("../../scripts/lab/mutants/*.patch")
	if err != nil || len(list) < 20 {
		t.Fatalf("there are %d mutants, %v", len(list), err)
	}
	for _, patch := range list {
		path, err := filepath.Abs(patch)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("git", "apply", "--check", path)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(patch), err, out)
		}
	}
}
