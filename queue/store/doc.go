// Package store is the index over the log: where each block of events lies, and the lanes, retries, replays and failed
// deliveries as they are now. It is Badger, and nothing else imports Badger.
//
// Nothing has its only copy here: every record can be made again from the log. In return the store answers for noticing
// that a record is missing or wrong, since Badger 4.9.6 does not:
//
//   - A merge that can't make a new table (openat, fallocate, mmap, msync) leaves it out, and deletes the tables that it was
//     made of. Nobody is told.
//   - An iterator that meets a block that it can't read is at its end, without an error: so ends a Scan, and so ends a merge,
//     and the rest is dropped.
//   - A Get that meets such a block says that there is no such key, or finds an older value beneath.
//   - A table whose index can't be read is left out at the start; without MANIFEST all tables are deleted.
//
// # Sums
//
// Each kind of record has a count and a wrapping sum of hash(key ‖ value). They are kept beside each write, in the same
// transaction, and never computed by reading the store; so what the store lost is missing from a comparison (Check) for
// good. To take an old value off the sum, its hash must be known: lanes, replays and carried events have theirs in memory,
// filled at Open by the scan that is also their comparison, and a Get of them is compared with it. Of the other kinds there
// are many; a record of these that is overwritten or deleted is read first.
//
// So a single Scan, Seek or Before is never proof that a record does not exist. Whoever acts on an absence either knows
// better (from the log, or as a lane how many retries it has), or the sums find out: at Open all but places and failed
// deliveries, at Check all, and Merged tells which kinds are to be checked because tables were merged.
//
// # Keys
//
//	m                     the entry up to which the log is in the store, and the sums
//	e <last event>        place of a block, named by its last event, so that a forward seek of an event finds it
//	k <event>             place of an event that was carried
//	l <lane>              a lane
//	r <lane> <event>      a retry
//	p <lane> <number>     a replay
//	f <lane> <event>      a failed delivery
//
// Numbers are big-endian, 4 bytes for a lane and 8 otherwise. Values are the caller's; m is described in sums.go.
//
// # If the process dies
//
// A Batch is one transaction, and m is part of it: whatever is found at the next start is the content as of the entry that
// Applied tells. Deaths while Badger opens the store are counted in a file beside it (guard.go), since Badger ends the
// process over some damage: the third start is refused with ErrDied, and the store is to be made again.
//
// # Limits
//
// Damage that is read through a map is a SIGBUS. In the calls of this package it becomes an error; in the goroutines of
// Badger that merge tables it ends the process.
package store
