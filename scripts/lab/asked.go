package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process can be run so that it asks this program before each of some system calls (seccomp_unotify(2)): the kernel stops the
// thread until it is told to make the call or to give an error back. One count goes for all threads, what is asked for can be
// changed at any moment, and other calls cost nothing. strace counts each thread by itself, and knows a file only by its whole name.

// sysCall is one kind of system call on files: what a program asks of the kernel, by whichever call it does that.
type sysCall struct {
	name   string
	doors  []door
	errors []syscall.Errno
}

// door is one system call, and how it tells the file.
type door struct {
	number int32
	at     int // of the arguments
	by     naming
}

type naming byte

const (
	descriptor naming = iota
	path
	pathBehind // the descriptor of a directory, which is the argument before
	address    // in a map of the file
)

// renameCall is rename(2), which newer architectures do without.
var renameCall = map[string]int32{"amd64": 82}

// sysCalls are those that a store makes. The errors are what a disk, a quota, a limit or the kernel's memory answers.
var sysCalls = []sysCall{
	{"open", []door{{unix.SYS_OPENAT, 1, pathBehind}}, []syscall.Errno{unix.EIO, unix.EMFILE, unix.ENFILE}},
	{"create", nil, []syscall.Errno{unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.EDQUOT}}, // an open that makes the file
	{"mmap", []door{{unix.SYS_MMAP, 4, descriptor}}, []syscall.Errno{unix.ENOMEM, unix.ENFILE}},
	{"mremap", []door{{unix.SYS_MREMAP, 0, address}}, []syscall.Errno{unix.ENOMEM}},
	{"munmap", []door{{unix.SYS_MUNMAP, 0, address}}, []syscall.Errno{unix.ENOMEM}},
	{"msync", []door{{unix.SYS_MSYNC, 0, address}}, []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}},
	{"fallocate", []door{{unix.SYS_FALLOCATE, 0, descriptor}}, []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}},
	{"ftruncate", []door{{unix.SYS_FTRUNCATE, 0, descriptor}}, []syscall.Errno{unix.EIO, unix.ENOSPC}},
	{"rename", []door{{renameCall[runtime.GOARCH], 0, path}, {unix.SYS_RENAMEAT, 1, pathBehind}, {unix.SYS_RENAMEAT2, 1, pathBehind}},
		[]syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}},
	{"unlink", []door{{unix.SYS_UNLINKAT, 1, pathBehind}}, []syscall.Errno{unix.EIO}},
	{"read", []door{{unix.SYS_READ, 0, descriptor}, {unix.SYS_PREAD64, 0, descriptor}, {unix.SYS_GETDENTS64, 0, descriptor}}, []syscall.Errno{unix.EIO}},
	{"write", []door{{unix.SYS_WRITE, 0, descriptor}, {unix.SYS_PWRITE64, 0, descriptor}}, []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}},
	{"sync", []door{{unix.SYS_FSYNC, 0, descriptor}, {unix.SYS_FDATASYNC, 0, descriptor}}, []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}},
}

// doors are all of them, by number, with their names.
var doors = func() map[int32]namedDoor {
	all := map[int32]namedDoor{}
	for _, kind := range sysCalls {
		for _, d := range kind.doors {
			if d.number != 0 || kind.name == "read" { // read is number 0 on some
				all[d.number] = namedDoor{d, kind.name}
			}
		}
	}
	return all
}()

type namedDoor struct {
	door
	name string
}

// question is one system call that a process is about to make.
type question struct {
	call string
	file string
}

// asked is told of the calls of a process that is run under it. It is used by any goroutine.
type asked struct {
	name     string // of the socket over which the process hands the kernel's questions
	listener int
	done     chan struct{} // closed when there is nobody left to ask

	mu     sync.Mutex
	answer func(question) syscall.Errno // 0: make the call; nil makes all
}

// askFor waits for one process that is started with under.
func askFor() (*asked, error) {
	a := &asked{name: fmt.Sprintf("@lab-%d-%d", os.Getpid(), nextAsked()), done: make(chan struct{})}
	var err error
	if a.listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("listen for questions: %w", err)
	}
	if err := errors.Join(unix.Bind(a.listener, &unix.SockaddrUnix{Name: a.name}), unix.Listen(a.listener, 1)); err != nil {
		unix.Close(a.listener)
		return nil, fmt.Errorf("listen for questions: %w", err)
	}
	go a.serve()
	return a, nil
}

var nextAsked = func() func() int {
	var mu sync.Mutex
	n := 0
	return func() int { mu.Lock(); defer mu.Unlock(); n++; return n }
}()

// under is the command that runs another one so that it asks. It keeps the process id.
func (a *asked) under() ([]string, error) {
	self, err := os.Executable()
	return []string{self, "ask", a.name}, err
}

// decide says from now on what is answered. It is called for one question at a time.
func (a *asked) decide(answer func(question) syscall.Errno) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// close ends it, after the process has ended or when it was never started.
func (a *asked) close() {
	_ = unix.Shutdown(a.listener, unix.SHUT_RDWR)
	<-a.done
}

// serve answers until the process has ended.
func (a *asked) serve() {
	defer close(a.done)
	defer unix.Close(a.listener)
	conn, _, err := unix.Accept4(a.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	room := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, make([]byte, 1), room, unix.MSG_CMSG_CLOEXEC)
	unix.Close(conn)
	if err != nil {
		return
	}
	var fds []int
	if list, err := unix.ParseSocketControlMessage(room[:n]); err == nil && len(list) == 1 {
		fds, _ = unix.ParseUnixRights(&list[0])
	}
	if len(fds) != 1 {
		return
	}
	defer unix.Close(fds[0])
	for a.next(fds[0]) {
	}
}

