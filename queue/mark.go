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

// The high-water mark lies beside journal, log and store: how far the store had come, how far the log went, which slot of the
// journal was in use, what the clocks showed then, and when no lane needed what any more. It is written after each save, and
// when the journal goes on in another slot before anything in that is answered. It is not synced, so it is never ahead of
// what it tells of on an honest disk: a journal and a log that end before it have lost their end. Only before a segment is
// deleted it is synced: a log that begins behind the first segment that it names has lost some. Without it nothing is lost
// but that, and retention counts anew.
//
//	file:   two slots of 4 KiB, written in turn; the one with the higher entry counts
//	slot:   magic, 8 bytes; last entry in the store, 8; queue time, wall clock and time since the boot in milliseconds, 8
//	        each; id of the boot, 16; end of the log, 8; generation of the journal's slot, 8; number of marks, 4; number of
//	        the log's first segment and that of its first event, 8 each; marks: a queue time and an event, 8 each; zeros;
//	        CRC-32C of all before it, 4
type highWater struct {
	version uint64 // the last entry in the store
	end     uint64 // the sequence number behind the last event that was answered
	slot    uint64 // the generation of the journal's slot that was in use
	low     uint64 // the log's first segment; 0 when that is not known
	first   uint64 // its first event
	clock   clockState
	marks   []mark // when no lane needed what any more
}

// The places of faults.
const (
	placeMarkFile    = "new mark"
	placeMark        = "mark"
	placeMarkSync    = "sync of the mark"
	placeBallast     = "taking the ballast"
	placeDropBallast = "giving up the ballast"
)

const (
	markFile  = "mark"
	markMagic = "RBMARK03"
	markSlot  = 4 << 10
	markHead  = 92 // bytes before the marks of retention
)

// marker keeps the file. The keeper writes all of it, the committer which slot of the journal is in use.
type marker struct {
	file  *os.File
	fault fault.Func

	mu   sync.Mutex // held while the file is written to, which is not synced
	turn int64
	last highWater
}

// openMark opens the file, making it when there is none, and reads what it says. A slot that can't be read is passed over;
// all zeros when none can.
func openMark(dir string, fault fault.Func) (*marker, highWater, error) {
	path := filepath.Join(dir, markFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, highWater{}, fmt.Errorf("open mark: %w", err)
	}
	m := &marker{file: f, fault: fault}
	var best highWater
	raw := make([]byte, 2*markSlot)
	n, _ := f.ReadAt(raw, 0)
	for slot := range int64(2) {
		h, ok := parseMark(raw[slot*markSlot : (slot+1)*markSlot])
		if ok && cmp.Or(cmp.Compare(h.version, best.version), cmp.Compare(h.slot, best.slot), cmp.Compare(h.low, best.low)) >= 0 {
			best, m.turn = h, 1-slot
		}
	}
	if n < len(raw) { // its blocks are taken now: on a full disk it can still be written
		if err = fault.Before(placeMarkFile); err == nil {
			_, err = f.WriteAt(raw, 0)
			err = fault.After(placeMarkFile, errors.Join(err, f.Sync()))
		}
		if err != nil {
			return nil, highWater{}, errors.Join(fmt.Errorf("make mark: %w", err), f.Close())
		}
	}
	m.last = best
	return m, best, nil
}

func parseMark(raw []byte) (h highWater, ok bool) {
	le := binary.LittleEndian
	if string(raw[:8]) != markMagic || codec.Sum(raw[:markSlot-4]) != le.Uint32(raw[markSlot-4:]) {
		return h, false
	}
	h.version = le.Uint64(raw[8:])
	h.clock.now, h.clock.wall, h.clock.up = int64(le.Uint64(raw[16:])), int64(le.Uint64(raw[24:])), int64(le.Uint64(raw[32:]))
	copy(h.clock.boot[:], raw[40:56])
	h.end, h.slot = le.Uint64(raw[56:]), le.Uint64(raw[64:])
	h.low, h.first = le.Uint64(raw[76:]), le.Uint64(raw[84:])
	n := int(le.Uint32(raw[72:]))
	for at := markHead; n > 0 && at+16 <= markSlot-4; n-- {
		h.marks = append(h.marks, mark{int64(le.Uint64(raw[at:])), le.Uint64(raw[at+8:])})
		at += 16
	}
	return h, true
}

// append appends a slot.
func (h *highWater) append(dst []byte) []byte {
	from := len(dst)
	raw := append(dst, markMagic...)
	raw = binary.LittleEndian.AppendUint64(raw, h.version)
	for _, n := range [...]int64{h.clock.now, h.clock.wall, h.clock.up} {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(n))
	}
	raw = append(raw, h.clock.boot[:]...)
	raw = binary.LittleEndian.AppendUint64(raw, h.end)
	raw = binary.LittleEndian.AppendUint64(raw, h.slot)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(h.marks)))
	raw = binary.LittleEndian.AppendUint64(raw, h.low)
	raw = binary.LittleEndian.AppendUint64(raw, h.first)
	for _, one := range h.marks {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(one.at))
		raw = binary.LittleEndian.AppendUint64(raw, one.next)
	}
	raw = append(raw, make([]byte, markSlot-4-(len(raw)-from))...)
	return binary.LittleEndian.AppendUint32(raw, codec.Sum(raw[from:]))
}

// write notes all of it.
func (m *marker) write(h highWater) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.slot = max(h.slot, m.last.slot)
	return m.put(h)
}

// turned notes that the journal goes on in another slot. Until that is noted nothing in it is answered: should the slot be
// lost as a whole, nothing else tells that there was one.
func (m *marker) turned(slot uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.last
	h.slot = slot
	return m.put(h)
}

func (m *marker) put(h highWater) error {
	raw := h.append(make([]byte, 0, markSlot))
	err := m.fault.Before(placeMark)
	if err == nil {
		_, err = m.file.WriteAt(raw, m.turn*markSlot)
		err = m.fault.After(placeMark, err)
	}
	if err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	m.turn, m.last = 1-m.turn, h
	return nil
}

// sync makes what was written last durable.
func (m *marker) sync() error {
	err := m.fault.Before(placeMarkSync)
	if err == nil {
		err = m.fault.After(placeMarkSync, m.file.Sync())
	}
	if err != nil {
		return fmt.Errorf("sync mark: %w", err)
	}
	return nil
}

func (m *marker) close() error { return m.file.Close() }
