// Package lines writes the relay's log to standard error. Whoever logs never waits and nothing that becomes of the reader
// ends the process: lines wait in memory, within a bound, for the one goroutine that writes them. What has no room, or can't
// be written, is counted, and told in the log as soon as it flows again.
//
// A line is JSON with its message first, or text for eyes. Where systemd's journal reads them, each JSON line begins with
// its priority (sd-daemon(3)), so that journalctl -p knows errors from the rest.
package lines
