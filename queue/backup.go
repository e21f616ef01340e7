package queue

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"realtorbot-relay/queue/backup"
	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/log"
)

// A backup is the segments of the log as they were at one moment, at which everything acknowledged was in them, and the
// checkpoint of that moment. The journal has nothing then that the log lacks, and the store is made from the log. While a
// backup is written, retention takes no byte from it, which costs disk: so one is written at a time, it has to keep a pace,
// and it ends when the disk gets short.

type (
	// BackupContents says what a backup has, as of the moment at which it was begun.
	BackupContents = backup.Contents
	// BackupReport is what was found in a backup that is whole.
	BackupReport = backup.Report
)

var (
	// ErrBackingUp: another backup is being written.
	ErrBackingUp = errors.New("another backup is being written")
	// ErrBackupSlow: the backup is read so slowly that it keeps retention from freeing disk.
	ErrBackupSlow = errors.New("the backup is read too slowly")
)

const (
	// backupGrace and backupPace, bytes of the log a second, bound how long a backup keeps retention from freeing disk.
	backupGrace = 2 * time.Minute
	backupPace  = 256 << 10
)

// Backup is the queue as it was at one moment. One goroutine uses it.
type Backup struct {
	q          *Queue
	contents   BackupContents
	pin        *log.Pin
	checkpoint []byte
	until      int64 // when it must be written at the latest (uptime)
}

// Backup begins a backup: everything acknowledged before is in it. relay is the version of the relay, for people who look at
// the backup. Close must follow. It waits for the writer's goroutine and a save of everything.
func (q *Queue) Backup(relay string) (*Backup, error) {
	if !q.backingUp.CompareAndSwap(false, true) {
		return nil, ErrBackingUp
	}
	b := &Backup{q: q}
	format := directory.Current
	format.MemTable = q.memTable
	b.contents = BackupContents{Relay: relay, Format: format.String()}
	for _, l := range q.Lanes() {
		s := l.Stats()
		b.contents.Endpoints = append(b.contents.Endpoints, backup.Endpoint{Name: l.name, Pending: s.Pending, Retrying: s.Retrying, Failed: s.Failed, Paused: s.Paused})
	}
	err := q.update(func() error {
		b.contents.BeganAt = q.opts.Now().UTC().Truncate(time.Millisecond)
		w := &q.writer
		if err := w.save(q, true); err != nil {
			return err
		}
		if w.saveRefused.Load() || len(w.refused) > 0 {
			return q.disk.shortageOf(q.opts, nil)
		}
		b.contents.Events, b.contents.Bytes = w.events.Load(), w.bytes.Load()
		next, end := q.log.End()
		h := checkpoint{applied: next - 1, end: end, clock: q.clockState(), watermarks: slices.Clone(w.retain.watermarks)}
		b.checkpoint = h.append(nil)
		b.pin = q.log.Pin()
		return nil
	})
	if err != nil {
		q.backingUp.Store(false)
		return nil, fmt.Errorf("back up the queue: %w", err)
	}
	for _, s := range b.pin.Segments() {
		b.contents.Size += s.Size
	}
	b.until = uptime() + int64(backupGrace) + b.contents.Size/backupPace*int64(time.Second)
	return b, nil
}

// Contents says what the backup has.
func (b *Backup) Contents() BackupContents { return b.contents }

// Write writes the backup to w, and reads the segments from disk without a lock. When it returns nil, what w got is whole;
// else it is no backup. damaged is how many things could not be read: the backup names them, and a queue that is restored
// from it lacks them, as this one does.
func (b *Backup) Write(w io.Writer) (damaged int, err error) {
	out, err := backup.NewWriter(w, b.contents)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(out.Bytes("FORMAT", append([]byte(b.contents.Format), '\n')), out.Bytes(checkpointName, b.checkpoint)); err != nil {
		return 0, err
	}
	for _, s := range b.pin.Segments() {
		err := out.File(logName+"/"+s.Name, s.Size, func(w io.Writer) error {
			return s.WriteTo(pacedWriter{b, w}, func(what string) {
				damaged++
				out.Damaged(what)
			})
		})
		if err != nil {
			return damaged, err
		}
	}
	return damaged, out.Close()
}

// Close lets retention delete what the backup held. It waits for nothing.
func (b *Backup) Close() {
	b.pin.Release()
	b.q.backingUp.Store(false)
}

// BackupStopped writes a backup of a queue whose relay does not run. It opens and closes the queue as a start and a stop do,
// with opts. It makes and takes over nothing: without a queue of this version's format it returns an error. As root it gives
// all files to the owner of the directory.
func BackupStopped(opts Options, relay string, w io.Writer) (damaged int, err error) {
	opts.NoCreate = true
	d, err := directory.Claim(opts.Dir, false, nil)
	if err != nil {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		return 0, err
	}
	f, err := d.ReadFormat()
	if err = errors.Join(err, d.Close()); err != nil {
		return 0, err
	}
	if f.Version != directory.Current.Version {
		return 0, fmt.Errorf("queue %q is of an older version of the relay: start this one on it once", opts.Dir)
	}
	q, err := Open(opts)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close(), giveToOwner(opts.Dir)) }()
	b, err := q.Backup(relay)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	return b.Write(w)
}

// pacedWriter returns an error when the backup has taken too long or the disk gets short.
type pacedWriter struct {
	b *Backup
	w io.Writer
}

func (p pacedWriter) Write(raw []byte) (int, error) {
	q := p.b.q
	if uptime() > p.b.until {
		return 0, ErrBackupSlow
	}
	if q.log.PinnedBytes() > 0 {
		if err := q.disk.check(q); err != nil {
			return 0, fmt.Errorf("it keeps retention from freeing disk: %w", err)
		}
	}
	return p.w.Write(raw)
}
