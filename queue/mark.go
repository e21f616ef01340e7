package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// The high-water mark lies beside store and journal: how many commits the store has made, how far the log went, which slot
// of the journal was in use, and what the clocks showed then. It is written after each save and not synced, so it is never
// ahead of what it tells of on an honest disk: a store that has fewer commits than the mark says has lost some without a
// word, as Badger does when its log is damaged, and so has a journal that ends before the mark or lacks its slot.
//
//	file:   two slots of 4 KiB, written in turn; the one with the higher version counts
//	slot:   magic, 8 bytes; version of the store, 8; queue time, wall clock and time since the boot in milliseconds,
//	        8 each; id of the boot, 16; end of the log, 8; generation of the journal's slot, 8; CRC-32C of these, 4
type highWater struct {
	version uint64 // of the store
	end     uint64 // the sequence number behind the last event that was answered
	slot    uint64 // the generation of the journal's slot that was in use
	clock   clockState
}

const (
	markFile  = "mark"
	markMagic = "RBMARK01"
	markSlot  = 4 << 10
	markSize  = 76
	markSum   = markSize - 4 // where the checksum is
)

// marker keeps the file. The keeper owns it.
type marker struct {
	file  *os.File
	turn  int64
	fault fault
}

// openMark opens the file, making it when there is none, and reads what it says. A slot that can't be read is passed over;
// all zeros when none can.
func openMark(dir string, fault fault) (*marker, highWater, error) {
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
		if h, ok := parseMark(raw[slot*markSlot : slot*markSlot+markSize]); ok && h.version >= best.version {
			best, m.turn = h, 1-slot
		}
	}
	if n < len(raw) { // its blocks are taken now: on a full disk it can still be written
		if err = fault.before(placeMarkFile); err == nil {
			_, err = f.WriteAt(raw, 0)
			err = fault.after(placeMarkFile, errors.Join(err, f.Sync()))
		}
		if err != nil {
			return nil, highWater{}, errors.Join(fmt.Errorf("make mark: %w", err), f.Close())
		}
	}
	return m, best, nil
}

func parseMark(raw []byte) (h highWater, ok bool) {
	if string(raw[:8]) != markMagic || crc32.Checksum(raw[:markSum], castagnoli) != binary.LittleEndian.Uint32(raw[markSum:]) {
		return h, false
	}
	h.version = binary.LittleEndian.Uint64(raw[8:])
	h.clock.now = int64(binary.LittleEndian.Uint64(raw[16:]))
	h.clock.wall = int64(binary.LittleEndian.Uint64(raw[24:]))
	h.clock.up = int64(binary.LittleEndian.Uint64(raw[32:]))
	copy(h.clock.boot[:], raw[40:56])
	h.end, h.slot = binary.LittleEndian.Uint64(raw[56:]), binary.LittleEndian.Uint64(raw[64:])
	return h, true
}

func (m *marker) write(h highWater) error {
	raw := make([]byte, 0, markSize)
	raw = append(raw, markMagic...)
	raw = binary.LittleEndian.AppendUint64(raw, h.version)
	for _, n := range [...]int64{h.clock.now, h.clock.wall, h.clock.up} {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(n))
	}
	raw = append(raw, h.clock.boot[:]...)
	raw = binary.LittleEndian.AppendUint64(raw, h.end)
	raw = binary.LittleEndian.AppendUint64(raw, h.slot)
	raw = binary.LittleEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	err := m.fault.before(placeMark)
	if err == nil {
		_, err = m.file.WriteAt(raw, m.turn*markSlot)
		err = m.fault.after(placeMark, err)
	}
	if err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	m.turn = 1 - m.turn
	return nil
}

func (m *marker) close() error { return m.file.Close() }
