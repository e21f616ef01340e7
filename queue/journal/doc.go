// Package journal is where a commit becomes durable: one write and one fdatasync into a file whose blocks are allocated and
// written beforehand, so that the sync has no metadata to carry and a full disk can't refuse it. It is a handful of slots,
// files of one size, used in turn; a slot is free again as soon as all its entries are kept elsewhere. What a record
// holds is the caller's: here it is bytes with the numbers of the entries in them.
//
//	slot:    a page with the header; records; a last page with the header once more
//	header:  magic, 8 bytes; generation, 8; salt, 8; size of the slot, 8; CRC-32C of these, 4
//	record:  generation, 8 bytes; salt, 8; first, 8; end, 8; length of the payload, with the highest bit set when it is
//	         packed, 4; CRC-32C of these and of the payload, 4; payload; zeros up to the end of the page
//
// A payload is packed with S2 where that saves pages.
//
// A page has 4 KiB. Every record begins one and is written with all of its last one, so no page that was synced gets other
// bytes in the same life of its slot: a power cut during one commit can't harm the commits before.
//
// A life of a slot has a generation, one higher than any before it, and a salt, which is random. Which slot is which is
// told by them and not by the names of files, so nothing is ever renamed. Bytes left from an earlier life have another
// generation and salt, which is how the end of a slot is known; and since no client knows the salt, no body can be taken for
// a record when the one that it is in is broken. A record that is broken while others of the same life begin behind
// it was not torn by a crash, since a record is synced before the next is written: that is damage.
//
//	if we die …                              then
//	while a slot is made                     it is filled when it is used first; it holds nothing
//	before the first sync of a life          the slot has its old life, whose records nobody needs, or the new one
//	between write and sync of a record       Open writes it anew and syncs it before it is returned: a repeat may be
//	                                         answered by it. It is so after a failed sync, too: such pages count as written
//	                                         though they are not
//	after the sync                           Open returns it
//
// Nothing is mapped into memory: a page that the disk can't give is an error of one read, told as damage, and all else
// is read around it.
package journal
