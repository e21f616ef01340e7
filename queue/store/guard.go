package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"realtorbot-relay/queue/fault"
)

// The places of faults.
const (
	AtCommit     = "commit of the store"
	AtSpare      = "spare log of the store"
	AtMapTable   = "map of a table of the store"
	AtMapLog     = "map of a log of the store"
	AtGuard      = "guard of the opening store"
	AtGuardGone  = "removal of the store's guard"
	AtSeal       = "seal of the new store"
	AtSetAside   = "setting the store aside"
	AtInstallNew = "name of the new store"
)

// deaths is how many starts in a row may end while the store is opened.
const deaths = 2

// guardPath names the file that counts the starts that did not come to Opened.
func guardPath(dir string) string { return filepath.Clean(dir) + ".opening" }

// readGuard returns how many starts ended while the store was opened.
func readGuard(dir string) (int, error) {
	raw, err := os.ReadFile(guardPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(raw)))
	if err != nil || n < 1 {
		return 1, nil // cut off while it was written
	}
	return n, nil
}

func writeGuard(dir string, n int, f fault.Func) error {
	if err := f.Before(AtGuard); err != nil {
		return err
	}
	return f.After(AtGuard, func() error {
		file, err := os.OpenFile(guardPath(dir), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(file, n)
		return errors.Join(err, file.Sync(), file.Close(), syncDir(filepath.Dir(filepath.Clean(dir))))
	}())
}

func dropGuard(dir string, f fault.Func) error {
	if err := f.Before(AtGuardGone); err != nil {
		return err
	}
	err := os.Remove(guardPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return f.After(AtGuardGone, nil)
	}
	return f.After(AtGuardGone, errors.Join(err, syncDir(filepath.Dir(filepath.Clean(dir)))))
}

// Opened says that the store has proved that it can be read: deaths from now on are not its fault. Until then each start
// counts as one that ended over it. Call it some seconds after the start, when what is read at a start has been read and
// Badger has begun to merge.
func (s *Store) Opened() error {
	if err := dropGuard(s.dir, s.fault); err != nil {
		return fmt.Errorf("remove %q: %w", guardPath(s.dir), classify(err))
	}
	return nil
}

// SetAside renames the directory of a store that is not open. Its guard goes: what takes its place begins anew.
func SetAside(dir, aside string, f fault.Func) error {
	if err := os.MkdirAll(filepath.Dir(aside), 0o700); err != nil {
		return fmt.Errorf("set the store aside: %w", classify(err))
	}
	if err := rename(AtSetAside, dir, aside, f); err != nil {
		return fmt.Errorf("set the store aside: %w", classify(err))
	}
	if err := dropGuard(dir, f); err != nil {
		return fmt.Errorf("remove %q: %w", guardPath(dir), classify(err))
	}
	return nil
}

// Install gives a sealed store its name, which nothing else has.
func Install(fresh, dir string, f fault.Func) error {
	if err := rename(AtInstallNew, fresh, dir, f); err != nil {
		return fmt.Errorf("give the new store its name: %w", classify(err))
	}
	return nil
}

func rename(place, from, to string, f fault.Func) error {
	// Badger makes and removes files by their path as long as it runs: in whatever has the name by then.
	for _, dir := range []string{from, to} {
		if inUse(dir) {
			return fmt.Errorf("%w: %q", ErrInUse, dir)
		}
	}
	if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("rename %q: %q exists", from, to), err)
	}
	if err := f.Before(place); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if err == nil {
		err = syncDir(filepath.Dir(filepath.Clean(to)))
	}
	if err == nil && filepath.Dir(filepath.Clean(from)) != filepath.Dir(filepath.Clean(to)) {
		err = syncDir(filepath.Dir(filepath.Clean(from)))
	}
	return f.After(place, err)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// inside are the directories that this process has open, with the faults that are made in them.
var inside = struct {
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
	inside.Lock()
	defer inside.Unlock()
	_, used := inside.dirs[realPath(dir)]
	return used
}

// enter takes a directory for this process.
func enter(dir string, f fault.Func) error {
	inside.Lock()
	defer inside.Unlock()
	if _, used := inside.dirs[dir]; used {
		return ErrInUse
	}
	inside.dirs[dir] = f
	if f != nil {
		harmed.Add(1)
	}
	return nil
}

func leave(dir string) {
	inside.Lock()
	defer inside.Unlock()
	if inside.dirs[dir] != nil {
		harmed.Add(-1)
	}
	delete(inside.dirs, dir)
}
