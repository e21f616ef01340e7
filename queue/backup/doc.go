// Package backup has the form of a backup: one stream, written while the queue is in use, whose end says whether it is
// whole. It knows no queue.
//
//	zstd stream of a tar archive:
//	  BACKUP            what the backup has, as JSON; the first file
//	  FORMAT, mark, …   the files of the queue, by their paths in its directory
//	  DAMAGE            a line for each thing that could not be read when it was written; only when there is one
//	  SUMS              the SHA-256 of all files before it, in the form of sha256sum; the last file
//	skippable frame of zstd, the end:
//	  magic, 4 bytes; length, 4; "RBBACKUP", 8; length of all before it, 8; CRC-32C of all before it, 4; CRC-32C of these, 4
//
// A stream without the end was cut short, and one with another sum is damaged, whichever bit it is. Nothing of such a stream
// counts. Common tools read it, too: zstd -dc FILE | tar x, then sha256sum -c SUMS.
//
// zstd's fastest level leaves 0.72 of a log whose blocks are packed already, at 225 MB of log a second of one processor
// (events of 200 bytes; two cores, beside which the slowest of a hundred commits took 4 ms for 0.5).
//
// Archive and compression come from libraries, so that nobody has to trust a form of our own with the last copy.
package backup
