// Package endtoend has the tests that see the relay as its users do: the built binary, its configuration file, its HTTP
// and its signals, with real receivers behind it. Nothing here is used by the relay.
//
// The binary is built once, with the race detector when the tests have it. Each test starts it in a directory of its own,
// on ports that the system chooses, and ends what it started by its process id. Whatever a process prints and whatever the
// relay answers is kept: when all tests are over, none of the secrets that they used may be found in it.
//
// The files are themes: the first run, the schedule, neighbours, restarts, backlogs, refusals, the intake,
// credentials, the official libraries of Standard Webhooks, alerts, reloads, the runbook, stopping, sockets, endpoints,
// answers. Beside them are what they share: process, relay, receiver, witness.
package endtoend
