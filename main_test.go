package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asProgram in the environment has the test binary be the program.
const asProgram = "REALTORBOT_RELAY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A SIGHUP that comes while the flags are read, before there is a configuration, ends nothing. The relay is held there by a complaint
// that is longer than the pipe that takes it.
func TestAReloadBeforeTheFlagsAreReadEndsNothing(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(os.Args[0], "serve", "-"+strings.Repeat("x", 100<<10))
	cmd.Env, cmd.Stderr = append(os.Environ(), asProgram+"=1"), in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	defer cmd.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("it ended with %v, want exit code 2, of a flag that there is not", cmd.ProcessState)
	}
}
