package command

import (
	"flag"
	"fmt"
	"strings"
)

// verb is one command: all that is said of it, and what it does.
type verb struct {
	name      string
	arguments string                     // as the usage shows them
	least     int                        // how many arguments there must be
	most      int                        // how many at most
	brief     string                     // for the list of all commands
	about     string                     // for its own help
	flags     func(*call, *flag.FlagSet) // those that it has beside -config; nil for none
	wrong     func(*call) string         // what is wrong with what was given, or ""; nil when nothing can be
	run       func(*call) error          // gets the arguments that are no flags
	alone     bool                       // it asks no relay
}

// verbs are all commands here, in the order of the list.
var verbs = []verb{
	{name: "restore", arguments: "FILE", least: 1, most: 1, run: restore, alone: true,
		brief: "make a queue of a backup, in an empty queue.dir",
		about: "Makes a queue of a backup, in the empty directory that queue.dir names, and says what it holds. Nothing is written unless all of the backup is as it was written."},
	{name: "status", run: status, flags: asJSON,
		brief: "how it is, and each endpoint",
		about: "Says how the relay is, and each endpoint."},
	{name: "pause", arguments: "ENDPOINT", least: 1, most: 1, run: pause, flags: asJSON,
		brief: "hold an endpoint",
		about: "Holds an endpoint: it is sent nothing, and what is accepted for it waits. It outlives a restart."},
	{name: "resume", arguments: "ENDPOINT", least: 1, most: 1, run: resume, flags: asJSON,
		brief: "let it go on; have what waits for it attempted now",
		about: "Lets a paused endpoint go on. Whatever its state, what waits for it is attempted now, retries too."},
	{name: "replay", arguments: "ENDPOINT [ID…]", least: 1, most: 1 + mostIDs, run: replay, flags: replayFlags, wrong: wrongReplay,
		brief: "deliver again: these events, -failed ones, or those -since a time",
		about: "Delivers again: the events of these ids, with -failed what failed, else what was accepted from -since on. -list tells of the replays that run or have ended, -cancel ends one. Fails when of the ids nothing goes."},
	{name: "failed", arguments: "ENDPOINT", least: 1, most: 1, run: failed, flags: failedFlags,
		brief: "its failed deliveries, with their reasons",
		about: "Lists an endpoint's failed deliveries, the newest event first, each with its reason."},
	{name: "discard", arguments: "ENDPOINT", least: 1, most: 1, run: discard, flags: discardFlags, wrong: wrongDiscard,
		brief: "delete what is left of one that is not configured, or -failed deliveries",
		about: "Deletes for good what is left of an endpoint that is not configured any more, or with -failed the failed deliveries of any."},
	{name: "events", arguments: "[ID]", most: 1, run: events, flags: eventsFlags,
		brief: "find events; the story of one",
		about: "Lists events, newest first, or tells the story of one."},
	{name: "reload", run: reload, flags: reloadFlags,
		brief: "read the configuration file again",
		about: "Has the relay read its configuration file again, and says what that changed. Fails when the file was refused."},
	{name: "backup", arguments: "> FILE", run: backup, wrong: wrongBackup,
		brief: "a copy of its queue as it is, which restore takes",
		about: "Writes a copy of the queue as it is to standard output (> FILE), compressed; of a relay that is stopped, too. It fails unless all of it was written and is as it was sent."},
	{name: "test", arguments: "ENDPOINT", least: 1, most: 1, run: test, flags: testFlags,
		brief: "send the test event once, and say what the endpoint answers",
		about: "Sends the test event once, now, past the queue, and says what the endpoint answered."},
}

func named(name string) *verb {
	for i := range verbs {
		if verbs[i].name == name {
			return &verbs[i]
		}
	}
	return nil
}

// Is reports whether there is a command of this name here.
func Is(name string) bool { return named(name) != nil }

// List is a line of help for each command that asks a relay, or for each that asks none.
func List(alone bool) string {
	var list strings.Builder
	for i := range verbs {
		if v := &verbs[i]; v.alone == alone {
			list.WriteString(Line(v.name, v.arguments, v.brief))
		}
	}
	return list.String()
}

// Line is a line of a list of commands.
func Line(name, arguments, brief string) string {
	const column = 27
	head := fmt.Sprintf("  %-7s %s", name, arguments)
	if len(head) >= column {
		head += "\n"
		return head + strings.Repeat(" ", column) + brief + "\n"
	}
	return fmt.Sprintf("%-*s%s\n", column, head, brief)
}

// mostIDs is how many ids fit into what the relay reads of a request.
const mostIDs = 1000
