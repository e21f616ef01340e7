package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"realtorbot-relay/queue/fault"
)

// maxDeaths is how many starts in a row may end while the store is opened.
const maxDeaths = 2

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
		return 1, nil // cut short while it was written
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

func removeGuard(dir string, f fault.Func) error {
	if err := f.Before(AtGuardRemove); err != nil {
		return err
	}
	err := os.Remove(guardPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return f.After(AtGuardRemove, nil)
	}
	return f.After(AtGuardRemove, errors.Join(err, syncDir(filepath.Dir(filepath.Clean(dir)))))
}

// Opened says that the store can be read: a death from now on is not its fault. Until then each start counts as one that
// ended while the store was opened. It removes the guard, synced. It is to be called when everything that a start reads has
// been read, and Badger has begun to merge.
func (s *Store) Opened() error {
	if err := removeGuard(s.dir, s.fault); err != nil {
		return fmt.Errorf("remove %q: %w", guardPath(s.dir), classify(err))
	}
	return nil
}
