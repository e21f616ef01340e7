package store

import (
	"path/filepath"
	"sync"

	"realtorbot-relay/queue/fault"
)

// openDirs are the directories that this process has open, with the fault.Func of each.
var openDirs = struct {
	sync.Mutex
	dirs map[string]fault.Func
}{dirs: map[string]fault.Func{}}

func realPath(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

func inUse(dir string) bool {
	openDirs.Lock()
	defer openDirs.Unlock()
	_, used := openDirs.dirs[realPath(dir)]
	return used
}

// claimDir claims a directory for one store of this process.
func claimDir(dir string, f fault.Func) error {
	openDirs.Lock()
	defer openDirs.Unlock()
	if _, used := openDirs.dirs[dir]; used {
		return ErrInUse
	}
	openDirs.dirs[dir] = f
	if f != nil {
		openFaults.Add(1)
	}
	return nil
}

func releaseDir(dir string) {
	openDirs.Lock()
	defer openDirs.Unlock()
	if openDirs.dirs[dir] != nil {
		openFaults.Add(-1)
	}
	delete(openDirs.dirs, dir)
}
