package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is done to a relay in each step of operating.

func (o *operatingRun) readerStands(ctx context.Context) error {
	reader, err := o.pipe("stands")
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := o.serve(ctx, nil); err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) readerEnds(ctx context.Context) error {
	reader, err := o.pipe("ends")
	if err != nil {
		return err
	}
	if err := errors.Join(o.start(ctx), reader.Close()); err != nil {
		return err
	}
	if err := o.serve(ctx, nil); err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) logOnFullDisk(ctx context.Context) error {
	o.logTo(filepath.Join(o.disk.at, "log"))
	if err := o.start(ctx); err != nil {
		return err
	}
	var filler string
	err := o.lacks(ctx, false, func() (err error) { filler, err = fill(o.disk.at, 0); return err }, func() error { return makeRoom(filler) })
	if err != nil {
		return err
	}
	if filler, err = fill(o.disk.at, 0); err == nil {
		err = o.stop() // on the full disk
	}
	return errors.Join(err, makeRoom(filler), os.Remove(filepath.Join(o.disk.at, "log")))
}

// burst sends a signal some times, as fast as that goes.
func (o *operatingRun) burst(s syscall.Signal, times int) error {
	for range times {
		if err := o.relay.proc.cmd.Process.Signal(s); err != nil {
			return fmt.Errorf("send %v: %w", s, err)
		}
	}
	return nil
}

// ends waits for the process to end.
func (o *operatingRun) ends(limit time.Duration, why string) error {
	began := time.Now()
	select {
	case <-o.relay.proc.ended:
		o.now.StopMs = max(o.now.StopMs, time.Since(began).Milliseconds())
		return nil
	case <-time.After(limit):
		return fmt.Errorf("still there %v after %s", limit, why)
	}
}

// startAmid starts the relay, which is sent signals as soon as it takes them, and until it is ready.
func (o *operatingRun) startAmid(ctx context.Context, s syscall.Signal) error {
	_, err := o.relay.startUntil(ctx, func(ctx context.Context) error {
		if takes, err := takesSignals(o.relay.proc.pid()); err == nil && takes {
			if err := o.burst(s, 10); err != nil {
				return err
			}
		}
		return o.relay.health(ctx)
	})
	return err
}

// takesSignals reports whether the relay has come to the line from which on no SIGHUP ends it; behind that it ignores SIGPIPE. A few
// milliseconds before it is not the relay yet, but Go's runtime.
func takesSignals(pid int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "SigIgn:"); found {
			var mask uint64
			_, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &mask)
			return mask&(1<<(syscall.SIGPIPE-1)) != 0, err
		}
	}
	return false, errors.New("read /proc: no SigIgn")
}

func (o *operatingRun) signals(ctx context.Context) error {
	o.relay.under = nil
	if err := o.startAmid(ctx, syscall.SIGHUP); err != nil {
		return fmt.Errorf("SIGHUPs during a start: %w", err)
	}
	if err := o.serve(ctx, func() error { return o.burst(syscall.SIGHUP, 20) }); err != nil {
		return err
	}
	if err := errors.Join(o.burst(syscall.SIGHUP, 20), o.burst(syscall.SIGTERM, 1), o.burst(syscall.SIGHUP, 20)); err != nil {
		return err
	}
	if err := o.ends(stopBound, "SIGTERM amid SIGHUPs"); err != nil {
		return err
	}
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := o.burst(syscall.SIGTERM, 2); err != nil {
		return err
	}
	if err := o.ends(atOnce, "a second SIGTERM"); err != nil {
		return err
	}
	// A stop during a start, at some moment of it.
	for n := range 10 {
		first := errors.New("not yet")
		_, err := o.relay.startUntil(ctx, func(context.Context) error {
			if takes, err := takesSignals(o.relay.proc.pid()); err == nil && takes {
				return nil
			}
			return first
		})
		if err != nil {
			return err
		}
		pause(ctx, time.Duration(n)*7*time.Millisecond)
		if err := o.burst(syscall.SIGTERM, 1); err != nil {
			return err
		}
		if err := o.ends(stopBound, "SIGTERM during a start"); err != nil {
			return err
		}
	}
	return nil
}

