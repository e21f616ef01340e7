// Package try holds the commands with which a developer tries the relay and a receiver, without a relay's
// configuration:
//
//	listen   a local receiver at any path: checks signatures and prints each event readably; or a follower of a relay
//	send     posts one event to a relay's intake and prints the answer
//	verify   says whether a signature matches a body and, if not, why
//
// Each command is a function of its arguments and streams that returns the exit code: 0 well, 1 failed at run time,
// 2 bad usage. It returns when ctx ends. Results go to stdout, complaints to stderr, one line each.
//
// Two rules hold for all of them. A secret may be given as env:NAME or file:/path, so that it needn't stand in the list
// of processes; no secret and no expected signature is ever printed, as either would let a reader sign. And what came
// over the network is made harmless before it is shown: a payload can't move the cursor, change the title or hide text.
//
// testdata/receivers holds a minimal receiver for Node, Go, Python and PHP each, which the manual quotes and the tests run.
package try
