package format1

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	badger "github.com/dgraph-io/badger/v4"
	badgertable "github.com/dgraph-io/badger/v4/table"
	"realtorbot-relay/queue/codec"
)

// store is a Badger store that nobody has open: its tables, and what its logs have beside them. Of each key the newest write
// counts.
type store struct {
	dir    string
	tables []*table // by their first keys
	logs   writes
	newest uint64 // version
	err    error  // that ended the reading
	// damage is called with what is lost.
	damage func(what string)
}

// openStore opens the files of a store. It calls bad with what is lost, and passes over it.
func openStore(dir string, bad func(what string)) (*store, error) {
	s := &store{dir: dir, damage: bad}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil // the caller knows whether there were commits, and reports that
	}
	if err != nil {
		return nil, err
	}
	onDisk := map[uint64]bool{}
	var logs []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".sst":
			if id, ok := badgertable.ParseFileID(e.Name()); ok {
				onDisk[id] = true
			}
		case ".mem":
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				logs = append(logs, filepath.Join(dir, e.Name()))
			}
		}
	}
	for _, id := range s.named(onDisk, len(logs)) {
		if !onDisk[id] {
			s.damage(fmt.Sprintf("table %d is missing", id))
			continue
		}
		if t := inspectTable(badgertable.NewFilename(id, dir), id, s.readError); t != nil {
			s.tables = append(s.tables, t)
			s.newest = max(s.newest, t.newest)
		}
	}
	slices.SortFunc(s.tables, func(a, b *table) int { return bytes.Compare(a.smallest, b.smallest) })
	s.readLogs(logs)
	return s, s.err
}

// readError reports what is lost, or ends the reading.
func (s *store) readError(what string, err error) {
	switch {
	case !isDamage(err):
		if s.err == nil {
			s.err = fmt.Errorf("%s: %w", what, err)
		}
	case err == codec.ErrDamaged: // it says no more
		s.damage(what)
	default:
		s.damage(fmt.Sprintf("%s: %v", what, err))
	}
}

// named returns the tables that are the store: those that the manifest names or, when it can't be read, all that exist. A
// table that it does not name was merged, and may have what was deleted since.
func (s *store) named(onDisk map[uint64]bool, logs int) (list []uint64) {
	named, err := readManifest(s.dir, len(onDisk))
	if err != nil && len(onDisk)+logs > 0 {
		s.readError("MANIFEST can't be read", err)
	}
	if err != nil {
		named = onDisk
	}
	return slices.Sorted(maps.Keys(named))
}

func readManifest(dir string, onDisk int) (named map[uint64]bool, err error) {
	file, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	manifest, end, err := replayManifest(file, dir)
	if err == nil && end < info.Size() && onDisk > len(manifest.Tables) {
		err = fmt.Errorf("its end is missing, and there are tables that it does not name: %w", codec.ErrDamaged)
	}
	named = map[uint64]bool{}
	for id := range manifest.Tables {
		named[id] = true
	}
	return named, err
}

func replayManifest(file *os.File, dir string) (m badger.Manifest, end int64, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("%v: %w", what, codec.ErrDamaged)
		}
	}()
	m, end, err = badger.ReplayManifestFile(file, 0, badger.DefaultOptions(dir).WithLogger(nil))
	var system syscall.Errno
	if err != nil && !errors.As(err, &system) {
		err = fmt.Errorf("%v: %w", err, codec.ErrDamaged) // Badger's error about bytes
	}
	return m, end, err
}

