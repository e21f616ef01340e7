package endtoend

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started: the binary with one of its commands, or what stands around it.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *transcript
	ended          chan struct{} // closed when it has been waited for
}

// command is the binary with arguments, to be launched in dir.
func command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	return cmd
}

// launch starts a program and has it killed when the test is over.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	return launchTo(t, cmd, nil)
}

// launchTo is launch with what it writes to standard output going to a file, unless that is nil.
func launchTo(t *testing.T, cmd *exec.Cmd, file *os.File) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, stdout: seen.newTranscript(), stderr: seen.newTranscript(), ended: make(chan struct{})}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if file != nil {
		cmd.Stdout = file
	}
	// Should the tests die without a word, the kernel ends what they started.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", cmd.Args, err)
	}
	go func() {
		_ = cmd.Wait() // the exit code says it
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		for _, sign := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if p.stderr.has(sign) {
				t.Errorf("%q says %q", cmd.Args, sign)
			}
		}
		if t.Failed() {
			t.Logf("%q\nstdout:\n%s\nstderr:\n%s", cmd.Args, tail(p.stdout), tail(p.stderr))
		}
	})
	return p
}

// launchAs is launch as another user, which takes root.
func launchAs(t *testing.T, cmd *exec.Cmd, uid uint32) *process {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return launch(t, cmd)
}

func tail(text *transcript) string {
	const most = 8 << 10
	s := text.String()
	return s[max(0, len(s)-most):]
}

// end runs a command of the binary to its end.
func end(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	p := launch(t, cmd)
	code = p.exit()
	return code, p.stdout.String(), p.stderr.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %s: %v", s, err)
	}
}

// kill is kill -9, and returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.ended
}

// exit waits for the end and returns the exit code, -1 when a signal ended it.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%q is still there after %s", p.cmd.Args, patience)
		return -1
	}
}

// stop is SIGTERM, after which all has to end well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		p.t.Fatalf("exit code %d after SIGTERM, want 0", code)
	}
}

// awaitLog waits for a line on stderr that has all the words, and returns it.
func (p *process) awaitLog(words ...string) (line string) {
	p.t.Helper()
	eventually(p.t, "a line on stderr with "+strings.Join(words, ", "), func() bool {
	next:
		for _, line = range p.stderr.lines() {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue next
				}
			}
			return true
		}
		select {
		case <-p.ended:
			p.t.Fatalf("it ended and never said %q", words)
		default:
		}
		return false
	})
	return line
}
