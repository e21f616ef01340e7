package format1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Reader reads a queue of format 1. It writes nothing and keeps no file open between two calls. It is not safe for
// concurrent use, nor for calls from within the functions that it calls. Slices that it passes are valid during that call.
type Reader struct {
	dir        string
	notice     func(string)
	store      *store
	journal    *journal
	applied    applied
	placed     bool // the record of the store's position was found
	watermarks []Watermark
	checkpoint checkpoint
	parser     frameParser // of blocks
	entries    frameParser // of the journal, and of retained events

	reported   map[string]bool
	lines      map[string]int // reported, by where
	damaged    int64          // things that can't be read
	unreported int64          // of these, without a line

	laneTable *laneTable // once the lanes were read
	logCount  *logCount  // once the log was walked
}

// State is what a queue has, for a comparison with what becomes of it.
type State struct {
	Next       uint64      // number of the next event
	NextLane   uint32      // number of the next lane
	Applied    uint64      // events from here on were only in the journal
	Events     int64       // that Frames and Retained return
	Bytes      int64       // of their bodies
	Watermarks []Watermark // ascending
	Clock      Clock
	Damaged    int64  // things that can't be read, each reported: tables, blocks of one, logs, records, entries of the journal
	Missing    uint64 // events that were in the log, as far as is known, and can't be read any more
}

// Clock is the last saved reading of all clocks, all zeros when there is none.
type Clock struct {
	Now  int64    // queue time, Unix milliseconds
	Wall int64    // wall clock, Unix milliseconds
	Up   int64    // since the boot, milliseconds; 0 when it could not be told
	Boot [16]byte // id of the boot
}

// maxLines bounds the lines about store, journal, log and lanes each; how many more there are is one line at the end.
const maxLines = 32

// Open opens the queue in dir, which the caller has locked, and reads its positions and where the journal's frames are.
// notice gets a line for everything that can't be read. An error says that dir has no queue of format 1, or that a file
// can't be opened now; damage is no error, here and in all methods.
func Open(dir string, notice func(string)) (*Reader, error) {
	r := &Reader{dir: dir, notice: notice, reported: map[string]bool{}, lines: map[string]int{}}
	if err := readFormat(dir); err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, err)
	}
	var err error
	if r.checkpoint, err = readCheckpoint(dir); err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, err)
	}
	storeDir := filepath.Join(dir, "store")
	if _, err := os.Lstat(storeDir); errors.Is(err, fs.ErrNotExist) {
		// A repair that was cut short between its two renames: the new store is whole.
		if _, err := os.Lstat(storeDir + ".mended"); err == nil {
			storeDir += ".mended"
		}
	}
	if r.store, err = openStore(storeDir, func(what string) { r.damage("store", what) }); err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, err)
	}
	if n := r.store.newest; n < r.checkpoint.commits {
		r.damage("store", fmt.Sprintf("its last %d commits are missing", r.checkpoint.commits-n))
	}
	r.journal, err = openJournal(filepath.Join(dir, "journal"), func(what string) { r.damage("journal", what) }, func(what string) { r.report("journal", what) })
	if err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, err)
	}
	if r.checkpoint.journalGeneration > r.journal.used {
		r.damage("journal", "the slot that was in use last holds nothing any more, and events that only it had are missing")
	}
	r.applied = applied{next: 1, matched: map[uint32]int64{}}
	if record, deleted, found := r.store.get(keyApplied); found && !deleted {
		if a, err := parseApplied(record); err == nil {
			r.applied, r.placed = a, true
		} else {
			r.damage("store", fmt.Sprintf("its position can't be read: %v", err))
		}
	} else if r.checkpoint.commits > 0 || len(r.store.tables)+len(r.store.logs) > 0 {
		r.damage("store", "its position is missing")
	}
	if record, deleted, found := r.store.get(keyWatermarks); found && !deleted {
		if r.watermarks, err = parseWatermarks(record); err != nil {
			r.damage("store", fmt.Sprintf("the watermarks of retention can't be read: %v", err))
		}
	}
	if r.store.err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, r.store.err)
	}
	return r, nil
}

// damage counts and reports something that can't be read, once.
func (r *Reader) damage(where, what string) {
	if !r.reported[where+what] {
		r.damaged++
		r.report(where, what)
	}
}

// report reports each line once, and no more than maxLines about one place.
func (r *Reader) report(where, what string) {
	if r.reported[where+what] {
		return
	}
	r.reported[where+what] = true
	if r.lines[where]++; r.lines[where] > maxLines {
		r.unreported++
		return
	}
	r.notice(where + ": " + what)
}

// State returns what the queue has. It walks the log unless Frames has.
func (r *Reader) State() (State, error) {
	t, err := r.count()
	if err != nil {
		return State{}, err
	}
	return State{
		Next: t.next, NextLane: t.nextLane, Applied: r.applied.next, Events: t.events, Bytes: t.bytes, Watermarks: r.watermarks,
		Clock: r.checkpoint.clock, Damaged: r.damaged, Missing: t.missing,
	}, nil
}

// Size is how many bytes of disk store and journal take.
func (r *Reader) Size() (n int64) {
	for _, dir := range []string{r.store.dir, filepath.Join(r.dir, "journal")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				if s, ok := info.Sys().(*syscall.Stat_t); ok {
					n += s.Blocks * 512
				}
			}
		}
	}
	return n
}

// Close reports how much damage had no line of its own.
func (r *Reader) Close() error {
	if r.unreported > 0 {
		r.notice(fmt.Sprintf("and %d more things that can't be read", r.unreported))
		r.unreported = 0
	}
	return nil
}

// readFormat returns an error unless the file FORMAT names format 1.
func readFormat(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "FORMAT"))
	if err != nil {
		return err
	}
	var version int
	var memTable int64
	if _, err = fmt.Sscanf(string(text), "realtorbot-relay queue, format %d, memtable %d", &version, &memTable); err != nil || version != 1 {
		return fmt.Errorf("file FORMAT reads %q, which is not format 1", strings.TrimSpace(string(text)))
	}
	return nil
}