func (o *operatingRun) noBytes(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	var filler string
	err := o.lacks(ctx, false, func() (err error) { filler, err = fill(o.disk.at, 0); return err }, func() error { return makeRoom(filler) })
	if err != nil {
		return err
	}
	return o.stop()
}

func (o *operatingRun) noInodes(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	crowd := filepath.Join(o.disk.at, "crowd")
	err := o.lacks(ctx, false, func() error {
		if err := os.Mkdir(crowd, 0o700); err != nil {
			return err
		}
		for n := 0; ; n++ {
			f, err := os.Create(filepath.Join(crowd, fmt.Sprint(n)))
			if errors.Is(err, unix.ENOSPC) {
				return nil
			}
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("use up the inodes: %w", err)
			}
		}
	}, func() error { return os.RemoveAll(crowd) })
	if err != nil {
		return err
	}
	return o.stop()
}

// noDescriptors leaves the relay as many descriptors as it has open. Whether it can accept then is not known: connections that it
// has go on, and new ones are not taken.
func (o *operatingRun) noDescriptors(ctx context.Context) error {
	o.relay.under = nil
	if err := o.start(ctx); err != nil {
		return err
	}
	pid := o.relay.proc.pid()
	var had unix.Rlimit
	var strangers []net.Conn
	err := o.lacks(ctx, true, func() error {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &had); err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)), Max: had.Max}, nil); err != nil {
			return err
		}
		// Those that were free below the limit are taken now: who comes behind must get no answer, or nothing is shown.
		for range len(open) + 16 {
			if c, err := net.DialTimeout("tcp", o.relay.ingest, time.Second); err == nil {
				strangers = append(strangers, c)
			}
		}
		fresh := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		if answer, err := fresh.Get("http://" + o.relay.ingest + "/health"); err == nil {
			answer.Body.Close()
			return errors.New("a new connection is answered although no descriptor is left")
		}
		return nil
	}, func() error {
		for _, c := range strangers {
			c.Close()
		}
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &had, nil)
	})
	if err != nil {
		return err
	}
	return o.stop()
}

// noQuota has the kernel answer as it does when a quota is used up, whatever would need space, from the start on: it waits for it.
func (o *operatingRun) noQuota(ctx context.Context) error {
	kernel, err := askFor()
	if err != nil {
		return err
	}
	defer kernel.close()
	if o.relay.under, err = kernel.under(); err != nil {
		return err
	}
	defer o.end()
	var asked atomic.Int64
	kernel.decide(func(q question) syscall.Errno {
		if strings.HasPrefix(q.file, o.relay.data) && (q.call == "fallocate" || q.call == "create") {
			asked.Add(1)
			return unix.EDQUOT
		}
		return 0
	})
	if _, err := o.relay.startUntil(ctx, func(ctx context.Context) error { return refuses(ctx, o.relay) }); err != nil {
		return err
	}
	if err := o.lacks(ctx, false, func() error { return nil }, func() error { kernel.decide(nil); return nil }); err != nil {
		return err
	}
	if asked.Load() == 0 {
		return errors.New("it never asked for space: this shows nothing")
	}
	return o.stop()
}

// noMemory runs the relay in little memory, and has clients begin requests that would take several times as much.
func (o *operatingRun) noMemory(ctx context.Context) error {
	if err := provesToKill(memoryMiB); err != nil {
		return err
	}
	g, err := newGroup(memoryMiB)
	if err != nil {
		return err
	}
	defer g.remove()
	o.relay.under = g.under()
	defer o.end()
	if err := o.start(ctx); err != nil {
		return err
	}
	var open []net.Conn
	drop := func() error {
		for _, c := range open {
			c.Close()
		}
		return nil
	}
	err = o.lacks(ctx, true, func() error {
		part := strings.Repeat("x", 900<<10)
		for range halfPosted {
			c, err := net.DialTimeout("tcp", o.relay.ingest, time.Second)
			if err != nil {
				continue // it is not taken any more
			}
			open = append(open, c)
			c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			_, _ = fmt.Fprintf(c, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", 1<<20, part)
		}
		return nil
	}, drop)
	if err != nil {
		return err
	}
	if kills, err := g.kills(); err != nil || kills > 0 {
		return errors.Join(fmt.Errorf("the kernel killed %d processes for want of memory", kills), err)
	}
	return o.stop()
}
