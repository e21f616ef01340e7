// Package log keeps the entries of the queue in segments. A segment is a file that one goroutine appends to; then it is sealed
// with a footer, and never changes again.
//
//	NUMBER.seg       header · blocks · footer · trailer
//	NUMBER.seg.new   a segment that is being written anew; removed at the next open
//	NUMBER.gone      a segment that is being deleted, a piece at a time; removed at the next open
//
// The header, 256 bytes: magic, 8; number of the segment, 8; of its first entry, 8; sequence number of its first event, 8; queue
// time at which it was begun, 8; key of the ids' hashes, 16; zeros, among them the place of a key that seals the blocks; CRC-32C
// of all above, 4.
//
// # A block
//
// A block is consecutive entries, or local records of one kind, packed with S2 where that makes them shorter. Its header is
// in clear and has a checksum of its own, so that a segment can be walked without unpacking anything, and beyond a block
// that can't be read.
//
//	0   magic, 4 bytes                      40  queue time of the first entry, 8
//	4   kind, 1; packed, 1; 0, 2            48  queue time of the last entry, 8
//	8   length as stored, 4                 56  number of entries, 4; number of events, 4
//	12  length unpacked, 4                  64  bytes of their bodies, 4
//	16  number of the first entry, 8        68  CRC-32C of what is stored, 4
//	24  zeros, 8                            72  CRC-32C of all above, 4; zeros, 4
//	32  sequence number of the first event, 8
//
// # The footer
//
// It is written once, when a segment is sealed, and can be made again from the blocks:
//
//   - table: the places of the blocks and what their headers say;
//   - ids: 16 bytes each, 12 of a keyed hash and 4 of the place of its event, sorted, in pages of 4 KiB with a checksum each;
//   - postings: for the hash of a type, a lane, a source or a member with its value the blocks that have such events;
//   - attempts: for each block the events of whose deliveries it has attempts;
//   - named values: how many events of each source the segment has, and the bytes of their bodies.
//
// The trailer, the last 192 bytes of a sealed segment, says where these are and sums up the segment.
//
// # What this version does not know
//
// A footer has room for named values, as entries have, and a reader passes over names that it does not know: everything in a
// footer can be made again from the blocks. A reader also passes over a block of an unknown kind: entries are what counts, and an
// unknown entry stops the reader. A block that is packed or sealed in an unknown way (bytes 5 to 7 of its header) stops it, too.
// All other zeros may have any value later. What no reader may pass over gets another format in the file FORMAT.
//
// # If we die here
//
//	before a save was synced           the journal has the entries: the segment is cut where they begin, and they are appended anew
//	while a segment is sealed          it has no trailer: it is the open one, is cut behind its last block and goes on
//	while the next one is begun        a file without a whole header has nothing: it is begun anew
//	while a segment is written anew    the old file counts
//	while a segment is deleted         it has another name; the next Open removes the rest of it
//
// What can't be read is reported by its numbers and passed over. No file is mapped into memory: a page that the disk can't read is
// an error and no signal.
//
// # Where what is
//
//	log.go, segment.go, block.go       what is there: the segments, one of them, its blocks
//	open.go, scan.go, repair.go        opening; reading a segment without a footer; making damaged ones good
//	appender.go, seal.go               writing; footers
//	remove.go, pin.go                  deleting; holding files for a backup
//	lookup.go, ids.go, filter.go       which event has an id
//	finder.go, postings.go, tables.go  which blocks may have what a search looks for
//	attempts.go, usage.go, import.go   attempts of an event; bytes of a source; ids of format 1
package log
