package relay

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"time"

	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/config"
)

// loaded is what became of the configuration file when it was last read to be followed, and how it stands on disk.
type loaded struct {
	mu     sync.Mutex
	at     time.Time
	failed string
	seen   os.FileInfo // the file as differs looked into it last
	sum    [sha256.Size]byte
}

// note tells how a reading ended.
func (l *loaded) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.failed = time.Now(), ""
	if err != nil {
		l.failed = admin.WhyNotReloaded(err)
	}
}

// follow remembers what the file held that is followed.
func (r *Relay) follow(cfg *config.Config) {
	if cfg.Sum != [sha256.Size]byte{} { // else there is no file
		r.followed.Store(&cfg.Sum)
	}
}

// source is how the file stands beside what is followed.
func (r *Relay) source() admin.Source {
	r.loaded.mu.Lock()
	defer r.loaded.mu.Unlock()
	followed := r.followed.Load()
	return admin.Source{Path: r.file, Loaded: r.loaded.at, Failed: r.loaded.failed, Differ: followed != nil && r.loaded.differsLocked(r.file, *followed)}
}

// differsLocked reports whether the file is there and another than what was read. It reads the file only when that was
// changed since it last did.
func (l *loaded) differsLocked(path string, followed [sha256.Size]byte) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false // a file that is being replaced is not there for a moment
	}
	if l.seen == nil || !os.SameFile(l.seen, info) || !l.seen.ModTime().Equal(info.ModTime()) || l.seen.Size() != info.Size() {
		file, err := os.Open(path)
		if err != nil {
			return false
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, config.MaxFile+1))
		if err != nil {
			return false
		}
		l.seen, l.sum = info, sha256.Sum256(text)
	}
	return !bytes.Equal(l.sum[:], followed[:])
}
