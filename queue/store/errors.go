package store

import (
	"errors"
	"fmt"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/codec"
)

// Classes of errors, for errors.Is. An error that is none of codec.ErrDamaged, ErrNoSpace and ErrNoAnswer is a mistake of
// ours or of the operator (a missing right, a second process), which making the store again would not mend.
var (
	// ErrNoSpace: the disk, or the quota, is full.
	ErrNoSpace = errors.New("no space left on the disk")
	// ErrNoAnswer: the disk did not do a read or a write.
	ErrNoAnswer = errors.New("the disk does not answer")

	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrTooLarge: the write does not fit into the transaction. Nothing was done.
	ErrTooLarge = errors.New("the transaction would be too large")
	// ErrUnsure: an earlier transaction failed, and only the next Open can say whether it was made.
	ErrUnsure = errors.New("it is not known whether an earlier transaction was made")
	// ErrDied: the process ended twice in a row while it opened this store, which is to be set aside and made again.
	ErrDied = errors.New("the process died at the last starts while it opened this store")
	// ErrNoReserve: reserving space is not allowed. It is an ErrNoSpace.
	ErrNoReserve = errors.New("reserving disk space (fallocate) is refused")
	// ErrInUse: this process has the directory open.
	ErrInUse = errors.New("the store's directory is in use")
)

// classified is an error with its class, which errors.Is finds.
type classified struct{ class, err error }

func (c classified) Error() string   { return c.err.Error() }
func (c classified) Unwrap() []error { return []error{c.class, c.err} }

// classify decides, for the whole package, which class an error has. Badger prints most errors into the text of its own, so
// the text counts, too.
func classify(err error) error {
	if err == nil || errors.Is(err, codec.ErrDamaged) || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrNoAnswer) {
		return err
	}
	text := err.Error()
	speaksOf := func(list ...error) bool {
		for _, e := range list {
			if errors.Is(err, e) || strings.Contains(text, e.Error()) {
				return true
			}
		}
		return false
	}
	switch {
	case speaksOf(ErrNoReserve):
		return classified{ErrNoSpace, classified{ErrNoReserve, err}}
	case speaksOf(unix.EDQUOT):
		return classified{ErrNoSpace, classified{unix.EDQUOT, err}}
	case speaksOf(unix.ENOSPC):
		return classified{ErrNoSpace, err}
	}
	// fault.UsedUp needs the error itself and not its text.
	for _, e := range usedUp {
		if speaksOf(e) {
			return classified{e, err}
		}
	}
	switch {
	case speaksOf(unix.EIO, unix.ENXIO, unix.ENODEV, unix.EREMOTEIO, unix.ESTALE, unix.ETIMEDOUT):
		return classified{ErrNoAnswer, err}
	case speaksOf(y.ErrChecksumMismatch, badger.ErrTruncateNeeded) || strings.Contains(text, "corrupted"):
		return classified{codec.ErrDamaged, err}
	}
	return err
}

// usedUp are the errors of open and mmap when there are no more files, or no more memory for them. The text of the first
// contains that of the second.
var usedUp = []error{unix.ENFILE, unix.EMFILE, unix.ENOMEM}

// classifyOpen is classify for an error of opening: one that names no cause outside the files is damage.
func classifyOpen(err error) error {
	text := err.Error()
	if strings.Contains(text, "Cannot acquire directory lock") {
		return classified{ErrInUse, err}
	}
	if strings.Contains(text, ErrNoReserve.Error()) {
		return classify(err)
	}
	for _, e := range usedUp {
		if errors.Is(err, e) || strings.Contains(text, e.Error()) {
			return classify(err)
		}
	}
	for _, outside := range []error{unix.EACCES, unix.EPERM, unix.EROFS} {
		if errors.Is(err, outside) || strings.Contains(text, outside.Error()) {
			return err
		}
	}
	err = classify(err)
	if errors.Is(err, ErrNoSpace) || errors.Is(err, ErrNoAnswer) || errors.Is(err, codec.ErrDamaged) {
		return err
	}
	return classified{codec.ErrDamaged, err}
}

// panicError makes an error of a panic inside Badger, which does not check all bytes. A mapped page that the disk can't
// read, or that is not in the file any more, is a fault at an address.
func panicError(what any) error {
	if fault, ok := what.(interface {
		error
		Addr() uintptr
	}); ok {
		return classified{ErrNoAnswer, fmt.Errorf("read a page of the store: %w", fault)}
	}
	return classified{codec.ErrDamaged, fmt.Errorf("its bytes are not what Badger writes: %.200v", what)}
}
