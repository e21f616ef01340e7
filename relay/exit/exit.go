// Package exit has the codes with which every command ends.
package exit

const (
	Well   = 0
	Failed = 1 // at run time, or the answer is no
	Usage  = 2 // bad usage or a bad configuration
)
