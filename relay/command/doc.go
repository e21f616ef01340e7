// Package command has the commands that operate a relay which runs: status, pause, resume, replay, failed, events, reload and
// test. Each asks the relay that runs with the configuration file, at its control socket or its admin listener, and prints
// the answer for people, or with -json as it came.
package command
