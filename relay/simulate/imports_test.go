package simulate

import (
	"os"
	"strings"
	"testing"
)

// Nothing of the simulator can be linked: there is nothing but tests, and doc.go.
func TestThereIsNothingToLink(t *testing.T) {
	list, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		if name := entry.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "doc.go" {
			t.Errorf("%s is no test", name)
		}
	}
}
