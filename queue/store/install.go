package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"realtorbot-relay/queue/fault"
)

// SetAside renames the directory of a store that is not open, synced, and removes its guard: the store that takes its place
// begins anew.
func SetAside(dir, aside string, f fault.Func) error {
	if err := os.MkdirAll(filepath.Dir(aside), 0o700); err != nil {
		return fmt.Errorf("set the store aside: %w", classify(err))
	}
	if err := rename(AtSetAside, dir, aside, f); err != nil {
		return fmt.Errorf("set the store aside: %w", classify(err))
	}
	if err := removeGuard(dir, f); err != nil {
		return fmt.Errorf("remove %q: %w", guardPath(dir), classify(err))
	}
	return nil
}

// Install gives a sealed store its name, synced. Nothing else may have the name.
func Install(fresh, dir string, f fault.Func) error {
	if err := rename(AtInstallNew, fresh, dir, f); err != nil {
		return fmt.Errorf("give the new store its name: %w", classify(err))
	}
	return nil
}

func rename(place, from, to string, f fault.Func) error {
	// While Badger runs, it makes and removes files by their path: in whatever has that path by then.
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
