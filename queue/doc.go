// Package queue keeps events on disk until every lane has settled them.
//
// It is a log with a cursor per lane. An event is written once, however many endpoints it goes to. The lanes that it is for
// were decided when it was accepted, and are part of its record. A delivery that goes well has no record of its own: the
// lane's cursor moves over it. Only what goes wrong is written per delivery.
//
// # The log is the truth
//
// Everything that changes the queue is an entry of one numbered sequence (queue/entry): frames of events, progress of a
// lane, lanes that are made and discarded. The journal makes an entry durable, the log keeps it, Badger finds it. Badger is
// asked for every place, lane, retry, replay and failed delivery, but nothing has its only copy in it: when it merges tables
// and a table can't be made or read, its newest version drops records without an error. So every record in it can be made
// again from the log, and its sums show when one is missing.
//
// # How an event moves
//
//	Append ─▶ id known? ─▶ committer ─▶ journal: one write, one sync for all that wait ─▶ answers
//	                          │
//	                          ├─▶ tail (memory) ─▶ lanes that keep up
//	                          ▼
//	                        writer ─▶ log (segments) ─▶ lanes that are behind
//	                             └──▶ store (Badger): places of blocks, lanes, retries, replays, failed deliveries
//
// Two goroutines write files: the committer writes the journal, the writer writes log and store. Every 100 ms the writer asks
// the lanes for their progress and has the committer make that durable, with the events of that moment. When 2 MiB have
// gathered, or after a second, it moves the entries from the journal into the log, syncs the log, and applies them to the
// store (apply.go, the one place where entries become state).
//
// # Where what is
//
//	opening       queue.go, options.go, open.go, openlog.go, openstore.go, openlanes.go, recount.go; takeover.go (format 1)
//	accepting     append.go, commit.go, share.go (a source's share), shedder.go (overload)
//	full disks    disk.go (thresholds), ballast.go, shortage.go
//	writing       writer.go, waiting.go (for it), draft.go, apply.go, snapshot.go, checkpoint.go
//	the store     index.go, record.go, remake.go, makestore.go
//	a lane        lane.go, cursor.go, take.go, carried.go, settle.go, retries.go, retrypages.go, retryload.go, progress.go,
//	              letters.go, failed.go, health.go, excerpts.go, unserved.go; registry.go (which lanes there are)
//	replays       replay.go, replaytake.go, replayread.go, replayrecord.go
//	retention     retain.go, needed.go, carry.go
//	reading       read.go, tail.go, follow.go, lost.go; search.go, criteria.go, story.go, state.go
//	figures       stats.go, lanestats.go, histogram.go
//	backup        backup.go, restore.go
//
// And in packages of their own:
//
//	entry      entries as bytes and as values          journal    slots, the one sync
//	log        segments: blocks, footers, ids          store      Badger, with sums of everything in it
//	directory  locks the directory, knows its format   format1    reads format 1, for a takeover
//	codec      bytes and checksums                     fault      places where tests make reads and writes fail
//	backup     the form of a backup
//
//	queue ─▶ log, format1, journal, store, backup, directory ─▶ entry, fault, codec
//
// Imports run that way only: none of these packages imports queue, and of those in the middle only store imports another
// (directory).
//
// The directory has FORMAT; lock, so that a binary of format 1 stops; journal/, log/, store/; mark, the checkpoint: how far all
// had come, and the clocks then (checkpoint.go); ballast; and, when damage was found, aside/.
//
// # If we die here
//
//	before the journal's sync ended       nobody was answered; the entries may be there or not
//	after it, before the answer           the events are there; the client posts again and is told "duplicate"
//	before the log was synced             the journal has the entries: a start cuts the log where they begin, appends them
//	                                      anew and syncs them before anything of them is answered
//	between log and store                 entries above what the store has applied are applied again
//	after an attempt, before its entry    the attempt is made again, with the same number: at least once
//	after a failure, before its letter    the record says that a letter is owed (letters.go): the next start makes it
//	after the letter, before the record   the log has the letter: it is not made again
//	while a segment is sealed             it has no trailer, and goes on as the open one
//	between carry and removal             both have it; the removal is repeated
//	while a store is made again           it has another name until it is whole, and is begun anew
//	while a queue of format 1 is read     until FORMAT is renamed nothing of it was touched
//
// A transaction of the store ends with an entry and has the sums, so one number says what the store has applied.
//
// # Retention
//
// A segment goes when no lane has needed its events for the time of retention, and the dedup window of its ids is over. Before
// the window is over the segment is written anew with nothing but its ids. Events that are retrying or failed, and their
// attempts, are carried before that: appended again, synced, placed in the store (carry.go). A lane that is paused or lags
// holds its segments. An unserved lane (unserved.go) holds none: what is pending for it is carried too, as much and as long as
// Options allow, and then becomes failed. When it is served again, it first reads what was carried (carried.go), then the log.
// Segments are cut by size, by ids and by age, so that at most a sixteenth of the period is kept too long.
//
// What endpoints answer is kept within a budget (excerpts.go). What was taken from the budget comes back over the time for which
// records are kept; the lanes' records say when.
//
// What a source may have in the queue (share.go) is counted as bytes of its events' bodies in all segments and in the journal: up
// when entries are accepted, down by what a segment's footer says when that segment goes. A carried event counts where it lies.
//
// # Backup
//
// A backup (backup.go) is the log's segments and the checkpoint, as of a moment at which the writer had moved all of the journal
// into the log: no entry is in the journal alone, and the store is made from the log. It is read from files that nobody changes
// any more, up to where they went at that moment, beside the writer and without a lock. Retention goes on. The bytes that it
// takes out of the log stay on disk until the backup ends, until a time that depends on its size is over, or until the disk
// gets short. A restore (restore.go) verifies a backup before it writes anything.
//
// # Full disks
//
// disk.go has the thresholds of free space, ballast.go the ballast. A write that meets a full disk all the same either finds its blocks
// reserved or returns an error: a slot that can't be made means a full journal; a save of the log or a transaction of the store
// is tried again; anything else fails the queue, which is then opened again. queue/store says why a full disk is no SIGBUS.
//
// # Damage
//
// What can't be read is reported, passed over and never served. What it costs:
//
//	anything in Badger, or all of it       nothing: it is set aside and made again from the log, also while the relay serves
//	a footer                               nothing: it is made again from the blocks
//	a block of the log                     its events; they are reported by their numbers
//	a segment                              its events, and what was carried into it
//	a record of the journal                its entries, unless the log has them
//	the journal's last record              it looks like one that a crash cut short
//	the checkpoint                         a lost end of the journal, or a lost first segment, is not noticed; retention begins
//	                                       to count anew
//	FORMAT                                 nothing is opened: see the error
//
// # What an event costs
//
// At full load, with some 32 events of 260 bytes a commit that pack to 0.37, an event writes 1.13-1.17 times its body (1.99
// before records of the journal were packed), and 123 bytes of it are kept, 16 of them its id (planned: 1.4, and 150-160 with
// bodies that pack to 0.40-0.46). Small commits cost more: one event a commit writes a page. An id takes 2.5 bytes of memory
// in filters, planned were 2: with 16 bits an id a new id among 50 million cost 0.17 reads, with 20 it is 0.04.
//
// # What is not as planned
//
// Frames above 256 KiB were to be written into the segment alone, with their place in the journal. An answer then waits for two
// syncs, one of them of a file that grows: 1.9 ms where it was 0.9 for 1 MiB, 6.6 for 3.0 with 4 MiB (ext4, two cores, medians
// of nine in turn), while all of it took as long at 1 MiB and 0.7 of the time at 4. So they are written twice, as all others.
//
// Left out so far: a rewrite only strips whole segments, members of events are hashed for look-up alone, and there is no encryption.
//
// # Assumptions
//
// fdatasync and msync put data on stable storage. A page that was synced is not harmed by a later write to another page. File
// names survive once their directory was synced. Clocks may jump: order comes from numbers, and periods are measured in queue
// time (clock.go). All times in entries are queue time, but for those of attempts, which are for people.
package queue
