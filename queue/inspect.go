package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// Before Badger opens the store its files are looked at, since Badger does not survive what it can't read: a table with
// zeros in it ends the process, at every start anew; a log with a flipped bit loses what comes behind without a word; a
// block that can't be read is skipped by iterators and merged away for good. What is found here is mended (mend.go)
// before Badger sees it.
//
// A start must not take longer the more is kept: of every table the end is looked at, with its index and its last block,
// and as many as inspectTime allows are read whole. A block that is found damaged later, when it is read, fails the queue
// and leaves a file that has the next start read everything.
const (
	inspectTime = 300 * time.Millisecond
	tableEnd    = 256 << 10
	suspectFile = "suspect"
)

// files are those of a store that hold its data.
type files struct {
	dir      string
	tables   []uint64 // named by the manifest or, without one, all there are; ascending
	logs     []string // paths, oldest first
	newest   uint64   // version found
	whole    bool     // everything was read
	complain []string // what can't be read
}

func (f *files) say(format string, args ...any) {
	f.complain = append(f.complain, fmt.Sprintf(format, args...))
}

// inspect looks at the files of the store in dir. version is what it must have reached. whole has everything read.
func inspect(dir string, version uint64, whole bool) (*files, error) {
	f := &files{dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	onDisk := map[uint64]bool{}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".sst":
			if id, ok := table.ParseFileID(e.Name()); ok {
				onDisk[id] = true
			}
		case logSuffix:
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				f.logs = append(f.logs, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.SortFunc(f.logs, func(a, b string) int { return logNumber(a) - logNumber(b) })
	if err := f.readManifest(onDisk); err != nil {
		return nil, err
	}
	slices.Sort(f.tables)
	began := time.Now()
	f.whole = true
	for _, id := range slices.Backward(f.tables) {
		if !onDisk[id] {
			f.say("table %d is missing", id)
			continue
		}
		entire := whole || time.Since(began) < inspectTime
		f.whole = f.whole && entire
		if err := f.inspectTable(id, entire); err != nil {
			f.say("table %d: %v", id, err)
		}
	}
	last := uint64(0)
	for _, path := range f.logs {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.say("log %q: %v", filepath.Base(path), err)
			continue
		}
		broken := scanLog(raw, func(commit []logEntry) {
			v := commit[0].version
			if last != 0 && v != last+1 {
				f.say("log %q: %d commits are missing before number %d", filepath.Base(path), v-last-1, v)
			}
			last = v
			f.newest = max(f.newest, v)
		})
		if broken {
			f.say("log %q: good entries follow one that can't be read", filepath.Base(path))
		}
	}
	if f.newest < version && (len(entries) > 0 || version > 0) {
		f.say("its last %d commits are missing", version-f.newest)
	}
	return f, nil
}

func logNumber(path string) int {
	n, _ := strconv.Atoi(filepath.Base(path[:len(path)-len(logSuffix)]))
	return n
}

// readManifest finds out which tables there are to be.
func (f *files) readManifest(onDisk map[uint64]bool) error {
	all := func() {
		f.tables = f.tables[:0]
		for id := range onDisk {
			f.tables = append(f.tables, id)
		}
	}
	file, err := os.Open(filepath.Join(f.dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		if len(onDisk)+len(f.logs) > 0 {
			f.say("MANIFEST is missing")
		}
		all()
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	manifest, end, err := badger.ReplayManifestFile(file, 0, badger.DefaultOptions(f.dir).WithLogger(nil))
	if err != nil {
		f.say("MANIFEST: %v", err)
		all()
		return nil
	}
	for id := range manifest.Tables {
		f.tables = append(f.tables, id)
	}
	if end < size && len(onDisk) > len(manifest.Tables) {
		f.say("the end of MANIFEST can't be read, and there are tables that it does not name")
		all()
	}
	return nil
}

func (f *files) inspectTable(id uint64, whole bool) (err error) {
	raw, err := readTable(table.NewFilename(id, f.dir), whole)
	if err != nil {
		return err
	}
	return withTable(raw, id, func(t *table.Table) error {
		f.newest = max(f.newest, t.MaxVersion())
		if whole {
			return t.VerifyChecksum()
		}
		return nil
	})
}

// readTable reads a table or, when it need not be whole, its end with zeros before it.
func readTable(path string, whole bool) ([]byte, error) {
	if whole {
		return os.ReadFile(path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, info.Size())
	at := max(info.Size()-tableEnd, 0)
	if _, err := file.ReadAt(raw[at:], at); err != nil {
		return nil, err
	}
	if footer(raw) < at+tableEnd/2 { // the index is so large that the last block may lie before what was read
		_, err = file.ReadAt(raw[:at], 0)
	}
	return raw, err
}

// footer returns where the index of a table begins, -1 when its last bytes make no sense. Badger ends the process over
// these.
func footer(raw []byte) int64 {
	at := int64(len(raw)) - 4
	for range 2 { // checksum, index
		if at < 0 {
			return -1
		}
		at -= int64(binary.BigEndian.Uint32(raw[at:]))
		if at < 4 {
			return -1
		}
		at -= 4
	}
	return at + 4
}

// withTable has fn look at a table. What panics over its bytes is an error.
func withTable(raw []byte, id uint64, fn func(*table.Table) error) (err error) {
	if footer(raw) < 0 {
		return fmt.Errorf("its end can't be read: %w", errDamaged)
	}
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("its bytes make no sense: %w", errDamaged)
		}
	}()
	t, err := table.OpenInMemoryTable(raw, id, &table.Options{ChkMode: options.OnBlockRead, BlockSize: 4 << 10})
	if err != nil {
		return fmt.Errorf("%s: %w", firstLine(err), errDamaged)
	}
	return fn(t)
}

func firstLine(err error) string {
	line, _, _ := bytes.Cut([]byte(err.Error()), []byte("\n"))
	return string(line[:min(len(line), 160)])
}

// logEntry is one write of a commit, as Badger's log has it.
type logEntry struct {
	key, value []byte // the key without its version
	version    uint64
	deletes    bool
}

const (
	logHeader   = 20 // of the file
	logDelete   = 1 << 0
	logInCommit = 1 << 6
	logCommit   = 1 << 7
	keyVersion  = 8 // bytes behind a key in the files
)

// scanLog calls fn with every commit of a log that came to its end, without what can't be read of it. It reports whether good entries lie behind a place that can't
// be read: a crash leaves nothing behind the place where it cut.
func scanLog(raw []byte, fn func([]logEntry)) (broken bool) {
	raw = bytes.TrimRight(raw, "\x00")
	raw = raw[:min(len(raw)+16, cap(raw))] // zeros of the last entry's own
	var commit []logEntry
	gap := false
	for at := logHeader; at < len(raw); {
		meta, e, size := parseLogEntry(raw[at:])
		if size == 0 {
			gap = true // what is left of this commit still counts
			at++
			continue
		}
		broken = broken || gap
		at += size
		if meta&logCommit != 0 {
			if len(commit) > 0 && string(e.value) == strconv.FormatUint(commit[0].version, 10) {
				fn(commit)
			}
			commit = nil
			continue
		}
		if len(commit) > 0 && commit[0].version != e.version {
			commit = nil
		}
		commit = append(commit, e)
	}
	return broken
}

func parseLogEntry(raw []byte) (meta byte, e logEntry, size int) {
	if len(raw) < 5 || raw[0]&(logInCommit|logCommit) == 0 || raw[1] != 0 {
		return 0, e, 0
	}
	d := decoder{buf: raw[2:]}
	key, value, expires := d.uvarint(), d.uvarint(), d.uvarint()
	head := len(raw) - len(d.buf)
	if !d.ok() || key <= keyVersion || key > 1<<10 || value > 2*maxValue || expires != 0 || uint64(len(d.buf)) < key+value+crc32.Size {
		return 0, e, 0
	}
	end := head + int(key+value)
	if crc32.Checksum(raw[:end], castagnoli) != binary.BigEndian.Uint32(raw[end:]) {
		return 0, e, 0
	}
	name := d.buf[:key-keyVersion]
	e = logEntry{
		key: name, value: d.buf[key : key+value],
		version: ^binary.BigEndian.Uint64(d.buf[key-keyVersion:]), deletes: raw[0]&logDelete != 0,
	}
	return raw[0], e, end + crc32.Size
}
