// Package needed finds what tests need beside Go: interpreters for the receivers that the manual shows, programs that read our
// files as others do, and what not every kernel has.
package needed

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a program. Where there is none the test is left out; with CI set in the environment, where
// nothing may be left out, it fails. scripts/test installs what is missing, and says what it could not.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is needed: scripts/test installs it (%v)", name, err)
	}
	t.Skipf("left out: %s is not installed (scripts/test installs it)", name)
	return ""
}

// Kernel leaves the test out, or with CI set fails it, on a kernel that does not have what is named.
func Kernel(t testing.TB, has bool, what string) {
	t.Helper()
	switch {
	case has:
	case os.Getenv("CI") != "":
		t.Fatalf("this kernel has no %s", what)
	default:
		t.Skipf("left out: this kernel has no %s", what) // under emulation, or in a sandbox
	}
}
