// Package ownership finds out whose the queue's directory is. A relay that was once started as root, or a queue that was
// copied, leaves files that the service's user can't use.
package ownership

import (
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
