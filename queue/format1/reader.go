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

// Reader reads a queue of format 1. It writes nothing, keeps no file open between two calls and is not safe for
// concurrent use, nor for calls from within the functions that it calls. Slices that it hands out are valid during the call that gets them.
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
	entries    frameParser // of the journal, and of events kept

	reported   map[string]bool
	lines      map[string]int // told, by what they are of
	damaged    int64          // things that can't be read
	unreported int64          // of these, without a line

	laneTable *laneTable // once the lanes were read
	logCount  *logCount  // once the log was walked
}

// State is what a queue holds, for whoever compares it with what became of it.
type State struct {
	Next       uint64      // number of the next event
	NextLane   uint32      // number of the next lane
	Applied    uint64      // events from here on were only in the journal
	Events     int64       // that Frames and Kept yield
	Bytes      int64       // of their bodies
	Watermarks []Watermark // ascending
	Clock      Clock
	Damaged    int64  // things that can't be read, each told: tables, blocks of one, logs, records, entries of the journal
	Missing    uint64 // events that were in the log, as far as can be known, and can't be read any more
}

// Clock is the last reading of all clocks that was kept, all zeros when none was.
type Clock struct {
	Now  int64    // queue time, Unix milliseconds
	Wall int64    // wall clock, Unix milliseconds
	Up   int64    // since the boot, milliseconds; 0 when it could not be told
	Boot [16]byte // id of the boot
}

// maxLines bounds how many lines are told of store, journal, log and lanes each; what is beyond is told as a number.
const maxLines = 32

// Open looks at the queue in dir, whose lock the caller holds, and reads what is in memory while a queue is open: its
// positions and where the journal's frames are. notice gets a line for everything that can't be read. An error says that
// dir has no queue of format 1, or that a file of it can't be opened now; damage is none, here and in all methods.
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
		// A mending that was cut short between its two renames: the new store is whole.
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
		r.damage("store", "its position is not found")
	}
	if record, deleted, found := r.store.get(keyWatermarks); found && !deleted {
		if r.watermarks, err = parseWatermarks(record); err != nil {
			r.damage("store", fmt.Sprintf("the marks of retention can't be read: %v", err))
		}
	}
	if r.store.err != nil {
		return nil, fmt.Errorf("read queue %q: %w", dir, r.store.err)
	}
	return r, nil
}

// damage counts and tells of something that can't be read, once.
func (r *Reader) damage(where, what string) {
	if !r.reported[where+what] {
		r.damaged++
		r.report(where, what)
	}
}

// report tells each line once, and not more than maxLines of one kind.
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

// State returns what the queue holds. It walks the log unless Frames has.
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

// Close ends the reading. It tells how much damage had no line of its own.
func (r *Reader) Close() error {
	if r.unreported > 0 {
		r.notice(fmt.Sprintf("and %d more things that can't be read", r.unreported))
		r.unreported = 0
	}
	return nil
}

// readFormat makes sure that the directory's file FORMAT names format 1.
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
