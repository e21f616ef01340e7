// Package queue keeps events on disk until every lane has settled them.
//
// It is a log with a cursor per lane. An event is written once, whatever the number of endpoints it goes to; which lanes
// it is for is part of its record and was decided when it was accepted. A delivery that goes well leaves no key of its
// own: the lane's cursor moves over it. Only what goes wrong is written per delivery.
//
// # The way of an event
//
//	Append ─▶ known in the store? ─▶ committer ─▶ journal: one write, one sync for all that wait ─▶ answers
//	                                    │
//	                                    ├─▶ tail (memory) ─▶ lanes that keep up
//	                                    ▼
//	                                  keeper ─▶ store (Badger): blocks, ids, lanes ─▶ lanes that are behind
//
// Two goroutines write: the committer owns the journal, the keeper owns the store. Why a journal in front of Badger: a
// Badger commit costs two msyncs, grows files that are mapped into memory (on a full disk that is a SIGBUS, not an
// error), and drops what follows a damaged record without a word. The journal answers with one fdatasync into blocks
// that are allocated and zeroed beforehand, and Badger then takes over whole blocks of the log, compressed, at its own
// pace: about a key for 64 KiB of events, and one small key for each id. Measured on two cores, 250-byte events, 64
// connections, sync before each answer: 0.95 of a server that only appends to a file and syncs, which parses the event
// but decides nothing.
//
// # Keys of the store
//
//	m a                          position of the store in the log, counters (applied)
//	m c                          nothing; its version is that of the store's last commit
//	m m                          when no lane needed what any more (marks), for retention
//	e <last event> <piece>       block: frames, S2-compressed, in pieces of at most 128 KiB
//	s <first event>              digest: what a stretch of the log holds, for those who search (digest.go)
//	i <event id>                 sequence number, when accepted: dedup and look-up
//	l <lane>                     lane: name, cursor, events settled above it, counters, pause (laneRecord)
//	r <lane> <event>             retry: due time, attempts so far, replay
//	f <lane> <event>             failed delivery: when, attempts, reason (Failure)
//	p <lane> <began>             replay: what it is for, its cursor, what it settled above it, counters (replay.go)
//	t <event> <lane> <began> <n> attempt of a delivery that did not go well at once (Attempt)
//	a <lane> <last event> <n>    block of first attempts that went well, S2-compressed
//	d <last event>               some ids of a deleted block that are still in the dedup window, S2-compressed
//	k <event> <piece>            event of a deleted block that is still retrying or failed, as a block of its own
//
// Numbers in keys are big-endian, 4 bytes for a lane, 8 for an event, n or a time in Unix milliseconds, 2 for a piece or
// an attempt's number. Every value but an id's and the compressed ones of a and d opens with a version byte. The journal
// and the frame have their layouts in journal.go and frame.go. The directory also has FORMAT, the version of all
// this; lock; ballast; mark, how far the store had come and the clocks then (mark.go); and, when damage was found, aside/ with copies of the files it was found in.
//
// # If we die here
//
//	before the journal's sync ended            nobody was answered; the events may be there or not
//	after it, before the answer                the events are there; the client posts again and is told "duplicate"
//	before the keeper saved a frame            it is read from the journal at the next start
//	between the transactions of a save         the next start deletes its blocks and writes the frames again; the lanes, which
//	                                           come last, are those of the save before
//	after an attempt, before its save          the attempt is made again, with the same number: at least once
//	while a slot begins a new life             all that its old life held is in the store
//	while a log of the store is made           it has no length and is removed at the next start
//	while the ballast is taken                 it is not whole, so it is not there, and is taken again
//	while the janitor deletes a block          its pieces go last, with the counters; it is found again and deleted
//	while a replay runs                        it goes on at its cursor; what it had under way is attempted again
//
// A lane's record and the retries, failed deliveries and replays that go with it are one transaction, so a delivery is
// never in two states, and no replay forgets what it settled.
//
// # Full disks
//
// disk.go has the marks of free space and the ballast, blocks.go the reason why a full disk is no SIGBUS. What is written
// while a disk fills up behind our back finds its blocks reserved or gets an error: a journal slot that can't be made is a
// journal that is full, a table of the store is tried again by Badger, and anything else fails the queue, which is then
// opened again.
//
// # Damage
//
// What can't be read is set aside under aside/, counted and told, never deleted and never served. The journal's entries,
// the frames in it and in the blocks, the entries of the store's log and the blocks of its tables have checksums that are
// verified whenever they are read. inspect.go says what is looked at before the store is opened, mend.go how a damaged one
// is put together again. What it costs:
//
//	a table, or a block of one             the events in it, counted as missing; lanes go on from an older record
//	the manifest                           nothing: all tables are read, the newest write of each key counts
//	the store's log, or its end            what the journal does not have any more of the events saved since the table before
//	an entry of the journal                the events in it, unless the store has them
//	the journal's last entry               it looks like one that a crash cut short
//	the mark                               that a lost end of the store's log, or of the journal, is noticed
//	FORMAT                                 nothing is opened: see the error
//
// # Assumptions
//
// fdatasync and msync put data on stable storage; a sector that was synced is not harmed by a later write beside it being
// cut short; file names survive after fsync of their directory. Clocks may jump: order comes from sequence numbers, and
// periods are measured in queue time (clock.go). All times in the store and the journal but those of attempts, which are
// for people, are queue time.
package queue
