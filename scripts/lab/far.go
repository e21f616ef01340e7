package main

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// far is a network namespace at the other end of a virtual cable: another machine, as far as the network is concerned. This
// program's own namespace must be one that scripts/lab/run made for it. The far one ends with this program.
type far struct {
	path  string // of the namespace
	calls chan func()
}

const (
	nearDevice, farDevice = "near", "far"
	nearAddress           = "10.77.0.1"
	liveAddress           = "10.77.0.2"
	heldAddress           = "10.77.0.3"
)

// newFar makes the namespace and the cable.
func newFar() (*far, error) {
	f := &far{calls: make(chan func())}
	made := make(chan error)
	go f.live(made)
	if err := <-made; err != nil {
		return nil, err
	}
	there := func(args ...string) []string { return append([]string{"nsenter", "--net=" + f.path, "ip"}, args...) }
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", nearDevice, "type", "veth", "peer", "name", farDevice, "netns", f.path},
		{"ip", "addr", "add", nearAddress + "/24", "dev", nearDevice},
		{"ip", "link", "set", nearDevice, "up"},
		there("addr", "add", liveAddress+"/24", "dev", farDevice),
		there("addr", "add", heldAddress+"/24", "dev", farDevice),
		there("link", "set", farDevice, "up"),
	} {
		if err := tool(command[0], command[1:]...); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// live is the thread whose namespace this is: it never serves another goroutine again.
func (f *far) live(made chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		made <- fmt.Errorf("make network namespace: %w", err)
		return
	}
	f.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	made <- nil
	for call := range f.calls {
		call()
	}
}

// listen listens on an address over there.
func (f *far) listen(hostport string) (ln net.Listener, err error) {
	done := make(chan struct{})
	f.calls <- func() {
		ln, err = net.Listen("tcp", hostport) // a socket stays in the namespace it was made in
		close(done)
	}
	<-done
	return ln, err
}
