// Package format1 reads a queue of format 1, the layout in which everything lay in Badger behind a journal, so that a later
// version can take it over. Nothing else knows that layout, and nothing here writes: whatever becomes of a takeover, the
// directory is as it was, and a binary of format 1 opens it.
//
// # Why not through Badger
//
// Badger 4.9.6 opens no store read-only whose log was not closed ("Log truncate required"), which is that of every relay
// that was killed; opened for writing it replays, merges and deletes. It ends the process over a table with zeros in it,
// lets its iterators end, without an error, at a block that they can't read, and maps files into memory, where a page that
// the disk does not give is a SIGBUS. So tables and logs are read here as the files they are, with read(2), every checksum
// verified, and merged: of each key the newest write counts. It is the same way for a whole store and a damaged one. Memory
// is bounded: of the tables those are open that have keys around the one at hand, each with its index and one block; the
// store's logs, some megabytes, and the lanes are held whole. Against Badger itself: the same keys and values of a store
// with a million events, 213 tables and a log, and all of it, of events of 260 bytes, read in 0.8 s on two cores with 37 MiB.
//
// # Keys of the store
//
//	m a                          position of the store in the log, counters (applied)
//	m c                          nothing; its version is that of the store's last commit
//	m m                          when no lane needed what any more (Mark), for retention
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
//	k <event> <piece>            event of a deleted block that was still retrying or failed, as a block of its own
//
// Numbers in keys are big-endian, 4 bytes for a lane, 8 for an event, n or a time in Unix milliseconds, 2 for a piece or
// an attempt's number. Every value but an id's and the compressed ones of a and d opens with a version byte. Times are
// queue time, which goes by the monotonic clock, but for those of attempts.
//
// Beside the store lie journal/ (journal.go), mark (reader.go), FORMAT, lock, ballast, and aside/ with what was damaged
// before. A file suspect, and UNCOUNTED in the store, asked the next start to look for damage and to count anew, which is
// always done here.
//
// # What a crash left
//
//	blocks behind the store's position    a save that was cut short: as good as the journal's frames, which are the same
//	an event kept and its block           a deletion that was cut short: the block counts
//	deliveries of a lane that was deleted giving up was cut short: passed over
//	store.mended and no store             a mending cut short between its renames: that is the store
//	an entry at the journal's end         nobody was answered: told, and passed over
//
// # Damage
//
// What can be read is yielded; what is lost (trouble.go says which errors mean that) is counted, told once, and passed
// over. Events that were lost and told earlier are a gap in the log, and are told again. A file that can't be opened now,
// for want of rights or descriptors, is not lost: it ends the reading with an error. Counters are not believed but counted:
// what is retrying and failed by its records, what is pending by the events above a lane's cursor.
//
//	a block of a table          its keys: told with what it held
//	the index of a table        nothing: the table is searched for blocks whose checksums hold
//	a table                     its keys; older writes of them show up again
//	MANIFEST                    nothing: all tables there are count
//	a log of the store          the commits that can't be read
//	a page the disk won't give  what is in it
//	an entry of the journal     its events, unless the store has them; and the other way round
//	the mark                    that a lost end of log or journal is noticed, and the clock
//	a lane's record             its name, pause and what was pending: what is retrying or failed goes on as lost-N
//	FORMAT                      nothing is read: an error
package format1
