package admin

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/config"
)

// ConfigFile knows what became of the configuration file when it was last loaded, and whether the file on disk is still the one
// that the relay follows. Safe for concurrent use.
type ConfigFile struct {
	path     string                            // absolute
	followed atomic.Pointer[[sha256.Size]byte] // sum of the file that is followed; nil: there is none

	broken atomic.Pointer[[]config.Broken]
	watch  atomic.Pointer[config.Watch] // the included files; used by who holds mu
	unkept atomic.Pointer[string]       // why the last good versions of included files can't be kept

	mu     sync.Mutex // held while State reads the file
	loaded time.Time
	failed string
	seen   os.FileInfo // the file as State read it last
	sum    [sha256.Size]byte

	watched *config.Watch // whose answer changed is
	changed string        // an included file
	next    time.Time     // when the included files are looked at again
}

// NewConfigFile begins with a file that was loaded just now.
func NewConfigFile(path string) *ConfigFile { return &ConfigFile{path: path, loaded: time.Now()} }

// Loaded notes how loading the file ended. It waits for the lock that State holds while it reads the file.
func (f *ConfigFile) Loaded(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.failed = time.Now(), ""
	if err != nil {
		f.failed = WhyNotReloaded(err)
	}
}

// Follow remembers the file that cfg was read from.
func (f *ConfigFile) Follow(cfg *config.Config) {
	broken := cfg.Included.BrokenFiles()
	f.broken.Store(&broken)
	f.watch.Store(cfg.Watch())
	if cfg.Sum != [sha256.Size]byte{} { // else there is no file
		f.followed.Store(&cfg.Sum)
	}
}

// Kept notes how keeping the last good versions of the included files ended.
func (f *ConfigFile) Kept(err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	f.unkept.Store(&why)
}

// State compares the file with what is followed. It looks at the file on disk, and reads it if it was changed since State last
// did.
func (f *ConfigFile) State() Source {
	f.mu.Lock()
	defer f.mu.Unlock()
	followed := f.followed.Load()
	s := Source{Path: f.path, Loaded: f.loaded, Failed: f.failed, Differ: followed != nil && f.differsLocked(*followed)}
	s.Changed = f.changedLocked()
	if broken := f.broken.Load(); broken != nil {
		s.Broken = *broken
	}
	if unkept := f.unkept.Load(); unkept != nil {
		s.Unkept = *unkept
	}
	return s
}

// sparing is how much longer the included files are not looked at than looking took: thousands take some milliseconds.
const sparing = 200

// changedLocked names an included file that was changed since it was read, "" when there is none.
func (f *ConfigFile) changedLocked() string {
	watch := f.watch.Load()
	if began := time.Now(); watch != f.watched || !began.Before(f.next) {
		f.watched, f.changed = watch, ""
		if watch != nil {
			f.changed = watch.Changed()
		}
		f.next = time.Now().Add(max(time.Second, sparing*time.Since(began)))
	}
	return f.changed
}

// differsLocked reports whether the file is there and is not the one that is followed.
func (f *ConfigFile) differsLocked(followed [sha256.Size]byte) bool {
	info, err := os.Stat(f.path)
	if err != nil || !info.Mode().IsRegular() {
		return false // while a file is being replaced there is none for a moment
	}
	if f.seen == nil || !os.SameFile(f.seen, info) || !f.seen.ModTime().Equal(info.ModTime()) || f.seen.Size() != info.Size() {
		file, err := os.Open(f.path)
		if err != nil {
			return false
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, config.MaxFile+1))
		if err != nil {
			return false
		}
		f.seen, f.sum = info, sha256.Sum256(text)
	}
	return !bytes.Equal(f.sum[:], followed[:])
}
