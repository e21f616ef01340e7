package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine says where figures were measured.
type machine struct {
	Cores      int       `json:"cores"`
	Kernel     string    `json:"kernel"`
	FileSystem string    `json:"file_system"` // of the data directory
	Fdatasync  quantiles `json:"fdatasync"`   // of a 4 KiB append, one at a time
	Go         string    `json:"go"`          // that built the relay
	Commit     string    `json:"commit"`      // of the relay
	Time       string    `json:"time"`
}

func describeMachine(dir, bin string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Go: "unknown", Commit: "unknown", Time: time.Now().UTC().Format(time.RFC3339)}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("read kernel version: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return m, fmt.Errorf("read mounts: %w", err)
	}
	m.FileSystem = fileSystemOf(string(mounts), dir)
	if m.Fdatasync, err = syncLatency(dir); err != nil {
		return m, fmt.Errorf("measure fdatasync: %w", err)
	}
	if info, err := buildinfo.ReadFile(bin); err == nil { // a relay that was not built by Go has none
		m.Go = info.GoVersion
		m.Commit = commitOf(info)
	}
	return m, nil
}

func commitOf(info *buildinfo.BuildInfo) string {
	commit, modified := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " and changes"
		}
	}
	return commit + modified
}

// fileSystemOf finds the type of the file system that holds path: the mount with the longest matching directory, the last
// of those when several lie on top of each other (proc(5), mounts).
func fileSystemOf(mounts, path string) string {
	longest, kind := -1, "unknown"
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		inside := f[1] == "/" || path == f[1] || strings.HasPrefix(path, f[1]+"/")
		if inside && len(f[1]) >= longest {
			longest, kind = len(f[1]), f[2]
		}
	}
	return kind
}

// syncLatency is what one append and one fdatasync take in dir when nothing else writes.
func syncLatency(dir string) (quantiles, error) {
	f, err := os.Create(filepath.Join(dir, "fdatasync"))
	if err != nil {
		return quantiles{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var h histogram
	page := make([]byte, 4096)
	for range 200 {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return quantiles{}, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return quantiles{}, err
		}
		h.record(time.Since(began))
	}
	return h.quantiles(), nil
}
