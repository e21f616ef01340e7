// Package journal is where a commit becomes durable: one write and one fdatasync into a file whose blocks are allocated and
// written beforehand, so that the sync has no metadata to write and a full disk can't refuse it. The journal is a few slots,
// files of one size, used in turn; a slot is free again as soon as the log has all its entries. What a record has is the
// caller's business: here it is bytes, with the numbers of the entries in them.
//
//	slot:    a page with the header; records; a last page with the header once more
//	header:  magic, 8 bytes; generation, 8; salt, 8; size of the slot, 8; CRC-32C of these, 4
//	record:  generation, 8 bytes; salt, 8; first, 8; end, 8; length of the payload, with the highest bit set when it is
//	         packed, 4; CRC-32C of these and of the payload, 4; payload; zeros up to the end of the page
//
// A payload is packed with S2 where that saves pages.
//
// A page has 4 KiB. Every record begins on a page and is written with all of its last one. So no page that was synced is written
// again in the same incarnation of its slot, and a power cut during one commit can't harm the commits before it.
//
// Each use of a slot is an incarnation: a generation, one higher than any before it, and a random salt. They identify a slot, not
// the name of its file, so nothing is ever renamed. Bytes from an earlier incarnation have another generation and salt; that is
// how the end of a slot is known. And since no client knows the salt, no body can pass for a record when the record around
// it is damaged. A record that can't be read while others of the same incarnation begin behind it was not torn by a crash, since
// a record is synced before the next is written: that is damage.
//
//	if we die …                              then
//	while a slot is made                     it is filled when it is used first; it has nothing
//	before the first sync of an incarnation  the slot has the old one, whose records nobody needs, or the new one
//	between write and sync of a record       Open writes it anew and syncs it before it returns it: a duplicate may be answered by
//	                                         it. The same after a failed sync: such pages count as written though they are not
//	after the sync                           Open returns it
//
// No file is mapped into memory: a page that the disk can't read is the error of one read. It is reported as damage, and
// everything else is read around it.
package journal
