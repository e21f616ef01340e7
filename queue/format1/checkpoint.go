package format1

import (
	"encoding/binary"
	"path/filepath"

	"realtorbot-relay/queue/codec"
)

// checkpoint is the file "mark": how many commits the store had made, which slot of the journal was in use, where the log
// ended, and what the clocks showed.
//
//	file:   two copies of 4 KiB, written in turn; the one with the higher number of commits counts
//	copy:   magic, 8 bytes; commits of the store, 8; queue time, wall clock and time since the boot in milliseconds,
//	        8 each; id of the boot, 16; end of the log, 8; generation of the journal's slot, 8; CRC-32C of these, 4
type checkpoint struct {
	commits           uint64
	end               uint64
	journalGeneration uint64
	clock             Clock
}

const (
	checkpointMagic = "RBMARK01"
	checkpointCopy  = 4 << 10
	checkpointSum   = 72 // where the checksum is
)

// readCheckpoint reads the newer copy. What can't be read is passed over, like a file that was not written yet.
func readCheckpoint(dir string) (best checkpoint, err error) {
	raw, _, err := readAround(filepath.Join(dir, "mark"))
	if err != nil && !isDamage(err) {
		return best, err
	}
	for at := 0; at+checkpointSum+4 <= len(raw); at += checkpointCopy {
		m := raw[at : at+checkpointSum+4]
		if string(m[:8]) != checkpointMagic || codec.Sum(m[:checkpointSum]) != binary.LittleEndian.Uint32(m[checkpointSum:]) {
			continue
		}
		number := func(at int) uint64 { return binary.LittleEndian.Uint64(m[at:]) }
		h := checkpoint{commits: number(8), end: number(56), journalGeneration: number(64)}
		h.clock = Clock{Now: int64(number(16)), Wall: int64(number(24)), Up: int64(number(32)), Boot: [16]byte(m[40:56])}
		if h.commits >= best.commits {
			best = h
		}
	}
	return best, nil
}
