package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// group is a control group with a limit of memory, made for one process.
type group struct {
	dir string
	v2  bool
}

const (
	groupsRoot = "/sys/fs/cgroup"
	groupLook  = 250 * time.Millisecond
)

// newGroup makes a control group, with either version of them. It needs root.
func newGroup(mib int) (*group, error) {
	g := &group{}
	parent := ""
	if controllers, err := os.ReadFile(filepath.Join(groupsRoot, "cgroup.subtree_control")); err == nil && strings.Contains(string(controllers), "memory") {
		parent, g.v2 = groupsRoot, true // below the root alone may there be processes beside groups
	} else if membership, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(membership)) {
			if _, path, ok := strings.Cut(strings.TrimSpace(line), ":memory:"); ok {
				parent = filepath.Join(groupsRoot, "memory", path)
			}
		}
	}
	if parent == "" {
		return nil, unableError("there is no control group with a limit of memory to be made")
	}
	var err error
	if g.dir, err = os.MkdirTemp(parent, "relay-lab-"); err != nil {
		return nil, unableError(fmt.Sprintf("make a control group: %v", err))
	}
	limit := "memory.limit_in_bytes"
	if g.v2 {
		limit = "memory.max"
	}
	if err := g.write(limit, strconv.Itoa(mib<<20)); err != nil {
		g.remove()
		return nil, unableError(fmt.Sprintf("limit the memory of a control group: %v", err))
	}
	swap, most := "memory.memsw.limit_in_bytes", strconv.Itoa(mib<<20)
	if g.v2 {
		swap, most = "memory.swap.max", "0"
	}
	if err := g.write(swap, most); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.remove()
		return nil, unableError(fmt.Sprintf("have a control group without swap: %v", err))
	}
	return g, nil
}

func (g *group) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// under is a command that runs another one in the group, under the same process id.
func (g *group) under() []string {
	return []string{"/bin/sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, g.dir}
}

// remove ends the group, when its processes have ended.
func (g *group) remove() { os.Remove(g.dir) }

// kills is how many processes the kernel killed for want of memory.
func (g *group) kills() (uint64, error) {
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, err
	}
	return procField(string(text), "oom_kill ")
}

// held is how many bytes the group has now, without what files have in memory: the kernel takes that back at any time.
func (g *group) held() (uint64, error) {
	name, file := "memory.usage_in_bytes", "total_cache "
	if g.v2 {
		name, file = "memory.current", "file "
	}
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, err
	}
	all, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, err
	}
	if text, err = os.ReadFile(filepath.Join(g.dir, "memory.stat")); err != nil {
		return 0, err
	}
	cache, err := procField(string(text), file)
	return all - min(cache, all), err
}

// postIn posts, and tells how much the processes of a group held at most meanwhile, in MiB; 0 for no group.
func (l *load) postIn(ctx context.Context, g *group) (done loadResult, most float64, err error) {
	posted := make(chan loadResult, 1)
	go func() { posted <- l.post(ctx) }()
	look := time.NewTicker(groupLook)
	defer look.Stop()
	for posting := true; posting; {
		select {
		case done = <-posted:
			posting = false
		case <-look.C:
		}
		if g == nil || err != nil {
			continue // the load ends by itself
		}
		held := uint64(0)
		if held, err = g.held(); err == nil {
			most = max(most, float64(held)/(1<<20))
		}
	}
	return done, most, err
}