// notif is the kernel's struct seccomp_notif, response its struct seccomp_notif_resp.
type notif struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

const sendNotif = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND; the package names it for no architecture

// next answers one question. It reports false when nobody is left who could ask.
func (a *asked) next(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, -1); err != nil {
		return errors.Is(err, unix.EINTR)
	}
	if poll[0].Revents&unix.POLLIN == 0 {
		return false
	}
	var n notif
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
		return e == unix.EINTR || e == unix.ENOENT // who asked has been killed
	}
	r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if e := a.judge(&n); e != 0 {
		r.err, r.flags = -int32(e), 0
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sendNotif, uintptr(unsafe.Pointer(&r)))
	return true
}

func (a *asked) judge(n *notif) syscall.Errno {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, known := doors[n.number]
	if a.answer == nil || !known {
		return 0
	}
	q := question{call: d.name, file: fileOf(n, d.door)}
	if q.file == "" {
		return 0
	}
	if n.number == unix.SYS_OPENAT && n.args[2]&unix.O_CREAT != 0 {
		q.call = "create"
	}
	return a.answer(q)
}

// fileOf is the path of the file that a call is about, "" of none.
func fileOf(n *notif, d door) string {
	switch d.by {
	case descriptor:
		return behind(n.pid, n.args[d.at])
	case address:
		return mapped(n.pid, n.args[d.at])
	}
	text := textAt(n.pid, n.args[d.at])
	switch {
	case strings.HasPrefix(text, "/") || text == "":
		return text
	case d.by == path || int32(n.args[d.at-1]) == unix.AT_FDCWD:
		dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", n.pid))
		return dir + "/" + text
	}
	return behind(n.pid, n.args[d.at-1]) + "/" + text
}

// textAt reads a string of another process. It may end near the end of what is mapped there, so it is read page by page.
func textAt(pid uint32, at uint64) string {
	text := make([]byte, 0, unix.PathMax)
	for page := os.Getpagesize(); len(text) < unix.PathMax; {
		room := min(page-int(at%uint64(page)), unix.PathMax-len(text))
		part := text[len(text) : len(text)+room]
		got, err := unix.ProcessVMReadv(int(pid), []unix.Iovec{{Base: &part[0], Len: uint64(room)}}, []unix.RemoteIovec{{Base: uintptr(at), Len: room}}, 0)
		if err != nil || got <= 0 {
			return ""
		}
		if end := bytes.IndexByte(part[:got], 0); end >= 0 {
			return string(text[:len(text)+end])
		}
		text, at = text[:len(text)+got], at+uint64(got)
	}
	return ""
}

func behind(pid uint32, fd uint64) string {
	path, _ := os.Readlink("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/fd/" + strconv.FormatUint(fd&0xffffffff, 10))
	return strings.TrimSuffix(path, " (deleted)")
}

// mapped is the file behind an address.
func mapped(pid uint32, at uint64) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		span, rest, _ := strings.Cut(string(line), " ")
		from, to, _ := strings.Cut(span, "-")
		first, _ := strconv.ParseUint(from, 16, 64)
		end, _ := strconv.ParseUint(to, 16, 64)
		if first <= at && at < end {
			_, path, _ := strings.Cut(rest, "/")
			return strings.TrimSuffix(strings.TrimSpace("/"+path), " (deleted)")
		}
	}
	return ""
}

// architectures are the kernel's numbers for them, without which a filter can't know what a system call's number means.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// askFilter is the filter that has the calls asked for. Memory that is mapped from no file is let through unasked, so that who
// installs the filter is never stopped before there is somebody to ask.
func askFilter() []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(k uint32, then, otherwise int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(then), Jf: uint8(otherwise)}
	}
	back := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const number, arch, fifth = 0, 4, 16 + 4*8 // in struct seccomp_data, the lower half first
	var numbers []int32
	for n := range doors {
		if n != unix.SYS_MMAP {
			numbers = append(numbers, n)
		}
	}
	program := []unix.SockFilter{
		load(arch), equal(architectures[runtime.GOARCH], 1, 0), back(unix.SECCOMP_RET_ALLOW),
		load(number), equal(unix.SYS_MMAP, 0, 2),
		load(fifth), equal(0xffffffff, len(numbers), len(numbers)+1), // no file
	}
	for i, n := range numbers {
		program = append(program, equal(uint32(n), len(numbers)-i, 0))
	}
	return append(program, back(unix.SECCOMP_RET_ALLOW), back(unix.SECCOMP_RET_USER_NOTIF))
}

// runAsk is the process that asks, before it becomes the command.
func runAsk(_ context.Context, args []string, _ io.Writer) error {
	flags := newFlags("ask", "Becomes a command (SOCKET COMMAND...) of which the one that listens at the socket is asked before each system call on a file.")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError("")
	}
	if args = flags.Args(); len(args) < 2 {
		return usageError("ask needs a socket and a command")
	}
	if architectures[runtime.GOARCH] == 0 {
		return unableError("the numbers of the system calls of " + runtime.GOARCH + " are not known")
	}
	runtime.LockOSThread() // the filter is this thread's, and becomes the whole process's with the command
	debug.SetGCPercent(-1)
	conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(conn, &unix.SockaddrUnix{Name: args[0]})
	}
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	environment, program := os.Environ(), askFilter()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// A call that is asked about is not broken off by signals, of which Go sends itself many.
	const how = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, how, uintptr(unsafe.Pointer(&filter)))
	if e != 0 {
		return unableError("the kernel does not ask about system calls (seccomp, Linux 5.19): " + e.Error())
	}
	if err := unix.Sendmsg(conn, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	return syscall.Exec(args[1], args[1:], environment)
}
