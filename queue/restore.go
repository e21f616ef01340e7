package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"realtorbot-relay/queue/backup"
	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/fault"
)

// A restore reads the backup twice. First it verifies all of it and writes nothing. Then it writes the files into a folder
// of the queue's directory, syncs them, and moves them to their places, FORMAT last: without FORMAT no relay takes the
// directory for a queue. The first start makes the store from the log.
const (
	restoreName  = "restoring"
	restoredFile = "restored" // what the backup has, for the notice at the first start
)

// ExamineBackup reads a backup to its end and returns what it has, or what is wrong with it. It writes nothing.
func ExamineBackup(r io.Reader) (BackupReport, error) {
	text := ""
	report, err := backup.Read(r, func(name string, _ int64, r io.Reader) error {
		if name != "FORMAT" {
			return nil
		}
		raw, err := io.ReadAll(io.LimitReader(r, 1<<10))
		text = string(raw)
		return err
	})
	if err == nil {
		_, err = directory.ParseFormat(text)
	}
	return report, err
}

// Restore makes a queue from a backup, in a directory that is empty or does not exist. It writes nothing unless the whole
// backup is as it was written. When it returns nil everything is synced. As root it gives all files to the owner of the
// directory, or of the one above it.
func Restore(path, dir string) (report BackupReport, err error) { return restore(path, dir, nil) }

func restore(path, dir string, fault fault.Func) (report BackupReport, err error) {
	f, err := os.Open(path)
	if err != nil {
		return report, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return report, errors.Join(err, fmt.Errorf("%q is read twice, so it has to be a file", path))
	}
	fresh, err := checkEmpty(dir)
	if err != nil {
		return report, err
	}
	if report, err = ExamineBackup(f); err != nil {
		return report, fmt.Errorf("%q can't be restored from: %w; nothing was written", path, err)
	}
	free, _ := FreeSpace(Options{Dir: dir})
	if need := report.Size + criticalFree; free >= 0 && free < need {
		return report, fmt.Errorf("%d MiB of disk are needed at %q, and %d MiB are free: nothing was written", need>>20, dir, free>>20)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return report, err
	}
	d, err := directory.Claim(dir, true, nil)
	if err != nil {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		return report, err
	}
	if err = restoreInto(dir, f, fault); err != nil {
		err = errors.Join(err, clearRestore(dir, fresh))
	}
	return report, errors.Join(err, d.Close())
}

// checkEmpty returns an error when the directory has anything that a restore could harm, or be harmed by. fresh: the
// directory does not exist.
func checkEmpty(dir string) (fresh bool, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range list {
		if !slices.Contains([]string{"lock", "lost+found", restoreName}, e.Name()) {
			return false, fmt.Errorf("%q is not empty, it has %q: a backup is restored into an empty directory only; move away what is there, or name another queue.dir. Nothing was written", dir, e.Name())
		}
	}
	return false, nil
}

// clearRestore removes what a failed restore left: everything in the directory is the restore's.
func clearRestore(dir string, fresh bool) error {
	if fresh {
		return os.RemoveAll(dir)
	}
	var errs []error
	for _, name := range slices.Concat(movedIn[:], []string{restoreName, "lock"}) {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// Fault places.
const (
	placeRestored     = "file of a restore"
	placeRestoredName = "name of a file of a restore"
)

// movedIn are the files that a restore moves to their places, in this order.
var movedIn = [...]string{logName, checkpointName, restoredFile, "FORMAT"}

// restoreInto writes the files of a backup beside their places, and moves them there.
func restoreInto(dir string, r io.Reader, fault fault.Func) error {
	beside := filepath.Join(dir, restoreName)
	if err := errors.Join(os.RemoveAll(beside), os.MkdirAll(filepath.Join(beside, logName), 0o700)); err != nil {
		return err
	}
	for _, path := range []string{dir, beside, filepath.Join(beside, logName)} {
		if err := directory.WriteInPlace(path); err != nil {
			return err
		}
	}
	report, err := backup.Read(r, func(name string, size int64, r io.Reader) error {
		return writeFile(filepath.Join(beside, filepath.FromSlash(name)), r, fault)
	})
	if err != nil {
		return err
	}
	contents, err := json.Marshal(report.Contents)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(beside, restoredFile), strings.NewReader(string(contents)), fault); err != nil {
		return err
	}
	if err := giveToOwner(dir); err != nil {
		return err
	}
	if err := errors.Join(syncDir(filepath.Join(beside, logName)), syncDir(beside)); err != nil {
		return err
	}
	for _, name := range movedIn {
		err := fault.Before(placeRestoredName)
		if err == nil {
			err = fault.After(placeRestoredName, errors.Join(os.Rename(filepath.Join(beside, name), filepath.Join(dir, name)), syncDir(dir)))
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(beside), syncDir(dir))
}

// writeFile writes and syncs a file.
func writeFile(path string, r io.Reader, fault fault.Func) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = fault.Before(placeRestored); err == nil {
		_, err = io.Copy(f, r)
		err = fault.After(placeRestored, errors.Join(err, f.Sync()))
	}
	return errors.Join(err, f.Close())
}

// giveToOwner gives everything in dir to the owner of dir or, when root has just made dir, to the owner of the directory
// above.
func giveToOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid := 0, 0
	for _, path := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if at, ok := info.Sys().(*syscall.Stat_t); ok && uid == 0 {
			uid, gid = int(at.Uid), int(at.Gid)
		}
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// readRestored returns what the queue was restored from; nil when it was not, or was opened since.
func readRestored(dir string) *BackupContents {
	text, err := os.ReadFile(filepath.Join(dir, restoredFile))
	var c BackupContents
	if err != nil || json.Unmarshal(text, &c) != nil {
		return nil
	}
	return &c
}

// reportRestored says what the restore means for clients and receivers.
func (q *Queue) reportRestored(c *BackupContents) error {
	q.opts.Notice(fmt.Sprintf("the queue was restored from a backup of %s, %s ago, with %d events: what was accepted since is not in it, and its ids are not known, so a client that posts it again is answered \"accepted\" and it is delivered, to some a second time; "+
		"what was delivered since is delivered again, under the same event ids; pauses, replays and discards since did not happen",
		c.BeganAt.Format(time.RFC3339), max(q.opts.Now().Sub(c.BeganAt), 0).Round(time.Second), c.Events))
	return os.Remove(filepath.Join(q.opts.Dir, restoredFile))
}
