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

// A backup is the segments of the log as they were at one moment, when all that had been acknowledged was in them, and the
// mark of that moment. The journal has nothing then that they lack, and the store is made from them. While it is written
// retention takes no byte from it, which costs disk: so one is written at a time, it has to keep a pace, and it ends when
// the disk gets short.

type (
	// BackupContents says what a backup holds, as of the moment at which it was begun.
	BackupContents = backup.Contents
	// BackupReport is what was found in a backup that is whole.
	BackupReport = backup.Report
)

var (
	// ErrBackingUp: another backup is being written.
	ErrBackingUp = errors.New("another backup is being written")
	// ErrBackupSlow: whoever reads a backup is so slow that it holds back what retention should give free.
	ErrBackupSlow = errors.New("it is read too slowly")
)

const (
	// backupGrace and backupPace, bytes of the log a second, bound how long a backup holds what retention would delete.
	backupGrace = 2 * time.Minute
	backupPace  = 256 << 10
)

// Backup is the queue as it was at one moment. One goroutine uses it.
type Backup struct {
	q        *Queue
	contents BackupContents
	held     *log.Held
	mark     []byte
	until    int64 // when it has to have been written (uptime)
}

// Backup holds the queue as it is: all that was acknowledged before is in it. relay is the version of the relay, for whoever
// looks at the backup. Close has to follow.
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
		k := &q.keeper
		if err := k.save(q, true); err != nil {
			return err
		}
		if k.starved.Load() || len(k.held) > 0 {
			return q.disk.lackOf(q.opts, nil)
		}
		b.contents.Events, b.contents.Bytes = k.events.Load(), k.bytes.Load()
		next, end := q.log.End()
		h := highWater{version: next - 1, end: end, clock: q.clockState(), marks: slices.Clone(k.retain.marks)}
		b.mark = h.append(nil)
		b.held = q.log.Hold()
		return nil
	})
	if err != nil {
		q.backingUp.Store(false)
		return nil, fmt.Errorf("back up the queue: %w", err)
	}
	for _, s := range b.held.Segments() {
		b.contents.Size += s.Size
	}
	b.until = uptime() + int64(backupGrace) + b.contents.Size/backupPace*int64(time.Second)
	return b, nil
}

// Contents says what the backup holds.
func (b *Backup) Contents() BackupContents { return b.contents }

// Write writes the backup. When it returns nil, what w got is whole; else it is none. damaged is how many things could not be
// read: the backup says which, and a queue that is restored from it lacks them like this one.
func (b *Backup) Write(w io.Writer) (damaged int, err error) {
	out, err := backup.NewWriter(w, b.contents)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(out.Bytes("FORMAT", append([]byte(b.contents.Format), '\n')), out.Bytes(markFile, b.mark)); err != nil {
		return 0, err
	}
	for _, s := range b.held.Segments() {
		err := out.File(logName+"/"+s.Name, s.Size, func(w io.Writer) error {
			return s.WriteTo(paced{b, w}, func(what string) {
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

// Close lets retention have what the backup held.
func (b *Backup) Close() {
	b.held.Release()
	b.q.backingUp.Store(false)
}

// BackupStopped writes a backup of the queue of a relay that does not run, which it opens and closes as a start and a stop do, with
// opts. Nothing is made or taken over: without a queue of this version's format it returns an error. As root it leaves all to
// whom the directory belongs to.
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
	defer func() { err = errors.Join(err, q.Close(), own(opts.Dir)) }()
	b, err := q.Backup(relay)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	return b.Write(w)
}

// paced writes as long as the backup may hold the log.
type paced struct {
	b *Backup
	w io.Writer
}

func (p paced) Write(raw []byte) (int, error) {
	q := p.b.q
	if uptime() > p.b.until {
		return 0, ErrBackupSlow
	}
	if q.log.HeldBack() > 0 {
		if err := q.disk.check(q); err != nil {
			return 0, fmt.Errorf("it holds back what should make room: %w", err)
		}
	}
	return p.w.Write(raw)
}
