package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Close waits for the readers, since what they read is mapped memory. Badger then writes what it has in memory, and repeats
// that for ever on a disk that is full or broken; so it gets a limited time: what it did not write is in its log, as after a
// crash. After an error the directory may still be in use, and this process can neither open nor rename it. A start whose
// store is closed without an error is no death, even without Opened.
func (s *Store) Close(limit time.Duration) error {
	if err := s.close(limit); err != nil {
		return fmt.Errorf("close store %q: %w", s.dir, err)
	}
	return nil
}

var errCloseTimeout = errors.New("it did not close in time; its log has what it did not write")

func (s *Store) close(limit time.Duration) error {
	done := make(chan error, 1)
	go func() {
		s.open.Lock()
		defer s.open.Unlock()
		if s.closed {
			done <- nil
			return
		}
		s.closed = true
		done <- s.closeBadger()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errCloseTimeout
	}
}

// closeBadger releases the directory only when none of Badger's goroutines uses it any more.
func (s *Store) closeBadger() (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = panicError(what)
			return
		}
		releaseDir(s.dir)
	}()
	if err = s.db.Close(); err == nil && !s.fresh {
		err = removeGuard(s.dir, nil)
	}
	return classify(err)
}

// Seal ends the making of a fresh store: it closes it and syncs all its files. Then Install gives it its name.
func (s *Store) Seal(limit time.Duration) error {
	if !s.fresh {
		return errors.New("seal the store: it is not a new one")
	}
	err := s.fault.Before(AtSeal)
	if err == nil {
		if err = s.close(limit); err == nil {
			err = syncFiles(s.dir)
		}
		err = s.fault.After(AtSeal, err)
	}
	if err != nil {
		return fmt.Errorf("seal the store: %w", classify(err))
	}
	return nil
}

func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err = errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(dir)
}
