package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a child that this program started and alone stops, by its process id.
type process struct {
	name   string
	log    string // path of what it printed, appended to over restarts
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has been waited for
	status atomic.Pointer[string]
}

// startProcess starts bin in dir. Should this program die without a word, the kernel kills the child with it.
func startProcess(name, dir, bin string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer out.Close() // the child has its own
	p.cmd = exec.Command(bin, args...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		text := "exit code 0"
		if err := p.cmd.Wait(); err != nil {
			text = err.Error()
		}
		p.status.Store(&text)
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end and waits; after the limit it is killed, which is an error.
func (p *process) stop(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("stop %s: still there %s after SIGTERM, killed", p.name, limit)
	}
}

// kill is kill -9, and returns when the process is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails only when it has ended already
	<-p.ended
}

// lastWords is how the process ended and the last lines that it printed.
func (p *process) lastWords() string {
	status := "running"
	if s := p.status.Load(); s != nil {
		status = *s
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		return status
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-5):]
	return fmt.Sprintf("%s; it said last: %s", status, bytes.Join(lines, []byte(" | ")))
}

// rssAnon is the process's anonymous memory in bytes (proc(5), status). Mapped table files are left out: the kernel takes
// them back whenever it likes.
func rssAnon(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	kib, err := procField(string(text), "RssAnon:")
	return kib << 10, err
}

// writtenBytes is what the process has caused to be written to disk (proc(5), io).
func writtenBytes(pid int) (uint64, error) { return ioField(pid, "write_bytes:") }

// procField reads the number behind a name that starts a line.
func procField(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				break
			}
			return strconv.ParseUint(fields[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("read /proc: no %s", name)
}

// cpuTime is the processor time that the process has used, in user and kernel mode (proc(5), stat), to 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPUTime(string(text))
}

func parseCPUTime(stat string) (time.Duration, error) {
	// The second field is the program's name in parentheses and may hold anything; utime and stime are the 12th and 13th
	// after it, in clock ticks, of which Linux has 100 a second on every architecture.
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("read /proc: stat is too short")
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read /proc: utime %w", err)
	}
	system, err := strconv.ParseUint(fields[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read /proc: stime %w", err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// usage is what the kernel says of a process.
type usage struct {
	cpu     time.Duration
	memory  uint64 // anonymous, bytes
	written uint64 // bytes
}

func readUsage(pid int) (u usage, err error) {
	if u.cpu, err = cpuTime(pid); err != nil {
		return u, err
	}
	if u.memory, err = rssAnon(pid); err != nil {
		return u, err
	}
	u.written, err = writtenBytes(pid)
	return u, err
}

// readBytes is how much the process has read by system calls, wherever it came from; readCalls, how often (proc(5), io).
func readBytes(pid int) (uint64, error) { return ioField(pid, "rchar:") }

func readCalls(pid int) (uint64, error) { return ioField(pid, "syscr:") }

func ioField(pid int, name string) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	return procField(string(text), name)
}
