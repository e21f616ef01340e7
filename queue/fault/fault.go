// Package fault says what an error of the system means, and has the hook through which tests make a write or a read fail or
// wait, or the process end, at a named place. In life there is no hook and nothing is asked.
package fault

import (
	"errors"

	"golang.org/x/sys/unix"
)

// UsedUp reports that an error says only that there is no more of something: space, a quota's share, files that may be open,
// memory for a map.
// It goes away by itself, and what was to be done is done then.
func UsedUp(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOMEM)
}

// Func is asked before and after each write, and each read of a segment, by the name of its place. An error from before
// keeps it from being made; one from after tells of one that was made all the same. nil asks nobody.
type Func func(place string, made bool) error

// Before is called in front of a write. After an error the write is not to be made.
func (f Func) Before(place string) error {
	if f == nil {
		return nil
	}
	return f(place, false)
}

// After is called behind a write with its error, and returns the error that the caller goes on with.
func (f Func) After(place string, err error) error {
	if f == nil || err != nil {
		return err
	}
	return f(place, true)
}
