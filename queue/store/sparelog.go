package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/fault"
)

// makeSpareLog makes sure that the spare log exists: the log of the store's next table in memory, made beforehand as a file
// of length 0 that has its blocks. Badger does not survive when it can't make one. Only the writer calls it.
func (s *Store) makeSpareLog() error {
	for ; ; s.nextLog++ {
		path := filepath.Join(s.dir, fmt.Sprintf("%05d%s", s.nextLog, logSuffix))
		info, err := os.Stat(path)
		if err == nil && info.Size() > 0 {
			continue // in use by now
		}
		if err == nil && path == s.spareLog {
			return nil
		}
		if err = makeSpareLog(path, s.memTable, s.fault); errors.Is(err, unix.ENOSPC) && s.makeSpace() {
			err = makeSpareLog(path, s.memTable, s.fault)
		}
		if err != nil {
			return fmt.Errorf("make a log of the store: %w", err)
		}
		s.spareLog = path
		return nil
	}
}

func makeSpareLog(path string, memTable int64, f fault.Func) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = f.Before(AtSpare); err == nil {
		// Twice the size of the table, as Badger makes them.
		err = f.After(AtSpare, unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 2*memTable))
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	}
	if err = errors.Join(refusal(err), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

const logSuffix = ".mem"

// removeEmptyLogs removes spare logs, and logs that a crash left without length: Badger does not open a store that has one.
// It returns the number of the next log.
func removeEmptyLogs(dir string) (next int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		number, isLog := strings.CutSuffix(entry.Name(), logSuffix)
		if !isLog && filepath.Ext(entry.Name()) != ".vlog" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		if info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return 0, err
			}
			continue
		}
		if n, err := strconv.Atoi(number); isLog && err == nil {
			next = max(next, n)
		}
	}
	return next + 1, nil
}
