// Package store is the index over the log: where each block of events lies, and the lanes, retries, replays and failed deliveries
// as they are now. It is Badger, which nothing else opens or writes; package format1 reads the files of the format before with its
// parsers.
//
// Nothing has its only copy here: every record can be made again from the log. In return the store has to notice when a record
// is missing or wrong, since Badger 4.9.6 does not:
//
//   - A merge that can't make a new table (openat, fallocate, mmap, msync) leaves it out, and deletes the tables that it was
//     made of. It reports no error.
//   - An iterator that meets a block that it can't read ends there without an error. A Scan ends so, and so does a merge, which
//     drops the rest.
//   - A Get that meets such a block says that there is no such key, or finds an older value beneath.
//   - A table whose index can't be read is left out at the start; without MANIFEST all tables are deleted.
//
// # Sums
//
// Each kind of record has a count and a wrapping sum of hash(key ‖ value). Each write updates them in its own transaction, and
// they are never computed by reading the store: so what the store has lost is missing in every later comparison (Check). To take
// an old value off the sum, its hash must be known. Lanes, replays and carried events have their hashes in memory: Open fills
// them while it reads and compares these kinds, and a Get of such a record is compared with its hash. Of the other kinds there
// are many; such a record is read before it is overwritten or deleted.
//
// So a single Scan, Seek or Before never proves that a record does not exist. A caller that acts on an absence either knows
// better (from the log, or as a lane knows how many retries it has), or relies on the sums: Open compares all kinds but places
// and failed deliveries, Check compares all, and Merged says which kinds to check because tables were merged. Whoever deletes or
// ends something for good because of what was read asks afterwards, too: Merges says whether anything can have been lost since the
// last comparison.
//
// # Keys
//
//	m                     the entry up to which the log is in the store, and the sums
//	e <last event>        place of a block, named by its last event, so that a forward seek of an event finds it
//	k <event>             place of a carried event
//	l <lane>              a lane
//	r <lane> <event>      a retry
//	p <lane> <number>     a replay
//	f <lane> <event>      a failed delivery
//
// Numbers are big-endian, 4 bytes for a lane and 8 otherwise. Values are the caller's; sums.go describes that of m.
//
// # If the process dies
//
// A Batch is one transaction, and m is part of it: what the next start finds is the content as of the entry that Applied
// returns. Deaths while Badger opens the store are counted in a file beside it (guard.go), since Badger ends the process over
// some damage: the third start is refused with ErrDied, and the store is to be made again.
//
// # Limits
//
// Damage that is read through a map is a SIGBUS. In the calls of this package it becomes an error; in Badger's own goroutines,
// which merge tables, it ends the process.
//
// # Where what is
//
//	open.go, close.go, guard.go        opening and closing; deaths while opening
//	keys.go, read.go, batch.go         records: names, reads, writes
//	sums.go, check.go, dump.go         sums and comparisons
//	merges.go                          which tables Badger merged
//	reserve.go, sparelog.go            blocks of a file before it is mapped; the next log
//	install.go, opendirs.go            directories: their names, and which are open
package store
