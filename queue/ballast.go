package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// adjustBallast deletes or makes the ballast as free space requires. It returns whether progress and frames may be saved,
// and whether deletions may be written.
func (d *disk) adjustBallast(q *Queue) (save, clean bool) {
	free := q.opts.free()
	switch ballast := d.ballast.Load(); {
	case ballast && free < criticalFree:
		_ = d.releaseBallast(q.opts) // it has reported the error, and the next save tries again
		free = q.opts.free()
	case !ballast && free >= max(q.opts.MinFree, criticalFree)+q.opts.ballast:
		_ = d.takeBallast(q.opts) // after an error there is none until the next save
	}
	d.nearlyFull.Store(free < 2*d.acceptFloor(q.opts))
	save = free >= d.saveFloor(q.opts)
	if d.reported == save {
		d.reported = !save
		if save {
			q.opts.Notice("there is disk space again: progress is saved and events are accepted as before")
		} else {
			q.opts.Notice(fmt.Sprintf("only %d MiB of disk are free: nothing is saved until there are %d MiB, and deliveries will stop", free>>20, d.saveFloor(q.opts)>>20))
		}
	}
	return save, free >= cleanFree
}

// takeBallast makes the ballast, whole or not at all.
func (d *disk) takeBallast(o Options) error {
	path := filepath.Join(o.Dir, ballastFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = o.fault.Before(placeBallast); err == nil {
		err = o.fault.After(placeBallast, unix.Fallocate(int(f.Fd()), 0, 0, o.ballast))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	d.ballast.Store(true)
	return nil
}

// errNoBallast: the ballast is gone already.
var errNoBallast = errors.New("there is no ballast to delete")

// releaseBallast deletes the ballast.
func (d *disk) releaseBallast(o Options) error {
	if !d.ballast.Load() {
		return errNoBallast
	}
	err := o.fault.Before(placeDropBallast)
	if err == nil {
		err = os.Remove(filepath.Join(o.Dir, ballastFile))
		if errors.Is(err, os.ErrNotExist) {
			err = nil // an earlier error may have come from a removal that was made
		}
		err = o.fault.After(placeDropBallast, err)
	}
	if err != nil {
		o.Notice(fmt.Sprintf("the ballast can't be deleted: %v", err))
		return err
	}
	d.ballast.Store(false)
	o.Notice(fmt.Sprintf("the disk is full: events are refused, and the ballast of %d MiB is deleted, so that old events can be", o.ballast>>20))
	return nil
}

// requireSpace returns an error when the store could not be written. It deletes the ballast first.
func (d *disk) requireSpace(o Options) error {
	info, err := os.Stat(filepath.Join(o.Dir, ballastFile))
	d.ballast.Store(err == nil && info.Size() == o.ballast)
	if o.free() < criticalFree {
		_ = d.releaseBallast(o)
	}
	if free := o.free(); free < criticalFree {
		return fmt.Errorf("%w: only %d MiB are free on its disk, %d MiB are needed to open it: make room", ErrUnwritable, free>>20, int64(criticalFree)>>20)
	}
	return nil
}