func (s *store) readLogs(paths []string) {
	number := func(path string) int {
		n, _ := strconv.Atoi(string(bytes.TrimSuffix([]byte(filepath.Base(path)), []byte(".mem"))))
		return n
	}
	slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	var list []entry
	last := uint64(0)
	for _, path := range paths {
		name := filepath.Base(path)
		raw, unread, err := readAround(path)
		if err != nil {
			s.readError(fmt.Sprintf("log %q can't be read", name), err)
		}
		if unread > 0 {
			s.damage(fmt.Sprintf("%d bytes of log %q can't be read", unread, name))
		}
		broken := scanLog(raw, func(commit []entry) {
			if v := commit[0].version; last != 0 && v > last+1 {
				s.damage(fmt.Sprintf("log %q: %d commits are missing before number %d", name, v-last-1, v))
			}
			last = commit[0].version
			s.newest = max(s.newest, last)
			list = append(list, commit...)
		})
		if broken {
			s.damage(fmt.Sprintf("log %q: good entries follow one that can't be read", name))
		}
	}
	s.logs = sortWrites(list)
}

// source is a sorted run of entries. peek is valid after an advance that found one.
type source interface {
	peek() *entry
	advance() bool
	close()
}

// merge walks the newest writes of the keys with a prefix, in order. Few tables are open at a time: those that have keys
// around the present one.
type merge struct {
	store   *store
	prefix  []byte
	waiting []*table // by their first keys
	open    []source
	last    []byte // key
	now     entry
	// withDeletes: deletions are returned as well
	withDeletes bool
}

func (s *store) scan(prefix []byte) *merge {
	m := &merge{store: s, prefix: prefix}
	for _, t := range s.tables {
		if bytes.Compare(t.biggest, prefix) >= 0 && (bytes.Compare(t.smallest, prefix) <= 0 || bytes.HasPrefix(t.smallest, prefix)) {
			m.waiting = append(m.waiting, t)
		}
	}
	if w := s.logs.cursorFrom(prefix); len(w.rest) > 0 {
		m.open = append(m.open, w)
	}
	return m
}

// get returns a copy of the newest write of a key.
func (s *store) get(key []byte) (value []byte, deleted, found bool) {
	m := s.scan(key)
	m.withDeletes = true
	defer m.close()
	if e := m.next(); e != nil && bytes.Equal(e.key, key) {
		return bytes.Clone(e.value), e.deletes, true
	}
	return nil, false, false
}

// next returns the next write, valid until the next call; nil at the end, and when the reading has ended.
func (m *merge) next() *entry {
	for {
		least := m.least()
		if m.store.err != nil || least < 0 || !bytes.HasPrefix(m.open[least].peek().key, m.prefix) {
			return nil
		}
		e := m.open[least].peek()
		repeat := m.last != nil && bytes.Equal(e.key, m.last)
		if !repeat {
			// What the caller gets must outlive the advance, which may read another block.
			m.last = append(m.last[:0], e.key...)
			m.now = entry{key: m.last, value: append(m.now.value[:0], e.value...), version: e.version, deletes: e.deletes}
		}
		if !m.open[least].advance() {
			m.open[least].close()
			m.open = slices.Delete(m.open, least, least+1)
		}
		if !repeat && (m.withDeletes || !m.now.deletes) {
			return &m.now
		}
	}
}

// least returns the source that has the next entry, after it has opened the tables that may have it; -1 at the end.
func (m *merge) least() int {
	for {
		least := -1
		for i, s := range m.open {
			if least < 0 || compare(s.peek(), m.open[least].peek()) < 0 {
				least = i
			}
		}
		if len(m.waiting) == 0 || least >= 0 && bytes.Compare(m.waiting[0].smallest, m.open[least].peek().key) > 0 {
			return least
		}
		t := m.waiting[0]
		m.waiting = m.waiting[1:]
		c, err := t.open()
		if err != nil {
			m.store.readError(fmt.Sprintf("table %d can't be read", t.id), err)
			continue
		}
		c.bad = func(block int, err error) {
			m.store.readError(fmt.Sprintf("block %d of %d of table %d, which has %s, can't be read", block+1, c.index.blocks(), t.id, kindWords(c.index.key(block))), err)
		}
		if !c.seek(m.prefix) {
			c.close()
			continue
		}
		m.open = append(m.open, c)
	}
}

func (m *merge) close() {
	for _, s := range m.open {
		s.close()
	}
	m.open, m.waiting = nil, nil
}
