package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// volume is a small file system: an image file mounted through a loop device, or a tmpfs. Mounts belong to the mount
// namespace that scripts/lab/run makes, and end with it whatever becomes of this program. One goroutine uses a volume.
type volume struct {
	kind  string // ext4, xfs, btrfs or tmpfs
	image string // path of the image file, empty for a tmpfs
	at    string // where it is mounted
	size  int64  // bytes
}

// needRoot says whether this program may mount, and has the tools it names.
func needRoot(tools ...string) error {
	if os.Geteuid() != 0 {
		return unableError("mounting file systems needs root: run it as root, on a machine of your own")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return unableError(fmt.Sprintf("%s is not installed", tool))
		}
	}
	return nil
}

// newVolume makes a file system called name inside dir, and mounts it.
func newVolume(dir, name, kind string, size int64) (*volume, error) {
	v := &volume{kind: kind, at: filepath.Join(dir, name), size: size}
	if kind != "tmpfs" {
		v.image = filepath.Join(dir, name+".img")
		f, err := os.Create(v.image)
		if err != nil {
			return nil, fmt.Errorf("make image: %w", err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return nil, fmt.Errorf("make image: %w", err)
		}
		options := map[string][]string{"ext4": {"-q", "-F", "-E", "nodiscard"}, "xfs": {"-q", "-K"}, "btrfs": {"-q", "-f", "-K"}}[kind]
		if err := tool("mkfs."+kind, append(options, v.image)...); err != nil {
			return nil, err
		}
	}
	return v, v.mount()
}

func (v *volume) mount() error {
	if err := os.MkdirAll(v.at, 0o700); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if v.kind == "tmpfs" {
		return tool("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", v.size), "lab", v.at)
	}
	return tool("mount", "-t", v.kind, "-o", "loop", v.image, v.at)
}

// unmount waits for a moment: who was killed lets go of the file system a little later.
func (v *volume) unmount() (err error) {
	for range 100 {
		if err = tool("umount", v.at); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// remount mounts the volume again with an option, such as "ro".
func (v *volume) remount(option string) error { return tool("mount", "-o", "remount,"+option, v.at) }

// device is the name of the volume's loop device.
func (v *volume) device() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("read mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == v.at {
			return filepath.Base(f[0]), nil
		}
	}
	return "", fmt.Errorf("read mounts: %s is not mounted", v.at)
}

// clone copies the image as it is at this moment, sharing its blocks; the image must lie on a file system that can.
func (v *volume) clone(name string) (*volume, error) {
	dir := filepath.Dir(v.image)
	c := &volume{kind: v.kind, size: v.size, image: filepath.Join(dir, name+".img"), at: v.at + "-" + name}
	from, err := os.Open(v.image)
	if err != nil {
		return nil, fmt.Errorf("clone image: %w", err)
	}
	defer from.Close()
	to, err := os.Create(c.image)
	if err != nil {
		return nil, fmt.Errorf("clone image: %w", err)
	}
	if err := errors.Join(unix.IoctlFileClone(int(to.Fd()), int(from.Fd())), to.Close()); err != nil {
		return nil, fmt.Errorf("clone image: %w", err)
	}
	return c, nil
}

// goingDown is XFS_IOC_GOINGDOWN, which ext4 knows too; noLogFlush has it forget what its own journal holds in memory.
const (
	goingDown  = 0x8004587d
	noLogFlush = 2
)

// shutdown stops the file system as a power cut would: nothing more reaches its device.
func (v *volume) shutdown() error {
	d, err := os.Open(v.at)
	if err != nil {
		return fmt.Errorf("shut down file system: %w", err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), goingDown, noLogFlush); err != nil {
		return fmt.Errorf("shut down file system: %w", err)
	}
	return nil
}

// canary is a file that nobody syncs: it must not survive the cut, or the cut cut nothing.
const canary = "written, not synced; a power cut must take this away\n"

func (v *volume) writeCanary(name string) error {
	if err := os.WriteFile(filepath.Join(v.at, name), []byte(canary), 0o600); err != nil {
		return fmt.Errorf("write canary: %w", err)
	}
	return nil
}

func (v *volume) canaryLives(name string) bool {
	text, err := os.ReadFile(filepath.Join(v.at, name))
	return err == nil && strings.Contains(string(text), canary)
}

// fill is another program that takes the space of a file system, all of it or all but some bytes. It returns the path of
// what it wrote.
func fill(dir string, leave int64) (path string, err error) {
	path = filepath.Join(dir, "filler")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return path, fmt.Errorf("fill %s: %w", dir, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return path, fmt.Errorf("fill %s: %w", dir, err)
	}
	at := info.Size()
	for _, step := range []int64{16 << 20, 1 << 20, 64 << 10, 4 << 10} {
		for {
			free, err := freeBytes(dir)
			if err != nil {
				return path, err
			}
			if leave > 0 && free-step < leave {
				break
			}
			err = unix.Fallocate(int(f.Fd()), 0, at, step)
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			if err == nil {
				at += step
				if leave > 0 {
					err = unix.Syncfs(int(f.Fd())) // btrfs says only then what is free
				}
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return path, fmt.Errorf("fill %s: %w", dir, err)
			}
		}
	}
	return path, nil
}

// makeRoom takes back what fill took. Btrfs has the space only when it has written that down, which may take it 30 s.
func makeRoom(filler string) error {
	if err := os.Remove(filler); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	d, err := os.Open(filepath.Dir(filler))
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	return nil
}

// freeBytes is what is left for a program without privileges.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// tool runs a program to its end; its words are in the error.
func tool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(slices.Concat([]string{name}, args), " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
