// Package format1 reads a queue of format 1, the layout in which everything was in Badger behind a journal, so that a later
// version can take it over. Nothing else knows that layout, and nothing here writes: whatever becomes of a takeover, the
// directory is unchanged, and a binary of format 1 opens it.
//
// # Why not through Badger
//
// Badger 4.9.6 does not open a store read-only whose log was not closed ("Log truncate required"), as that of every relay that
// was killed; opened for writing, it replays, merges and deletes. It ends the process over a table with zeros in it, its
// iterators end without an error at a block that they can't read, and it maps files into memory, where a page that the disk
// can't read is a SIGBUS. So tables and logs are read here as the files they are, with read(2); every checksum is verified; and
// they are merged: of each key the newest write counts. A whole store and a damaged one are read in the same way. Memory is
// bounded: only those tables are open that have keys around the present one, each with its index and one block; the store's logs,
// some megabytes, and the lanes are in memory as a whole. Compared with Badger itself: the same keys and values of a store with
// a million events, 213 tables and a log, and all of it, of events of 260 bytes, read in 0.8 s on two cores with 37 MiB.
//
// # Keys of the store
//
//	m a                          position of the store in the log, counters (applied)
//	m c                          empty; the version of this record is the number of the store's last commit
//	m m                          since when no lane needed which events (Watermark), for retention
//	e <last event> <piece>       block: frames, S2-compressed, in pieces of at most 128 KiB
//	s <first event>              digest, for searches; not read
//	i <event id>                 number of the event, when accepted
//	l <lane>                     lane: name, cursor, events settled above it, counters, pause (Lane)
//	r <lane> <event>             retry: due time, attempts so far, replay
//	f <lane> <event>             failed delivery (Failure)
//	p <lane> <began>             replay
//	t <event> <lane> <began> <n> attempt of a delivery that did not go well at once (Attempt)
//	a <lane> <last event> <n>    block of first attempts that went well, S2-compressed
//	d <last event>               some ids of a deleted block, S2-compressed
//	k <event> <piece>            retained event: retrying or failed when its block was deleted; a block of its own
//
// Numbers in keys are big-endian, 4 bytes for a lane, 8 for an event, n or a time in Unix milliseconds, 2 for a piece or
// an attempt's number. Every value begins with a version byte, but for an id's and the compressed ones of a and d. Times are
// queue time, which follows the monotonic clock, but for those of attempts.
//
// Beside the store are journal/ (journal.go), mark (checkpoint.go), FORMAT, lock, ballast, and aside/ with what was damaged
// before. A file suspect, and UNCOUNTED in the store, asked the next start to look for damage and to count anew; this package
// always does both.
//
// # What a crash left
//
//	blocks behind the store's position    a save that was cut short: they equal the journal's frames
//	a retained event and its block        a deletion that was cut short: the block counts
//	deliveries of a lane that was deleted the deletion was cut short: passed over
//	store.mended and no store             a repair cut short between its renames: that is the store
//	an entry at the journal's end         it was not answered: reported, and passed over
//
// # Damage
//
// What can be read is returned. What is lost (readerror.go says which errors mean that) is counted, reported once, and passed
// over. Events that were lost and reported earlier are a gap in the log, and are reported again. A file that can't be opened
// now, for want of rights or descriptors, is not lost: it ends the reading with an error. Counters are not believed but counted
// anew: retries and failed deliveries by their records, pending ones by the events above a lane's cursor.
//
//	a block of a table          its keys: reported with their kind
//	the index of a table        nothing: the table is searched for blocks with correct checksums
//	a table                     its keys; older writes of them show up again
//	MANIFEST                    nothing: all existing tables count
//	a log of the store          the commits that can't be read
//	a page of the disk          what is in it
//	an entry of the journal     its events, unless the store has them; and the other way round
//	the checkpoint              a lost end of log or journal is not noticed; the clock
//	a lane's record             its name, pause and pending deliveries: its retries and failed ones go on as lost-N
//	FORMAT                      nothing is read: an error
package format1
