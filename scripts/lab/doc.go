// Command lab is the relay's laboratory: the load, the receivers and the yardsticks that its benches and crash runs are
// made of, and those runs themselves.
//
//	keep-nothing   a server that parses an event and answers; what HTTP and JSON alone cost
//	bare-log       the same, with one append and one fdatasync for all that wait; what any durable intake must cost
//	pass-on        answers and then forwards from memory; what any relay must cost
//	receive        an endpoint that counts, finds repeats and measures latency
//	load           posts events, as fast as they are answered or at a steady rate
//	bench          every figure of the speed chapter, beside its yardstick, as one table
//	figures        queues of millions of events, and what they may cost
//	crash          kill -9 under load, then compares what was acknowledged with what arrived
//	powercut       a disk cut off under load, and what it kept
//	diskfull       a disk that another program fills, and what the relay says
//	disksick       a disk that fails, and what the relay says
//	storesick      system calls of the store that fail, and what the relay makes of them
//	ask            runs a command so that another process is asked before its system calls
//	damage         spoiled files of a queue, and what the relay makes of them
//	network        loss, delay, resets, silence and a cable that is out
//	health         endpoints of every kind through ten minutes of everything, and an audit of what was given up
//	soak           everything at once, for ten minutes, and what is left of it
//	synctrace      a trace of writes, syncs and answers, and its verdict
//	backlog        a million events behind an endpoint that is down
//	siege          slow clients in three ways, and what honest ones get meanwhile
//	attack         strangers' framing, credentials, bodies and memory, and what gets in
//	replay         replays what failed beside new events, kill -9 in the middle
//	neighbours     one endpoint's latency alone, and beside one that hangs and one that refuses
//	crowd          ten endpoints' latency beside a thousand that hang, in a control group of 256 MiB
//
// Everything stays on the loopback interface, or in network namespaces that the run makes, ends by itself, and works in a temporary directory that is removed.
// Processes are started and stopped by process id. Exit codes: 0 well, 1 a run failed or found something missing,
// 2 bad usage.
//
// # How events are told apart
//
// An event id is evt_<run>_<sequence>: the run is random, so that two runs against the same relay never look like
// duplicates, and the sequence lets a ledger be a list of numbers. The moment of posting travels in the event's data as
// "stamp" (nanoseconds since 1970, in a string, so that no canonical form may touch it). Both have a fixed width: a
// request is built once for each connection and patched in place, so that posting allocates nothing. The generator
// shares two cores with what it measures; what it costs is missing from the figures.
//
// # What an answer means
//
// Acknowledged: answered 200. Unknown: posted, and any other answer or none was seen. An unknown event may or may not
// arrive; an acknowledged one that doesn't is lost.
package main
