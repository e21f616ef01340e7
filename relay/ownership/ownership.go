// Package ownership finds out whose the queue's directory is. A relay that was once started as root, or a queue that was
// copied, leaves files that the service's user can't use.
package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Foreign is a file or directory that does not belong to whom it should.
type Foreign struct {
	Path  string
	Owner string // the user, with number
}

// Find looks at dir and what is in it, to the files of its own directories, for something that does not belong to uid. What
// can't be looked at is passed over, as is a directory that is not there.
func Find(dir string, uid int) (f Foreign, found bool) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		if at, ok := info.Sys().(*syscall.Stat_t); ok && int(at.Uid) != uid {
			f, found = Foreign{path, Name(int(at.Uid))}, true
			return fs.SkipAll
		}
		return nil
	})
	return f, found
}

// Name is a user for people: the name, when there is one, and the number.
func Name(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}

// Of is who owns a path; ok is false when that can't be told.
func Of(path string) (uid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	at, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(at.Uid), true
}

// Explain says of an error of opening a queue that its directory belongs to somebody else, when that is why; else it returns err.
// It walks through the directory.
func Explain(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	me := os.Geteuid()
	f, found := Find(dir, me)
	if !found {
		return err
	}
	return fmt.Errorf("queue.dir: %q belongs to %s, and this relay runs as %s: chown -R %d %q, or run it as that user: %w",
		f.Path, f.Owner, Name(me), me, dir, err)
}

// RootWarning warns when root serves the queue of another user, who can't use the files that root makes there; else it is "".
func RootWarning(dir string) string {
	uid, ok := Of(dir)
	if me := os.Geteuid(); !ok || me != 0 || uid == me {
		return ""
	}
	return "queue.dir belongs to " + Name(uid) + ", and this relay runs as root: that user can't use the files that root makes there; start the relay with systemctl, or as that user"
}
