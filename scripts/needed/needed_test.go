package needed

import (
	"runtime"
	"testing"
)

// What is missing leaves a test out, and fails it where nothing may be left out.
func TestAMissingProgramLeavesTheTestOutButNotInCI(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]string{"": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		r := &recorded{TB: t}
		done := make(chan struct{})
		go func() { // Fatalf and Skipf end it
			defer close(done)
			Program(r, "node")
			r.said = "gone on"
		}()
		<-done
		if r.said != want {
			t.Errorf("with CI=%q it has %s, want %s", ci, r.said, want)
		}
		r, done = &recorded{TB: t}, make(chan struct{})
		go func() {
			defer close(done)
			Kernel(r, true, "calls of the system")
			Kernel(r, false, "calls of another one")
			r.said = "gone on"
		}()
		<-done
		if r.said != want {
			t.Errorf("with CI=%q a kernel without has %s, want %s", ci, r.said, want)
		}
	}
}

// recorded tells what a test does to itself.
type recorded struct {
	testing.TB
	said string
}

func (r *recorded) Helper() {}

func (r *recorded) Fatalf(string, ...any) {
	r.said = "failed"
	runtime.Goexit()
}

func (r *recorded) Skipf(string, ...any) {
	r.said = "skipped"
	runtime.Goexit()
}
