// Package queue keeps events on disk until every lane has settled them.
//
// It is a log with a cursor per lane. An event is written once, whatever the number of endpoints it goes to; which lanes
// it is for is part of its record and was decided when it was accepted. A delivery that goes well leaves no record of its
// own: the lane's cursor moves over it. Only what goes wrong is written per delivery.
//
// # The log is the truth
//
// Everything that changes the queue is an entry of one numbered sequence (queue/entry): frames of events, what a lane did,
// lanes that are made and deleted. The journal makes an entry durable, the log keeps it, Badger finds it. Badger is asked
// for every place, lane, retry, replay and failed delivery, but nothing has its only copy in it: its newest version drops
// records without a word when a table can't be made or read while tables are merged. So the bytes lie beside it, every
// record in it can be made again from the log, and its sums tell when one is missing.
//
// # The way of an event
//
//	Append ─▶ id known? ─▶ committer ─▶ journal: one write, one sync for all that wait ─▶ answers
//	                          │
//	                          ├─▶ tail (memory) ─▶ lanes that keep up
//	                          ▼
//	                        keeper ─▶ log (segments) ─▶ lanes that are behind
//	                             └──▶ store (Badger): where each block is, lanes, retries, replays, failed deliveries
//
// Two goroutines write: the committer owns the journal, the keeper owns log and store. The keeper asks the lanes every
// 100 ms for what they did and has the committer make it durable beside the events of that moment; when 2 MiB have gathered,
// or after a second, it moves the entries of the journal into the log, syncs it, and applies them to the store (apply.go,
// the one place where entries become state).
//
// # Rooms
//
//	entry      entries as bytes and as values          journal    slots, the one sync
//	log        segments: blocks, footers, ids          store      Badger, with sums over all that is in it
//	directory  whose directory it is, its format       format1    reads the layout of before, for a takeover
//	codec      bytes and checksums                     fault      the hook through which tests make writes fail
//	backup     the form of a backup
//
// Imports run one way: none of them knows this package, and of each other they know entry, codec and fault alone.
//
// The directory has FORMAT; lock, so that a binary of format 1 stops; journal/, log/, store/; mark, how far all had come and
// the clocks then (mark.go); ballast; and, when damage was found, aside/.
//
// # If we die here
//
//	before the journal's sync ended       nobody was answered; the entries may be there or not
//	after it, before the answer           the events are there; the client posts again and is told "duplicate"
//	before the log was synced             the journal has the entries: a start cuts the log where they begin, appends them
//	                                      anew and syncs them before anything of them is answered
//	between log and store                 entries above what the store has applied are applied again
//	after an attempt, before its entry    the attempt is made again, with the same number: at least once
//	after a failure, before its letter    the record says that a letter is owed (letter.go): it is made after the start
//	after the letter, before the record   the log has the letter: it is not made again
//	while a segment is sealed             it has no trailer and goes on as the open one
//	between carry and removal             both have it; the removal is repeated
//	while a store is made again           it has another name until it is whole, and is begun anew
//	while a queue of format 1 is read     until FORMAT is renamed nothing of it was touched
//
// A transaction of the store ends with an entry, and its sums are part of it, so what it has applied is told by one number.
//
// # Retention
//
// A segment goes when no lane has needed its events for the time of retention and the dedup window of its ids is over;
// before the window is over it is written anew with nothing but its ids. What is retrying or failed, and its attempts, are
// carried before: appended again, synced, placed in the store (carry.go). A lane that is paused or lags holds its segments.
// One that serves no endpoint (unserved.go) holds none: what is pending for it is carried too, as much and as long as Options
// allow, and then becomes failed. When it is served again it reads first what was carried (carried.go), then the log.
// Segments are cut by size, by ids and by age, so that what is kept is at most a sixteenth of the period too much.
//
// What endpoints answer is kept within a budget (excerpts.go): it comes back over the time that records are kept, and is written down
// in the lanes' records.
//
// What a source may keep (share.go) is counted as bytes of its events' bodies in all segments and in the journal: as entries are accepted, and
// less what a segment has, by its footer, when that goes. What was carried counts where it lies now.
//
// # Backup
//
// A backup (backup.go) is the log's segments and the mark as of a moment at which the keeper had moved all of the journal into the
// log: there is no entry that only the journal has, and the store is made from the log. What is written is read from files that
// nobody changes any more, up to where they went then, beside the keeper and without a lock. Retention goes on: what it
// takes out of the log meanwhile keeps its bytes until the backup lets go, after a time that its size bounds, or when the
// disk gets short. A restore (restore.go) verifies a backup before it writes anything.
//
// # Full disks
//
// disk.go has the marks of free space and the ballast. What is written while a disk fills up behind our back finds its
// blocks reserved or gets an error: a slot that can't be made is a journal that is full, a save of the log or a transaction
// of the store is tried again, and anything else fails the queue, which is then opened again. queue/store says why a full
// disk is no SIGBUS.
//
// # Damage
//
// What can't be read is told, gone around and never served. What it costs:
//
//	anything in Badger, or all of it       nothing: it is set aside and made again from the log, also while the relay serves
//	a footer                               nothing: it is made again from the blocks
//	a block of the log                     its events, told by their numbers
//	a segment                              its events; what was carried into it
//	a record of the journal                its entries, unless the log has them
//	the journal's last record              it looks like one that a crash cut short
//	the mark                               that a lost end of the journal or a lost first segment is noticed; retention
//	                                       counts anew
//	FORMAT                                 nothing is opened: see the error
//
// # What an event costs
//
// At full load, some 32 events of 260 bytes a commit that pack to 0.37, an event writes 1.13-1.17 times its body, where it was 1.99
// before records of the journal were packed, and 123 bytes of it are kept, 16 of them its id (planned: 1.4 and 150-160, of bodies that
// pack to 0.40-0.46). What few commits gather costs more: one event a commit writes a page. An id takes 2.5 bytes of memory in
// filters, planned were 2: with 16 bits an id a new one among 50 million cost 0.17 reads, with 20 it is 0.04.
//
// # What is not as planned
//
// Frames above 256 KiB were to be written into the segment alone, with their place in the journal. An answer then waits for two
// syncs, one of them of a file that grows: 1.9 ms where it was 0.9 for 1 MiB, 6.6 for 3.0 with 4 MiB (ext4, two cores, medians
// of nine in turn), while all of it took as long at 1 MiB and 0.7 of the time at 4. So they are written twice, as all others.
//
// Left out so far: a rewrite only strips whole segments, there are no keyed hashes of members and no encryption.
//
// # Assumptions
//
// fdatasync and msync put data on stable storage; a page that was synced is not harmed by a later write to another; file
// names survive after fsync of their directory. Clocks may jump: order comes from numbers, and periods are measured in
// queue time (clock.go). All times in entries but those of attempts, which are for people, are queue time.
package queue
