package endtoend

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	// go test keeps a result until what the test was made of changes. The binary is made of these.
	_ "realtorbot-relay/relay"
	_ "realtorbot-relay/relay/doctor"
	_ "realtorbot-relay/relay/try"
)

// binary is the relay, as built for this run.
var binary string

// patience is how long anything may take on a machine that has much else to do, with the race detector and 16 MiB of JSON. No test
// waits that long when all is well.
const patience = time.Minute

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "endtoend-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	if err := errors.Join(seen.verdict(), names.verdict(seen.texts)); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return max(code, 1)
	}
	return code
}

// build makes the binary. With -race it takes a few seconds more and finds more, so it is as the tests themselves are.
func build(dir string) error {
	// Read, so that a result is not kept beyond a change of it.
	if _, err := os.ReadFile("../../main.go"); err != nil {
		return err
	}
	binary = filepath.Join(dir, "realtorbot-relay")
	args := []string{"build", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "realtorbot-relay")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the relay: %w\n%s", err, out)
	}
	return nil
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	eventuallyWithin(t, patience, what, is)
}

func eventuallyWithin(t *testing.T, most time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(most)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %s: %s", most, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
