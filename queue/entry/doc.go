// Package entry has the entries of the log as bytes and as values. Everything that changes the queue is an entry of one
// numbered sequence. Its fields are logical: no key of the store, no offset in a file and nothing of the configuration is
// ever in one. So another machine, or a store that is made again, comes to the same state from the same entries.
//
// Integers are little-endian or varints, texts stand behind their length:
//
//	0   kind, 1 byte; version, 1; zeros, 2      12  number, 8 bytes
//	4   length of the entry, 4                  20  queue time, Unix milliseconds, 8
//	8   CRC-32C of all behind, 4                28  what the kind has; named values
//
// Named values end each entry: a count, and for each a name and a text. A reader passes over names that it does not know, and
// over unknown flags of an event and hashes of its members. It stops at a kind or a version that it does not know, which is
// ErrUnknown and no damage. So what a reader may not pass over, such as a new kind of change, is another version of its kind:
// frames with letters have version 2. The package reads and writes no file.
package entry
