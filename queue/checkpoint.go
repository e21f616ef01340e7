package queue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/fault"
)

// The checkpoint is the file "mark" beside journal, log and store. It says up to which entry the store had come, up to where
// the log went, which slot of the journal was in use, what the clocks showed, and since when no lane needed which events.
// The writer writes it after each save; the committer does when the journal changes its slot, before anything in that slot
// is answered.
//
// It is not synced, so on an honest disk it is never ahead of the files that it describes: a journal and a log that end
// before it have lost their end. It is synced before a segment is deleted: a log that begins behind the checkpoint's first
// segment has lost some. Without a checkpoint only these two findings are lost, retention begins to count anew, and queue time
// goes on from the log or from the wall clock, whichever is later.
//
//	file:   two copies of 4 KiB, written in turn; the one with the higher entry counts
//	copy:   magic, 8 bytes; last entry in the store, 8; queue time, wall clock and time since the boot in milliseconds, 8
//	        each; id of the boot, 16; end of the log, 8; generation of the journal's slot, 8; number of watermarks, 4; number
//	        of the log's first segment and that of its first event, 8 each; watermarks: a queue time and an event, 8 each;
//	        zeros; CRC-32C of all before it, 4
type checkpoint struct {
	applied           uint64 // the last entry in the store
	end               uint64 // the sequence number behind the last event that was answered
	journalGeneration uint64 // of the journal's slot that was in use
	firstSegment      uint64 // of the log; 0 when that is not known
	firstEvent        uint64 // of that segment
	clock             clockState
	watermarks        []watermark // since when no lane needed which events
}

// Fault places: what a test's fault.Func is asked about.
const (
	placeCheckpointFile = "new mark"
	placeCheckpoint     = "mark"
	placeCheckpointSync = "sync of the mark"
	placeBallast        = "taking the ballast"
	placeDropBallast    = "giving up the ballast"
)

const (
	checkpointName  = "mark"
	checkpointMagic = "RBMARK03"
	checkpointCopy  = 4 << 10
	checkpointHead  = 92 // bytes before the watermarks
)

// checkpointFile is the open file. The writer writes all of it, the committer only the generation of the journal's slot.
type checkpointFile struct {
	file  *os.File
	fault fault.Func

	mu   sync.Mutex // held over writes to the page cache, never over a sync
	next int64      // the copy that is written next: 0 or 1
	last checkpoint
}

// openCheckpoint opens the file, or makes it, and reads the newer copy. A copy that can't be read is passed over; without
// any the checkpoint is zero.
func openCheckpoint(dir string, fault fault.Func) (*checkpointFile, checkpoint, error) {
	path := filepath.Join(dir, checkpointName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	m := &checkpointFile{file: f, fault: fault}
	var best checkpoint
	raw := make([]byte, 2*checkpointCopy)
	n, _ := f.ReadAt(raw, 0)
	for slot := range int64(2) {
		h, ok := parseCheckpoint(raw[slot*checkpointCopy : (slot+1)*checkpointCopy])
		if ok && cmp.Or(cmp.Compare(h.applied, best.applied), cmp.Compare(h.journalGeneration, best.journalGeneration), cmp.Compare(h.firstSegment, best.firstSegment)) >= 0 {
			best, m.next = h, 1-slot
		}
	}
	if n < len(raw) { // the file gets its blocks now, so that it can be written on a full disk
		if err = fault.Before(placeCheckpointFile); err == nil {
			_, err = f.WriteAt(raw, 0)
			err = fault.After(placeCheckpointFile, errors.Join(err, f.Sync()))
		}
		if err != nil {
			return nil, checkpoint{}, errors.Join(fmt.Errorf("make checkpoint: %w", err), f.Close())
		}
	}
	m.last = best
	return m, best, nil
}

func parseCheckpoint(raw []byte) (h checkpoint, ok bool) {
	le := binary.LittleEndian
	if string(raw[:8]) != checkpointMagic || codec.Sum(raw[:checkpointCopy-4]) != le.Uint32(raw[checkpointCopy-4:]) {
		return h, false
	}
	h.applied = le.Uint64(raw[8:])
	h.clock.now, h.clock.wall, h.clock.up = int64(le.Uint64(raw[16:])), int64(le.Uint64(raw[24:])), int64(le.Uint64(raw[32:]))
	copy(h.clock.boot[:], raw[40:56])
	h.end, h.journalGeneration = le.Uint64(raw[56:]), le.Uint64(raw[64:])
	h.firstSegment, h.firstEvent = le.Uint64(raw[76:]), le.Uint64(raw[84:])
	n := int(le.Uint32(raw[72:]))
	for at := checkpointHead; n > 0 && at+16 <= checkpointCopy-4; n-- {
		h.watermarks = append(h.watermarks, watermark{int64(le.Uint64(raw[at:])), le.Uint64(raw[at+8:])})
		at += 16
	}
	return h, true
}

// append appends one copy.
func (c *checkpoint) append(dst []byte) []byte {
	from := len(dst)
	raw := append(dst, checkpointMagic...)
	raw = binary.LittleEndian.AppendUint64(raw, c.applied)
	for _, n := range [...]int64{c.clock.now, c.clock.wall, c.clock.up} {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(n))
	}
	raw = append(raw, c.clock.boot[:]...)
	raw = binary.LittleEndian.AppendUint64(raw, c.end)
	raw = binary.LittleEndian.AppendUint64(raw, c.journalGeneration)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(c.watermarks)))
	raw = binary.LittleEndian.AppendUint64(raw, c.firstSegment)
	raw = binary.LittleEndian.AppendUint64(raw, c.firstEvent)
	for _, one := range c.watermarks {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(one.at))
		raw = binary.LittleEndian.AppendUint64(raw, one.next)
	}
	raw = append(raw, make([]byte, checkpointCopy-4-(len(raw)-from))...)
	return binary.LittleEndian.AppendUint32(raw, codec.Sum(raw[from:]))
}

// write writes a checkpoint, without a sync.
func (c *checkpointFile) write(h checkpoint) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.journalGeneration = max(h.journalGeneration, c.last.journalGeneration)
	return c.put(h)
}

// noteGeneration writes that the journal goes on in another slot. Nothing in that slot is answered before: if the slot is
// lost as a whole, nothing else says that there was one.
func (c *checkpointFile) noteGeneration(slot uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.last
	h.journalGeneration = slot
	return c.put(h)
}

func (c *checkpointFile) put(h checkpoint) error {
	raw := h.append(make([]byte, 0, checkpointCopy))
	err := c.fault.Before(placeCheckpoint)
	if err == nil {
		_, err = c.file.WriteAt(raw, c.next*checkpointCopy)
		err = c.fault.After(placeCheckpoint, err)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	c.next, c.last = 1-c.next, h
	return nil
}

// sync makes durable what was written last.
func (c *checkpointFile) sync() error {
	err := c.fault.Before(placeCheckpointSync)
	if err == nil {
		err = c.fault.After(placeCheckpointSync, c.file.Sync())
	}
	if err != nil {
		return fmt.Errorf("sync checkpoint: %w", err)
	}
	return nil
}

func (c *checkpointFile) close() error { return c.file.Close() }

// watermark says that at a moment no lane needed the events below next any more. Retention counts from that moment.
type watermark struct {
	at   int64 // queue time, Unix milliseconds
	next uint64
}
