package format1

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"realtorbot-relay/queue/codec"
)

// findBlocks looks for the blocks of a table whose index is lost. A block ends where a checksum of everything since its
// beginning matches. Behind a damaged one the next is looked for at every byte where the first key of a block can be.
func findBlocks(raw []byte) (list []span) {
	for at := 0; at+8 < len(raw); {
		size := blockAt(raw[at:])
		if size == 0 {
			at++
			continue
		}
		own := int(binary.LittleEndian.Uint16(raw[at+2:]))
		list = append(list, span{bytes.Clone(raw[at+4 : at+4+own]), at, size})
		at += size
	}
	return list
}

// blockAt returns the length of the block that begins here, 0 when none does.
func blockAt(raw []byte) int {
	raw = raw[:min(len(raw), maxBlock)]
	if len(raw) < 4+keyVersion+2 || raw[0] != 0 || raw[1] != 0 || !isKind(raw[4]) {
		return 0
	}
	if own := int(binary.LittleEndian.Uint16(raw[2:])); own <= keyVersion || own > maxKey || 4+own > len(raw) {
		return 0
	}
	// The sum of everything since the beginning, continued to each place where an end can be.
	var sum uint32
	summed := 0
	for end := 4 + keyVersion + 8; end+4 <= len(raw); end++ {
		n := int(binary.BigEndian.Uint32(raw[end:]))
		if n < 2 || n > 6 || end-n < summed {
			continue
		}
		want, ok := parseChecksum(raw[end-n : end])
		if !ok {
			continue
		}
		sum, summed = crc32.Update(sum, codec.Castagnoli, raw[summed:end-n]), end-n
		if want == uint64(sum) {
			if _, _, err := openBlock(raw[:end+4]); err == nil {
				return end + 4
			}
		}
	}
	return 0
}
