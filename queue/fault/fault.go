// Package fault says what an error of the system means, and has the function type through which tests make a write or a read
// fail or wait, or the process end, at a named place. In production the function is nil.
package fault

import (
	"errors"

	"golang.org/x/sys/unix"
)

// UsedUp reports whether an error only says that a resource is used up: disk space, a quota, open files, memory for a map.
// That goes away by itself, and the work is done then.
func UsedUp(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOMEM)
}

// Func is called with the name of a place, before (made is false) and after each write, and each read of a segment. An error
// from before keeps the write from being made; one from after reports it as failed though it was made. A nil Func does
// nothing.
type Func func(place string, made bool) error

// Before is called before a write. After an error the write must not be made.
func (f Func) Before(place string) error {
	if f == nil {
		return nil
	}
	return f(place, false)
}

// After is called after a write, with its error, and returns the error that the caller goes on with.
func (f Func) After(place string, err error) error {
	if f == nil || err != nil {
		return err
	}
	return f(place, true)
}
